"""linux.resources as properties of a systemd unit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyocirun.cgroup.devices import FIXED, allows, policy
from pyocirun.cgroup.properties import (
    INFINITY,
    Property,
    allowed,
    annotated,
    bits,
    changes,
    limits,
    properties,
    quota_per_second,
)
from pyocirun.cgroup.unit import Unit
from pyocirun.errors import SpecError
from pyocirun.spec.resources import CPU, BlockIO, DeviceRule, Memory, Pids, Resources

NEW = 257


def asked(version: int = NEW, *, unified: bool = True, **members: Any) -> dict[str, object]:
    found = limits(Resources(**members), version, unified=unified, devices=True)
    return {each.name: each.value for each in found}


def test_nothing_asked_for_is_no_property() -> None:
    assert limits(None, NEW, unified=True, devices=True) == []
    assert asked() == {}


@pytest.mark.parametrize(
    ("memory", "properties"),
    [
        ({}, {}),
        ({"limit": 0}, {}),
        ({"limit": 4096}, {"MemoryMax": 4096}),
        ({"limit": -1}, {"MemoryMax": INFINITY, "MemorySwapMax": INFINITY}),
        ({"limit": 4096, "swap": 6144}, {"MemoryMax": 4096, "MemorySwapMax": 2048}),
        ({"limit": 4096, "swap": 4096}, {"MemoryMax": 4096, "MemorySwapMax": 0}),
        ({"reservation": 4096}, {"MemoryLow": 4096}),
    ],
)
def test_memory(memory: dict[str, Any], properties: dict[str, int]) -> None:
    assert asked(memory=Memory(**memory)) == properties


@pytest.mark.parametrize(
    ("cpu", "properties"),
    [
        ({"shares": 1024}, {"CPUWeight": 100}),
        ({"shares": 0}, {}),
        ({"shares": 1024, "idle": 1}, {"CPUWeight": 0}),
        ({"quota": 50000}, {"CPUQuotaPerSecUSec": 500000}),
        ({"quota": 50000, "period": 200000}, {"CPUQuotaPeriodUSec": 200000, "CPUQuotaPerSecUSec": 250000}),
        ({"quota": -1}, {"CPUQuotaPerSecUSec": INFINITY}),
        ({"period": 50000}, {"CPUQuotaPeriodUSec": 50000, "CPUQuotaPerSecUSec": INFINITY}),
        ({"cpus": "0-2,9", "mems": "0"}, {"AllowedCPUs": b"\x07\x02", "AllowedMemoryNodes": b"\x01"}),
    ],
)
def test_cpu(cpu: dict[str, Any], properties: dict[str, object]) -> None:
    assert asked(cpu=CPU(**cpu)) == properties


@pytest.mark.parametrize(("limit", "most"), [(7, 7), (0, 1), (-1, INFINITY)])
def test_pids(limit: int, most: int) -> None:
    assert asked(pids=Pids(limit)) == {"TasksMax": most}


def test_weight_of_block_devices() -> None:
    assert asked(block_io=BlockIO(weight=10)) == {"IOWeight": 1}
    assert asked(block_io=BlockIO(weight=500), unified=False) == {"BlockIOWeight": 500}


def test_cgroup_v1_has_names_of_its_own_and_its_own_scales() -> None:
    found = asked(unified=False, memory=Memory(limit=4096, swap=8192), cpu=CPU(shares=512, cpus="0"), pids=Pids(3))

    assert found == {"MemoryLimit": 4096, "CPUShares": 512, "TasksMax": 3}


def test_files_of_cgroup_v2_win_over_other_fields() -> None:
    files = {"memory.high": "8192", "memory.max": "max", "cpu.max": "20000 100000", "pids.max": "5", "cpuset.cpus": "1"}
    files |= {"memory.oom.group": "1", "cpu.weight": "7", "io.latency": "8:0 target=10", "cpu.max.burst": "1"}

    found = limits(Resources(memory=Memory(limit=4096), unified=files), NEW, unified=True, devices=True)

    assert {each.name: each.value for each in found} == {
        "MemoryMax": INFINITY,
        "MemoryHigh": 8192,
        "CPUQuotaPeriodUSec": 100000,
        "CPUQuotaPerSecUSec": 200000,
        "TasksMax": 5,
        "AllowedCPUs": b"\x02",
        "OOMPolicy": "kill",
        "CPUWeight": 7,
    }


def test_a_unit_that_runs_is_not_told_what_it_takes_at_its_start_alone() -> None:
    files = {"memory.oom.group": "1", "memory.high": "8192"}

    found = changes(Resources(unified=files), NEW, unified=True, devices=True)

    assert [each.name for each in found] == ["MemoryHigh"]


def test_what_an_old_systemd_does_not_have_is_left_to_the_files() -> None:
    cpu = CPU(quota=50000, period=100000, cpus="0")

    assert asked(239, cpu=cpu) == {"CPUQuotaPerSecUSec": 500000}
    assert asked(239, cpu=CPU(idle=1)) == {}


@given(st.integers(1, 1 << 40), st.integers(1000, 1000000))
def test_a_quota_is_rounded_up_by_less_than_ten_milliseconds(quota: int, period: int) -> None:
    rounded = quota_per_second(quota, period)

    assert rounded % 10000 == 0
    assert 0 <= rounded * period - quota * 1000000 < 10000 * period


@given(st.integers(1, 1 << 40), st.integers(1, 1 << 40), st.integers(1000, 1000000))
def test_more_quota_is_never_less_time(one: int, other: int, period: int) -> None:
    less, more = sorted((one, other))

    assert quota_per_second(less, period) <= quota_per_second(more, period)


@given(st.sets(st.integers(0, 300), min_size=1))
def test_a_list_of_processors_is_a_mask_of_them(numbers: set[int]) -> None:
    mask = bits(",".join(map(str, numbers)), "")

    assert {bit for bit in range(len(mask) * 8) if mask[bit // 8] >> bit % 8 & 1} == numbers
    assert mask[-1]


@pytest.mark.parametrize("text", ["", "a", "2-1", "1-", "-1", "1,,2", "70000"])
def test_another_text_is_no_list(text: str) -> None:
    with pytest.raises(SpecError):
        bits(text, "/linux/resources/cpu/cpus")


# ---- devices -------------------------------------------------------------------------------------

DENY_ALL = DeviceRule(False)


def test_no_rules_are_no_policy() -> None:
    assert asked(devices=()) == {}


def test_rules_become_a_list_of_what_is_allowed() -> None:
    kmsg = DeviceRule(True, "c", 1, 11, "r")
    tape = DeviceRule(True, "b", 9, None, "rw")

    found = asked(devices=(DENY_ALL, kmsg, tape))

    assert found["DevicePolicy"] == "strict"
    nodes = dict(found["DeviceAllow"])  # type: ignore[call-overload]
    assert nodes["/dev/char/1:11"] == "r"
    assert nodes["block-9"] == "rw"
    assert nodes["char-*"] == "m"
    assert nodes["char-136"] == "rwm"
    assert nodes["/dev/char/1:3"] == "rwm"


def test_all_allowed_is_no_filter() -> None:
    assert asked(devices=(DENY_ALL, DeviceRule(True))) == {"DevicePolicy": "auto", "DeviceAllow": []}


RULES = st.lists(
    st.builds(
        DeviceRule,
        st.booleans(),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from([None, 1, 8]),
        st.sampled_from([None, 3, 11]),
        st.sampled_from(["rwm", "r", "rw", "m"]),
    ),
    max_size=6,
)


@given(RULES, st.sampled_from("bc"), st.sampled_from([1, 8]), st.sampled_from([3, 11]), st.sampled_from("rwm"))
def test_systemd_never_denies_what_the_rules_allow(
    rules: list[DeviceRule], kind: str, major: int, minor: int, access: str
) -> None:
    """What is denied besides is for the container's own program."""
    try:
        exact = policy(rules)
    except SpecError:
        return

    found = allowed(rules)

    covering = [
        letters
        for device, letters in found.items()
        if device[0] == kind and device[1] in (None, major) and device[2] in (None, minor)
    ]
    if allows(exact, (kind, major, minor), access):
        assert any(access in letters for letters in covering)
    for device, letters in FIXED:
        assert set(letters) <= set(found[device])


