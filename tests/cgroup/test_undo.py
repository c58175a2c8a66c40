"""What takes the change of a cgroup file back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyocirun.cgroup.undo import Saved, restoring
from pyocirun.cgroup.v1 import Write


@pytest.mark.parametrize(
    ("file", "before", "now", "writes"),
    [
        ("pids.max", "max\n", "max\n", []),
        ("pids.max", "max\n", "5\n", ["max"]),
        ("cpu.max", "max 100000\n", "5000 100000\n", ["max 100000"]),
        ("cpuset.cpus", "\n", "0-1\n", ["\n"]),
        ("memory.oom_control", "oom_kill_disable 1\nunder_oom 0\n", "oom_kill_disable 0\nunder_oom 0\n", ["1"]),
        ("blkio.throttle.read_bps_device", "", "8:0 5\n", ["8:0 0"]),
        ("blkio.throttle.read_bps_device", "8:0 3\n8:16 4\n", "8:0 5\n8:16 4\n", ["8:0 3"]),
        ("blkio.throttle.read_bps_device", "8:0 3\n", "", ["8:0 3"]),
        ("io.max", "", "8:0 rbps=1 wbps=max riops=max wiops=max\n", ["8:0 rbps=max wbps=max riops=max wiops=max"]),
        ("io.latency", "8:0 target=10\n", "8:0 target=20\n", ["8:0 target=10"]),
        ("io.weight", "default 100\n", "default 50\n8:0 7\n", ["default 100", "8:0 default"]),
        ("rdma.max", "mlx4_0 hca_handle=max hca_object=2\n", "mlx4_0 hca_handle=1 hca_object=2\n", None),
        ("net_prio.ifpriomap", "lo 0\neth0 1\n", "lo 5\neth0 1\n", ["lo 0"]),
    ],
)
def test_only_what_has_changed_is_written(file: str, before: str, now: str, writes: list[str] | None) -> None:
    assert restoring(file, before, now) == (before.splitlines() if writes is None else writes)


DEVICES = st.dictionaries(st.sampled_from(["8:0", "8:16", "254:1"]), st.integers(1, 99))


@given(DEVICES, DEVICES)
def test_limits_by_device_are_those_of_before(before: dict[str, int], now: dict[str, int]) -> None:
    text = {False: _text(before), True: _text(now)}

    for line in restoring("blkio.throttle.write_iops_device", text[False], text[True]):
        device, rate = line.split()
        now[device] = int(rate)

    assert {device: rate for device, rate in now.items() if rate} == before


def _text(limits: dict[str, int]) -> str:
    return "".join(f"{device} {rate}\n" for device, rate in limits.items())


def test_files_say_again_what_they_said(tmp_path: Path) -> None:
    (tmp_path / "pids.max").write_text("max\n")
    (tmp_path / "cpu.shares").write_text("512\n")
    saved = Saved(
        {"cpu": str(tmp_path), "pids": str(tmp_path)}, [Write("pids", "pids.max", "5"), Write("rdma", "x", "")]
    )
    (tmp_path / "pids.max").write_text("5\n")

    left = saved.take_back()

    assert left == []
    assert (tmp_path / "pids.max").read_text().strip() == "max"


def test_shares_come_back_with_idle(tmp_path: Path) -> None:
    (tmp_path / "cpu.idle").write_text("0\n")
    (tmp_path / "cpu.shares").write_text("512\n")
    saved = Saved({"cpu": str(tmp_path)}, [Write("cpu", "cpu.idle", "1")])
    (tmp_path / "cpu.idle").write_text("1\n")
    (tmp_path / "cpu.shares").write_text("3\n")

    saved.take_back()

    assert (tmp_path / "cpu.shares").read_text().strip() == "512"
