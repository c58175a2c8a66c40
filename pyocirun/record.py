"""Record, the immutable value base.

A Record is what a frozen, slotted dataclass would be, without the 16 ms that importing dataclasses costs at every
start of the runtime. Fields are the annotated names of the class and of its bases; mypy knows the shape through
`dataclass_transform`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar, dataclass_transform

    R = TypeVar("R", bound="Record")
else:

    def dataclass_transform(**_: object):
        return lambda decorated: decorated


class _RecordType(type):
    """Collects the fields of a Record class and turns them into slots."""

    _fields: tuple[str, ...]
    _defaults: dict[str, object]
    _setters: tuple[Callable[[object, object], None], ...]
    """What fills the slots, in the order of the fields; () until the first record is made: most classes make none."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> _RecordType:
        fields: tuple[str, ...] = ()
        defaults: dict[str, object] = {}
        for base in bases:
            if isinstance(base, _RecordType):
                fields += base._fields
                defaults = {**defaults, **base._defaults} if defaults else base._defaults
        own = []
        given = {}
        for field, annotation in namespace.get("__annotations__", {}).items():
            if field[0] == "_" or annotation[:8] == "ClassVar":
                continue
            if field in namespace:
                given[field] = namespace.pop(field)
            if field not in fields:
                own.append(field)
        namespace["__slots__"] = own
        namespace["_fields"] = (*fields, *own)
        namespace["_defaults"] = {**defaults, **given} if given else defaults
        namespace["_setters"] = ()
        return type.__new__(mcs, name, bases, namespace)

    def _make_setters(cls) -> tuple[Callable[[object, object], None], ...]:
        # Past the class's own __setattr__, which refuses.
        cls._setters = tuple([getattr(cls, field).__set__ for field in cls._fields])
        return cls._setters


@dataclass_transform(frozen_default=True, eq_default=True)
class Record(metaclass=_RecordType):
    """An immutable value: equal if type and fields are equal, hashable if its fields are.

    Raises TypeError for a missing, surplus or unknown field, AttributeError for an assignment.
    """

    if not TYPE_CHECKING:

        def __init__(self, *args: object, **kwargs: object) -> None:
            setters = self._setters or type(self)._make_setters()
            if not kwargs and len(args) == len(setters):
                for setter, value in zip(setters, args):
                    setter(self, value)
                return
            fields = self._fields
            if len(args) > len(fields):
                raise TypeError(f"{type(self).__name__} takes {len(fields)} fields, {len(args)} were given")
            for setter, value in zip(setters, args):
                setter(self, value)
            defaults = self._defaults
            for index in range(len(args), len(fields)):
                field = fields[index]
                if field in kwargs:
                    setters[index](self, kwargs.pop(field))
                elif field in defaults:
                    setters[index](self, defaults[field])
                else:
                    raise TypeError(f"{type(self).__name__} needs the field {field!r}")
            if kwargs:
                raise TypeError(f"{type(self).__name__} has no field {next(iter(kwargs))!r}, or it was given twice")

    def __setattr__(self, field: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __delattr__(self, field: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return values(self) == values(other)

    def __hash__(self) -> int:
        return hash((type(self), values(self)))

    def __repr__(self) -> str:
        shown = ", ".join(f"{field}={getattr(self, field)!r}" for field in type(self)._fields)
        return f"{type(self).__name__}({shown})"

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), values(self)


def values(record: Record) -> tuple[Any, ...]:
    """The field values of `record`, in the order of its fields."""
    return tuple([getattr(record, field) for field in type(record)._fields])


def replace(record: R, **changes: object) -> R:
    """A copy of `record` with some fields changed."""
    fields = dict(zip(type(record)._fields, values(record)))
    return type(record)(**{**fields, **changes})
