"""pyocirun pause: freeze all processes of a container."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call


def run(call: Call, session: Session) -> int:
    session.load(call.args[0]).pause()
    return 0
