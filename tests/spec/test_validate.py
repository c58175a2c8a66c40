"""Every fault at once: what the reader finds when it is made to go on, and what no specification knows."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyocirun.spec import example
from pyocirun.spec.config import parse_config
from pyocirun.spec.validate import all_faults, faults_of, unknown_properties

GOOD: dict[str, Any] = example.default_config(False)


def changed(*changes: tuple[str, Any]) -> dict[str, Any]:
    """The default configuration with these values at these pointers; "/-" at the end appends."""
    document = copy.deepcopy(GOOD)
    for pointer, value in changes:
        *way, last = pointer.split("/")[1:]
        holder: Any = document
        for part in way:
            holder = holder[int(part)] if isinstance(holder, list) else holder[part]
        if last == "-":
            holder.append(value)
        else:
            holder[int(last) if isinstance(holder, list) else last] = value
    return document


def test_a_good_configuration_has_no_faults() -> None:
    assert faults_of(GOOD, parse_config) == []
    assert unknown_properties(GOOD) == []


def test_the_reader_goes_on_behind_its_first_fault() -> None:
    document = changed(("/process/cwd", "relative"), ("/process/args", []), ("/root", 5), ("/hostname", 7))

    pointers = [pointer for pointer, _ in faults_of(document, parse_config)]

    assert sorted(pointers) == ["/hostname", "/process/args", "/process/cwd", "/root"]


def test_pointers_into_a_list_are_those_of_the_document_as_it_was() -> None:
    document = changed(("/mounts/1", {"destination": 1}), ("/mounts/3", []), ("/mounts/-", {"destination": "/"}))
    last = len(document["mounts"]) - 1

    pointers = {pointer for pointer, _ in faults_of(document, parse_config)}

    assert pointers == {"/mounts/1/destination", "/mounts/3", f"/mounts/{last}/destination"}


def test_a_missing_property_is_one_fault_and_not_its_parents_too() -> None:
    document = changed(("/mounts/0/destination", None), ("/process/cwd", None))

    assert sorted(faults_of(document, parse_config)) == [
        ("/mounts/0/destination", "is missing"),
        ("/process/cwd", "Cwd property must not be empty"),
    ]


@pytest.mark.parametrize("document", [5, None, [], "x"], ids=repr)
def test_what_is_no_object_is_one_fault(document: object) -> None:
    faults = faults_of(document, parse_config)

    assert [pointer for pointer, _ in faults] == [""]


def test_a_second_check_gets_what_the_first_has_left() -> None:
    seen: list[Any] = []

    faults_of(changed(("/hostname", 7)), parse_config, seen.append)

    assert "hostname" not in seen[0]


@pytest.mark.parametrize(
    ("pointer", "text"),
    [
        ("/foo", "is no property of the specification"),
        ("/windows", "is for another platform"),
        ("/process/commandLine", "is for another platform"),
        ("/process/cmd", "is no property of the specification"),
        ("/mounts/0/target", "is no property of the specification"),
        ("/linux/resources/memory/max", "is no property of the specification"),
    ],
)
def test_an_unknown_property_is_named(pointer: str, text: str) -> None:
    document = changed(("/linux/resources", {"memory": {}}), (pointer, "x"))

    assert unknown_properties(document) == [(pointer, text)]


def test_the_keys_of_maps_are_not_properties() -> None:
    document = changed(("/annotations", {"my.own": "x"}), ("/linux/sysctl", {"net.ipv4.ip_forward": "1"}))

    assert unknown_properties(document) == []


def pointers_of(value: Any, at: str = "") -> list[str]:
    """The pointers of everything in a document, the document itself excepted."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, member in items:
        found += [f"{at}/{key}", *pointers_of(member, f"{at}/{key}")]
    return found


def present(document: Any, pointer: str) -> bool:
    """Whether a pointer leads to something, or to where a property could be missing."""
    value = document
    *way, _last = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]] or [""]
    for part in way:
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            return False
    return True


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(pointers_of(GOOD)), JSON), min_size=1, max_size=4))
def test_any_values_at_any_places_give_a_list_of_faults_with_valid_pointers(changes: list[tuple[str, Any]]) -> None:
    try:
        document = changed(*changes)
    except (KeyError, IndexError, ValueError, TypeError, AttributeError):
        return  # one change took the place of another away

    faults = faults_of(document, parse_config)

    assert json.dumps(document)
    assert all(present(document, pointer) for pointer, _ in faults), faults
    assert len({pointer for pointer, _ in faults}) == len(faults)


def test_the_schema_and_the_reader_point_to_the_same_places() -> None:
    document = changed(("/process/cwd", 1), ("/mounts/2/options", "ro"), ("/linux/namespaces/0/type", "nope"))

    assert {at for at, _ in all_faults(document)} == {at for at, _ in faults_of(document, parse_config)}
