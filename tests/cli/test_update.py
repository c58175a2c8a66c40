"""What the flags of `update` ask for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyocirun.cli.options import parse
from pyocirun.cli.update import _unified, requested, size
from pyocirun.errors import UsageError


def flags(*argv: str) -> dict[str, Any]:
    call = parse(["update", *argv, "box"])
    assert call is not None
    return call.flags


@pytest.mark.parametrize(
    ("argv", "resources"),
    [
        ((), {}),
        (("--blkio-weight", "300"), {"blockIO": {"weight": 300}}),
        (("--cpu-period=50000",), {"cpu": {"period": 50000}}),
        (("--cpu-quota=-1",), {"cpu": {"quota": -1}}),
        (("--cpu-burst", "0"), {"cpu": {"burst": 0}}),
        (("--cpu-share", "2"), {"cpu": {"shares": 2}}),
        (("--cpu-rt-period", "1", "--cpu-rt-runtime=-1"), {"cpu": {"realtimePeriod": 1, "realtimeRuntime": -1}}),
        (("--cpu-idle", "1"), {"cpu": {"idle": 1}}),
        (("--cpuset-cpus", "0-1", "--cpuset-mems", "0"), {"cpu": {"cpus": "0-1", "mems": "0"}}),
        (("--memory", "64m", "--memory-swap=-1"), {"memory": {"limit": 64 << 20, "swap": -1}}),
        (("--memory-reservation", "1g"), {"memory": {"reservation": 1 << 30}}),
        (("--kernel-memory", "1", "--kernel-memory-tcp", "2"), {"memory": {"kernel": 1, "kernelTCP": 2}}),
        (("--pids-limit", "0"), {"pids": {"limit": 0}}),
        (("--pids-limit=-1",), {"pids": {"limit": -1}}),
    ],
)
def test_each_flag_is_a_member_of_resources(argv: tuple[str, ...], resources: dict[str, Any]) -> None:
    assert requested(flags(*argv)) == resources


@pytest.mark.parametrize(
    ("argv", "unified"),
    [
        (("--memory-high", "1k"), {"memory.high": "1024"}),
        (("--memory-high=-1",), {"memory.high": "max"}),
        (("--memory-min", "0"), {"memory.min": "0"}),
        (("--memory-oom-group", "1"), {"memory.oom.group": "1"}),
        (("--io-latency", "8:0=75"), {"io.latency": "8:0 target=75"}),
    ],
)
def test_flags_of_cgroup_v2_are_files_of_unified(argv: tuple[str, ...], unified: dict[str, str]) -> None:
    assert _unified(flags(*argv)) == unified


@pytest.mark.parametrize(
    ("text", "size_in_bytes"),
    [
        ("0", 0),
        ("-1", -1),
        ("512", 512),
        ("512b", 512),
        ("64k", 64 << 10),
        ("64K", 64 << 10),
        ("64kb", 64 << 10),
        ("64KiB", 64 << 10),
        ("64 M", 64 << 20),
        ("1.5g", 3 << 29),
        ("1T", 1 << 40),
        ("1p", 1 << 50),
    ],
)
def test_a_size(text: str, size_in_bytes: int) -> None:
    assert size(text, "memory") == size_in_bytes


@pytest.mark.parametrize("text", ["", "-2", "x", "64x", "k", "1.2.3", "1,5g", "64mm", "1e3", "64i", "6 4"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid value"):
        size(text, "memory")


@given(st.integers(0, 1 << 20), st.sampled_from("kmgtp"))
def test_units_are_powers_of_1024(number: int, unit: str) -> None:
    assert size(f"{number}{unit}", "memory") == number << 10 * ("kmgtp".index(unit) + 1)


@pytest.mark.parametrize(
    "argv", [("--cpu-period=-1",), ("--cpu-quota", "x"), ("--cpu-share", "1.5"), ("--cpu-idle", "yes")]
)
def test_what_is_no_number_is_refused(argv: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="invalid value"):
        requested(flags(*argv))


@pytest.mark.parametrize("argv", [("--memory-oom-group", "2"), ("--io-latency", "sda=5"), ("--io-latency", "8:0")])
def test_what_cgroup_v2_would_not_take_is_refused(argv: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="invalid value"):
        _unified(flags(*argv))
