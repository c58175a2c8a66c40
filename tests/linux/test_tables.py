"""Namespaces, rlimits and scheduling."""

from __future__ import annotations

import os
import resource

import pytest

from pyocirun.linux import namespaces, rlimits, sched


@pytest.mark.parametrize("type", namespaces.FLAGS)
def test_file_leads_back_to_the_namespace_type(type: str) -> None:
    file = namespaces.FILES[type]

    assert os.path.exists(f"/proc/self/ns/{file}")
    assert namespaces.type_of_file(file) == type


def test_children_namespace_files_are_no_type() -> None:
    assert namespaces.type_of_file("pid_for_children") is None


def test_type_names_of_flags() -> None:
    assert namespaces.type_names(namespaces.CLONE_NEWNS | namespaces.CLONE_NEWUSER) == ["mount", "user"]


@pytest.mark.parametrize(
    ("type", "name"), [("mount", "CLONE_NEWNS"), ("network", "CLONE_NEWNET"), ("pid", "CLONE_NEWPID")]
)
def test_flag_name(type: str, name: str) -> None:
    assert namespaces.flag_name(type) == name
    assert getattr(namespaces, name) == namespaces.FLAGS[type]


def test_rlimits_agree_with_the_interpreter() -> None:
    known = {name: getattr(resource, name) for name in rlimits.RLIMITS if hasattr(resource, name)}

    assert known
    assert {name: rlimits.RLIMITS[name] for name in known} == known


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", []), ("0", [0]), ("0-3,7", [0, 1, 2, 3, 7]), ("7, 1-2,2", [1, 2, 7]), ("3-3", [3]), ("8191", [8191])],
)
def test_list_is_read(text: str, numbers: list[int]) -> None:
    assert sched.parse_list(text) == numbers


@pytest.mark.parametrize("text", ["a", "-1", "1-", "3-1", "1,,2", ",", "8192", "0-99999999999", "1-2-3", "²"])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        sched.parse_list(text)


def test_io_priority_has_its_class_above_bit_13() -> None:
    assert sched.io_priority("IOPRIO_CLASS_BE", 4) == 0x4004
