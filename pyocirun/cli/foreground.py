"""Waiting for a process in the foreground: its signals are forwarded, and orphans are reaped.

The module `signal` would import enum: the C module below it has all that is needed.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix
import select

from pyocirun.errors import StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_SIGKILL, _SIGSTOP, _SIGCHLD, _SIGURG, _SIGWINCH = 9, 19, 17, 23, 28
_KEPT = (4, 7, 8, 11, 32, 33, _SIGKILL, _SIGSTOP, _SIGURG, _SIGWINCH)
"""Not caught: SIGILL, SIGBUS, SIGFPE and SIGSEGV would come again for ever; 32 and 33 are glibc's own."""


class Signals:
    """Catches this process's signals from now on, so that one which comes before there is a container is not lost."""

    def __init__(self) -> None:
        self._caught, write_end = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
        _signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for number in range(1, 65):
            if number not in _KEPT:
                _signal.signal(number, _ignore)

    def follow(self, pid: int, forward: Callable[[int], object], wait: Callable[[], int]) -> int:
        """The exit status of process `pid`, or 128 + the signal that ended it. Signals go to `forward` meanwhile.

        pid: not reaped yet.  wait: reaps it; exit status, or minus a signal.
        """
        pidfd = posix.pidfd_open(pid)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            poll.register(self._caught, select.POLLIN)
            while True:
                ready = [fd for fd, _ in poll.poll()]
                if pidfd in ready:
                    status = wait()
                    return status if status >= 0 else 128 - status
                self._handle(pid, forward)
        finally:
            posix.close(pidfd)

    def _handle(self, pid: int, forward: Callable[[int], object]) -> None:
        for number in posix.read(self._caught, 4096):
            if number == _SIGCHLD:
                _reap_orphans(pid)
                continue
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


def _ignore(number: int, frame: object) -> None:
    """The number is in the pipe already."""
