"""Record, the immutable value base.

A Record is what a frozen dataclass would be, without the 16 ms that importing dataclasses costs at every start of the
runtime. Fields are the annotated names of the class and of its bases; mypy knows the shape through
`dataclass_transform`. Making the class costs nothing more than any class: most of them are never used in one call, so
fields are looked for when the first record is made, and there are no slots, which cost more than they save here.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar, dataclass_transform

    R = TypeVar("R", bound="Record")
else:

    def dataclass_transform(**_: object):
        return lambda decorated: decorated


_shapes: dict[type, tuple[tuple[str, ...], tuple[str, ...]]] = {}
"""Fields of a class, and those of them that have no default."""


class _RecordType(type):
    """Gives Record classes the attribute `_fields`."""

    @property
    def _fields(cls) -> tuple[str, ...]:
        return (_shapes.get(cls) or _find_shape(cls))[0]


@dataclass_transform(frozen_default=True, eq_default=True)
class Record(metaclass=_RecordType):
    """An immutable value: equal if type and fields are equal, hashable if its fields are.

    Raises TypeError for a missing, surplus or unknown field, AttributeError for an assignment.
    """

    if not TYPE_CHECKING:

        def __init__(self, *args: object, **kwargs: object) -> None:
            fields, needed = _shapes.get(type(self)) or _find_shape(type(self))
            if len(args) > len(fields):
                raise TypeError(f"{type(self).__name__} takes {len(fields)} fields, {len(args)} were given")
            given = self.__dict__  # past the class's own __setattr__, which refuses
            given.update(zip(fields, args))
            if len(args) == len(fields) and not kwargs:
                return
            for field, value in kwargs.items():
                if field in given or field not in fields:
                    raise TypeError(f"{type(self).__name__} has no field {field!r}, or it was given twice")
                given[field] = value
            for field in needed:
                if field not in given:
                    raise TypeError(f"{type(self).__name__} needs the field {field!r}")

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


def _find_shape(cls: type) -> tuple[tuple[str, ...], tuple[str, ...]]:
    names: dict[str, None] = {}
    for base in reversed(cls.__mro__):
        for name, annotation in base.__dict__.get("__annotations__", {}).items():
            if name[0] != "_" and annotation[:8] != "ClassVar":
                names[name] = None
    shape = _shapes[cls] = tuple(names), tuple([name for name in names if not hasattr(cls, name)])
    return shape


def values(record: Record) -> tuple[Any, ...]:
    """The field values of `record`, in the order of its fields."""
    return tuple([getattr(record, field) for field in type(record)._fields])


def replace(record: R, **changes: object) -> R:
    """A copy of `record` with some fields changed."""
    fields = dict(zip(type(record)._fields, values(record)))
    return type(record)(**{**fields, **changes})
