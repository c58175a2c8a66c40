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
def test_a_relative_path_is_beside_the_callers_own(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.created(bundle)

    assert _cgroup(runtime, id).parent == cgroup_of(os.getpid(), "").parent


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


@only("pyocirun")
def test_a_pids_limit_of_0_leaves_room_for_init_alone(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["pids"] = {"limit": 0}

    assert runtime.run(bundle.args("fork", "2", "exit")).stdout.split()[0] == "0"


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


# ---- devices -------------------------------------------------------------------------------------


@pytest.fixture
def device(bundle: Bundle) -> Iterator[Bundle]:
    bundle.linux["devices"] = [KMSG]
    for name in ("bounding", "permitted", "effective"):
        bundle.process["capabilities"][name] = ["CAP_SYSLOG", "CAP_MKNOD"]
    yield bundle


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
