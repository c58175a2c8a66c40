"""What an update makes of linux.resources."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyocirun.spec.merge import added, changes, merged
from pyocirun.spec.resources import parse_resources


@pytest.mark.parametrize(
    ("old", "new", "result"),
    [
        ({}, {"pids": {"limit": 3}}, {"pids": {"limit": 3}}),
        ({"pids": {"limit": 3}}, {}, {"pids": {"limit": 3}}),
        ({"pids": {"limit": 3}}, {"pids": {"limit": 0}}, {"pids": {"limit": 0}}),
        ({"pids": {"limit": 3}}, {"pids": {"limit": None}}, {"pids": {"limit": 3}}),
        ({"cpu": {"quota": 5, "period": 6}}, {"cpu": {"quota": 7}}, {"cpu": {"quota": 7, "period": 6}}),
        ({"cpu": {"quota": 5, "period": 6}}, {"cpu": {"period": 7}}, {"cpu": {"quota": 5, "period": 7}}),
        ({"cpu": {"shares": 5}}, {"cpu": {"idle": 1}}, {"cpu": {"idle": 1}}),
        ({"cpu": {"shares": 5}}, {"cpu": {"idle": 0, "shares": 6}}, {"cpu": {"idle": 0, "shares": 6}}),
        ({"unified": {"a": "1", "b": "2"}}, {"unified": {"a": "3"}}, {"unified": {"a": "3"}}),
        ({"memory": None}, {"memory": {"limit": 1}}, {"memory": {"limit": 1}}),
    ],
)
def test_what_is_not_named_stays(old: dict[str, Any], new: dict[str, Any], result: dict[str, Any]) -> None:
    assert merged(old, new) == result


def test_devices_are_changed_one_by_one() -> None:
    old = {"blockIO": {"weight": 5, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}]}}
    more = [{"major": 8, "minor": 0, "rate": 2}, {"major": 8, "minor": 16, "rate": 3}]

    result = merged(old, {"blockIO": {"throttleReadBpsDevice": more}})

    assert result == {"blockIO": {"weight": 5, "throttleReadBpsDevice": more}}


def test_the_two_weights_of_a_device_are_changed_apart() -> None:
    old = {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 10, "leafWeight": 20}]}}

    result = merged(old, {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 30}]}})

    assert result["blockIO"]["weightDevice"] == [{"major": 8, "minor": 0, "weight": 30, "leafWeight": 20}]


def test_huge_pages_are_changed_by_size_and_rdma_by_device() -> None:
    old = {
        "hugepageLimits": [{"pageSize": "2MB", "limit": 1}, {"pageSize": "1GB", "limit": 2}],
        "rdma": {"mlx4_0": {"hcaHandles": 1}, "mlx4_1": {"hcaHandles": 2}},
    }

    result = merged(old, {"hugepageLimits": [{"pageSize": "1GB", "limit": 3}], "rdma": {"mlx4_1": {"hcaObjects": 4}}})

    assert result["hugepageLimits"] == [{"pageSize": "2MB", "limit": 1}, {"pageSize": "1GB", "limit": 3}]
    assert result["rdma"] == {"mlx4_0": {"hcaHandles": 1}, "mlx4_1": {"hcaObjects": 4}}


def test_devices_stay_as_they_were_created() -> None:
    assert changes({"devices": [{"allow": True, "access": "rwm"}], "pids": None, "cpu": {}}) == {"cpu": {}}


@pytest.mark.parametrize(
    ("old", "new", "result"),
    [
        ({}, {"memory.high": "1"}, {"memory.high": "1"}),
        ({"memory.high": "1", "pids.max": "7"}, {"memory.high": "2"}, {"memory.high": "2", "pids.max": "7"}),
        (
            {"io.latency": "8:0 target=5\n8:16 target=6"},
            {"io.latency": "8:0 target=7"},
            {"io.latency": "8:16 target=6\n8:0 target=7"},
        ),
        ({"io.latency": "8:0 target=5"}, {"memory.min": "1"}, {"io.latency": "8:0 target=5", "memory.min": "1"}),
    ],
)
def test_files_are_added_and_latencies_by_device(
    old: dict[str, str], new: dict[str, str], result: dict[str, str]
) -> None:
    assert added(old, new) == result


NUMBERS = st.integers(-1, 1 << 40)
RESOURCES = st.fixed_dictionaries(
    {},
    optional={
        "memory": st.dictionaries(st.sampled_from(["limit", "reservation", "swap"]), NUMBERS),
        "cpu": st.dictionaries(st.sampled_from(["shares", "period", "burst"]), st.integers(0, 1 << 40)),
        "pids": st.dictionaries(st.just("limit"), NUMBERS),
        "blockIO": st.fixed_dictionaries(
            {},
            optional={
                "weight": st.integers(0, 1000),
                "throttleWriteIOPSDevice": st.lists(
                    st.fixed_dictionaries({"major": st.just(8), "minor": st.integers(0, 3), "rate": st.integers(0, 9)}),
                    max_size=3,
                    unique_by=lambda entry: entry["minor"],
                ),
            },
        ),
        "unified": st.dictionaries(st.sampled_from(["memory.high", "pids.max"]), st.sampled_from(["1", "max"])),
    },
)


@given(RESOURCES, RESOURCES)
def test_the_same_update_twice_changes_nothing_more(old: dict[str, Any], new: dict[str, Any]) -> None:
    once = merged(old, new)

    assert merged(once, new) == once


@given(RESOURCES, RESOURCES)
def test_what_comes_out_can_be_read_and_says_what_was_asked_for(old: dict[str, Any], new: dict[str, Any]) -> None:
    result = parse_resources(merged(old, new))

    for section in ("memory", "cpu", "pids"):
        for name, value in new.get(section, {}).items():
            assert getattr(getattr(result, section), name) == value
