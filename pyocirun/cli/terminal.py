"""What may be asked for around terminals."""

from __future__ import annotations

from pyocirun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def check_terminal(flags: dict[str, Any], *, detach: bool, terminal: bool) -> None:
    """Raise UsageError unless somebody is there to get the terminal. terminal: the process is to have one.

    Both texts are to the letter those of runc, since callers look for them.
    """
    socket: str = flags["console-socket"] or ""
    if detach and terminal and not socket:
        raise UsageError(
            "cannot allocate tty if runc will detach without setting console socket",
            hint="run it in the foreground, or set --console-socket, or process.terminal to false",
        )
    if socket and not (detach and terminal):
        raise UsageError("cannot use console socket if runc will not detach or allocate tty")
