"""pyocirun start: let the process of a created container begin."""

from __future__ import annotations

from pyocirun import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call


def run(call: Call, session: Session) -> int:
    session.load(call.args[0]).start(notify_socket=files.environment("NOTIFY_SOCKET") or None)
    return 0
