"""Record, the immutable value base.

A Record is what a frozen, slotted dataclass would be, without the 16 ms that importing dataclasses costs at every
start of the runtime. Fields are the annotated names of the class and of its bases; mypy knows the shape through
`dataclass_transform`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar, dataclass_transform

    R = TypeVar("R", bound="Record")
else:

    def dataclass_transform(**_: object):
        return lambda decorated: decorated


_set = object.__setattr__


class _RecordType(type):
    """Collects the fields of a Record class and turns them into slots."""

    _fields: tuple[str, ...]
    _defaults: dict[str, object]

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> _RecordType:
        fields: dict[str, None] = {}
        defaults: dict[str, object] = {}
        for base in bases:
            fields.update(dict.fromkeys(getattr(base, "_fields", ())))
            defaults.update(getattr(base, "_defaults", {}))
        own = [
            field
            for field, annotation in namespace.get("__annotations__", {}).items()
            if not field.startswith("_") and not str(annotation).startswith("ClassVar")
        ]
        defaults.update({field: namespace.pop(field) for field in own if field in namespace})
        namespace["__slots__"] = tuple(field for field in own if field not in fields)
        fields.update(dict.fromkeys(own))
        namespace["_fields"] = tuple(fields)
        namespace["_defaults"] = defaults
        return super().__new__(mcs, name, bases, namespace)


@dataclass_transform(frozen_default=True, eq_default=True)
class Record(metaclass=_RecordType):
    """An immutable value: equal if type and fields are equal, hashable if its fields are.

    Raises TypeError for a missing, surplus or unknown field, AttributeError for an assignment.
    """

    if not TYPE_CHECKING:

        def __init__(self, *args: object, **kwargs: object) -> None:
            fields = self._fields
            if len(args) > len(fields):
                raise TypeError(f"{type(self).__name__} takes {len(fields)} fields, {len(args)} were given")
            for field, value in zip(fields, args):
                _set(self, field, value)
            for field in fields[len(args) :]:
                if field in kwargs:
                    _set(self, field, kwargs.pop(field))
                elif field in self._defaults:
                    _set(self, field, self._defaults[field])
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
