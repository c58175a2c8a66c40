"""The systemd cgroup driver on cgroup v1. Debian's kernel has no memory and cpuset controllers there any more.

python -m integration.vm test --append 'systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1'
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from integration.harness import Bundle, Runtime, cgroup_of, requires

pytestmark = [
    requires("systemd"),
    pytest.mark.skipif(os.path.exists("/sys/fs/cgroup/cgroup.controllers"), reason="cgroup v2 here"),
]


@pytest.fixture
def systemd(runtime: Runtime) -> Runtime:
    """The runtime, with --systemd-cgroup at each command."""
    runtime.command = [*runtime.command, "--systemd-cgroup"]
    return runtime


def shown(unit: str, *names: str) -> dict[str, str]:
    """Properties of a unit."""
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
    assert _read(pid, "cpu", "cpu.cfs_quota_us") == "33333"
    assert _read(pid, "pids", "pids.max") == "42"


def test_update_changes_unit_and_files(systemd: Runtime, bundle: Bundle) -> None:
    id, unit = created(systemd, bundle)

    systemd("update", "--cpu-share", "256", "--pids-limit", "9", id).ok()

    assert shown(unit, "CPUShares", "TasksMax") == {"CPUShares": "256", "TasksMax": "9"}
    assert _read(systemd.pid(id), "pids", "pids.max") == "9"
    assert _read(systemd.pid(id), "cpu", "cpu.shares") == "256"


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


def _read(pid: int, controller: str, file: str) -> str:
    return (Path(cgroup_of(pid, controller)) / file).read_text().strip()
