"""linux.resources as writes to cgroup v2."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyocirun.cgroup.v1 import Write
from pyocirun.cgroup.v2 import complete, swap_max, warnings, weight_of_blkio, weight_of_shares, writes
from pyocirun.errors import SpecError
from pyocirun.spec.resources import (
    CPU,
    BlockIO,
    HugepageLimit,
    Memory,
    Network,
    Pids,
    Rdma,
    Resources,
    ThrottleDevice,
    WeightDevice,
)


def limits(**members: Any) -> list[tuple[str, str]]:
    """(file, value)"""
    return [(write.file, write.value) for write in writes(Resources(**members))]


@pytest.mark.parametrize("resources", [None, Resources()])
def test_nothing_asked_for_writes_nothing(resources: Resources | None) -> None:
    assert writes(resources) == []


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        ({}, []),
        ({"limit": 0}, []),
        ({"limit": 4096}, [("memory.max", "4096")]),
        ({"limit": 4096, "swap": 0}, [("memory.max", "4096")]),
        ({"limit": 4096, "swap": 8192}, [("memory.swap.max", "4096"), ("memory.max", "4096")]),
        ({"limit": 4096, "swap": 4096}, [("memory.swap.max", "0"), ("memory.max", "4096")]),
        ({"limit": 4096, "swap": -1}, [("memory.swap.max", "max"), ("memory.max", "4096")]),
        ({"limit": -1}, [("memory.swap.max", "max"), ("memory.max", "max")]),
        ({"limit": -1, "swap": -1}, [("memory.swap.max", "max"), ("memory.max", "max")]),
        ({"swap": -1}, [("memory.swap.max", "max")]),
        ({"reservation": 4096}, [("memory.low", "4096")]),
        ({"reservation": -1}, [("memory.low", "max")]),
        ({"kernel": 4096, "kernel_tcp": 4096, "swappiness": 7, "disable_oom_killer": True}, []),
    ],
)
def test_memory(asked: dict[str, Any], written: list[tuple[str, str]]) -> None:
    assert limits(memory=Memory(**asked)) == written


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"swap": 4096}, "unable to set swap limit without memory limit"),
        ({"swap": 4096, "limit": 8192}, r"memory\+swap limit should be >= memory limit"),
        ({"swap": 4096, "limit": -1}, r"memory\+swap limit should be >= memory limit"),
    ],
)
def test_impossible_swap_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        writes(Resources(memory=Memory(**asked)))


def test_unlimited_swap_needs_no_swap() -> None:
    assert [write.optional for write in writes(Resources(memory=Memory(limit=-1)))] == [True, False]


@given(st.integers(1, 1 << 62), st.integers(0, 1 << 62))
def test_swap_is_what_is_above_the_limit(limit: int, more: int) -> None:
    assert swap_max(Memory(limit=limit, swap=limit + more)) == str(more)


@pytest.mark.parametrize(
    ("shares", "weight"), [(0, 0), (1, 1), (2, 1), (1024, 100), (262144, 10000), (1 << 63, 10000), (512, 59)]
)
def test_shares_become_a_weight(shares: int, weight: int) -> None:
    assert weight_of_shares(shares) == weight


@given(st.integers(1, 1 << 63), st.integers(1, 1 << 63))
def test_weights_are_in_range_and_grow_with_shares(one: int, other: int) -> None:
    low, high = sorted((one, other))

    assert 1 <= weight_of_shares(low) <= weight_of_shares(high) <= 10000


@given(st.integers(10, 1000), st.integers(10, 1000))
def test_io_weights_are_in_range_and_grow(one: int, other: int) -> None:
    low, high = sorted((one, other))

    assert 1 <= weight_of_blkio(low) <= weight_of_blkio(high) <= 10000


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        ({"shares": 1024}, [("cpu.weight", "100")]),
        ({"shares": 0}, []),
        ({"quota": 20000, "period": 50000}, [("cpu.max", "20000 50000")]),
        ({"quota": 20000}, [("cpu.max", "20000 100000")]),
        ({"period": 50000}, [("cpu.max", "max 50000")]),
        ({"quota": -1}, [("cpu.max", "max 100000")]),
        ({"quota": 0}, []),
        ({"quota": 20000, "burst": 10000}, [("cpu.max.burst", "10000"), ("cpu.max", "20000 100000")]),
        ({"idle": 1, "shares": 1024}, [("cpu.idle", "1")]),
        ({"idle": 0, "shares": 1024}, [("cpu.idle", "0"), ("cpu.weight", "100")]),
        ({"cpus": "0-1", "mems": "0"}, [("cpuset.cpus", "0-1"), ("cpuset.mems", "0")]),
        ({"realtime_runtime": 1, "realtime_period": 2}, []),
    ],
)
def test_cpu(asked: dict[str, Any], written: list[tuple[str, str]]) -> None:
    assert limits(cpu=CPU(**asked)) == written


@pytest.mark.parametrize(("limit", "value"), [(10, "10"), (0, "1"), (-1, "max")])
def test_pids(limit: int, value: str) -> None:
    assert limits(pids=Pids(limit)) == [("pids.max", value)]


def test_pids_without_a_limit_stay() -> None:
    assert limits(pids=Pids()) == []


def test_io_weight_is_that_of_bfq_or_else_the_general_one() -> None:
    made = writes(Resources(block_io=BlockIO(weight=100)))

    assert made == [Write("io", "io.bfq.weight", "100", other="io.weight", other_value="910")]


def test_io_of_devices() -> None:
    block_io = BlockIO(
        weight_device=(WeightDevice(8, 0, 500, 300), WeightDevice(8, 16, None, 300)),
        throttle_read_bps_device=(ThrottleDevice(8, 0, 1000),),
        throttle_write_bps_device=(ThrottleDevice(8, 0, 0),),
        throttle_read_iops_device=(ThrottleDevice(8, 0, 10),),
        throttle_write_iops_device=(ThrottleDevice(8, 16, 20),),
    )

    assert limits(block_io=block_io) == [
        ("io.bfq.weight", "8:0 500"),
        ("io.max", "8:0 rbps=1000"),
        ("io.max", "8:0 wbps=0"),
        ("io.max", "8:0 riops=10"),
        ("io.max", "8:16 wiops=20"),
    ]


def test_huge_pages_are_limited_in_use_and_in_reservation() -> None:
    made = writes(Resources(hugepage_limits=(HugepageLimit("2MB", 4096),)))

    assert [(write.file, write.value, write.optional) for write in made] == [
        ("hugetlb.2MB.max", "4096", False),
        ("hugetlb.2MB.rsvd.max", "4096", True),
    ]


def test_rdma() -> None:
    assert limits(rdma={"mlx5_0": Rdma(3, 10000), "mlx5_1": Rdma(None, 7)}) == [
        ("rdma.max", "mlx5_0 hca_handle=3 hca_object=10000"),
        ("rdma.max", "mlx5_1 hca_object=7"),
    ]


def test_unified_comes_last_a_line_at_a_time() -> None:
    made = writes(
        Resources(memory=Memory(limit=4096), unified={"memory.max": "8192", "io.max": "8:0 rbps=1\n8:1 rbps=2"})
    )

    assert [(write.controller, write.file, write.value) for write in made] == [
        ("memory", "memory.max", "4096"),
        ("memory", "memory.max", "8192"),
        ("io", "io.max", "8:0 rbps=1"),
        ("io", "io.max", "8:1 rbps=2"),
    ]


@pytest.mark.parametrize("name", ["cgroup.procs", "cgroup.freeze", "cgroup.kill", "a/b.c", "memory", ".."])
def test_a_unified_name_that_is_no_limit_is_refused(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        writes(Resources(unified={name: "1"}))

    assert caught.value.pointer == f"/linux/resources/unified/{name.replace('/', '~1')}"


def test_what_cgroup_v2_does_not_have_is_warned_of() -> None:
    resources = Resources(
        memory=Memory(kernel=1, swappiness=7), cpu=CPU(realtime_runtime=3), network=Network(class_id=1)
    )

    assert [line.split()[0] for line in warnings(resources)] == [
        "linux.resources.memory.kernel",
        "linux.resources.memory.swappiness",
        "linux.resources.cpu.realtimeRuntime",
        "linux.resources.network.classID",
    ]


@given(
    st.builds(
        Memory,
        limit=st.none() | st.integers(-1, 1 << 62),
        reservation=st.none() | st.integers(-1, 1 << 62),
        swap=st.none() | st.integers(-1, 1 << 62),
    ),
    st.builds(CPU, shares=st.none() | st.integers(0, 1 << 40), quota=st.none() | st.integers(-1, 1 << 40)),
    st.builds(Pids, st.none() | st.integers(-1, 1 << 40)),
)
def test_what_is_not_asked_for_is_not_written_and_minus_one_is_max(memory: Memory, cpu: CPU, pids: Pids) -> None:
    try:
        made = {write.file: write.value for write in writes(Resources(memory=memory, cpu=cpu, pids=pids))}
    except SpecError:
        assert memory.swap is not None and memory.swap > 0
        return

    assert ("memory.max" in made) == bool(memory.limit)
    assert ("pids.max" in made) == (pids.limit is not None)
    assert (made.get("memory.max") == "max") == (memory.limit == -1)
    assert (made.get("pids.max") == "max") == (pids.limit == -1)
    assert not any(value.startswith("-") for value in made.values())


@pytest.mark.parametrize(
    ("asked", "in_force", "written"),
    [
        (CPU(quota=40000), "20000 50000", "40000 50000"),
        (CPU(quota=-1), "20000 50000", "max 50000"),
        (CPU(period=40000), "20000 50000", "20000 40000"),
        (CPU(period=40000), "max 100000", "max 40000"),
        (CPU(quota=40000, period=80000), "20000 50000", "40000 80000"),
    ],
)
def test_quota_or_period_that_is_not_named_stays(asked: CPU, in_force: str, written: str) -> None:
    resources = complete(Resources(cpu=asked), in_force)

    assert [(write.file, write.value) for write in writes(resources)] == [("cpu.max", written)]


@pytest.mark.parametrize("asked", [None, CPU(), CPU(shares=512), CPU(quota=0, period=0)])
def test_without_quota_and_period_there_is_nothing_to_complete(asked: CPU | None) -> None:
    assert complete(Resources(cpu=asked), "max 100000") == Resources(cpu=asked)
