"""cgroup v1: where a container is placed, what reaches the kernel, and what is removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from integration.harness import (
    Bundle,
    Runtime,
    cgroup_of,
    cgroups,
    eventually,
    mount,
    mount_at,
    only,
    requires,
    umount,
)

pytestmark = requires("cgroup1")

MS_BIND = 0x1000
HIERARCHIES = ("memory", "cpu", "cpuset", "pids", "devices", "freezer", "blkio")


def _value(runtime: Runtime, id: str, file: str) -> str:
    """A file of the container's cgroup, as the host sees it; the controller is the name's first part."""
    controller = file.partition(".")[0]
    return (cgroup_of(runtime.pid(id), controller) / file).read_text().strip()


# ---- limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resources", "file", "expected"),
    [
        ({"memory": {"swappiness": 7}}, "memory.swappiness", "7"),
        ({"memory": {"limit": 64 << 20, "disableOOMKiller": True}}, "memory.oom_control", "oom_kill_disable 1"),
    ],
)
def test_a_limit_reaches_the_kernel(
    runtime: Runtime, bundle: Bundle, resources: dict[str, object], file: str, expected: str
) -> None:
    bundle.linux["resources"].update(resources)

    id = runtime.created(bundle)

    assert expected in _value(runtime, id, file).splitlines()


def needs_realtime() -> None:
    """There is some to give, where this process is itself."""
    file = cgroup_of(os.getpid(), "cpu") / "cpu.rt_runtime_us"
    if not file.exists() or int(file.read_text()) < 100000:
        pytest.skip("needs a kernel with CONFIG_RT_GROUP_SCHED, and realtime in this cgroup")


def test_realtime_is_given(runtime: Runtime, bundle: Bundle) -> None:
    needs_realtime()
    bundle.linux["resources"]["cpu"] = {"realtimeRuntime": 2000, "realtimePeriod": 500000}

    id = runtime.created(bundle)

    assert [_value(runtime, id, f"cpu.rt_{name}_us") for name in ("runtime", "period")] == ["2000", "500000"]


def test_realtime_is_changed_by_update(runtime: Runtime, bundle: Bundle) -> None:
    needs_realtime()
    id = runtime.created(bundle)

    runtime("update", "--cpu-rt-period", "400000", "--cpu-rt-runtime", "3000", id).ok()
    runtime("update", "--cpu-rt-runtime", "1000", id).ok()

    assert [_value(runtime, id, f"cpu.rt_{name}_us") for name in ("runtime", "period")] == ["1000", "400000"]


@only("pyocirun")  # runc 1.1 has not got it
def test_memory_of_tcp_is_changed_by_update(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.created(bundle)

    runtime("update", "--kernel-memory-tcp", "32m", id).ok()

    assert _value(runtime, id, "memory.kmem.tcp.limit_in_bytes") == str(32 << 20)


@only("pyocirun")  # runc 1.1 has not got it
def test_memory_of_tcp_is_limited(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["memory"] = {"kernelTCP": 32 << 20}

    id = runtime.created(bundle)

    assert _value(runtime, id, "memory.kmem.tcp.limit_in_bytes") == str(32 << 20)


@pytest.mark.parametrize(
    ("resources", "controller", "file", "expected"),
    [
        ({"network": {"classID": 0x100001}}, "net_cls", "classid", str(0x100001)),
        ({"network": {"priorities": [{"name": "lo", "priority": 7}]}}, "net_prio", "ifpriomap", "lo 7"),
    ],
)
def test_a_limit_of_a_controller_that_not_every_host_has(
    runtime: Runtime, bundle: Bundle, resources: dict[str, object], controller: str, file: str, expected: str
) -> None:
    """It is obeyed, or refused by its name."""
    bundle.linux["resources"].update(resources)

    if os.path.exists(f"/sys/fs/cgroup/{controller}/cgroup.procs"):
        id = runtime.created(bundle)
        assert expected in _value(runtime, id, f"{controller}.{file}").splitlines()
    else:
        runtime.create(bundle).fails(controller)


def test_delete_leaves_what_others_made(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    """A cgroup above, a cgroup beside, a file that a namespace is bound to, and what a bind mount shows."""
    id = runtime.new_id()
    beside = Path(f"/sys/fs/cgroup/pids/{id}-parent/beside")
    beside.mkdir(parents=True)
    bundle.linux["cgroupsPath"] = f"/{id}-parent/child"
    (place / "namespace").touch()
    mount("/proc/self/ns/uts", place / "namespace", flags=MS_BIND)
    bundle.with_namespace("uts", str(place / "namespace"))
    del bundle.config["hostname"]
    (place / "kept").mkdir()
    bundle.bind(place / "kept", "/kept")
    runtime.create(bundle, id=id).ok()

    runtime.delete(id, "--force").ok()

    stays = beside.is_dir() and (place / "namespace").stat().st_ino == os.stat("/proc/self/ns/uts").st_ino
    umount(place / "namespace")
    for path in sorted((path for path in cgroups() if f"{id}-parent" in path), reverse=True):
        os.rmdir(path)
    assert stays
    assert (place / "kept").is_dir()


def test_a_swappiness_that_is_none_is_an_error_and_leaves_nothing(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["memory"] = {"swappiness": 500}

    runtime.create(bundle).fails()

    assert runtime.traces() == []


# ---- the cgroup mount ----------------------------------------------------------------------------

CGROUP_MOUNT = ("nosuid", "noexec", "nodev", "relatime")


@pytest.mark.parametrize("with_namespace", [False, True])
def test_a_cgroup_mount_shows_the_cgroups_of_the_container(
    runtime: Runtime, bundle: Bundle, with_namespace: bool
) -> None:
    if with_namespace:
        bundle.with_namespace("cgroup")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", (*CGROUP_MOUNT, "ro"))
    bundle.linux["resources"]["memory"] = {"limit": 64 << 20}
    bundle.linux["resources"]["pids"] = {"limit": 20}

    report = runtime.run(bundle).report

    assert mount_at(report, "/sys/fs/cgroup")["fstype"] == "tmpfs"
    assert mount_at(report, "/sys/fs/cgroup/memory")["fstype"] == "cgroup"
    assert report["limits"]["memory/memory.limit_in_bytes"] == str(64 << 20)
    assert report["limits"]["pids/pids.max"] == "20"


@pytest.mark.parametrize("with_namespace", [False, True])
def test_the_process_is_seen_in_the_cgroup_mount(runtime: Runtime, bundle: Bundle, with_namespace: bool) -> None:
    if with_namespace:
        bundle.with_namespace("cgroup")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", (*CGROUP_MOUNT, "ro"))

    result = runtime.run(bundle.args("cat", "/sys/fs/cgroup/pids/cgroup.procs"))

    assert result.ok().stdout == "1\n"


@pytest.mark.parametrize("with_namespace", [False, True])
def test_a_readonly_cgroup_mount_cannot_be_written(runtime: Runtime, bundle: Bundle, with_namespace: bool) -> None:
    if with_namespace:
        bundle.with_namespace("cgroup")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", (*CGROUP_MOUNT, "ro"))

    assert runtime.run(bundle.args("mkdir", "/sys/fs/cgroup/pids/below")).stdout == "EROFS\n"
    assert runtime.run(bundle.args("mkdir", "/sys/fs/cgroup/below")).stdout in ("EROFS\n", "EACCES\n")


def test_a_writable_cgroup_mount_can(runtime: Runtime, bundle: Bundle) -> None:
    bundle.with_namespace("cgroup")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", CGROUP_MOUNT)

    assert runtime.run(bundle.args("mkdir", "/sys/fs/cgroup/pids/below")).ok().stdout == "ok\n"


@only("pyocirun")  # runc cannot remove them, and leaves the processes alone where there is no pid namespace
@requires("busybox")
@pytest.mark.parametrize("pid_namespace", [True, False])
def test_cgroups_nested_deeper_than_a_path_is_long_save_nobody(
    runtime: Runtime, bundle: Bundle, pid_namespace: bool
) -> None:
    bundle.with_namespace("cgroup")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", CGROUP_MOUNT)
    if not pid_namespace:
        bundle.without_namespace("pid")
    name = "n" * 250
    hide = f"for i in $(seq 30); do mkdir {name} && cd -P {name} || exit 9; done; echo $pid > cgroup.procs || exit 8"
    move = f"for c in pids devices memory freezer; do cd /sys/fs/cgroup/$c; {hide}; done"
    id = runtime.new_id()
    output = runtime.create(bundle.shell(f"sleep 60 & pid=$!; {move}; echo hidden; wait"), id=id).ok()
    runtime.start(id).ok()
    eventually(lambda: "hidden" in output.stdout, "a process in the deepest cgroup")

    runtime.delete(id, "--force").ok()

    assert runtime.traces() == []


FREEZE = """
sleep 61 & pid=$!
cd /sys/fs/cgroup/freezer && mkdir -p a/b && echo $pid > a/b/cgroup.procs && echo FROZEN > a/b/freezer.state
echo frozen; sleep 61
"""


@only("pyocirun")  # runc 1.1 leaves both of them
@requires("busybox")
@pytest.mark.parametrize("pid_namespace", [True, False])
@pytest.mark.parametrize("command", [("delete", "--force"), ("kill", "KILL"), ("kill", "--all", "KILL")])
def test_a_process_that_the_container_has_frozen_is_killed(
    runtime: Runtime, bundle: Bundle, pid_namespace: bool, command: tuple[str, ...]
) -> None:
    """Frozen on cgroup v1, a process does not end by SIGKILL, and neither does the init of its pid namespace."""
    bundle.with_namespace("cgroup")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", CGROUP_MOUNT)
    if not pid_namespace:
        bundle.without_namespace("pid")
    id = runtime.new_id()
    output = runtime.create(bundle.shell(FREEZE), id=id).ok()
    runtime.start(id).ok()
    eventually(lambda: "frozen" in output.stdout, "a frozen process")
    path = cgroup_of(runtime.pid(id), "pids")

    name, *options = command
    order = (*options, id) if name == "delete" else (*options[:-1], id, options[-1])
    runtime(name, *order, timeout=20).ok()

    eventually(lambda: not path.exists() or not (path / "cgroup.procs").read_text())
    runtime.delete(id, "--force").ok()
    assert runtime.traces() == []
