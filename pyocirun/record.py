"""Record, the immutable value base.

A Record is what a frozen dataclass would be, without the 16 ms that importing dataclasses costs at every start of the
runtime. Fields are the annotated names of the class and of its bases; mypy knows the shape through
`dataclass_transform`. Making the class costs nothing more than any class: most of them are never used in one call, so
fields are looked for when the first record is made, and there are no slots, which cost more than they save here.
"""

from __future__ import annotations

from _operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar, dataclass_transform

    R = TypeVar("R", bound="Record")
else:

    def dataclass_transform(**_: object):
        return lambda decorated: decorated


class _Shape:
    """What is found out of a class when its first record is made.

    fields: all names.  known, needed: sets of all of them, and of those without a default.  get: a record's values.
    """

    __slots__ = ("count", "fields", "get", "known", "needed")

    def __init__(self, fields: tuple[str, ...], needed: frozenset[str]) -> None:
        self.fields = fields
        self.count = len(fields)
        self.known = frozenset(fields)
        self.needed = needed
        self.get = _getter(fields)


_shapes: dict[type, _Shape] = {}


class _RecordType(type):
    """Gives Record classes the attribute `_fields`."""

    @property
    def _fields(cls) -> tuple[str, ...]:
        return (_shapes.get(cls) or _find_shape(cls)).fields


@dataclass_transform(frozen_default=True, eq_default=True)
class Record(metaclass=_RecordType):
    """An immutable value: equal if type and fields are equal, hashable if its fields are.

    Raises TypeError for a missing, surplus or unknown field, AttributeError for an assignment.
    """

    if not TYPE_CHECKING:

        def __init__(self, *args: object, **kwargs: object) -> None:
            shape = _shapes.get(type(self)) or _find_shape(type(self))
            given = self.__dict__  # past the class's own __setattr__, which refuses
            if args:
                if len(args) > shape.count:
                    raise TypeError(f"{type(self).__name__} takes {shape.count} fields, {len(args)} were given")
                given.update(zip(shape.fields, args))
            if kwargs:
                if not kwargs.keys() <= shape.known or not given.keys().isdisjoint(kwargs):
                    wrong = [field for field in kwargs if field in given or field not in shape.known]
                    raise TypeError(f"{type(self).__name__} has no field {wrong[0]!r}, or it was given twice")
                given.update(kwargs)
            if len(given) < shape.count and not shape.needed <= given.keys():
                missing = [field for field in shape.fields if field in shape.needed and field not in given]
                raise TypeError(f"{type(self).__name__} needs the field {missing[0]!r}")

    def __setattr__(self, field: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __delattr__(self, field: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return self.__dict__ == other.__dict__ or values(self) == values(other)  # defaults need not be in __dict__

    def __hash__(self) -> int:
        return hash((type(self), values(self)))

    def __repr__(self) -> str:
        shown = ", ".join(f"{field}={getattr(self, field)!r}" for field in type(self)._fields)
        return f"{type(self).__name__}({shown})"

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), values(self)


def _find_shape(cls: type) -> _Shape:
    names: dict[str, None] = {}
    for base in reversed(cls.__mro__):
        for name, annotation in base.__dict__.get("__annotations__", {}).items():
            if name[0] != "_" and annotation[:8] != "ClassVar":
                names[name] = None
    shape = _shapes[cls] = _Shape(tuple(names), frozenset([name for name in names if not hasattr(cls, name)]))
    return shape


def _getter(fields: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    if len(fields) > 1:
        return attrgetter(*fields)
    return lambda record: tuple([getattr(record, field) for field in fields])


def values(record: Record) -> tuple[Any, ...]:
    """The field values of `record`, in the order of its fields."""
    return (_shapes.get(type(record)) or _find_shape(type(record))).get(record)


def replace(record: R, **changes: object) -> R:
    """A copy of `record` with some fields changed."""
    shape = _shapes.get(type(record)) or _find_shape(type(record))
    if not changes.keys() <= shape.known:
        raise TypeError(f"{type(record).__name__} has no field of {', '.join(changes)}")
    copy = type(record).__new__(type(record))
    copy.__dict__.update(record.__dict__)
    copy.__dict__.update(changes)
    return copy
