"""When nsexec began each operation: a page that both sides see. For --debug and --timings."""

from __future__ import annotations

import posix

from pyocirun import native
from pyocirun.plan.encode import MAX_OPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyocirun.plan.ops import Plan
    from pyocirun.trace import Trace

BYTES = MAX_OPS * 8
"""A number of 8 bytes for each operation that a plan can have: nanoseconds, 0 if it was not reached."""


def make_stamps() -> int:
    """A descriptor of the page, for `launch`."""
    return native.shared_memfd("stamps", BYTES)


def tell_times(plan: Plan, stamps: int, debug: Callable[[str], None] | None, trace: Trace | None) -> None:
    """Tell who wants to know. stamps: the page's descriptor, which is closed."""
    times = take_stamps(stamps)
    if trace is not None:
        trace.operations([op.describe() for op in plan.ops], times)
    if debug is not None:
        _log_times(plan, times, debug)


def _log_times(plan: Plan, times: bytes, debug: Callable[[str], None]) -> None:
    """A line for each operation that nsexec began, with microseconds since its first. times: what the page holds."""
    first = 0
    for index, op in enumerate(plan.ops):
        if at := int.from_bytes(times[index * 8 : index * 8 + 8], "little"):
            first = first or at
            debug(f"nsexec: operation {index} at {(at - first) // 1000} us: {op.describe()}")


def take_stamps(fd: int) -> bytes:
    """What the page holds; its descriptor is closed."""
    try:
        return posix.pread(fd, BYTES, 0)
    finally:
        posix.close(fd)
