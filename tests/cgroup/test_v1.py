"""linux.resources as writes to cgroup v1."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyocirun.cgroup.devices import Policy
from pyocirun.cgroup.v1 import Now, Write, warnings, writes
from pyocirun.errors import SpecError
from pyocirun.spec.resources import (
    CPU,
    BlockIO,
    DeviceRule,
    HugepageLimit,
    InterfacePriority,
    Memory,
    Network,
    Pids,
    Rdma,
    Resources,
    ThrottleDevice,
    WeightDevice,
)


def limits(now: Now | None = None, **members: Any) -> list[tuple[str, str]]:
    """(file, value) of everything but devices."""
    return [(write.file, write.value) for write in writes(Resources(**members), now, devices=False)]


def memory(now: Now | None = None, **members: Any) -> list[tuple[str, str]]:
    return limits(now, memory=Memory(**members))


def test_nothing_asked_for_writes_only_devices() -> None:
    made = writes(None)

    assert {write.controller for write in made} == {"devices"}
    assert made == writes(Resources())


def test_devices_are_left_alone_on_request() -> None:
    assert writes(None, devices=False) == []


def test_update_without_rules_leaves_devices_alone() -> None:
    assert writes(Resources(pids=Pids(1)), Now()) == [Write("pids", "pids.max", "1")]


def test_update_with_rules_writes_the_difference() -> None:
    fixed = writes(Resources())
    listed = tuple((tuple_of(write.value), write.value.split()[2]) for write in fixed[1:])

    made = writes(Resources(devices=(DeviceRule(True, "b", 8, 0, "r"),)), Now(devices=Policy(False, listed)))

    assert made == [Write("devices", "devices.allow", "b 8:0 r")]


def tuple_of(value: str) -> tuple[str, int | None, int | None]:
    type, numbers, _ = value.split()
    major, minor = [None if number == "*" else int(number) for number in numbers.split(":")]
    return (type, major, minor)


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        ({}, []),
        ({"limit": 0}, []),
        ({"limit": 4096}, [("memory.limit_in_bytes", "4096")]),
        ({"limit": 4096, "swap": 0}, [("memory.limit_in_bytes", "4096")]),
        (
            {"limit": 4096, "swap": 8192},
            [("memory.limit_in_bytes", "4096"), ("memory.memsw.limit_in_bytes", "8192")],
        ),
        (
            {"limit": 4096, "swap": 4096},
            [("memory.limit_in_bytes", "4096"), ("memory.memsw.limit_in_bytes", "4096")],
        ),
        ({"limit": 4096, "swap": -1}, [("memory.limit_in_bytes", "4096"), ("memory.memsw.limit_in_bytes", "-1")]),
        ({"limit": -1}, [("memory.limit_in_bytes", "-1"), ("memory.memsw.limit_in_bytes", "-1")]),
        ({"swap": -1}, [("memory.memsw.limit_in_bytes", "-1")]),
        ({"reservation": 4096}, [("memory.soft_limit_in_bytes", "4096")]),
        ({"reservation": -1}, [("memory.soft_limit_in_bytes", "-1")]),
        ({"kernel": 4096}, []),
        ({"kernel_tcp": 4096}, [("memory.kmem.tcp.limit_in_bytes", "4096")]),
        ({"swappiness": 0}, [("memory.swappiness", "0")]),
        ({"disable_oom_killer": True}, [("memory.oom_control", "1")]),
        ({"disable_oom_killer": False}, []),
        ({"use_hierarchy": True}, [("memory.use_hierarchy", "1")]),
        ({"use_hierarchy": False}, []),
    ],
)
def test_memory_of_a_new_cgroup(asked: dict[str, Any], written: list[tuple[str, str]]) -> None:
    assert memory(**asked) == written


def test_unlimited_swap_needs_no_swap_accounting() -> None:
    made = writes(Resources(memory=Memory(limit=4096, swap=-1)), devices=False)

    assert [write.optional for write in made] == [False, True]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"swap": 4096}, "unable to set swap limit without memory limit"),
        ({"swap": 4096, "limit": 0}, "unable to set swap limit without memory limit"),
        ({"swap": 4096, "limit": 8192}, "memory+swap limit should be >= memory limit"),
        ({"swap": 4096, "limit": -1}, "memory+swap limit should be >= memory limit"),
    ],
)
def test_impossible_swap_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message.replace("+", r"\+")) as caught:
        memory(**asked)

    assert caught.value.pointer == "/linux/resources/memory/swap"


def test_update_may_set_swap_alone() -> None:
    assert memory(Now(memory_limit=4096), swap=8192) == [("memory.memsw.limit_in_bytes", "8192")]


def test_update_allows_the_oom_killer_again() -> None:
    assert memory(Now(), disable_oom_killer=False) == [("memory.oom_control", "0")]


PAGES = st.integers(1, 8).map(lambda pages: pages * 4096)


@given(st.tuples(PAGES, PAGES).map(sorted), st.tuples(PAGES, PAGES).map(sorted))
def test_no_update_of_memory_and_swap_is_refused_by_the_kernel(old: list[int], new: list[int]) -> None:
    limit, memsw = old

    for file, value in memory(Now(memory_limit=limit), limit=new[0], swap=new[1]):
        if file == "memory.limit_in_bytes":
            limit = int(value)
        else:
            memsw = int(value)
        assert limit <= memsw

    assert [limit, memsw] == new


def test_update_to_no_limit_lifts_swap_first() -> None:
    made = memory(Now(memory_limit=4096), limit=-1)

    assert made == [("memory.memsw.limit_in_bytes", "-1"), ("memory.limit_in_bytes", "-1")]


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        ({}, []),
        ({"shares": 0, "quota": 0, "period": 0}, []),
        ({"shares": 2}, [("cpu.shares", "2")]),
        ({"shares": 262144}, [("cpu.shares", "262144")]),
        (
            {"quota": 5000, "period": 10000},
            [("cpu.cfs_period_us", "10000"), ("cpu.cfs_quota_us", "5000")],
        ),
        ({"quota": -1}, [("cpu.cfs_quota_us", "-1")]),
        ({"period": 50000}, [("cpu.cfs_period_us", "50000")]),
        ({"quota": 5000, "burst": 100}, [("cpu.cfs_burst_us", "100"), ("cpu.cfs_quota_us", "5000")]),
        ({"burst": 0}, [("cpu.cfs_burst_us", "0")]),
        (
            {"realtime_runtime": 950, "realtime_period": 1000},
            [("cpu.rt_period_us", "1000"), ("cpu.rt_runtime_us", "950")],
        ),
        ({"cpus": "0-1", "mems": "0"}, [("cpuset.cpus", "0-1"), ("cpuset.mems", "0")]),
        ({"cpus": "", "mems": ""}, []),
    ],
)
def test_cpu(asked: dict[str, Any], written: list[tuple[str, str]]) -> None:
    assert limits(cpu=CPU(**asked)) == written


def test_shares_go_where_the_group_is_not_idle() -> None:
    assert limits(cpu=CPU(shares=100, idle=1)) == [("cpu.shares", "100"), ("cpu.idle", "1")]
    assert limits(cpu=CPU(shares=100, idle=0)) == [("cpu.idle", "0"), ("cpu.shares", "100")]


@pytest.mark.parametrize(("shares", "word"), [(1, "minimum"), (262145, "maximum")])
def test_shares_that_the_kernel_would_change_are_refused(shares: int, word: str) -> None:
    with pytest.raises(SpecError, match=f"the {word} allowed cpu-shares is") as caught:
        limits(cpu=CPU(shares=shares))

    assert caught.value.pointer == "/linux/resources/cpu/shares"


def test_a_burst_is_not_passed_over_where_the_kernel_has_none() -> None:
    made = [writes(Resources(cpu=CPU(burst=burst)), devices=False)[0] for burst in (0, 1)]

    assert [write.optional for write in made] == [True, False]


def test_period_and_burst_may_wait_for_the_quota() -> None:
    made = writes(Resources(cpu=CPU(quota=5000, period=10000, burst=1)), devices=False)

    assert [(write.file, write.late) for write in made] == [
        ("cpu.cfs_period_us", True),
        ("cpu.cfs_burst_us", True),
        ("cpu.cfs_quota_us", False),
    ]


@pytest.mark.parametrize(("limit", "written"), [(10, "10"), (0, "1"), (-1, "max"), (-7, "max")])
def test_pids(limit: int, written: str) -> None:
    assert limits(pids=Pids(limit)) == [("pids.max", written)]


def test_pids_without_a_limit_stay() -> None:
    assert limits(pids=Pids()) == []


def test_block_io_weights() -> None:
    block_io = BlockIO(500, 300, (WeightDevice(8, 0, 400, 200), WeightDevice(8, 16, 100)))

    assert limits(block_io=block_io) == [
        ("blkio.weight", "500"),
        ("blkio.leaf_weight", "300"),
        ("blkio.weight_device", "8:0 400"),
        ("blkio.leaf_weight_device", "8:0 200"),
        ("blkio.weight_device", "8:16 100"),
    ]


def test_block_io_weight_has_bfqs_name_too() -> None:
    made = writes(Resources(block_io=BlockIO(500)), devices=False)

    assert made == [Write("blkio", "blkio.weight", "500", other="blkio.bfq.weight")]


def test_throttles() -> None:
    rates = [(ThrottleDevice(8, number, number * 100),) for number in range(4)]

    assert limits(block_io=BlockIO(None, None, (), *rates)) == [
        ("blkio.throttle.read_bps_device", "8:0 0"),
        ("blkio.throttle.write_bps_device", "8:1 100"),
        ("blkio.throttle.read_iops_device", "8:2 200"),
        ("blkio.throttle.write_iops_device", "8:3 300"),
    ]


def test_huge_pages_in_use_and_reserved() -> None:
    made = writes(Resources(hugepage_limits=(HugepageLimit("2MB", 1 << 21),)), devices=False)

    assert made == [
        Write("hugetlb", "hugetlb.2MB.limit_in_bytes", "2097152"),
        Write("hugetlb", "hugetlb.2MB.rsvd.limit_in_bytes", "2097152", optional=True),
    ]


@pytest.mark.parametrize("size", ["", "MB", "2mb", "2M", "../2MB", "02MB", "-1MB", "2 MB", "²MB"])
def test_page_size_that_is_none_is_refused(size: str) -> None:
    with pytest.raises(SpecError) as caught:
        limits(hugepage_limits=(HugepageLimit(size, 0),))

    assert caught.value.pointer == "/linux/resources/hugepageLimits/0/pageSize"


def test_network() -> None:
    network = Network(0x100001, (InterfacePriority("lo", 5), InterfacePriority("eth0", 0)))

    assert limits(network=network) == [
        ("net_cls.classid", "1048577"),
        ("net_prio.ifpriomap", "lo 5"),
        ("net_prio.ifpriomap", "eth0 0"),
    ]


def test_rdma() -> None:
    assert limits(rdma={"mlx5_0": Rdma(3), "mlx5_1": Rdma(1, 2)}) == [
        ("rdma.max", "mlx5_0 hca_handle=3"),
        ("rdma.max", "mlx5_1 hca_handle=1 hca_object=2"),
    ]


def test_unified_is_refused() -> None:
    with pytest.raises(SpecError, match="cannot use unified on cgroup v1") as caught:
        limits(unified={"memory.high": "1"})

    assert caught.value.pointer == "/linux/resources/unified"


def test_what_is_left_out_is_told() -> None:
    lines = warnings(Resources(memory=Memory(kernel=1, use_hierarchy=False)))

    assert ["kernel is ignored" in lines[0], "useHierarchy false is ignored" in lines[1]] == [True, True]
    assert warnings(None) == warnings(Resources(memory=Memory(limit=1))) == []
