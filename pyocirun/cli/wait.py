"""pyocirun wait: wait for the end of a container, and print its exit status."""

from __future__ import annotations

from pyocirun.cli.output import print_text
from pyocirun.container.process import shell_status
from pyocirun.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call
    from pyocirun.container.container import Container


def run(call: Call, session: Session) -> int:
    """Prints 128 + the signal for a process that was ended by one, as `run` exits."""
    container = session.load(call.args[0])
    status = container.wait()
    print_text(f"{shell_status(status)}\n")
    note(container, session)
    return 0


def note(container: Container, session: Session) -> None:
    """For `state`, and `wait`, of the container that has ended. It is no failure of what was asked for if it fails."""
    try:
        container.note_exit_status()
    except Error as error:
        session.warn(str(error))
