"""pyocirun state: the state of a container, as the runtime specification names it."""

from __future__ import annotations

from pyocirun.cli.output import print_text, to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call


def run(call: Call, session: Session) -> int:
    container = session.load(call.args[0])
    # The owner is told by `list` only.
    print_text(to_json({**container.state(), "owner": ""}, indent="  "))
    return 0
