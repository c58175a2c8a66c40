"""A process of a container, as the one who started it sees it."""

from __future__ import annotations

import posix
from _thread import allocate_lock
from time import monotonic

from pyocirun import files, native
from pyocirun.errors import StateError


def shell_status(status: int) -> int:
    """An exit status, or minus a signal, as a shell has it: 128 + the signal that ended the process."""
    return status if status >= 0 else 128 - status


class Process:
    """pid: in the caller's pid namespace.  pidfd: descriptor of it, close-on-exec; the object owns it.

    What `exec` and `create` return is a child of this process, so its exit status can be had by `wait`. A container
    that was loaded has an init that is somebody else's child: it can be waited for, and Linux 6.15 tells its status.

    terminal: the master of its terminal, close-on-exec; -1 if it has none, or if it was sent to a console socket. The
    object owns it too: posix.dup makes one that outlives it. Newlines come as they are, without a carriage return.
    """

    def __init__(self, pid: int, pidfd: int, terminal: int = -1) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.terminal = terminal
        self.container = ""
        self._status: int | None = None
        self._lock = allocate_lock()

    @property
    def exit_status(self) -> int | None:
        """What `wait` has returned; None if nobody has waited yet."""
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end. Exit status 0 to 255, or minus the signal that ended it. timeout: seconds, None for ever.

        Raises TimeoutError; StateError if the status is not to be had: the process is no child of this one, or
        somebody else took it (SIGCHLD ignored, or all children reaped), and the kernel is older than 6.15.
        """
        if self._status is None and not self.ended(timeout):
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
        with self._lock:  # another thread may be deleting the container, and take the status first
            if self._status is None:
                self._status = self._take_status()
                _forget(self)
        return self._status

    def reap(self) -> None:
        """If it is a child of this process and has ended, no zombie of it stays, and its status is kept."""
        with self._lock:
            if self._status is None:
                try:
                    self._status = native.wait(self.pidfd)
                except ChildProcessError:
                    return
                _forget(self)

    def _take_status(self) -> int:
        try:
            return native.wait(self.pidfd) or 0
        except ChildProcessError:
            from pyocirun.container.exit_status import told

            status = told(self.pidfd)
        if status is None:
            text = f"the exit status of process {self.pid} is not known: it is no child of this process"
            raise StateError(text, hint="is SIGCHLD ignored here, or are all children reaped?")
        return status

    def poll(self) -> int | None:
        """The exit status as `wait` has it, None while it runs. Raises StateError as `wait` does."""
        return self.wait() if self._status is not None or self.ended(0) else None

    def ended(self, timeout: float | None) -> bool:
        """Whether it has ended, after at most `timeout` seconds; None: wait for it."""
        until = None if timeout is None else monotonic() + timeout
        while True:
            left = None if until is None else max(0.0, until - monotonic())
            if native.poll(self.pidfd, timeout_ms=-1 if left is None else int(left * 1000)):
                return True
            if left == 0:  # a signal ends a poll before its time
                return False

    async def wait_async(self, timeout: float | None = None) -> int:
        """The same as wait, in an asyncio task."""
        if self._status is None:
            from pyocirun.cgroup.events import readable

            await readable(self.pidfd, timeout=timeout)
        return self.wait(0)

    def signal(self, signal: int) -> None:
        """Send a signal. Raises ProcessLookupError if it has ended. pidfd_send_signal(2)"""
        native.send_signal(self.pidfd, signal)

    def close(self) -> None:
        """Give the descriptors back; nothing can be done with the process any more."""
        if self.pidfd >= 0:
            posix.close(self.pidfd)
            self.pidfd = -1
        if self.terminal >= 0:
            posix.close(self.terminal)
            self.terminal = -1

    def __del__(self) -> None:
        self.close()


_children: dict[str, list[Process]] = {}
"""What create and exec started here and nobody has waited for yet, by the container's state directory.

The kernel lets the init of a pid namespace end only when every other member has been reaped. Those that exec started
are children of this process and not of init, so whoever waits for init has to reap them; their status stays known.
"""


def adopt(container: str, process: Process) -> None:
    """Keep a child of this process until it has been reaped."""
    process.container = container
    _children.setdefault(container, []).append(process)
    if not files.exists(container):  # deleted meanwhile, so it is about to end and nobody will come for it
        release(container)


def release(container: str) -> None:
    """The container is gone: reap what is left of it, and keep nothing."""
    for process in reap(container):
        process.ended(1.0)  # it was killed
    reap(container)
    _children.pop(container, None)


def _forget(process: Process) -> None:
    left = [other for other in _children.get(process.container, ()) if other is not process]
    if left:
        _children[process.container] = left
    else:
        _children.pop(process.container, None)


def child(container: str, pid: int) -> Process | None:
    """The child of this process that has this pid, if nobody has waited for it yet."""
    return next((process for process in _children.get(container, ()) if process.pid == pid), None)


def reap(container: str) -> list[Process]:
    """Reap the container's processes that have ended and are children of this one; the others come back."""
    left = []
    for process in _children.get(container, ()):
        try:
            if process.poll() is None:
                left.append(process)
        except StateError:
            _forget(process)  # somebody else has reaped it
    return left


def await_end(init: Process, container: str, timeout: float | None = None) -> bool:
    """Whether init has ended, after at most `timeout` seconds; None: wait for it."""
    until = None if timeout is None else monotonic() + timeout
    while True:
        children = reap(container)
        left = None if until is None else max(0.0, until - monotonic())
        if not children:
            return init.ended(left)
        import select

        poll = select.poll()
        for process in (init, *children):
            poll.register(process.pidfd, select.POLLIN)
        # Not for long: another thread may start one more meanwhile.
        poll.poll(1000 if left is None else min(1000, int(left * 1000)))
        if init.ended(0) or (until is not None and monotonic() >= until):
            return init.ended(0)


def open_process(pid: int, start: int) -> Process | None:
    """The process with this pid, if it started then and has not ended; else None: the pid is another's by now.

    start: field 22 of /proc/PID/stat.
    """
    if pid <= 0:
        return None
    try:
        pidfd = posix.pidfd_open(pid)
    except OSError:
        return None
    # The order matters: what the pidfd is of cannot change any more, and its stat is read after it was opened.
    if start_time(pid) != start or native.poll(pidfd, timeout_ms=0):
        posix.close(pidfd)
        return None
    return Process(pid, pidfd)


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot: field 22 of proc_pid_stat(5). -1: none, or a zombie."""
    try:
        fd = posix.open(f"/proc/{pid}/stat", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return -1
    try:
        text = posix.read(fd, 4096)
    except OSError:
        return -1
    finally:
        posix.close(fd)
    fields = text[text.rfind(b")") + 2 :].split()
    return -1 if fields[0] in (b"Z", b"X") else int(fields[19])
