"""Where the time of a command went: steps of Python, and operations of nsexec, as Chrome's trace format has them."""

from __future__ import annotations

import posix
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Event = tuple[str, int, int, int]

COMMAND, NSEXEC = 1, 2
"""The two rows of the picture."""


class Trace:
    """Steps one after another, without gaps: one ends when the next begins.

    began: nanoseconds of CLOCK_MONOTONIC at which the process began, by the time that it has computed so far.
    """

    def __init__(self) -> None:
        self.began = time.monotonic_ns() - time.process_time_ns()
        self._events: list[Event] = []
        self._now: dict[int, tuple[str, int]] = {COMMAND: ("start the interpreter", self.began)}

    def step(self, name: str, row: int = COMMAND) -> None:
        """From now on it is this that takes the time. "": nothing does."""
        now = time.monotonic_ns()
        if row in self._now:
            before, since = self._now.pop(row)
            self._events.append((before, since, now, row))
        if name:
            self._now[row] = name, now

    def operations(self, texts: Sequence[str], stamps: bytes) -> None:
        """What nsexec did until now. texts: of a plan's operations.  stamps: when each began, 8 bytes, 0 if never."""
        starts = [
            (int.from_bytes(stamps[index * 8 : index * 8 + 8], "little"), text) for index, text in enumerate(texts)
        ]
        done = sorted((start, text) for start, text in starts if start)
        ends = [start for start, _ in done[1:]] + [time.monotonic_ns()]
        self._events += [(text, start, end, NSEXEC) for (start, text), end in zip(done, ends)]

    def write(self, path: str, command: str) -> None:
        """End the last step, and write the file. Raises OSError."""
        from _json import encode_basestring_ascii as text  # without the package: this is no reason to load it

        for row in tuple(self._now):
            self.step("", row)
        rows = {COMMAND: f"pyocirun {command}", NSEXEC: "nsexec"}
        pid = posix.getpid()
        events = [
            f'{{"name":"thread_name","ph":"M","pid":{pid},"tid":{row},"args":{{"name":{text(name)}}}}}'
            for row, name in rows.items()
        ]
        for name, start, end, row in self._events:
            at, lasts = (start - self.began) / 1000, (end - start) / 1000  # microseconds
            events.append(
                f'{{"name":{text(name)},"cat":{text(rows[row])},"ph":"X","pid":{pid},"tid":{row},'
                f'"ts":{at:.3f},"dur":{lasts:.3f}}}'
            )
        data = ('{"displayTimeUnit":"ms","traceEvents":[' + ",\n".join(events) + "]}\n").encode()
        fd = posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC, 0o644)
        try:
            while data:
                data = data[posix.write(fd, data) :]
        finally:
            posix.close(fd)
