"""Waiting for a process in the foreground: its signals are forwarded, and orphans are reaped, beside its terminal."""

from __future__ import annotations

import posix

from pyocirun import native
from pyocirun.container.process import shell_status
from pyocirun.errors import StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyocirun.spawn.terminal import Relay

_SIGKILL, _SIGCHLD, _SIGCONT, _SIGSTOP, _SIGURG, _SIGWINCH = 9, 17, 18, 19, 23, 28
_KEPT = (4, 7, 8, 11, 32, 33, _SIGKILL, _SIGSTOP, _SIGURG)
"""Not caught: SIGILL, SIGBUS, SIGFPE and SIGSEGV would come again for ever; 32 and 33 are glibc's own."""


class Signals:
    """Takes this process's signals from now on, so that one which comes before there is a container is not lost."""

    def __init__(self) -> None:
        self._caught = native.signals(_KEPT)

    def follow(
        self, pid: int, forward: Callable[[int], object], wait: Callable[[], int], relay: Relay | None = None
    ) -> int:
        """The exit status of process `pid`, or 128 + the signal that ended it. Signals go to `forward` meanwhile.

        pid: not reaped yet.  wait: reaps it; exit status, or minus a signal.  relay: of its terminal, if it has one.
        """
        pidfd = posix.pidfd_open(pid)
        try:
            if relay is not None:
                relay.run(pidfd, self._caught, lambda: self._handle(pid, forward, relay))
            else:
                while not native.poll(pidfd, self._caught) & 1:
                    self._handle(pid, forward)
        finally:
            posix.close(pidfd)
        return shell_status(wait())

    def _handle(self, pid: int, forward: Callable[[int], object], relay: Relay | None = None) -> None:
        while number := native.next_signal(self._caught):
            if number == _SIGCHLD:
                _reap_orphans(pid)
                continue
            if number == _SIGWINCH:
                if relay is not None:
                    relay.resize()
                continue
            if number == _SIGCONT and relay is not None:
                relay.begin()  # a shell has had the terminal meanwhile
            try:
                forward(number)
            except (StateError, ProcessLookupError):
                continue  # it has just ended


def _reap_orphans(pid: int) -> None:
    """Reap what has ended but process `pid`, whose status is another's to take."""
    while True:
        try:
            ended = posix.waitid(posix.P_ALL, 0, posix.WEXITED | posix.WNOHANG | posix.WNOWAIT)
            if ended is None or ended.si_pid in (0, pid):
                return
            posix.waitid(posix.P_PID, ended.si_pid, posix.WEXITED | posix.WNOHANG)
        except ChildProcessError:
            return
