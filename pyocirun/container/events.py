"""What happens to a container, as a sequence: readings at intervals, and processes killed for lack of memory."""

from __future__ import annotations

import select
import time

from pyocirun.cgroup.events import readable
from pyocirun.cgroup.stats import Stats
from pyocirun.errors import Error
from pyocirun.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyocirun.cgroup.events import Notices
    from pyocirun.cgroup.manager import Manager
    from pyocirun.container.process import Process


class Event(Record):
    """type: "stats" or "oom".  id: the container's.  data: the readings of "stats"."""

    type: str
    id: str
    data: Stats | None = None

    def to_json(self, *, full: bool = False) -> dict[str, Any]:
        """The object that `events` prints a line of. full: see Stats.to_json."""
        data = {} if self.data is None else {"data": self.data.to_json(full=full)}
        return {"type": self.type, "id": self.id, **data}


class Events:
    """The events of a container until it ends: `for event in events`, or `async for event in events`.

    An object is for one of the two and for one loop. Close it, or use `with`, to end before the container does.
    """

    def __init__(
        self,
        id: str,
        manager: Manager,
        read: Callable[[], Stats],
        init: Process,
        interval: float | None,
        warn: Callable[[str], None],
    ) -> None:
        self._id = id
        self._read = read
        self._init = init
        self._interval = interval
        self._next = None if interval is None else time.monotonic() + interval
        self._notices = _notices(manager, warn)
        self._waiting: list[Event] = []
        self._ended = False

    def close(self) -> None:
        """End the sequence with its next step, and give descriptors back."""
        self._ended = True
        if self._notices is not None:
            self._notices.close()
            self._notices = None

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Events:
        return self

    def __next__(self) -> Event:
        while not self._waiting:
            if self._ended:
                self.close()
                raise StopIteration
            ready, _, _ = select.select(self._descriptors(), [], [], self._timeout())
            self._collect(set(ready))
        return self._waiting.pop(0)

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        while not self._waiting:
            if self._ended:
                self.close()
                raise StopAsyncIteration
            self._collect(await readable(*self._descriptors(), timeout=self._timeout()))
        return self._waiting.pop(0)

    def _descriptors(self) -> list[int]:
        notices = [] if self._notices is None or self._notices.gone else [self._notices.fileno()]
        return [self._init.pidfd, *notices]

    def _timeout(self) -> float | None:
        return None if self._next is None else max(0.0, self._next - time.monotonic())

    def _collect(self, ready: set[int]) -> None:
        ended = self._init.pidfd in ready
        if self._notices is not None and (ended or self._notices.fileno() in ready):
            # At the end too: the kill that ended it comes with it.
            self._waiting += [Event("oom", self._id)] * self._notices.take()
        if ended:
            self._ended = True
        elif self._next is not None and time.monotonic() >= self._next:
            assert self._interval is not None
            self._next = max(self._next + self._interval, time.monotonic())
            self._waiting.append(Event("stats", self._id, self._read()))


def _notices(manager: Manager, warn: Callable[[str], None]) -> Notices | None:
    """None, with a warning, where the memory controller is missing: readings are had all the same."""
    try:
        return manager.oom_notices()
    except Error as error:
        warn(f"no notices of processes killed for lack of memory: {error}")
        return None
