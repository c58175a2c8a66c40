"""hooks: programs that run at six points of a container's life (config.md#posix-platform-hooks)."""

from __future__ import annotations

from pyocirun.record import Record
from pyocirun.spec import reader
from pyocirun.spec.reader import child, fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Hook(Record):
    """One program.

    args: with args[0], () if absent.  env: the whole environment, None if absent.  timeout: in seconds, None is none.
    """

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] | None = None
    timeout: int | None = None


class Hooks(Record):
    """The six lists, each in the order in which its hooks run."""

    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
"""The names in config.json, in the order of `Hooks`."""


def parse_hooks(fields: dict[str, Any], at: str = "/hooks") -> Hooks:
    """The hooks in an object. Raises SpecError."""
    return Hooks(*[reader.records(fields, kind, at, _hook) or () for kind in KINDS])


def _hook(value: Any, at: str) -> Hook:
    fields = reader.fields(value, at)
    hook = Hook(
        reader.string(fields, "path", at),
        reader.strings(fields, "args", at) or (),
        reader.strings(fields, "env", at),
        reader.optional_integer(fields, "timeout", at, -reader.INT64, reader.INT64),
    )
    if not hook.path.startswith("/"):
        raise fault(child(at, "path"), "the path of a hook must be absolute")
    if hook.timeout is not None and hook.timeout <= 0:
        raise fault(child(at, "timeout"), "the timeout of a hook must be greater than zero")
    return hook
