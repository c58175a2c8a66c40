"""Capability names and bits."""

from __future__ import annotations

import os

import pytest

from pyocirun.linux.capabilities import CAPABILITIES, mask, names


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("CAP_CHOWN", 0),
        ("CAP_KILL", 5),
        ("CAP_SYS_ADMIN", 21),
        ("CAP_MKNOD", 27),
        ("CAP_AUDIT_WRITE", 29),
        ("CAP_SETFCAP", 31),
        ("CAP_BPF", 39),
        ("CAP_CHECKPOINT_RESTORE", 40),
    ],
)
def test_place_in_the_table_is_the_number(name: str, number: int) -> None:
    assert CAPABILITIES.index(name) == number


def test_table_names_every_capability_of_the_header() -> None:
    header = "/usr/include/linux/capability.h"
    if not os.path.exists(header):
        pytest.skip("linux/capability.h is not installed")
    with open(header, encoding="utf-8") as file:
        defined = [line.split() for line in file if line.startswith("#define CAP_")]

    numbers = {words[1]: int(words[2]) for words in defined if len(words) > 2 and words[2].isdigit()}

    assert {name: CAPABILITIES.index(name) for name in CAPABILITIES if name in numbers} == numbers


def test_mask_adds_the_bits_up() -> None:
    assert mask(["CAP_CHOWN", "CAP_KILL", "CAP_CHOWN"]) == (0b100001, [])


def test_mask_gives_unknown_names_back_once() -> None:
    assert mask(["CAP_NEW", "CAP_CHOWN", "chown", "CAP_NEW"]) == (1, ["CAP_NEW", "chown"])


def test_names_is_the_inverse_of_mask() -> None:
    assert names(mask(CAPABILITIES)[0]) == list(CAPABILITIES)


def test_bit_without_a_name_is_written_as_its_number() -> None:
    assert names(1 << 63 | 1) == ["CAP_CHOWN", "CAP_63"]
