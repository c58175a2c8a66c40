"""Hooks that run in the runtime's namespaces: programs, by a plan of their own, and functions of the caller."""

from __future__ import annotations

from pyocirun import native
from pyocirun.container.state import to_json
from pyocirun.errors import Error, HookError, UsageError
from pyocirun.plan import ops
from pyocirun.spawn.hook import run_plan
from pyocirun.spawn.sync import Answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyocirun.spec.hooks import Hook

    Function = Callable[[dict[str, object]], object]

CALLABLE_KINDS = ("prestart", "createRuntime", "poststart", "poststop")
"""The kinds that run in the runtime's namespaces. No Python runs in a container's."""


def check_functions(functions: Mapping[str, Sequence[Function]]) -> dict[str, tuple[Function, ...]]:
    """`functions` by kind, as a copy. Raises UsageError for a kind that no function can be of."""
    for kind in functions:
        if kind not in CALLABLE_KINDS:
            text = f"a function cannot be a {kind} hook: those can be {', '.join(CALLABLE_KINDS)}"
            raise UsageError(text, hint="createContainer and startContainer hooks are programs in the container")
    return {kind: tuple(wanted) for kind, wanted in functions.items()}


def run_hooks(
    kind: str,
    hooks: Sequence[Hook],
    functions: Sequence[Function],
    state: dict[str, object],
    annotations: dict[str, str],
    warn: Callable[[str], None],
) -> None:
    """Run hooks of one kind, in order, each with `state` as JSON on stdin, then functions, each with a copy of it.

    Raises HookError for the first that fails. Spec: config.md#posix-platform-hooks
    """
    if hooks:
        _run(ops.run_hooks(kind, hooks, annotations), state, warn)
    for index, function in enumerate(functions, len(hooks)):
        _call(kind, index, function, state)


def run_all_hooks(
    kind: str,
    hooks: Sequence[Hook],
    functions: Sequence[Function],
    state: dict[str, object],
    annotations: dict[str, str],
    warn: Callable[[str], None],
) -> None:
    """Run all hooks of one kind; one that fails is a warning, and the next one runs. For poststop."""
    for step in ops.run_hooks(kind, hooks, annotations):
        try:
            _run([step], state, warn)
        except Error as error:
            warn(str(error))
    for index, function in enumerate(functions, len(hooks)):
        try:
            _call(kind, index, function, state)
        except HookError as error:
            warn(str(error))


def state_file(state: dict[str, object]) -> int:
    """A descriptor of the state as JSON, for the stdin of hooks."""
    return native.sealed_memfd("state", to_json(state).encode())


def _call(kind: str, index: int, function: Function, state: dict[str, object]) -> None:
    try:
        function(dict(state))
    except Exception as error:
        name = f"{kind} hook #{index}"
        raise HookError(f"error running {name}: {type(error).__name__}: {error}", hook=name) from error


def _run(steps: Sequence[ops.Op], state: dict[str, object], warn: Callable[[str], None]) -> None:
    bundle = ops.Cwd(str(state["bundle"]), of_host=True)
    plan = (ops.Clone(0), ops.Sync("hooks:state"), bundle, *steps, ops.Finish())
    run_plan(plan, {"hooks:state": lambda fd: Answer(fds=(state_file(state),))}, warn)
