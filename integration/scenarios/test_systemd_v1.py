"""The systemd cgroup driver on cgroup v1. On a machine with cgroup v1 and another init: `make systemd`. In the guest,

python -m integration.vm test --append 'systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1'

though Debian's kernel has no memory and cpuset controllers there any more.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from integration.harness import Bundle, Runtime, cgroup_of, only, requires
from pyocirun import CgroupError, Factory
from pyocirun.cgroup.properties import Property
from pyocirun.cgroup.systemd import SystemdV1, _change
from pyocirun.cgroup.undo import Saved
from pyocirun.cgroup.v1 import Write

pytestmark = [
    requires("systemd"),
    pytest.mark.skipif(os.path.exists("/sys/fs/cgroup/cgroup.controllers"), reason="cgroup v2 here"),
]


MIB = 1 << 20
SWAP = "memory.memsw.limit_in_bytes"


@pytest.fixture
def systemd(runtime: Runtime) -> Runtime:
    """The runtime, with --systemd-cgroup at each command."""
    runtime.command = [*runtime.command, "--systemd-cgroup"]
    return runtime


def shown(unit: str, *names: str) -> dict[str, str]:
    """Properties of a unit."""
    if not names:
        return {}
    command = ["systemctl", "show", unit, *(f"--property={name}" for name in names)]
    lines = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, timeout=60).stdout.splitlines()
    return dict(line.partition("=")[::2] for line in lines)


def is_loaded(unit: str) -> bool:
    return shown(unit, "LoadState", "ActiveState") != {"LoadState": "not-found", "ActiveState": "inactive"}


def created(runtime: Runtime, bundle: Bundle) -> tuple[str, str]:
    """(id, unit) of a new container in a unit of its own."""
    id = runtime.new_id()
    bundle.linux["cgroupsPath"] = f"system.slice:scn:{id}"
    runtime.create(bundle, id=id).ok()
    return id, f"scn-{id}.scope"


def test_the_scope_has_a_cgroup_in_every_hierarchy(systemd: Runtime, bundle: Bundle) -> None:
    id, unit = created(systemd, bundle)
    pid = systemd.pid(id)

    for controller in ("pids", "cpu", "devices", "freezer", "name=systemd"):
        assert str(cgroup_of(pid, controller)).endswith(f"/system.slice/{unit}"), controller


def test_limits_are_properties_and_stand_in_the_files(systemd: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"] |= {
        "cpu": {"shares": 512, "quota": 33333, "period": 50000},
        "pids": {"limit": 42},
    }

    id, unit = created(systemd, bundle)

    pid = systemd.pid(id)
    assert shown(unit, "CPUShares", "TasksMax", "CPUQuotaPerSecUSec", "Delegate") == {
        "CPUShares": "512",
        "TasksMax": "42",
        "CPUQuotaPerSecUSec": "670ms",
        "Delegate": "yes",
    }
    assert read(pid, "cpu.cfs_quota_us") == "33333"
    assert read(pid, "pids.max") == "42"


def test_update_changes_unit_and_files(systemd: Runtime, bundle: Bundle) -> None:
    id, unit = created(systemd, bundle)

    systemd("update", "--cpu-share", "256", "--pids-limit", "9", id).ok()

    assert shown(unit, "CPUShares", "TasksMax") == {"CPUShares": "256", "TasksMax": "9"}
    assert read(systemd.pid(id), "pids.max") == "9"
    assert read(systemd.pid(id), "cpu.shares") == "256"


CHANGES = [
    (["--memory", "64M"], {"MemoryLimit": str(64 * MIB)}, {"memory.limit_in_bytes": str(64 * MIB)}),
    (["--memory", "64M", "--memory-swap", "80M"], {"MemoryLimit": str(64 * MIB)}, {SWAP: str(80 * MIB)}),
    (["--memory-reservation", "32M"], {}, {"memory.soft_limit_in_bytes": str(32 * MIB)}),
    (["--cpu-share", "512"], {"CPUShares": "512"}, {"cpu.shares": "512"}),
    (
        ["--cpu-quota", "25000", "--cpu-period", "50000"],
        {"CPUQuotaPerSecUSec": "500ms", "CPUQuotaPeriodUSec": "50ms"},
        {"cpu.cfs_quota_us": "25000", "cpu.cfs_period_us": "50000"},
    ),
    (
        ["--cpu-quota", "30000"],
        {"CPUQuotaPerSecUSec": "600ms", "CPUQuotaPeriodUSec": "50ms"},
        {"cpu.cfs_quota_us": "30000", "cpu.cfs_period_us": "50000"},
    ),
    (
        ["--cpu-period", "40000"],
        {"CPUQuotaPerSecUSec": "500ms", "CPUQuotaPeriodUSec": "40ms"},
        {"cpu.cfs_quota_us": "20000", "cpu.cfs_period_us": "40000"},
    ),
    (["--cpu-quota", "12345"], {"CPUQuotaPerSecUSec": "250ms"}, {"cpu.cfs_quota_us": "12345"}),
    (["--cpu-quota", "-1"], {"CPUQuotaPerSecUSec": "infinity"}, {"cpu.cfs_quota_us": "-1"}),
    (["--cpu-burst", "5000"], {}, {"cpu.cfs_burst_us": "5000"}),
    (["--cpu-idle", "1"], {}, {"cpu.idle": "1"}),
    (["--cpuset-cpus", "0", "--cpuset-mems", "0"], {}, {"cpuset.cpus": "0", "cpuset.mems": "0"}),
    (["--pids-limit", "9"], {"TasksMax": "9"}, {"pids.max": "9"}),
    (["--pids-limit", "-1"], {"TasksMax": "infinity"}, {"pids.max": "max"}),
    (["--blkio-weight", "500"], {"BlockIOWeight": "500"}, {"blkio.bfq.weight": "500"}),
    (["--blkio-weight", "10"], {"BlockIOWeight": "10"}, {"blkio.bfq.weight": "10"}),
    (["--cpu-rt-period", "500000"], {}, {"cpu.rt_period_us": "500000"}),
]
"""What `update` is told, and what the unit's properties and the cgroup's files are then."""


@pytest.mark.parametrize(("options", "properties", "files"), CHANGES, ids=[" ".join(row[0]) for row in CHANGES])
def test_each_option_of_update_reaches_unit_and_file(
    systemd: Runtime, bundle: Bundle, options: list[str], properties: dict[str, str], files: dict[str, str]
) -> None:
    bundle.linux["resources"] |= {"cpu": {"quota": 20000, "period": 50000}, "pids": {"limit": 42}}
    id, unit = created(systemd, bundle)
    if any(not has_file(systemd.pid(id), file) for file in files):
        pytest.skip("the kernel has no such file")

    systemd("update", *options, id).ok()

    assert shown(unit, *properties) == properties
    assert {file: read(systemd.pid(id), file) for file in files} == files


def test_realtime_is_given_where_the_slice_has_some(systemd: Runtime, bundle: Bundle) -> None:
    id, _ = created(systemd, bundle)
    pid = systemd.pid(id)
    grant_realtime(cgroup_of(pid, "cpu").parent)

    systemd("update", "--cpu-rt-runtime", "20000", id).ok()
    systemd("update", "--cpu-rt-period", "800000", id).ok()

    assert [read(pid, f"cpu.rt_{name}_us") for name in ("runtime", "period")] == ["20000", "800000"]


def test_realtime_that_the_slice_has_not_is_refused(systemd: Runtime, bundle: Bundle) -> None:
    id, _ = created(systemd, bundle)
    pid = systemd.pid(id)
    if not has_file(pid, "cpu.rt_runtime_us"):
        pytest.skip("the kernel has no such file")
    (cgroup_of(pid, "cpu").parent / "cpu.rt_runtime_us").write_text("0")

    systemd("update", "--cpu-rt-runtime", "20000", id).fails("cpu.rt_runtime_us")

    assert read(pid, "cpu.rt_runtime_us") == "0"


@only("pyocirun")
def test_a_weight_comes_back_when_another_limit_is_refused(systemd: Runtime, bundle: Bundle) -> None:
    id, unit = created(systemd, bundle)
    pid = systemd.pid(id)
    if not has_file(pid, "blkio.bfq.weight"):
        pytest.skip("the kernel has no such file")
    before = shown(unit, "BlockIOWeight"), read(pid, "blkio.bfq.weight")

    systemd("update", "--blkio-weight", "700", "--cpuset-cpus", "4000", id).fails("4000")

    assert (shown(unit, "BlockIOWeight"), read(pid, "blkio.bfq.weight")) == before


@only("pyocirun")
def test_files_are_taken_back_where_the_unit_cannot_be(systemd: Runtime, bundle: Bundle, place: Path) -> None:
    """The unit goes while the files are written."""
    id, unit = created(systemd, bundle)
    (place / "pids.max").write_text("42")
    manager = Factory(str(systemd.root), cgroup_manager="systemd").load(id).manager
    assert isinstance(manager, SystemdV1)

    def write() -> None:
        (place / "pids.max").write_text("9")
        systemd.delete(id, "--force").ok()
        raise CgroupError("refused")

    saved = Saved({"pids": str(place)}, [Write("pids", "pids.max", "9")])
    with pytest.raises(CgroupError, match="refused") as caught:
        _change(manager.unit, [Property("TasksMax", "t", 9)], saved, write)

    assert (place / "pids.max").read_text() == "42"
    assert f"the unit could not be taken back: cannot change the unit {unit}" in caught.value.hint


def test_what_an_update_changed_outlasts_a_reload_of_systemd(systemd: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"] |= {"cpu": {"quota": 20000, "period": 50000}}
    id, unit = created(systemd, bundle)
    systemd("update", "--cpu-period", "40000", "--pids-limit", "9", id).ok()

    subprocess.run(["systemctl", "daemon-reload"], check=True, timeout=60)
    subprocess.run(["systemctl", "set-property", "--runtime", unit, "CPUShares=300"], check=True, timeout=60)

    pid = systemd.pid(id)
    assert [read(pid, f"cpu.cfs_{name}_us") for name in ("quota", "period")] == ["20000", "40000"]
    assert read(pid, "pids.max") == "9"


@only("pyocirun")
def test_a_refused_update_leaves_unit_and_files_as_they_were(systemd: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"] |= {"cpu": {"shares": 512}, "pids": {"limit": 42}}
    id, unit = created(systemd, bundle)

    result = systemd("update", "--cpu-share", "256", "--pids-limit", "9", "--cpuset-cpus", "4000", id)

    assert result.status != 0
    assert shown(unit, "CPUShares", "TasksMax") == {"CPUShares": "512", "TasksMax": "42"}
    assert [read(systemd.pid(id), file) for file in ("cpu.shares", "pids.max")] == ["512", "42"]


def test_exec_is_in_the_scope_and_delete_leaves_no_unit(systemd: Runtime, bundle: Bundle) -> None:
    id, unit = created(systemd, bundle.args("sleep", "60"))
    systemd.start(id).ok()
    cgroup = cgroup_of(systemd.pid(id), "pids")

    report = systemd.exec(id).report
    systemd.delete(id, "--force").ok()

    assert any("pids" in line and line.endswith(f"/{unit}") for line in report["cgroup"])
    assert not is_loaded(unit)
    assert not cgroup.exists()


def test_devices_are_what_the_rules_say(systemd: Runtime, bundle: Bundle) -> None:
    bundle.linux["devices"] = [{"path": "/dev/mine", "type": "c", "major": 1, "minor": 11}]
    id, _ = created(systemd, bundle.args("sleep", "60"))
    systemd.start(id).ok()

    assert systemd.exec(id, "/bin/sh", "-c", ": >/dev/mine").status != 0
    assert systemd.exec(id, "/bin/sh", "-c", ": >/dev/null").status == 0


def grant_realtime(cgroup: Path) -> None:
    """Give a cgroup, and those above it, more realtime than a container is to have."""
    if not (cgroup / "cpu.rt_runtime_us").exists():
        pytest.skip("the kernel has no such file")
    above = [path for path in (cgroup, *cgroup.parents) if (path / "cpu.rt_runtime_us").exists()]
    for path in reversed(above):
        try:
            if int((path / "cpu.rt_runtime_us").read_text()) < 50000:
                (path / "cpu.rt_runtime_us").write_text("50000")
        except OSError:
            pytest.skip(f"{path} cannot have any")


def has_file(pid: int, file: str) -> bool:
    return (cgroup_of(pid, file.partition(".")[0]) / file).exists()


def read(pid: int, file: str) -> str:
    return (cgroup_of(pid, file.partition(".")[0]) / file).read_text().strip()
