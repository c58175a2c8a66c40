"""pyocirun kill: send a signal to a container's init process."""

from __future__ import annotations

from pyocirun.errors import StateError
from pyocirun.linux.signals import signal_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call


def run(call: Call, session: Session) -> int:
    container = session.load(call.args[0])
    everything: bool = call.flags["all"]
    signal = signal_number((call.args[1:] or [""])[0] or "SIGTERM")
    try:
        container.kill(signal, all=everything)
    except StateError as error:
        # "all of them" is also done when there is none; engines send it to containers that have ended.
        if not everything or "container not running" not in error.message:
            raise
    return 0
