"""The public names of the library with their signatures, as text: what programs that use it rely on.

python -P tests/api.py writes it anew for the installed package, to be read as a diff.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pyocirun
from pyocirun import caps, ns, userdb
from pyocirun.record import Record

FILE = Path(__file__).parent / "golden" / "api.txt"


def api_text() -> str:
    """A line a name, sorted within its module."""
    lines: list[str] = []
    for module in (pyocirun, caps, ns, userdb):
        for name in sorted(_names(module)):
            lines += _described(f"{module.__name__}.{name}", getattr(module, name))
    return "".join(f"{line}\n" for line in lines)


def _names(module: ModuleType) -> list[str]:
    named = getattr(module, "__all__", None)
    return named or [name for name, value in vars(module).items() if _is_public(name, value, module)]


def _is_public(name: str, value: object, module: ModuleType) -> bool:
    return name[0] != "_" and getattr(value, "__module__", "") == module.__name__


def _described(name: str, value: object) -> Iterator[str]:
    if inspect.isclass(value):
        bases = ", ".join(base.__name__ for base in value.__bases__)
        yield f"class {name}({bases})"
        yield from _members(name, value)
    elif callable(value):
        yield _called(name, value)
    else:
        yield name


def _members(owner: str, cls: type) -> Iterator[str]:
    if issubclass(cls, Record):
        for field in cls._fields:
            yield f"{owner}.{field}" + (f" = {getattr(cls, field)!r}" if hasattr(cls, field) else "")
        return
    for name, value in sorted(vars(cls).items()):
        if name == "__init__":
            yield _called(owner, value)
        elif name[0] != "_" and isinstance(value, property):
            yield f"{owner}.{name}: {inspect.get_annotations(value.fget)['return'] if value.fget else ''}"
        elif name[0] != "_" and callable(value):
            yield _called(f"{owner}.{name}", value)


def _called(name: str, function: Callable[..., object]) -> str:
    """The name with its signature; annotations are strings, and stand there as in the source."""
    signature = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(function)))
    return f"{'async ' if inspect.iscoroutinefunction(function) else ''}{name}{signature}"


if __name__ == "__main__":
    FILE.write_text(api_text())
    print(FILE)
