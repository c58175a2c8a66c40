"""pyocirun kill: send a signal to a container's init process."""

from __future__ import annotations

from pyocirun.errors import StateError
from pyocirun.linux.signals import signal_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call


def run(call: Call, session: Session) -> int:
    signal = signal_number((call.args[1:] or [""])[0] or "SIGTERM")
    everything: bool = call.flags["all"]
    if call.flags["regex"]:
        from pyocirun.cli.matching import for_each

        # Those that have ended are not meant.
        for_each(session, call.args[0], lambda id: _kill(session, id, signal, all=everything, ended=True))
    else:
        _kill(session, call.args[0], signal, all=everything, ended=everything)
    return 0


def _kill(session: Session, id: str, signal: int, *, all: bool, ended: bool) -> None:
    """ended: one that has ended is fine. Engines send "all of them" to such containers."""
    try:
        session.load(id).kill(signal, all=all)
    except StateError as error:
        if not ended or "container not running" not in error.message:
            raise
