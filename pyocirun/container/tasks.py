"""What asyncio tasks need: steps that are carried on to their end, whoever is cancelled meanwhile."""

from __future__ import annotations

import asyncio
from time import monotonic

from pyocirun.cgroup.events import readable
from pyocirun.container.process import Process, reap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")


async def to_the_end(step: Callable[[], T]) -> T:
    """Run `step` in a thread and wait for it, even if this task is cancelled; it is cancelled afterwards then."""
    work = asyncio.ensure_future(asyncio.to_thread(step))
    cancelled = False
    while not work.done():
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            cancelled = True
        except BaseException:
            break  # result() raises it
    if cancelled and not work.exception():
        raise asyncio.CancelledError
    return work.result()


async def await_end(init: Process, container: str, timeout: float | None) -> None:
    """Wait until init has ended, at most `timeout` seconds; None: for ever.  container: its state directory.

    What was started in the container by this process is reaped on the way: init does not end before.
    """
    until = None if timeout is None else monotonic() + timeout
    while not init.ended(0):
        left = None if until is None else until - monotonic()
        if left is not None and left <= 0:
            return
        children = reap(container)
        # Not for long if there are others: another thread may start one more meanwhile.
        pause = left if not children else 1.0 if left is None else min(1.0, left)
        await readable(init.pidfd, *(process.pidfd for process in children), timeout=pause)
