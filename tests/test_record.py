"""Record, the immutable value base."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from pyocirun.record import Record, replace, values


class Point(Record):
    """A point of these tests."""

    x: int
    y: int = 0


class NamedPoint(Point):
    """A point with one more field."""

    name: str = ""


class OtherPoint(Record):
    """Another type with the same fields."""

    x: int
    y: int = 0


def test_fields_are_taken_by_place_and_by_name() -> None:
    assert Point(1, 2) == Point(1, y=2) == Point(x=1, y=2)


def test_default_is_used_for_an_absent_field() -> None:
    assert Point(1).y == 0


def test_fields_of_the_base_come_first() -> None:
    assert values(NamedPoint(1, 2, "a")) == (1, 2, "a")


def test_equality_needs_the_same_type() -> None:
    assert Point(1) != OtherPoint(1)
    assert Point(1) != NamedPoint(1)


def test_equal_records_have_equal_hashes() -> None:
    assert len({Point(1, 2), Point(1, 2), Point(2, 1)}) == 2


@pytest.mark.parametrize("arguments", [((), {}), ((1, 2, 3), {}), ((1,), {"x": 1}), ((1,), {"z": 1})])
def test_missing_surplus_and_unknown_fields_are_refused(arguments: Any) -> None:
    args, kwargs = arguments

    with pytest.raises(TypeError):
        Point(*args, **kwargs)


def test_assignment_and_deletion_are_refused() -> None:
    point: Any = Point(1)

    with pytest.raises(AttributeError):
        point.x = 2
    with pytest.raises(AttributeError):
        point.z = 2
    with pytest.raises(AttributeError):
        del point.x


def test_replace_leaves_the_original_alone() -> None:
    point = Point(1, 2)

    moved = replace(point, x=5)

    assert moved == Point(5, 2)
    assert point == Point(1, 2)


def test_repr_names_type_and_fields() -> None:
    assert repr(NamedPoint(1, 2, "a")) == "NamedPoint(x=1, y=2, name='a')"


def test_copy_and_pickle_give_an_equal_record() -> None:
    point = NamedPoint(1, 2, "a")

    assert pickle.loads(pickle.dumps(point)) == point
    assert copy.deepcopy(point) == point
