"""pyocirun wait: wait for the end of a container, and print its exit status."""

from __future__ import annotations

from pyocirun.cli.output import print_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call


def run(call: Call, session: Session) -> int:
    """Prints 128 + the signal for a process that was ended by one, as `run` exits."""
    status = session.load(call.args[0]).wait()
    print_text(f"{status if status >= 0 else 128 - status}\n")
    return 0
