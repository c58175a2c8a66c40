"""What the kernel tells of a cgroup when it happens: processes killed for lack of memory, and memory pressure."""

from __future__ import annotations

import os
import select

from pyocirun.cgroup.stats import key_values
from pyocirun.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

LEVELS = ("low", "medium", "critical")
TRIGGERS = {
    "low": b"some 100000 1000000",
    "medium": b"some 300000 1000000",
    "critical": b"full 300000 1000000",
}
"""cgroup v2 knows no levels: a level is that some, or all, tasks waited so many microseconds of a second."""


class Notices:
    """Notices of one kind from one cgroup, until it goes.

    `for count in notices` and `async for count in notices` wait for the next, and say how many came since the last.
    fileno() is readable when something came, for a caller's own loop, which then calls take(). Close it, or use `with`.
    gone: the cgroup has been removed, or (on cgroup v2) has no processes any more, so none will come.
    """

    def __init__(self, wait: int, source: _Source) -> None:
        self._wait = wait
        self._source = source
        self.gone = False

    def fileno(self) -> int:
        return self._wait

    def take(self) -> int:
        """How many came since the last time. To be called when fileno() is readable."""
        if self._wait < 0:
            self.gone = True
        if self.gone:
            return 0
        count, self.gone = self._source.take()
        return count

    def close(self) -> None:
        """Give the descriptors back; an iteration that is going on ends with its next step."""
        if self._wait >= 0:
            wait, self._wait = self._wait, -1
            self._source.close()
            if wait != self._source.fd:
                os.close(wait)

    def __enter__(self) -> Notices:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[int]:
        while not self.gone:
            if self._wait >= 0:
                select.select([self._wait], [], [])
            if count := self.take():
                yield count

    async def __aiter__(self) -> AsyncIterator[int]:
        while not self.gone:
            if self._wait >= 0:
                await readable(self._wait)
            if count := self.take():
                yield count


async def readable(*fds: int, timeout: float | None = None) -> set[int]:
    """Wait in an asyncio task until some of these descriptors can be read; none, if so many seconds are over."""
    import asyncio

    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    found: set[int] = set()

    def came(fd: int) -> None:
        found.add(fd)
        if not ready.done():
            ready.set_result(None)

    # Each waiter has descriptors of its own: a loop keeps one reader for a number.
    own = [os.dup(fd) for fd in fds]
    try:
        for fd, copy in zip(fds, own, strict=True):
            loop.add_reader(copy, came, fd)
        await asyncio.wait([ready], timeout=timeout)
    finally:
        for copy in own:
            loop.remove_reader(copy)
            os.close(copy)
    return found


def oom_v1(directory: str) -> Notices:
    """A notice for each time that the cgroup runs out of memory. directory: of the memory controller.

    Raises CgroupError.
    """
    return _by_eventfd(directory, "memory.oom_control", "")


def pressure_v1(directory: str, level: str) -> Notices:
    """Notices of memory pressure at `level` and above: "low", "medium" or "critical". Raises CgroupError."""
    return _by_eventfd(directory, "memory.pressure_level", check_level(level))


def oom_v2(directory: str) -> Notices:
    """A notice for each process that the kernel kills for lack of memory. Raises CgroupError."""
    try:
        events = os.open(f"{directory}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _failed(error, "cannot watch", f"{directory}/memory.events") from error
    try:
        populated = os.open(f"{directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        os.close(events)
        raise _failed(error, "cannot watch", f"{directory}/cgroup.events") from error
    source = _EventsFile(events, populated)
    return Notices(_priority(events, populated), source)


def pressure_v2(directory: str, level: str) -> Notices:
    """Notices of memory pressure, at most one a second, by a trigger on memory.pressure. Raises CgroupError."""
    path = f"{directory}/memory.pressure"
    trigger = TRIGGERS[check_level(level)]
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        hint = "is PSI switched on? (psi=1 on the kernel's command line)"
        raise _failed(error, "cannot watch", path, hint) from error
    try:
        os.write(fd, trigger + b"\0")
    except OSError as error:
        os.close(fd)
        raise _failed(error, f"cannot write {trigger.decode()!r} to", path) from error
    return Notices(_priority(fd), _Trigger(fd, directory))


def check_level(level: str) -> str:
    """`level`, if there is one of this name. Raises CgroupError."""
    if level not in LEVELS:
        raise CgroupError(f"unknown memory pressure level {level!r}", hint="use low, medium or critical")
    return level


class _Source:
    """Where notices come from. fd: the descriptor to close."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def take(self) -> tuple[int, bool]:
        """(how many came, whether the cgroup is gone)"""
        raise NotImplementedError

    def close(self) -> None:
        os.close(self.fd)


class _Eventfd(_Source):
    """The kernel signals the eventfd for each notice, and once more when the cgroup is removed."""

    def __init__(self, fd: int, directory: str) -> None:
        super().__init__(fd)
        self._directory = directory

    def take(self) -> tuple[int, bool]:
        try:
            count = os.eventfd_read(self.fd)
        except BlockingIOError:
            return 0, False
        if os.path.exists(self._directory):
            return count, False
        return count - 1, True


class _EventsFile(_Source):
    """memory.events, whose count of kills grows, and cgroup.events, which tells that no process is left."""

    def __init__(self, events: int, populated: int) -> None:
        super().__init__(events)
        self._populated = populated
        self._before = _killed(events)
        os.pread(populated, 4096, 0)

    def take(self) -> tuple[int, bool]:
        try:
            now = _killed(self.fd)
            gone = key_values(os.pread(self._populated, 4096, 0).decode()).get("populated") == 0
        except OSError:  # removed
            return 0, True
        count, self._before = now - self._before, now
        return count, gone

    def close(self) -> None:
        super().close()
        os.close(self._populated)


class _Trigger(_Source):
    """Asking the descriptor whether it was triggered takes the answer away, so being called is the answer."""

    def __init__(self, fd: int, directory: str) -> None:
        super().__init__(fd)
        self._directory = directory

    def take(self) -> tuple[int, bool]:
        gone = not os.path.exists(self._directory)
        return int(not gone), gone


def _killed(fd: int) -> int:
    return key_values(os.pread(fd, 4096, 0).decode()).get("oom_kill", 0)


def _priority(*fds: int) -> int:
    """A descriptor that is readable when one of `fds` has something urgent.

    Files of kernfs can always be read, so only POLLPRI tells that they changed, which select(2) and asyncio do not
    ask for.
    """
    epoll = select.epoll()
    for fd in fds:
        epoll.register(fd, select.EPOLLPRI)
    wait = os.dup(epoll.fileno())
    os.set_inheritable(wait, False)
    epoll.close()
    return wait


def _by_eventfd(directory: str, file: str, argument: str) -> Notices:
    """cgroup v1: an eventfd, registered by a line in cgroup.event_control."""
    path = f"{directory}/{file}"
    eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        watched = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            control = os.open(f"{directory}/cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(control, f"{eventfd} {watched} {argument}".encode())
            finally:
                os.close(control)
        finally:
            os.close(watched)
    except OSError as error:
        os.close(eventfd)
        raise _failed(error, "cannot watch", path) from error
    return Notices(eventfd, _Eventfd(eventfd, directory))


def _failed(error: OSError, what: str, path: str, hint: str = "") -> CgroupError:
    text = f"{what} {path}: {error.strerror}"
    return CgroupError(text, path=path, controller="memory", errno=error.errno or 0, hint=hint)
