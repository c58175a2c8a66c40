"""pyocirun completion: the script with which a shell completes command lines."""

from __future__ import annotations

from pyocirun.cli.output import print_text
from pyocirun.cli.usage import completion_script

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call


def run(call: Call, session: Session) -> int:
    print_text(completion_script(call.args[0]))
    return 0
