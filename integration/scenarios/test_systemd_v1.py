"""The systemd cgroup driver on cgroup v1, as `python -m integration.vm --append` boots the virtual machine with it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from integration.harness import Bundle, Runtime, cgroup_of, requires

pytestmark = requires("systemd", "cgroup1")


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

    for controller in ("memory", "pids", "cpu", "devices", "freezer", "cpuset", "name=systemd"):
        assert str(cgroup_of(pid, controller)).endswith(f"/system.slice/{unit}"), controller


def test_limits_are_properties_and_stand_in_the_files(systemd: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"] |= {
        "memory": {"limit": 64 << 20, "swap": 96 << 20},
        "cpu": {"shares": 512, "quota": 33333, "period": 50000},
        "pids": {"limit": 42},
    }

    id, unit = created(systemd, bundle)

    pid = systemd.pid(id)
    assert shown(unit, "MemoryLimit", "CPUShares", "TasksMax", "CPUQuotaPerSecUSec", "Delegate") == {
        "MemoryLimit": str(64 << 20),
        "CPUShares": "512",
        "TasksMax": "42",
        "CPUQuotaPerSecUSec": "670ms",
        "Delegate": "yes",
    }
    assert _read(pid, "memory", "memory.limit_in_bytes") == str(64 << 20)
    assert _read(pid, "memory", "memory.memsw.limit_in_bytes") == str(96 << 20)
    assert _read(pid, "cpu", "cpu.cfs_quota_us") == "33333"
    assert _read(pid, "pids", "pids.max") == "42"


def test_update_changes_unit_and_files(systemd: Runtime, bundle: Bundle) -> None:
    id, unit = created(systemd, bundle)

    systemd("update", "--memory", str(32 << 20), "--pids-limit", "9", id).ok()

    assert shown(unit, "MemoryLimit", "TasksMax") == {"MemoryLimit": str(32 << 20), "TasksMax": "9"}
    assert _read(systemd.pid(id), "memory", "memory.limit_in_bytes") == str(32 << 20)


def test_exec_is_in_the_scope_and_delete_leaves_no_unit(systemd: Runtime, bundle: Bundle) -> None:
    id, unit = created(systemd, bundle.args("sleep", "60"))
    systemd.start(id).ok()
    cgroup = cgroup_of(systemd.pid(id), "memory")

    report = systemd.exec(id).report
    systemd.delete(id, "--force").ok()

    assert any("memory" in line and line.endswith(f"/{unit}") for line in report["cgroup"])
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
