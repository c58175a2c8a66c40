"""Id mappings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyocirun.linux.idmap import IDMapping, fault, format_map, to_container, to_host

TWO = (IDMapping(0, 1000, 1), IDMapping(1, 100000, 65535))


def test_map_has_one_line_a_mapping() -> None:
    assert format_map(TWO) == "0 1000 1\n1 100000 65535\n"


@pytest.mark.parametrize(("inside", "outside"), [(0, 1000), (1, 100000), (65535, 165534), (65536, None), (-1, None)])
def test_id_of_the_container_becomes_one_of_the_host(inside: int, outside: int | None) -> None:
    assert to_host(TWO, inside) == outside


@pytest.mark.parametrize(
    ("mappings", "expected"),
    [
        ((), None),
        (TWO, None),
        ((IDMapping(0, 0, 1 << 32 - 1),), None),
        ((IDMapping(5, 5, 0),), (0, "id mapping of size 0")),
        ((IDMapping(0, 0, 1), IDMapping(1, (1 << 32) - 1, 2)), (1, "id mapping runs past the last id, 4294967295")),
        ((IDMapping(0, 0, 2), IDMapping(1, 10, 1)), (1, "id mapping overlaps another one by its containerID")),
        ((IDMapping(9, 10, 1), IDMapping(0, 9, 2)), (1, "id mapping overlaps another one by its hostID")),
    ],
)
def test_fault_of_mappings(mappings: tuple[IDMapping, ...], expected: tuple[int, str] | None) -> None:
    assert fault(mappings) == expected


def test_more_mappings_than_the_kernel_takes_are_a_fault() -> None:
    mappings = [IDMapping(number, number, 1) for number in range(341)]

    assert fault(mappings) == (-1, "341 id mappings, the kernel takes 340")
    assert fault(mappings[:340]) is None


@given(st.lists(st.builds(IDMapping, st.integers(0, 40), st.integers(0, 40), st.integers(1, 9)), max_size=5))
def test_mappings_without_fault_lead_there_and_back(mappings: list[IDMapping]) -> None:
    if fault(mappings) is not None:
        return

    for inside in range(60):
        outside = to_host(mappings, inside)

        assert outside is None or to_container(mappings, outside) == inside
