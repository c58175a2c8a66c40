"""What systemd is told along with a change of limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyocirun.cgroup.systemd import SystemdV1
from pyocirun.cgroup.unit import Unit
from pyocirun.spec.resources import CPU, Resources

UNIT = Unit("system.slice", "pyocirun-box.scope")


@pytest.mark.parametrize(
    ("asked", "quota", "told"),
    [
        (CPU(quota=40000), "20000", CPU(quota=40000, period=50000)),
        (CPU(period=40000), "20000", CPU(quota=20000, period=40000)),
        (CPU(period=40000), "-1", CPU(quota=-1, period=40000)),
        (CPU(shares=512), "20000", CPU(shares=512)),
    ],
)
def test_quota_and_period_are_told_together(tmp_path: Path, asked: CPU, quota: str, told: CPU) -> None:
    (tmp_path / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu.cfs_period_us").write_text("50000\n")
    manager = SystemdV1({"cpu": str(tmp_path)}, UNIT)

    assert manager.complete(Resources(cpu=asked)) == Resources(cpu=told)


def test_without_the_controller_there_is_nothing_to_add() -> None:
    asked = Resources(cpu=CPU(quota=40000))

    assert SystemdV1({}, UNIT).complete(asked) == asked
