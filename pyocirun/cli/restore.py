"""pyocirun restore: let a container go on from a checkpoint, and in the foreground wait for its end."""

from __future__ import annotations

from pyocirun.cli import checkpoint
from pyocirun.cli.create import beside
from pyocirun.cli.run import foreground, relay_of, remove
from pyocirun.container.criu import CriuOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call


def run(call: Call, session: Session) -> int:
    """Exit status of the container's process, 128 + its signal, or 0 with --detach."""
    checkpoint.warn_rootless(session)
    flags: dict[str, Any] = call.flags
    id = session.id(call.args[0])
    options = CriuOptions(
        lsm_profile=flags["lsm-profile"] or "",
        lsm_mount_context=flags["lsm-mount-context"] or "",
        **{**checkpoint.common(flags), **_paths(flags)},
    )
    signals = None if flags["detach"] else foreground(call, session)
    container = session.factory().restore(
        id, None, flags["bundle"] or None, options, console_socket=beside(flags, "console-socket")
    )
    init = container.init
    relay = relay_of(container)
    done = False
    try:
        assert init is not None
        if flags["pid-file"]:
            from pyocirun.cli.pidfile import write_pid_file

            write_pid_file(flags["pid-file"], init.pid)
        if relay is not None:
            relay.begin()
        status = signals.follow(init.pid, container.kill, container.wait, relay) if signals else 0
        done = True
    finally:
        if relay is not None:
            relay.end()
        if not (done and signals is None):
            remove(container, session)
    return status


def _paths(flags: dict[str, Any]) -> dict[str, str]:
    """Those of images and log; the default of the first counts from the current directory, as with runc."""
    return {"image_path": beside(flags, "image-path") or "checkpoint", "work_path": beside(flags, "work-path") or ""}
