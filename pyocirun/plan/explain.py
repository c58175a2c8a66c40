"""A plan for people (text) and for programs (JSON)."""

from __future__ import annotations

from pyocirun.plan.ops import Clone, Exec, Plan, RunHook
from pyocirun.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyocirun.plan.ops import Op

HIDDEN = "..."


def text(plan: Plan, *, show_env: bool = False) -> str:
    """One line an operation: its index, who does it, what it does. Values of variables are hidden unless show_env."""
    lines = []
    for index, op in enumerate(plan.ops):
        lines.append(f"{index:3}  {side(op):6}  {printable(op.describe())}")
        if type(op) in (Exec, RunHook):
            lines += [f"{'':13}{printable(entry)}" for entry in environment(op, show_env)]
    return "\n".join(lines) + "\n"


def as_json(plan: Plan, *, show_env: bool = False) -> str:
    """A JSON array with one object an operation: index, side, op, does, and the operation's own fields.

    Programs for the kernel are hexadecimal digits.
    """
    import json

    shown = []
    for index, op in enumerate(plan.ops):
        fields = _value(op)
        if "env" in fields:
            fields["env"] = environment(op, show_env)
        if "search" in fields and not show_env:
            fields["search"] = HIDDEN
        shown.append({"index": index, "side": side(op), "op": type(op).__name__, "does": op.describe(), **fields})
    return json.dumps(shown, indent=2) + "\n"


def printable(text: str) -> str:
    """`text` in one line, what a terminal would act upon escaped: it comes from whoever wrote the configuration."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def side(op: Op) -> str:
    """Who does it: "parent" or "nsexec"."""
    return "nsexec" if op.wire and type(op) is not Clone else "parent"


def environment(op: Op, show_env: bool) -> list[str]:
    """The variables of an operation, by name alone unless show_env: they often hold secrets."""
    entries: tuple[str, ...] = getattr(op, "env", ())
    return [entry if show_env else f"{entry.partition('=')[0]}={HIDDEN}" for entry in entries]


def _value(value: Any) -> Any:
    if isinstance(value, Record):
        return {field: _value(getattr(value, field)) for field in type(value)._fields}
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    return value.hex() if isinstance(value, bytes) else value
