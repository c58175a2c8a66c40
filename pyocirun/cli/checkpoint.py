"""pyocirun checkpoint: write a container to files, and remove it."""

from __future__ import annotations

from pyocirun.container.criu import CriuOptions
from pyocirun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call


def run(call: Call, session: Session) -> int:
    warn_rootless(session)
    flags: dict[str, Any] = call.flags
    container = session.load(call.args[0])
    options = CriuOptions(
        parent_path=flags["parent-path"] or "",
        leave_running=flags["leave-running"],
        pre_dump=flags["pre-dump"],
        tcp_skip_in_flight=flags["tcp-skip-in-flight"],
        link_remap=flags["link-remap"],
        status_fd=flags["status-fd"],
        page_server=_page_server(flags["page-server"] or ""),
        **common(flags),
    )
    container.checkpoint(options)
    return 0


def common(flags: dict[str, Any]) -> dict[str, Any]:
    """The fields of CriuOptions that checkpoint and restore both have a flag for."""
    return {
        "image_path": flags["image-path"] or "checkpoint",
        "work_path": flags["work-path"] or "",
        "tcp_established": flags["tcp-established"],
        "ext_unix_sk": flags["ext-unix-sk"],
        "shell_job": flags["shell-job"],
        "file_locks": flags["file-locks"],
        "manage_cgroups_mode": flags["manage-cgroups-mode"] or "",
        "empty_ns": tuple(flags["empty-ns"]),
        "auto_dedup": flags["auto-dedup"],
        "lazy_pages": flags["lazy-pages"],
    }


def warn_rootless(session: Session) -> None:
    """criu wants all privileges of root."""
    from pyocirun.spawn.probe import probe

    if session.factory().is_rootless(probe()):
        session.warn("checkpoint and restore are untested with rootless containers")


def _page_server(text: str) -> tuple[str, int] | None:
    if not text:
        return None
    address, _, port = text.rpartition(":")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if not address or not port:
        raise UsageError("Use --page-server ADDRESS:PORT to specify page server")
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError("Invalid port number")
    return address, int(port)
