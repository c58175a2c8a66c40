"""pyocirun resume: let the processes of a paused container go on."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call


def run(call: Call, session: Session) -> int:
    session.load(call.args[0]).resume()
    return 0
