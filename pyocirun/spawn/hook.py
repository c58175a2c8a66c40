"""Programs that run in the runtime's own namespaces: nsexec starts them, by a plan of their own."""

from __future__ import annotations

import posix

from pyocirun.plan.encode import encode
from pyocirun.plan.ops import Plan
from pyocirun.spawn.effects import kill, open_output
from pyocirun.spawn.launch import launch
from pyocirun.spawn.sync import drive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyocirun.plan.ops import Op
    from pyocirun.spawn.sync import Answer


def run_plan(steps: tuple[Op, ...], answers: dict[str, Callable[[int], Answer]], warn: Callable[[str], None]) -> None:
    """Carry out a plan from Clone to Finish. Raises HookError for a program that fails."""
    plan = Plan(steps)
    nothing = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    try:
        launched = launch(plan, encode(plan), lambda slot: open_output(slot.path), (nothing, nothing, nothing))
    finally:
        posix.close(nothing)
    try:
        drive(plan, launched, {}, answers, warn)
    finally:
        # It has ended, or we were interrupted: then the program ends with it.
        launched.close()
        kill(launched)