# ---- the unit ------------------------------------------------------------------------------------


def test_a_scope_is_delegated_and_ends_with_nothing_else() -> None:
    made = properties(Unit("a.slice", "b.scope", version=NEW), "web", None, {}, unified=True, devices=True)

    assert {each.name: each.value for each in made} == {
        "Description": "container web",
        "DefaultDependencies": False,
        "MemoryAccounting": True,
        "CPUAccounting": True,
        "IOAccounting": True,
        "TasksAccounting": True,
        "CollectMode": "inactive-or-failed",
        "Slice": "a.slice",
        "Delegate": True,
    }


def test_a_slice_wants_the_one_above() -> None:
    made = properties(Unit("a.slice", "a-b.slice", version=NEW), "web", None, {}, unified=True, devices=True)

    names = {each.name: each.value for each in made}
    assert names["Wants"] == ["a.slice"]
    assert not {"Slice", "Delegate"} & set(names)


def test_an_annotation_wins() -> None:
    annotations = {"org.systemd.property.Description": "'mine'", "org.systemd.property.TimeoutStopSec": "1.5"}

    made = properties(Unit("a.slice", "b.scope"), "web", None, annotations, unified=True, devices=True)

    found = {each.name: (each.signature, each.value) for each in made}
    assert found["Description"] == ("s", "mine")
    assert found["TimeoutStopUSec"] == ("t", 1500000)


def test_annotations_keep_their_types() -> None:
    given = {
        "org.systemd.property.TimeoutStopUSec": "uint64 5",
        "other": "x",
        "org.systemd.property.Wants": "['a.slice']",
    }

    assert annotated(given) == [Property("TimeoutStopUSec", "t", 5), Property("Wants", "as", ["a.slice"])]


@pytest.mark.parametrize(
    ("name", "text"),
    [("A", "1"), ("With-dash", "1"), ("", "1"), ("CPUWeight", "many"), ("StopSec", "'a'"), ("StopSec", "-1")],
)
def test_an_annotation_that_is_none_is_refused(name: str, text: str) -> None:
    with pytest.raises(SpecError) as caught:
        annotated({f"org.systemd.property.{name}": text})

    assert caught.value.pointer == f"/annotations/org.systemd.property.{name}"
