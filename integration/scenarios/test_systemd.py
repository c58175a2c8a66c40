"""The systemd cgroup driver: units, their properties, and that nothing stays of them."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.harness import (
    Bundle,
    Runtime,
    cgroup_of,
    children,
    command_of,
    eventually,
    helper,
    only,
    requires,
    runtime_command,
)
from integration.modes import TOP, USER, as_user, here, with_bus

pytestmark = [requires("systemd", "cgroup2")]


@pytest.fixture
def systemd(runtime: Runtime) -> Runtime:
    """The runtime, with --systemd-cgroup at each command."""
    runtime.command = [*runtime.command, "--systemd-cgroup"]
    return runtime


def systemctl(*args: str) -> str:
    return subprocess.run(["systemctl", *args], stdout=subprocess.PIPE, check=False, text=True, timeout=60).stdout


def shown(unit: str, *names: str) -> dict[str, str]:
    """Properties of a unit."""
    lines = systemctl("show", unit, *(f"--property={name}" for name in names)).splitlines()
    return dict(line.partition("=")[::2] for line in lines)


def is_loaded(unit: str) -> bool:
    return unit in systemctl("list-units", "--all", "--full", "--plain", "--no-legend", unit)


def placed(runtime: Runtime, id: str) -> Path:
    return cgroup_of(runtime.pid(id), "")


def in_unit(bundle: Bundle, id: str) -> str:
    """The name of the unit that the bundle asks for now."""
    bundle.linux["cgroupsPath"] = f"system.slice:scn:{id}"
    return f"scn-{id}.scope"


def created(runtime: Runtime, bundle: Bundle) -> tuple[str, str, Path]:
    """(id, unit, cgroup) of a new container in a unit of its own."""
    id = runtime.new_id()
    unit = in_unit(bundle, id)
    runtime.create(bundle, id=id).ok()
    return id, unit, placed(runtime, id)


# ---- where ---------------------------------------------------------------------------------------


@pytest.mark.vm
def test_without_a_path_the_unit_is_in_system_slice(systemd: Runtime, bundle: Bundle) -> None:
    id = systemd.created(bundle)

    assert placed(systemd, id) == TOP / f"system.slice/runc-{id}.scope"


def test_slices_lie_in_each_other(systemd: Runtime, bundle: Bundle) -> None:
    id = systemd.new_id()
    bundle.linux["cgroupsPath"] = f"scn-inner.slice:pre:{id}"

    systemd.create(bundle, id=id).ok()

    assert placed(systemd, id) == TOP / f"scn.slice/scn-inner.slice/pre-{id}.scope"
    systemd.delete(id, "--force").ok()
    systemctl("stop", "scn.slice")


@pytest.mark.parametrize("path", ["/a/b", "a:b", "system.slice:a:b:c"])
def test_a_path_that_is_not_systemds_is_refused(systemd: Runtime, bundle: Bundle, path: str) -> None:
    bundle.linux["cgroupsPath"] = path

    systemd.create(bundle).fails("slice:prefix:name")


def test_a_slice_can_be_the_unit(systemd: Runtime, bundle: Bundle) -> None:
    name = systemd.new_id().replace("-", "")
    bundle.linux["cgroupsPath"] = f"-.slice:pre:{name}.slice"
    bundle.linux["resources"]["pids"] = {"limit": 50}

    id = systemd.created(bundle)

    assert placed(systemd, id) == TOP / f"{name}.slice"
    assert shown(f"{name}.slice", "TasksMax")["TasksMax"] == "50"
    systemd.delete(id, "--force").ok()
    assert not (TOP / f"{name}.slice").exists()


def test_a_cgroup_namespace_begins_at_the_scope(systemd: Runtime, bundle: Bundle) -> None:
    bundle.with_namespace("cgroup")
    bundle.linux["resources"]["memory"] = {"limit": 64 << 20}

    report = systemd.run(bundle).report

    assert "0::/" in report["cgroup"]


# ---- what ----------------------------------------------------------------------------------------


def test_the_unit_is_delegated_and_has_no_dependencies(systemd: Runtime, bundle: Bundle) -> None:
    _, unit, _ = created(systemd, bundle)

    assert shown(unit, "Delegate", "DefaultDependencies", "MemoryAccounting", "TasksAccounting", "Slice") == {
        "Delegate": "yes",
        "DefaultDependencies": "no",
        "MemoryAccounting": "yes",
        "TasksAccounting": "yes",
        "Slice": "system.slice",
    }


@pytest.mark.vm
def test_limits_are_properties_and_stand_in_the_files(systemd: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"] |= {
        "memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20},
        "cpu": {"shares": 2048, "quota": 33333, "period": 50000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 42},
        "unified": {"memory.high": "60000000"},
    }

    _, unit, cgroup = created(systemd, bundle)

    names = ("MemoryMax", "MemorySwapMax", "MemoryLow", "MemoryHigh", "TasksMax", "CPUQuotaPerSecUSec")
    assert shown(unit, *names, "CPUQuotaPeriodUSec", "AllowedCPUs", "AllowedMemoryNodes") == {
        "MemoryMax": str(64 << 20),
        "MemorySwapMax": str(32 << 20),
        "MemoryLow": str(32 << 20),
        "MemoryHigh": "60000000",
        "TasksMax": "42",
        "CPUQuotaPerSecUSec": "670ms",
        "CPUQuotaPeriodUSec": "50ms",
        "AllowedCPUs": "0",
        "AllowedMemoryNodes": "0",
    }
    files = ("memory.max", "memory.swap.max", "memory.low", "memory.high", "pids.max", "cpu.max", "cpuset.cpus")
    assert {file: (cgroup / file).read_text().strip() for file in files} == {
        "memory.max": str(64 << 20),
        "memory.swap.max": str(32 << 20),
        "memory.low": str(32 << 20),
        "memory.high": str(60000000 // 4096 * 4096),
        "pids.max": "42",
        "cpu.max": "33333 50000",
        "cpuset.cpus": "0",
    }
    assert shown(unit, "CPUWeight")["CPUWeight"] == (cgroup / "cpu.weight").read_text().strip()


def test_huge_pages_are_limited_by_the_file(systemd: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["hugepageLimits"] = [{"pageSize": "2MB", "limit": 4 << 20}]

    _, _, cgroup = created(systemd, bundle)

    assert (cgroup / "hugetlb.2MB.max").read_text().strip() == str(4 << 20)


def test_annotations_are_properties(systemd: Runtime, bundle: Bundle) -> None:
    bundle.config["annotations"] = {
        "org.systemd.property.TimeoutStopSec": "7",
        "org.systemd.property.CollectMode": "'inactive-or-failed'",
        "org.systemd.property.StartupCPUWeight": "uint64 77",
    }

    _, unit, _ = created(systemd, bundle)

    assert shown(unit, "TimeoutStopUSec", "CollectMode", "StartupCPUWeight") == {
        "TimeoutStopUSec": "7s",
        "CollectMode": "inactive-or-failed",
        "StartupCPUWeight": "77",
    }


@only("pyocirun")
def test_an_annotation_that_systemd_does_not_know_is_an_error(systemd: Runtime, bundle: Bundle) -> None:
    bundle.config["annotations"] = {"org.systemd.property.NoSuchThing": "true"}
    id = systemd.new_id()
    unit = in_unit(bundle, id)

    systemd.create(bundle, id=id).fails(unit, "NoSuchThing")

    assert not is_loaded(unit)


KMSG = {"path": "/dev/mine", "type": "c", "major": 1, "minor": 11}


@pytest.mark.parametrize("allow", [False, True])
def test_devices_are_what_the_rules_say_also_after_a_reload(systemd: Runtime, bundle: Bundle, allow: bool) -> None:
    bundle.linux["devices"] = [KMSG]
    if allow:
        rule = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rw"}
        bundle.linux["resources"]["devices"].append(rule)
    id, unit, _ = created(systemd, bundle.args("sleep", "600"))
    systemd.start(id).ok()

    def status() -> int:
        return systemd.exec(id, "/bin/sh", "-c", ": >/dev/mine").status

    before = status()
    systemctl("daemon-reload")

    assert (before == 0) == allow
    assert status() == before
    assert systemd.exec(id, "/bin/sh", "-c", ": >/dev/null").status == 0
    assert shown(unit, "DevicePolicy")["DevicePolicy"] == "strict"


@only("pyocirun")
@pytest.mark.parametrize("with_namespace", [False, True])
def test_the_set_up_needs_no_process_of_the_allowance(systemd: Runtime, bundle: Bundle, with_namespace: bool) -> None:
    bundle.linux["resources"]["pids"] = {"limit": 1}
    if with_namespace:
        bundle.with_namespace("cgroup")

    id, unit, cgroup = created(systemd, bundle.args("sleep", "600"))
    systemd.start(id).ok()

    assert (cgroup / "pids.max").read_text().strip() == "1"
    assert shown(unit, "TasksMax")["TasksMax"] == "1"


@only("pyocirun")
@pytest.mark.parametrize("with_namespace", [False, True])
def test_the_set_up_is_not_charged(systemd: Runtime, bundle: Bundle, with_namespace: bool) -> None:
    bundle.linux["resources"]["memory"] = {"limit": 256 << 10, "swap": 256 << 10}
    if with_namespace:
        bundle.with_namespace("cgroup")

    id, _, cgroup = created(systemd, bundle.args("sleep", "600"))
    systemd.start(id).ok()

    assert "oom_kill 0" in (cgroup / "memory.events").read_text().splitlines()


# ---- below the unit ------------------------------------------------------------------------------


@only("pyocirun")
def test_the_container_can_be_in_a_cgroup_below_the_scope(systemd: Runtime, bundle: Bundle) -> None:
    bundle.config["annotations"] = {"run.oci.systemd.subgroup": "container"}
    bundle.linux["resources"]["pids"] = {"limit": 50}

    id, unit, cgroup = created(systemd, bundle)

    assert cgroup == TOP / "system.slice" / unit / "container"
    assert (cgroup / "pids.max").read_text().strip() == "50"
    systemd.delete(id, "--force").ok()
    assert not is_loaded(unit)
    assert not cgroup.parent.exists()


@only("pyocirun")
def test_a_delegated_cgroup_is_below_the_namespaces_root(systemd: Runtime, bundle: Bundle) -> None:
    bundle.config["annotations"] = {"run.oci.systemd.subgroup": "container", "run.oci.delegate-cgroup": "mine"}
    bundle.with_namespace("cgroup")

    id, unit, cgroup = created(systemd, bundle.args("sleep", "600"))
    systemd.start(id).ok()

    assert cgroup == TOP / "system.slice" / unit / "container/mine"
    assert "0::/mine" in systemd.exec(id, "/bin/cat", "/proc/1/cgroup").ok().stdout
    assert "0::/mine" in systemd.exec(id, "/bin/cat", "/proc/self/cgroup").ok().stdout
    systemd.delete(id, "--force").ok()
    assert not is_loaded(unit)


# ---- later ---------------------------------------------------------------------------------------


@pytest.mark.vm
def test_update_changes_unit_and_files(systemd: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["memory"] = {"limit": 64 << 20}
    id, unit, cgroup = created(systemd, bundle)

    systemd("update", "--memory", str(32 << 20), "--pids-limit", "9", "--cpu-quota", "12345", id).ok()

    assert shown(unit, "MemoryMax", "TasksMax", "CPUQuotaPerSecUSec") == {
        "MemoryMax": str(32 << 20),
        "TasksMax": "9",
        "CPUQuotaPerSecUSec": "130ms",
    }
    assert (cgroup / "memory.max").read_text().strip() == str(32 << 20)
    assert (cgroup / "cpu.max").read_text().strip() == "12345 100000"


@only("pyocirun")
def test_an_update_that_fails_leaves_unit_and_files_as_they_were(systemd: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["pids"] = {"limit": 50}
    id, unit, cgroup = created(systemd, bundle)

    systemd("update", "--pids-limit", "9", "--cpuset-cpus", "77", id).fails("77")

    assert shown(unit, "TasksMax", "AllowedCPUs") == {"TasksMax": "50", "AllowedCPUs": ""}
    assert (cgroup / "pids.max").read_text().strip() == "50"


# ---- the end -------------------------------------------------------------------------------------


def test_a_container_that_ended_by_itself_leaves_no_unit(systemd: Runtime, bundle: Bundle) -> None:
    id = systemd.new_id()
    unit = in_unit(bundle, id)

    systemd.run(bundle.args("exit", "0"), id=id)

    eventually(lambda: not is_loaded(unit), "the unit is gone")


@only("pyocirun")
def test_one_that_was_killed_for_lack_of_memory_leaves_no_unit(systemd: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["memory"] = {"limit": 4 << 20, "swap": 4 << 20}
    id = systemd.new_id()
    unit = in_unit(bundle, id)

    systemd.run(bundle.shell("a=x; while :; do a=$a$a; done"), id=id)

    eventually(lambda: not is_loaded(unit), "the unit is gone")


@pytest.mark.vm
@only("pyocirun")
def test_what_a_create_that_was_killed_has_made_is_deleted(systemd: Runtime, bundle: Bundle) -> None:
    bundle.hook("createRuntime", "/bin/sleep", "60")
    id = systemd.new_id()
    unit = in_unit(bundle, id)
    bundle.save()
    running = systemd.spawn("create", "--bundle", str(bundle.path), id)
    eventually(lambda: any(command_of(pid) == "/bin/sleep 60" for pid in all_processes()), "the hook runs", timeout=20)
    running.process.kill()
    running.process.wait()
    running.live.pop(running.process.pid, None)
    for pid in children():
        if command_of(pid) == "/bin/sleep 60":
            os.kill(pid, signal.SIGKILL)

    systemd.delete(id, "--force").ok()

    assert not is_loaded(unit)
    assert not (TOP / "system.slice" / unit).exists()


def all_processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def test_a_unit_of_others_is_refused_and_stays(systemd: Runtime, bundle: Bundle) -> None:
    id = systemd.new_id()
    unit = in_unit(bundle, id)
    other = helper("systemd-run", "--quiet", "--scope", f"--unit={unit}", "sleep", "600")
    eventually(lambda: shown(unit, "ActiveState")["ActiveState"] == "active", "the other unit runs")

    systemd.create(bundle, id=id).fails()

    assert shown(unit, "ActiveState")["ActiveState"] == "active"
    systemctl("stop", unit)
    other.wait(10)


def test_a_unit_that_has_failed_is_no_obstacle(systemd: Runtime, bundle: Bundle) -> None:
    id = systemd.new_id()
    unit = in_unit(bundle, id)
    options = ["--quiet", "--scope", f"--unit={unit}", "-p", "RuntimeMaxSec=1"]
    other = helper("systemd-run", *options, "sleep", "600")
    other.wait(20)
    eventually(lambda: shown(unit, "ActiveState")["ActiveState"] == "failed", "the other unit has failed")

    systemd.create(bundle, id=id).ok()

    assert shown(unit, "ActiveState")["ActiveState"] == "active"


# ---- a user's own systemd ------------------------------------------------------------------------


@pytest.fixture(params=["within", "outside"])
def user(request: pytest.FixtureRequest, runtime: Runtime, place: Path) -> Iterator[Runtime]:
    """The runtime as a user has it, in a cgroup of their systemd or in one that nobody delegated to them."""
    if not here("user"):
        pytest.skip(f"needs a user {USER}")
    command = as_user() if request.param == "within" else with_bus()
    base = place / "user"
    base.mkdir()
    user = Runtime([*command, *runtime_command(), "--systemd-cgroup"], base, runtime.prefix + "u")
    uid = pwd.getpwnam(USER).pw_uid
    for path in (base, user.root):
        os.chown(path, uid, uid)
    yield user
    user.clean()
    assert user.traces() == []


@pytest.fixture
def small(bundle: Bundle, user: Runtime) -> Bundle:
    """A bundle as `spec --rootless` has it, with limits."""
    here("user")[0].dress(bundle)
    bundle.linux["resources"] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 30}}
    return bundle


@pytest.mark.vm
def test_a_users_unit_is_limited(user: Runtime, small: Bundle) -> None:
    id = user.created(small.args("sleep", "600"))
    user.start(id).ok()

    cgroup = placed(user, id)

    uid = pwd.getpwnam(USER).pw_uid
    assert cgroup == TOP / f"user.slice/user-{uid}.slice/user@{uid}.service/user.slice/runc-{id}.scope"
    assert (cgroup / "memory.max").read_text().strip() == str(64 << 20)
    assert (cgroup / "pids.max").read_text().strip() == "30"
    assert str(user.pid(id)) in (cgroup / "cgroup.procs").read_text().split()


def test_a_users_unit_is_updated_executed_in_and_deleted(user: Runtime, small: Bundle) -> None:
    id = user.created(small.args("sleep", "600"))
    user.start(id).ok()
    cgroup = placed(user, id)

    user("update", "--pids-limit", "20", id).ok()
    report = user.exec(id).report
    user.delete(id, "--force").ok()

    assert any(line.endswith(f"/runc-{id}.scope") for line in report["cgroup"])
    eventually(lambda: not cgroup.exists(), "the cgroup is gone")


@only("pyocirun")
def test_a_user_without_a_bus_is_told_so(user: Runtime, small: Bundle) -> None:
    at = user.command.index("env")
    user.command[at + 1 : at + 3] = ["-u", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR=/nonexistent"]

    result = user.create(small).fails("no connection to the user's bus")

    assert "DBUS_SESSION_BUS_ADDRESS" in result.stderr
