"""cgroup v2: where a container is placed, what reaches the kernel, and what is removed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.harness import (
    Bundle,
    Runtime,
    alive,
    cgroup_of,
    cgroups,
    eventually,
    mount_at,
    only,
    requires,
    wait_for_orphan,
)

pytestmark = [requires("cgroup2")]

TOP = Path("/sys/fs/cgroup")
KMSG = {"path": "/dev/mine", "type": "c", "major": 1, "minor": 11}
"""A device that is on every host, and needs CAP_SYSLOG."""


def _cgroup(runtime: Runtime, id: str) -> Path:
    return cgroup_of(runtime.pid(id), "")


def _value(runtime: Runtime, id: str, file: str) -> str:
    return (_cgroup(runtime, id) / file).read_text().strip()


# ---- placement -----------------------------------------------------------------------------------


@pytest.mark.vm
@pytest.mark.parametrize("limits", [{}, {"memory": {"limit": 64 << 20}}])
@pytest.mark.parametrize("with_namespace", [False, True])
def test_a_container_is_alone_in_its_cgroup(
    runtime: Runtime, bundle: Bundle, limits: dict[str, object], with_namespace: bool
) -> None:
    bundle.linux["resources"].update(limits)
    if with_namespace:
        bundle.with_namespace("cgroup")
    id = runtime.created(bundle)

    path = _cgroup(runtime, id)

    assert path.name == id
    assert (path / "cgroup.procs").read_text().split() == [str(runtime.pid(id))]


@pytest.mark.vm
def test_a_relative_path_is_beside_the_callers_own(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.created(bundle)

    assert _cgroup(runtime, id).parent == cgroup_of(os.getpid(), "").parent


def test_an_absolute_path_begins_at_the_top(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.new_id()
    bundle.linux["cgroupsPath"] = f"/../{id}-parent/child"

    runtime.create(bundle, id=id).ok()

    assert _cgroup(runtime, id) == TOP / f"{id}-parent/child"
    runtime.delete(id).ok()
    assert (TOP / f"{id}-parent").exists()
    os.rmdir(TOP / f"{id}-parent")


@pytest.mark.vm
def test_all_controllers_are_passed_down(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.created(bundle)

    offered = set((TOP / "cgroup.controllers").read_text().split())
    assert set(_value(runtime, id, "cgroup.controllers").split()) == offered


def test_a_cgroup_namespace_begins_at_the_containers_cgroup(runtime: Runtime, bundle: Bundle) -> None:
    bundle.with_namespace("cgroup")
    bundle.linux["resources"]["memory"] = {"limit": 64 << 20}

    result = runtime.run(bundle.args("cat", "/proc/self/cgroup"))

    assert result.ok().stdout == "0::/\n"


def test_prestart_hooks_find_the_process_in_its_cgroup(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    bundle.linux["resources"]["memory"] = {"limit": 64 << 20}
    script = f"pid=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p'); cat /proc/$pid/cgroup >{place}/seen"
    bundle.hook("prestart", "/bin/sh", "-c", script)
    id = runtime.created(bundle)

    assert (place / "seen").read_text().strip().endswith(f"/{id}")


def test_a_cgroup_with_processes_is_refused(runtime: Runtime, bundle: Bundle, other_bundle: Bundle) -> None:
    name = f"/{runtime.new_id()}"
    for one in (bundle, other_bundle):
        one.linux["cgroupsPath"] = name
    runtime.running(bundle)

    runtime.create(other_bundle).fails("container's cgroup is not empty: 1 process(es) found")


@only("pyocirun")
def test_a_frozen_cgroup_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    path = TOP / runtime.new_id()
    path.mkdir()
    (path / "cgroup.freeze").write_text("1")
    bundle.linux["cgroupsPath"] = f"/{path.name}"

    runtime.create(bundle).fails("container's cgroup unexpectedly frozen")

    path.rmdir()


@only("pyocirun")
def test_a_cgroup_below_a_threaded_one_is_refused_with_the_reason(runtime: Runtime, bundle: Bundle) -> None:
    top = TOP / runtime.new_id()
    (top / "a").mkdir(parents=True)
    (top / "a/cgroup.type").write_text("threaded")
    bundle.linux["cgroupsPath"] = f"/{top.name}/a/b"

    result = runtime.create(bundle)

    result.fails("cannot enter cgroup", "domain invalid")
    (top / "a").rmdir()
    top.rmdir()


@pytest.mark.vm
def test_exec_is_in_the_containers_cgroup(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    result = runtime.exec(id, "cat", "/proc/self/cgroup")

    assert result.ok().stdout.endswith(f"/{id}\n")


@only("pyocirun")
def test_exec_follows_init_into_a_cgroup_below(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    path = _cgroup(runtime, id)
    (path / "init.scope").mkdir()
    (path / "init.scope/cgroup.procs").write_text(str(runtime.pid(id)))
    (path / "cgroup.subtree_control").write_text("+memory")

    result = runtime.exec(id, "cat", "/proc/self/cgroup")

    assert result.ok().stdout.endswith(f"/{id}/init.scope\n")


@only("pyocirun")
def test_exec_goes_where_it_is_told(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    (_cgroup(runtime, id) / "below").mkdir()

    result = runtime.exec(id, "cat", "/proc/self/cgroup", options=("--cgroup", "below"))

    assert result.ok().stdout.endswith(f"/{id}/below\n")
    runtime("exec", "--cgroup", "../below", id, "/bin/probe", "exit", "0").fails("is not a sub cgroup path", status=255)


# ---- limits --------------------------------------------------------------------------------------


@pytest.mark.vm
@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (
            {
                "memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20},
                "pids": {"limit": 10},
                "cpu": {"shares": 1024, "quota": 20000, "period": 50000, "cpus": "0", "mems": "0"},
            },
            {
                "memory.max": str(64 << 20),
                "memory.swap.max": str(32 << 20),
                "memory.low": str(32 << 20),
                "pids.max": "10",
                "cpu.weight": "100",
                "cpu.max": "20000 50000",
                "cpuset.cpus": "0",
                "cpuset.mems": "0",
            },
        ),
        (
            {"memory": {"limit": -1}, "pids": {"limit": -1}, "cpu": {"shares": 2, "period": 50000}},
            {
                "memory.max": "max",
                "memory.swap.max": "max",
                "pids.max": "max",
                "cpu.weight": "1",
                "cpu.max": "max 50000",
            },
        ),
        (
            {"memory": {"limit": 64 << 20, "swap": 64 << 20}, "cpu": {"shares": 262144, "quota": -1}},
            {"memory.swap.max": "0", "cpu.weight": "10000", "cpu.max": "max 100000"},
        ),
        (
            {"unified": {"memory.high": "1048576", "pids.max": "7"}},
            {"memory.high": "1048576", "pids.max": "7"},
        ),
    ],
    ids=["all", "none", "ends", "unified"],
)
def test_limits_reach_the_kernel(
    runtime: Runtime, bundle: Bundle, resources: dict[str, object], expected: dict[str, str]
) -> None:
    bundle.linux["resources"].update(resources)

    id = runtime.created(bundle)

    assert {file: _value(runtime, id, file) for file in expected} == expected


@only("pyocirun")
def test_huge_pages_and_idle_and_burst(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"].update(
        hugepageLimits=[{"pageSize": "2MB", "limit": 4 << 20}], cpu={"quota": 20000, "burst": 10000, "idle": 1}
    )

    id = runtime.created(bundle)

    assert _value(runtime, id, "hugetlb.2MB.max") == str(4 << 20)
    assert _value(runtime, id, "hugetlb.2MB.rsvd.max") == str(4 << 20)
    assert _value(runtime, id, "cpu.max.burst") == "10000"
    assert _value(runtime, id, "cpu.idle") == "1"


def test_the_pids_limit_stops_forks(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["pids"] = {"limit": 4}
    id = runtime.new_id()
    output = runtime.create(bundle.args("fork", "20", "stay"), id=id).ok()

    runtime.start(id).ok()

    assert eventually(lambda: output.stdout, "the number of forks") == "3\n"


@only("pyocirun")
def test_a_pids_limit_of_0_leaves_room_for_init_alone(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["pids"] = {"limit": 0}

    assert runtime.run(bundle.args("fork", "2", "exit")).stdout.split()[0] == "0"


@pytest.mark.vm
def test_the_memory_limit_kills(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["memory"] = {"limit": 16 << 20, "swap": 16 << 20}

    assert runtime.run(bundle.args("alloc", "64")).status == 137
    assert runtime.run(bundle.args("alloc", "8")).ok().stdout == "ok\n"


@pytest.mark.parametrize(
    ("resources", "text"),
    [
        ({"cpu": {"quota": 10}}, "cpu.max"),
        ({"cpu": {"cpus": "4000"}}, "cpuset.cpus"),
        ({"unified": {"memory.nothing": "1"}}, "memory.nothing"),
        ({"unified": {"nothing.max": "1"}}, "nothing"),
        ({"memory": {"limit": 64 << 20, "swap": 32 << 20}}, "memory+swap limit should be >= memory limit"),
    ],
)
def test_a_limit_that_is_refused_is_named_and_leaves_nothing(
    runtime: Runtime, bundle: Bundle, resources: dict[str, object], text: str
) -> None:
    bundle.linux["resources"].update(resources)

    result = runtime.create(bundle)

    result.fails(text)
    assert runtime.traces() == []


def test_the_oom_kill_of_a_child_leaves_the_container_running(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["memory"] = {"limit": 16 << 20, "swap": 16 << 20}
    id = runtime.running(bundle)

    assert runtime.exec(id, "alloc", "64").status == 137
    assert runtime.status(id) == "running"


# ---- devices -------------------------------------------------------------------------------------


@pytest.fixture
def device(bundle: Bundle) -> Iterator[Bundle]:
    bundle.linux["devices"] = [KMSG]
    for name in ("bounding", "permitted", "effective"):
        bundle.process["capabilities"][name] = ["CAP_SYSLOG", "CAP_MKNOD"]
    yield bundle


def _allow(bundle: Bundle, access: str) -> None:
    rule = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": access}
    bundle.linux["resources"]["devices"].append(rule)


@pytest.mark.vm
def test_a_device_without_a_rule_is_denied_but_may_be_made(runtime: Runtime, device: Bundle) -> None:
    id = runtime.running(device)

    assert runtime.exec(id, "open", "r", "/dev/mine").stdout == "EPERM\n"
    assert runtime.exec(id, "mknod", "/dev/shm/made", "c", "1", "11").stdout == "ok\n"
    for name in ("null", "zero", "full", "random", "urandom"):
        assert runtime.exec(id, "open", "rw", f"/dev/{name}").ok().stdout == "ok\n"


def test_a_rule_allows_what_it_says(runtime: Runtime, device: Bundle) -> None:
    _allow(device, "r")
    id = runtime.running(device)

    assert runtime.exec(id, "open", "r", "/dev/mine").stdout == "ok\n"
    assert runtime.exec(id, "open", "w", "/dev/mine").stdout == "EPERM\n"


def test_all_devices_may_be_allowed(runtime: Runtime, device: Bundle) -> None:
    device.linux["resources"]["devices"] = [{"allow": True, "access": "rwm"}]

    assert runtime.run(device.args("open", "r", "/dev/mine")).stdout == "ok\n"


@pytest.mark.vm
@only("pyocirun")
def test_device_rules_are_replaced_and_never_doubled(runtime: Runtime, device: Bundle) -> None:
    from pyocirun import Factory, native
    from pyocirun.spec.resources import DeviceRule, Resources

    id = runtime.running(device)
    manager = Factory(root=str(runtime.root)).load(id).manager
    rules = (DeviceRule(False), DeviceRule(True, "c", 1, 11, "r"))

    for _ in range(3):
        manager.set(Resources(devices=rules))

    opened = os.open(_cgroup(runtime, id), os.O_RDONLY)
    programs = native.bpf_query(opened)
    for fd in (opened, *programs):
        os.close(fd)
    assert len(programs) == 1
    assert runtime.exec(id, "open", "r", "/dev/mine").stdout == "ok\n"
    assert runtime.exec(id, "open", "w", "/dev/mine").stdout == "EPERM\n"


# ---- life ----------------------------------------------------------------------------------------


@pytest.mark.vm
def test_delete_removes_cgroups_below(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.created(bundle)
    (_cgroup(runtime, id) / "a/b").mkdir(parents=True)

    runtime.delete(id).ok()

    assert not [path for path in cgroups() if id in path]


@only("pyocirun")
def test_what_cannot_be_removed_is_told_with_who_holds_it(runtime: Runtime, bundle: Bundle) -> None:
    from pyocirun.cgroup.fs2 import V2Manager
    from pyocirun.errors import CgroupError

    path = TOP / runtime.new_id()
    manager = V2Manager(str(path))
    manager.apply(os.fork() or _sleep())
    pid = manager.pids()[0]

    with pytest.raises(CgroupError, match=f"in use by {pid} "):
        manager.destroy()

    manager.kill(9)
    os.waitpid(pid, 0)
    manager.destroy()
    assert not path.exists()


def _sleep() -> int:
    time.sleep(60)
    os._exit(0)


@pytest.mark.vm
def test_sigkill_without_a_pid_namespace_leaves_no_survivor(runtime: Runtime, bundle: Bundle) -> None:
    bundle.without_namespace("pid")
    id = runtime.running(bundle, "fork", "3", "stay")
    path = _cgroup(runtime, id)
    eventually(lambda: len((path / "cgroup.procs").read_text().split()) == 4, "four processes")
    pids = [int(pid) for pid in (path / "cgroup.procs").read_text().split()]

    runtime.kill(id, "KILL").ok()

    eventually(lambda: not any(alive(pid) for pid in pids), "their end")


def test_a_paused_container_is_killed_all_the_same(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    runtime("pause", id).ok()
    assert runtime.status(id) == "paused"
    assert _value(runtime, id, "cgroup.freeze") == "1"

    runtime.stop(id)

    assert runtime.status(id) == "stopped"


@pytest.mark.vm
def test_pause_and_resume(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    runtime("pause", id).ok()
    runtime("resume", id).ok()

    assert runtime.status(id) == "running"
    assert runtime.exec(id, "exit", "0").status == 0


@only("pyocirun")
def test_limits_that_cannot_be_set_together_are_not_set(runtime: Runtime, bundle: Bundle) -> None:
    from pyocirun import Factory
    from pyocirun.errors import CgroupError
    from pyocirun.spec.resources import CPU, Memory, Pids, Resources

    bundle.linux["resources"].update(memory={"limit": 64 << 20}, pids={"limit": 10}, cpu={"shares": 512})
    id = runtime.created(bundle)
    manager = Factory(root=str(runtime.root)).load(id).manager
    files = ("memory.max", "memory.swap.max", "pids.max", "cpu.weight", "cpu.max")
    before = [_value(runtime, id, file) for file in files]

    with pytest.raises(CgroupError, match=r"cpu\.max|memory\.nothing"):
        manager.set(
            Resources(
                memory=Memory(limit=32 << 20, swap=48 << 20),
                cpu=CPU(shares=2),
                pids=Pids(3),
                unified={"memory.nothing": "1"},
            )
        )

    assert [_value(runtime, id, file) for file in files] == before


# ---- the cgroup mount ----------------------------------------------------------------------------


def test_a_cgroup_mount_shows_the_cgroup_of_the_container(runtime: Runtime, bundle: Bundle) -> None:
    bundle.with_namespace("cgroup")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", ("nosuid", "noexec", "nodev", "relatime", "ro"))

    report = runtime.run(bundle).report

    assert mount_at(report, "/sys/fs/cgroup")["fstype"] == "cgroup2"
    assert runtime.run(bundle.args("cat", "/sys/fs/cgroup/cgroup.procs")).ok().stdout == "1\n"
    assert runtime.run(bundle.args("mkdir", "/sys/fs/cgroup/below")).stdout == "EROFS\n"


@pytest.mark.vm
def test_root_of_a_user_namespace_may_use_its_own_cgroup(runtime: Runtime, bundle: Bundle) -> None:
    bundle.map_users(100000)
    bundle.with_namespace("cgroup")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", ("nosuid", "noexec", "nodev", "relatime"))

    id = runtime.created(bundle.args("mkdir", "/sys/fs/cgroup/below"))

    pid, path = runtime.pid(id), _cgroup(runtime, id)
    assert path.stat().st_uid == 100000
    assert (path / "cgroup.subtree_control").stat().st_uid == 100000
    assert (path / "memory.max").stat().st_uid == 0
    runtime.start(id).ok()
    assert wait_for_orphan(pid) == 0


# ---- many ----------------------------------------------------------------------------------------


@only("pyocirun")
@pytest.mark.parametrize("limits", [{}, {"memory": {"limit": 64 << 20}, "pids": {"limit": 10}}])
def test_many_rounds_leave_the_cgroups_as_they_were(
    runtime: Runtime, bundle: Bundle, limits: dict[str, object]
) -> None:
    from pyocirun import Factory

    bundle.linux["resources"].update(limits)
    bundle.with_namespace("cgroup")
    bundle.args("exit", "0").save()
    factory = Factory(root=str(runtime.root))
    factory.create(runtime.new_id(), str(bundle.path)).delete()
    before = cgroups()

    for _ in range(50):
        container = factory.create(runtime.new_id(), str(bundle.path))
        container.start()
        container.wait(10)
        container.delete()

    assert cgroups() == before
