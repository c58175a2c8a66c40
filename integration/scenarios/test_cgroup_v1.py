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
    wait_for_orphan,
)

pytestmark = requires("cgroup1")

MS_BIND = 0x1000
HIERARCHIES = ("memory", "cpu", "cpuset", "pids", "devices", "freezer", "blkio")


def _value(runtime: Runtime, id: str, file: str) -> str:
    """A file of the container's cgroup, as the host sees it; the controller is the name's first part."""
    controller = {"cpu.cfs_quota_us": "cpu"}.get(file, file.partition(".")[0])
    return (cgroup_of(runtime.pid(id), controller) / file).read_text().strip()


# ---- placement -----------------------------------------------------------------------------------


def test_a_container_has_a_cgroup_of_its_own_everywhere(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.created(bundle)
    pid = runtime.pid(id)

    for controller in HIERARCHIES:
        path = cgroup_of(pid, controller)
        assert path.name == id, controller
        assert (path / "cgroup.procs").read_text().split() == [str(pid)], controller


def test_an_absolute_path_begins_at_the_root(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.new_id()
    bundle.linux["cgroupsPath"] = f"/{id}-parent/child"

    runtime.create(bundle, id=id).ok()

    pid = runtime.pid(id)
    assert cgroup_of(pid, "memory") == Path(f"/sys/fs/cgroup/memory/{id}-parent/child")
    assert cgroup_of(pid, "pids") == Path(f"/sys/fs/cgroup/pids/{id}-parent/child")
    runtime.delete(id).ok()
    for path in [path for path in cgroups() if f"{id}-parent" in path]:
        os.rmdir(path)


def test_the_same_path_gives_the_same_place(runtime: Runtime, bundle: Bundle, other_bundle: Bundle) -> None:
    name = runtime.new_id()
    places = []
    for one in (bundle, other_bundle):
        one.linux["cgroupsPath"] = name
        id = runtime.created(one)
        places.append(cgroup_of(runtime.pid(id), "memory"))
        runtime.delete(id).ok()

    assert places[0] == places[1]


def test_dots_in_the_path_do_not_lead_out(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.new_id()
    bundle.linux["cgroupsPath"] = f"/../../../{id}"

    runtime.create(bundle, id=id).ok()

    assert str(cgroup_of(runtime.pid(id), "memory")) == f"/sys/fs/cgroup/memory/{id}"


def test_children_are_in_the_cgroup_of_the_container(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle, "fork", "3", "stay")

    path = cgroup_of(runtime.pid(id), "pids")

    eventually(lambda: len((path / "cgroup.procs").read_text().split()) == 4, "four processes")


# ---- limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resources", "file", "expected"),
    [
        ({"memory": {"limit": 64 << 20}}, "memory.limit_in_bytes", str(64 << 20)),
        ({"memory": {"reservation": 32 << 20}}, "memory.soft_limit_in_bytes", str(32 << 20)),
        ({"memory": {"swappiness": 7}}, "memory.swappiness", "7"),
        ({"memory": {"limit": 64 << 20, "disableOOMKiller": True}}, "memory.oom_control", "oom_kill_disable 1"),
        ({"cpu": {"shares": 512}}, "cpu.shares", "512"),
        ({"cpu": {"quota": 20000, "period": 50000}}, "cpu.cfs_quota_us", "20000"),
        ({"cpu": {"quota": 20000, "period": 50000}}, "cpu.cfs_period_us", "50000"),
        ({"cpu": {"quota": -1}}, "cpu.cfs_quota_us", "-1"),
        ({"cpu": {"cpus": "0"}}, "cpuset.cpus", "0"),
        ({"cpu": {"mems": "0"}}, "cpuset.mems", "0"),
        ({"pids": {"limit": 10}}, "pids.max", "10"),
        ({"pids": {"limit": -1}}, "pids.max", "max"),
        ({}, "pids.max", "max"),
    ],
)
def test_a_limit_reaches_the_kernel(
    runtime: Runtime, bundle: Bundle, resources: dict[str, object], file: str, expected: str
) -> None:
    bundle.linux["resources"].update(resources)

    id = runtime.created(bundle)

    assert expected in _value(runtime, id, file).splitlines()


@only("pyocirun")  # runc 1.1 has not got them, and wants no limit for pids.limit 0
@pytest.mark.parametrize(
    ("resources", "file", "expected"),
    [
        ({"pids": {"limit": 0}}, "pids.max", "1"),
        ({"memory": {"kernelTCP": 32 << 20}}, "memory.kmem.tcp.limit_in_bytes", str(32 << 20)),
        ({"cpu": {"quota": 20000, "burst": 1000}}, "cpu.cfs_burst_us", "1000"),
        ({"cpu": {"idle": 1}}, "cpu.idle", "1"),
    ],
)
def test_a_limit_of_later_kernels_or_specifications(
    runtime: Runtime, bundle: Bundle, resources: dict[str, object], file: str, expected: str
) -> None:
    bundle.linux["resources"].update(resources)

    id = runtime.created(bundle)

    assert _value(runtime, id, file) == expected


@pytest.mark.parametrize(
    ("resources", "controller", "file", "expected"),
    [
        ({"network": {"classID": 0x100001}}, "net_cls", "classid", str(0x100001)),
        ({"network": {"priorities": [{"name": "lo", "priority": 7}]}}, "net_prio", "ifpriomap", "lo 7"),
        ({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]}, "hugetlb", "2MB.limit_in_bytes", str(4 << 20)),
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


@pytest.mark.parametrize(
    ("what", "file"),
    [("ReadBps", "read_bps"), ("WriteBps", "write_bps"), ("ReadIOPS", "read_iops"), ("WriteIOPS", "write_iops")],
)
def test_a_device_is_throttled(runtime: Runtime, bundle: Bundle, what: str, file: str) -> None:
    devices = [path.read_text().strip() for path in Path("/sys/block").glob("*/dev")]
    if not devices:
        pytest.skip("there is no block device")
    major, minor = map(int, devices[0].split(":"))
    entry = {"major": major, "minor": minor, "rate": 1 << 20}
    bundle.linux["resources"]["blockIO"] = {f"throttle{what}Device": [entry]}

    id = runtime.created(bundle)

    assert _value(runtime, id, f"blkio.throttle.{file}_device") == f"{major}:{minor} {1 << 20}"


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


def test_memory_without_a_limit_is_unlimited(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["memory"] = {"limit": -1}

    id = runtime.created(bundle)

    assert int(_value(runtime, id, "memory.limit_in_bytes")) > 1 << 60


@pytest.mark.skipif(
    not os.path.exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"), reason="the kernel counts no swap"
)
def test_memory_and_swap(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["memory"] = {"limit": 64 << 20, "swap": 128 << 20}

    id = runtime.created(bundle)

    assert _value(runtime, id, "memory.memsw.limit_in_bytes") == str(128 << 20)


def test_a_cpuset_is_what_the_process_may_use(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["cpu"] = {"cpus": "0"}

    id = runtime.created(bundle)

    status = Path(f"/proc/{runtime.pid(id)}/status").read_text()
    assert "Cpus_allowed_list:\t0\n" in status


def test_the_pids_limit_stops_forks(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["pids"] = {"limit": 4}
    id = runtime.new_id()
    output = runtime.create(bundle.args("fork", "20", "stay"), id=id).ok()

    runtime.start(id).ok()

    assert eventually(lambda: output.stdout, "the number of forks") == "3\n"


def test_the_memory_limit_kills(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["memory"] = {"limit": 16 << 20, "swap": 16 << 20}
    if not os.path.exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"):
        del bundle.linux["resources"]["memory"]["swap"]

    result = runtime.run(bundle.args("alloc", "64"))

    assert result.status == 137


def test_a_process_within_its_memory_limit_lives(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["memory"] = {"limit": 16 << 20}

    assert runtime.run(bundle.args("alloc", "8")).ok().stdout == "ok\n"


def test_a_memory_limit_that_is_far_too_low_is_an_error_or_a_kill(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["memory"] = {"limit": 4096}

    result = runtime.run(bundle.args("exit", "0"))

    assert result.status != 0
    assert runtime.traces() == []


@pytest.mark.parametrize(
    "resources",
    [{"cpu": {"quota": 10}}, {"cpu": {"cpus": "4000"}}, {"memory": {"swappiness": 500}}, {"cpu": {"period": 1}}],
)
def test_a_limit_that_the_kernel_refuses_is_an_error_and_leaves_nothing(
    runtime: Runtime, bundle: Bundle, resources: dict[str, object]
) -> None:
    bundle.linux["resources"].update(resources)

    result = runtime.create(bundle)

    result.fails()
    assert runtime.traces() == []


# ---- devices -------------------------------------------------------------------------------------


def _open(runtime: Runtime, bundle: Bundle, major: int, minor: int, mode: str) -> str:
    """What comes of opening a device of the config. /dev/kmsg (1:11) is on every host, and needs CAP_SYSLOG."""
    bundle.linux["devices"] = [{"path": "/dev/mine", "type": "c", "major": major, "minor": minor}]
    for name in ("bounding", "permitted", "effective"):
        bundle.process["capabilities"][name] = ["CAP_SYSLOG"]
    return runtime.run(bundle.args("open", mode, "/dev/mine")).stdout.strip()


def test_a_device_without_a_rule_is_denied(runtime: Runtime, bundle: Bundle) -> None:
    assert _open(runtime, bundle, 1, 11, "r") == "EPERM"


@pytest.mark.parametrize("name", ["null", "zero", "full", "random", "urandom"])
def test_the_default_devices_are_allowed(runtime: Runtime, bundle: Bundle, name: str) -> None:
    assert runtime.run(bundle.args("open", "rw", f"/dev/{name}")).ok().stdout == "ok\n"


@pytest.mark.parametrize(
    ("access", "mode", "outcome"), [("rwm", "rw", "ok"), ("r", "r", "ok"), ("r", "w", "EPERM"), ("w", "r", "EPERM")]
)
def test_a_rule_allows_what_it_says(runtime: Runtime, bundle: Bundle, access: str, mode: str, outcome: str) -> None:
    rule = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": access}
    bundle.linux["resources"]["devices"].append(rule)

    assert _open(runtime, bundle, 1, 11, mode) == outcome


def test_a_rule_may_stand_for_all_minors(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["devices"].append({"allow": True, "type": "c", "major": 1, "access": "rw"})

    assert _open(runtime, bundle, 1, 11, "r") == "ok"


def test_all_devices_may_be_allowed(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["devices"] = [{"allow": True, "access": "rwm"}]

    assert _open(runtime, bundle, 1, 11, "r") == "ok"


def test_a_node_may_be_made_but_not_opened(runtime: Runtime, bundle: Bundle) -> None:
    for name in ("bounding", "permitted", "effective"):
        bundle.process["capabilities"][name] = ["CAP_MKNOD", "CAP_SYSLOG"]
    id = runtime.running(bundle)

    assert runtime.exec(id, "mknod", "/dev/shm/../kmsg", "c", "1", "11").stdout == "ok\n"
    assert runtime.exec(id, "open", "r", "/dev/kmsg").stdout == "EPERM\n"


def test_exec_is_bound_by_the_same_rules(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["devices"] = [{"path": "/dev/mine", "type": "c", "major": 1, "minor": 11}]
    id = runtime.running(bundle)

    assert runtime.exec(id, "open", "w", "/dev/mine").stdout == "EPERM\n"


# ---- removal -------------------------------------------------------------------------------------


def test_delete_removes_the_cgroups(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.created(bundle)

    runtime.delete(id).ok()

    assert not [path for path in cgroups() if id in path]


def test_delete_removes_cgroups_below(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.created(bundle)
    for controller in ("memory", "pids"):
        (cgroup_of(runtime.pid(id), controller) / "a/b").mkdir(parents=True)

    runtime.delete(id).ok()

    assert not [path for path in cgroups() if id in path]


def test_delete_keeps_the_cgroup_above(runtime: Runtime, bundle: Bundle) -> None:
    parent = Path(f"/sys/fs/cgroup/memory/{runtime.prefix}-above")
    parent.mkdir()
    bundle.linux["cgroupsPath"] = f"/{parent.name}/child"
    id = runtime.created(bundle)

    runtime.delete(id).ok()

    kept = parent.exists()
    for path in [path for path in cgroups() if parent.name in path]:
        os.rmdir(path)
    assert kept


def test_the_oom_kill_of_a_child_leaves_the_container_running(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["memory"] = {"limit": 16 << 20}
    id = runtime.running(bundle)

    assert runtime.exec(id, "alloc", "64").status == 137
    assert runtime.status(id) == "running"


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


def test_init_is_in_its_cgroups_when_the_namespace_is_made(runtime: Runtime, bundle: Bundle) -> None:
    bundle.with_namespace("cgroup")
    id = runtime.created(bundle.args("report"))
    pid = runtime.pid(id)

    assert all(cgroup_of(pid, controller).name == id for controller in HIERARCHIES)
    runtime.start(id).ok()
    wait_for_orphan(pid)


@only("pyocirun")
def test_without_a_manager_no_cgroup_is_made(runtime: Runtime, bundle: Bundle) -> None:
    bundle.shell("cat /proc/self/cgroup")

    result = runtime.run(bundle, options=("--cgroup-manager", "disabled"))

    assert result.ok().stdout.split() == Path("/proc/self/cgroup").read_text().split()
