"""What is asked for around terminals and cannot be had."""

from __future__ import annotations

from pyocirun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def refuse_terminal(flags: dict[str, Any], *, detach: bool, terminal: bool) -> None:
    """Raise UsageError if a terminal is wanted, or a socket without one. terminal: the process is to have one.

    Two texts are to the letter those of runc, since callers look for them.
    """
    socket: str = flags["console-socket"] or ""
    if detach and terminal and not socket:
        raise UsageError("cannot allocate tty if runc will detach without setting console socket")
    if socket and not (detach and terminal):
        raise UsageError("cannot use console socket if runc will not detach or allocate tty")
    if terminal:
        raise UsageError("terminals are not supported yet", hint="set process.terminal to false, and leave --tty out")
    if flags["pidfd-socket"]:
        raise UsageError("--pidfd-socket is not supported yet")
