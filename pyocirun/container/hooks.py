"""Hooks that run in the runtime's namespaces: nsexec runs them, by a plan of their own."""

from __future__ import annotations

from pyocirun import native
from pyocirun.container.state import to_json
from pyocirun.plan import ops
from pyocirun.spawn.hook import run_plan
from pyocirun.spawn.sync import Answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyocirun.spec.hooks import Hook


def run_hooks(kind: str, hooks: Sequence[Hook], state: dict[str, object], warn: Callable[[str], None]) -> None:
    """Run hooks of one kind, in order, each with `state` as JSON on stdin. Raises HookError for the first that fails.

    Spec: config.md#posix-platform-hooks
    """
    _run(ops.run_hooks(kind, hooks), state, warn)


def run_all_hooks(kind: str, hooks: Sequence[Hook], state: dict[str, object], warn: Callable[[str], None]) -> None:
    """Run all hooks of one kind; one that fails is a warning, and the next one runs. For poststop."""
    from pyocirun.errors import Error

    for step in ops.run_hooks(kind, hooks):
        try:
            _run([step], state, warn)
        except Error as error:
            warn(str(error))


def state_file(state: dict[str, object]) -> int:
    """A descriptor of the state as JSON, for the stdin of hooks."""
    return native.sealed_memfd("state", to_json(state).encode())


def _run(steps: Sequence[ops.Op], state: dict[str, object], warn: Callable[[str], None]) -> None:
    plan = (ops.Clone(0), ops.Sync("hooks:state"), *steps, ops.Finish())
    run_plan(plan, {"hooks:state": lambda fd: Answer(fds=(state_file(state),))}, warn)
