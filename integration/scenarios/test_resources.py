"""Resources, for each way to manage cgroups: what reaches the kernel, what it means to the container, what is left.

What only one of them has stands in test_cgroup_v1.py, test_cgroup_v2.py and test_systemd.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from integration.harness import PATIENCE, Bundle, alive, cgroups, eventually, mounts, only, requires, runtime_command
from integration.modes import HAS_SWAP, ROOT, SWAP, UNLIMITED, V2, Managed, freeze, inventory, modes

pytestmark = [requires("root"), modes()]

CGROUPFS = ("v1", "v2")
MIB = 1 << 20


def small(bundle: Bundle, mebibytes: int) -> Bundle:
    """A bundle with so much memory, and no swap besides."""
    bundle.linux["resources"]["memory"] = {"limit": mebibytes * MIB}
    if HAS_SWAP:
        bundle.linux["resources"]["memory"]["swap"] = mebibytes * MIB
    return bundle


# ---- where ---------------------------------------------------------------------------------------


LIMITS = {"memory": {"limit": 64 * MIB}, "pids": {"limit": 50}}


@pytest.mark.parametrize(
    ("limits", "namespace"),
    [({}, False), (LIMITS, False), ({}, True), pytest.param(LIMITS, True, marks=pytest.mark.vm)],
    ids=["free", "limited", "namespace", "both"],
)
def test_a_container_is_alone_in_its_cgroup(
    runtime: Managed, bundle: Bundle, limits: dict[str, Any], namespace: bool
) -> None:
    bundle.linux["resources"].update(limits)
    if namespace:
        bundle.with_namespace("cgroup")

    id = runtime.created(bundle)

    pid = runtime.pid(id)
    for cgroup in runtime.cgroups(id):
        assert id in cgroup.name, cgroup
        assert (cgroup / "cgroup.procs").read_text().split() == [str(pid)], cgroup


@modes(*CGROUPFS)
@pytest.mark.parametrize("prefix", ["/", "/../../../"])
def test_an_absolute_path_begins_at_the_root_and_leads_not_out(runtime: Managed, bundle: Bundle, prefix: str) -> None:
    id = runtime.new_id()
    bundle.linux["cgroupsPath"] = f"{prefix}{id}-parent/child"

    runtime.create(bundle, id=id).ok()

    top = "/sys/fs/cgroup/memory" if runtime.mode.version == 1 else "/sys/fs/cgroup"
    assert str(runtime.cgroup(id, "memory")) == f"{top}/{id}-parent/child"
    runtime.delete(id).ok()
    above = [path for path in cgroups() if id in path]
    assert above
    assert {os.path.basename(path) for path in above} == {f"{id}-parent"}
    for path in above:
        os.rmdir(path)


@modes(*CGROUPFS)
def test_the_same_path_gives_the_same_place(runtime: Managed, bundle: Bundle, other_bundle: Bundle) -> None:
    name = runtime.new_id()
    places = []
    for one in (bundle, other_bundle):
        one.linux["cgroupsPath"] = name
        id = runtime.created(one)
        places.append(runtime.cgroup(id, "memory"))
        runtime.delete(id).ok()

    assert places[0] == places[1]


def test_children_are_in_the_cgroup_of_the_container(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle, "fork", "3", "stay")

    eventually(lambda: len(runtime.members(id)) == 4, "four processes")


@pytest.mark.vm
def test_exec_is_in_the_cgroup_of_the_container(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    init = Path(f"/proc/{runtime.pid(id)}/cgroup").read_text()

    assert runtime.exec(id, "cat", "/proc/self/cgroup").ok().stdout == init


@pytest.mark.parametrize("kind", ["prestart", "createRuntime"])
def test_hooks_find_the_process_in_its_cgroup(runtime: Managed, bundle: Bundle, place: Path, kind: str) -> None:
    """They may move it, watch it, or write limits of their own."""
    bundle.linux["resources"]["memory"] = {"limit": 64 * MIB}
    (place / "seen").touch(0o666)
    (place / "seen").chmod(0o666)
    controller = "devices" if runtime.mode.version == 1 else ""
    script = f"pid=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p'); grep :{controller}: /proc/$pid/cgroup >{place}/seen"
    bundle.hook(kind, "/bin/sh", "-c", script)

    id = runtime.created(bundle)

    assert id in (place / "seen").read_text()


@pytest.mark.vm
@requires("busybox")
def test_limits_are_in_force_before_the_program_begins(runtime: Managed, bundle: Bundle) -> None:
    bundle.linux["resources"] |= {"pids": {"limit": 9}, "memory": {"limit": 64 * MIB}}
    bundle.with_namespace("cgroup")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", ("nosuid", "noexec", "nodev", "relatime", "ro"))
    v1 = "memory/memory.limit_in_bytes", "pids/pids.max"
    files = [f"/sys/fs/cgroup/{file}" for file in (v1 if runtime.mode.version == 1 else ("memory.max", "pids.max"))]

    result = runtime.run(bundle.args("/bin/cat", *files))

    assert result.ok().stdout.split() == [str(64 * MIB), "9"]


def test_a_cgroup_with_processes_is_refused(runtime: Managed, bundle: Bundle, other_bundle: Bundle) -> None:
    name = runtime.new_id()
    for one in (bundle, other_bundle):
        one.linux["cgroupsPath"] = runtime.mode.path(name)
    id = runtime.running(bundle)

    result = runtime.create(other_bundle).fails()

    assert runtime.mode.systemd or "container's cgroup is not empty: 1 process(es) found" in result.error

    assert runtime.status(id) == "running"


@modes(*CGROUPFS)
def test_a_frozen_cgroup_is_refused(runtime: Managed, bundle: Bundle) -> None:
    name = runtime.new_id()
    made = runtime.empty_cgroup(name)
    freeze(made[0])
    bundle.linux["cgroupsPath"] = runtime.mode.path(name)

    runtime.create(bundle).fails("container's cgroup unexpectedly frozen")

    freeze(made[0], "0", "THAWED")
    for path in made:
        path.rmdir()


@only("pyocirun")
@modes(*CGROUPFS)
def test_without_a_manager_no_cgroup_is_made(runtime: Managed, bundle: Bundle) -> None:
    result = runtime.run(bundle.args("cat", "/proc/self/cgroup"), options=("--cgroup-manager", "disabled"))

    assert result.ok().stdout == Path("/proc/self/cgroup").read_text()


# ---- limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        pytest.param({"memory": {"limit": 64 * MIB}}, {"memory.limit": 64 * MIB}, id="memory"),
        pytest.param({"memory": {"limit": -1}}, {"memory.limit": UNLIMITED}, id="memory without limit"),
        pytest.param({"memory": {"reservation": 32 * MIB}}, {"memory.reservation": 32 * MIB}, id="reservation"),
        pytest.param(
            {"memory": {"limit": 64 * MIB, "swap": 96 * MIB}},
            {"memory.limit": 64 * MIB, "memory.swap": 96 * MIB},
            id="swap",
            marks=SWAP,
        ),
        pytest.param(
            {"memory": {"limit": 64 * MIB, "swap": 64 * MIB}}, {"memory.swap": 64 * MIB}, id="no swap", marks=SWAP
        ),
        pytest.param(
            {"memory": {"limit": 64 * MIB, "swap": -1}}, {"memory.swap": UNLIMITED}, id="all swap", marks=SWAP
        ),
        pytest.param({"cpu": {"shares": 1024}}, {"cpu.shares": 1024}, id="shares"),
        pytest.param({"cpu": {"shares": 2}}, {"cpu.shares": 2}, id="least shares"),
        pytest.param({"cpu": {"shares": 262144}}, {"cpu.shares": 262144}, id="most shares"),
        pytest.param(
            {"cpu": {"quota": 20000, "period": 50000}}, {"cpu.quota": 20000, "cpu.period": 50000}, id="quota and period"
        ),
        pytest.param({"cpu": {"quota": 20000}}, {"cpu.quota": 20000, "cpu.period": 100000}, id="quota"),
        pytest.param({"cpu": {"period": 50000}}, {"cpu.quota": UNLIMITED, "cpu.period": 50000}, id="period"),
        pytest.param({"cpu": {"quota": -1}}, {"cpu.quota": UNLIMITED}, id="no quota"),
        pytest.param({"cpu": {"cpus": "0", "mems": "0"}}, {"cpu.cpus": 0, "cpu.mems": 0}, id="cpuset"),
        pytest.param({"pids": {"limit": 10}}, {"pids.limit": 10}, id="pids"),
        pytest.param({"pids": {"limit": -1}}, {"pids.limit": UNLIMITED}, id="pids without limit"),
        pytest.param({"blockIO": {"weight": 10}}, {"blockIO.weight": 10}, id="least weight"),
        pytest.param({"blockIO": {"weight": 1000}}, {"blockIO.weight": 1000}, id="most weight"),
        pytest.param({}, {"memory.limit": UNLIMITED, "cpu.quota": UNLIMITED}, id="nothing"),
    ],
)
def test_a_limit_reaches_the_kernel(
    runtime: Managed, bundle: Bundle, resources: dict[str, Any], expected: dict[str, int]
) -> None:
    bundle.linux["resources"].update(resources)

    id = runtime.created(bundle)

    assert runtime.limits(id, *expected) == expected


@pytest.mark.vm
def test_all_limits_together_reach_the_kernel(runtime: Managed, bundle: Bundle) -> None:
    bundle.linux["resources"] |= {
        "memory": {"limit": 64 * MIB, "reservation": 32 * MIB} | ({"swap": 96 * MIB} if HAS_SWAP else {}),
        "cpu": {"shares": 262144, "quota": 20000, "period": 50000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 10},
    }

    id = runtime.created(bundle)

    expected = {"memory.limit": 64 * MIB, "memory.reservation": 32 * MIB, "pids.limit": 10}
    expected |= {"cpu.shares": 262144, "cpu.quota": 20000, "cpu.period": 50000, "cpu.cpus": 0, "cpu.mems": 0}
    expected |= {"memory.swap": 96 * MIB} if HAS_SWAP else {}
    assert runtime.limits(id, *expected) == expected


@only("pyocirun")  # runc 1.1 has not got them, and wants no limit for pids.limit 0
@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"pids": {"limit": 0}}, {"pids.limit": 1}),
        ({"cpu": {"quota": 20000, "burst": 1000}}, {"cpu.quota": 20000, "cpu.burst": 1000}),
        ({"cpu": {"idle": 1}}, {"cpu.idle": 1}),
    ],
    ids=["no process but init", "burst", "idle"],
)
def test_a_limit_of_later_kernels_or_specifications(
    runtime: Managed, bundle: Bundle, resources: dict[str, Any], expected: dict[str, int]
) -> None:
    bundle.linux["resources"].update(resources)

    id = runtime.created(bundle)

    assert runtime.limits(id, *expected) == expected


@modes(*ROOT)
def test_huge_pages_are_limited_or_refused_by_their_name(runtime: Managed, bundle: Bundle) -> None:
    bundle.linux["resources"]["hugepageLimits"] = [{"pageSize": "2MB", "limit": 4 * MIB}]

    if runtime.mode.version == 2 or os.path.exists("/sys/fs/cgroup/hugetlb/cgroup.procs"):
        assert runtime.limit(runtime.created(bundle), "hugepages.2MB") == 4 * MIB
    else:
        runtime.create(bundle).fails("hugetlb")


@pytest.mark.parametrize(
    ("what", "v1", "v2"),
    [
        ("ReadBps", "read_bps", "rbps"),
        ("WriteBps", "write_bps", "wbps"),
        ("ReadIOPS", "read_iops", "riops"),
        ("WriteIOPS", "write_iops", "wiops"),
    ],
)
def test_a_device_is_throttled(runtime: Managed, bundle: Bundle, what: str, v1: str, v2: str) -> None:
    devices = [path.read_text().strip() for path in Path("/sys/block").glob("*/dev")]
    if not devices:
        pytest.skip("there is no block device")
    major, minor = map(int, devices[0].split(":"))
    entry = {"major": major, "minor": minor, "rate": MIB}
    bundle.linux["resources"]["blockIO"] = {f"throttle{what}Device": [entry]}

    cgroup = runtime.cgroup(runtime.created(bundle), "blkio")

    name = f"blkio.throttle.{v1}_device" if runtime.mode.version == 1 else "io.max"
    device, *found = (cgroup / name).read_text().split()
    assert device == f"{major}:{minor}"
    assert (str(MIB) if runtime.mode.version == 1 else f"{v2}={MIB}") in found


def test_a_cpuset_is_what_the_process_may_use(runtime: Managed, bundle: Bundle) -> None:
    bundle.linux["resources"]["cpu"] = {"cpus": "0"}

    id = runtime.created(bundle)

    assert "Cpus_allowed_list:\t0\n" in Path(f"/proc/{runtime.pid(id)}/status").read_text()


@pytest.mark.vm
def test_the_pids_limit_stops_forks(runtime: Managed, bundle: Bundle) -> None:
    bundle.linux["resources"]["pids"] = {"limit": 4}
    id = runtime.new_id()
    output = runtime.create(bundle.args("fork", "20", "stay"), id=id).ok()

    runtime.start(id).ok()

    assert eventually(lambda: output.stdout, "the number of forks") == "3\n"


@pytest.mark.vm
def test_the_memory_limit_kills_whoever_wants_more(runtime: Managed, bundle: Bundle) -> None:
    assert runtime.run(small(bundle, 16).args("alloc", "64")).status == 137
    assert runtime.run(bundle.args("alloc", "8")).ok().stdout == "ok\n"


def test_the_kill_of_a_child_for_lack_of_memory_leaves_the_container_running(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(small(bundle, 16))

    assert runtime.exec(id, "alloc", "64").status == 137
    assert runtime.status(id) == "running"


def test_a_memory_limit_that_is_far_too_low_is_an_error_or_a_kill(runtime: Managed, bundle: Bundle) -> None:
    bundle.linux["resources"]["memory"] = {"limit": 4096}

    result = runtime.run(bundle.args("exit", "0"))

    assert result.status != 0
    assert runtime.traces() == []


@pytest.mark.parametrize(
    "resources",
    [
        {"cpu": {"quota": 10}},
        {"cpu": {"period": 1}},
        {"cpu": {"cpus": "4000"}},
        {"memory": {"limit": 64 * MIB, "swap": 32 * MIB}},
    ],
    ids=["quota", "period", "cpus", "swap"],
)
def test_a_limit_that_is_refused_is_an_error_and_leaves_nothing(
    runtime: Managed, bundle: Bundle, resources: dict[str, Any]
) -> None:
    bundle.linux["resources"].update(resources)

    runtime.create(bundle).fails()

    assert runtime.traces() == []


@modes(*V2)
@pytest.mark.parametrize(
    ("unified", "expected"),
    [
        ({"memory.high": str(32 * MIB), "pids.max": "7"}, {"memory.high": 32 * MIB, "pids.limit": 7}),
        ({"nothing.max": "1"}, None),
    ],
    ids=["known", "unknown"],
)
def test_files_of_cgroup_v2_may_be_named(
    runtime: Managed, bundle: Bundle, unified: dict[str, str], expected: dict[str, int] | None
) -> None:
    bundle.linux["resources"]["unified"] = unified

    if expected is None:
        runtime.create(bundle).fails("nothing")
    else:
        assert runtime.limits(runtime.created(bundle), *expected) == expected


# ---- devices -------------------------------------------------------------------------------------


def with_device(bundle: Bundle, **rule: Any) -> Bundle:
    """A bundle with a device that every host has, and that needs CAP_SYSLOG; rule: appended, if there is one."""
    bundle.linux["devices"] = [{"path": "/dev/mine", "type": "c", "major": 1, "minor": 11}]
    for name in ("bounding", "permitted", "effective"):
        bundle.process["capabilities"][name] = ["CAP_SYSLOG", "CAP_MKNOD"]
    if rule:
        bundle.linux["resources"]["devices"].append({"allow": True, **rule})
    return bundle


@pytest.mark.vm
@modes(*ROOT)
def test_a_device_without_a_rule_is_denied_but_may_be_made(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(with_device(bundle))

    assert runtime.exec(id, "open", "r", "/dev/mine").stdout == "EPERM\n"
    assert runtime.exec(id, "mknod", "/dev/shm/made", "c", "1", "11").stdout == "ok\n"
    for name in ("null", "zero", "full", "random", "urandom"):
        assert runtime.exec(id, "open", "rw", f"/dev/{name}").ok().stdout == "ok\n"


@modes(*ROOT)
@pytest.mark.parametrize(
    ("rule", "outcomes"),
    [
        ({"type": "c", "major": 1, "minor": 11, "access": "rwm"}, {"r": "ok", "rw": "ok"}),
        ({"type": "c", "major": 1, "minor": 11, "access": "r"}, {"r": "ok", "w": "EPERM"}),
        ({"type": "c", "major": 1, "minor": 11, "access": "w"}, {"r": "EPERM", "w": "ok"}),
        ({"type": "c", "major": 1, "access": "rw"}, {"r": "ok"}),
        ({"access": "rwm"}, {"r": "ok"}),
    ],
    ids=["rwm", "r", "w", "all minors", "all devices"],
)
def test_a_rule_allows_what_it_says(
    runtime: Managed, bundle: Bundle, rule: dict[str, Any], outcomes: dict[str, str]
) -> None:
    id = runtime.running(with_device(bundle, **rule))

    assert {mode: runtime.exec(id, "open", mode, "/dev/mine").stdout.strip() for mode in outcomes} == outcomes


# ---- the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["created", pytest.param("running", marks=pytest.mark.vm), "paused", "stopped"])
def test_delete_leaves_nothing_on_the_host(runtime: Managed, bundle: Bundle, state: str) -> None:
    before = inventory()
    id = runtime.created(bundle.args("sleep", "600"))
    if state != "created":
        runtime.start(id).ok()
    if state == "paused":
        runtime("pause", id).ok()
    if state == "stopped":
        runtime.stop(id)

    runtime.delete(id, "--force").ok()

    assert inventory() == before
    assert runtime.traces() == []


@pytest.mark.parametrize("state", ["created", "running"])
def test_delete_removes_cgroups_below(runtime: Managed, bundle: Bundle, state: str) -> None:
    id = runtime.created(bundle.args("sleep", "600"))
    if state == "running":
        runtime.start(id).ok()
    for cgroup in runtime.cgroups(id):
        for below in (cgroup / "a", cgroup / "a/b"):
            below.mkdir()
            os.chown(below, cgroup.stat().st_uid, cgroup.stat().st_gid)  # as the container itself would have made it

    runtime.delete(id, "--force").ok()

    assert not [path for path in cgroups() if id in path]


@modes(*CGROUPFS)
def test_delete_keeps_cgroups_above_and_beside(runtime: Managed, bundle: Bundle) -> None:
    name = runtime.new_id()
    above = runtime.empty_cgroup(name)
    for path in above:
        (path / "beside").mkdir()
    bundle.linux["cgroupsPath"] = f"/{name}/child"
    id = runtime.created(bundle)

    runtime.delete(id).ok()

    stays = all((path / "beside").is_dir() for path in above)
    for found in sorted((path for path in cgroups() if name in path), reverse=True):
        os.rmdir(found)
    assert stays


@modes(*ROOT)  # a user may not mount proc without a pid namespace
def test_delete_force_ends_every_process_of_a_shared_pid_namespace(runtime: Managed, bundle: Bundle) -> None:
    bundle.without_namespace("pid")
    id = runtime.running(bundle, "fork", "3", "stay")
    pids = eventually(lambda: found if len(found := runtime.members(id)) == 4 else [], "four processes")

    runtime.delete(id, "--force").ok()

    eventually(lambda: not any(alive(pid) for pid in pids), "all have ended")
    assert runtime.traces() == []


# ---- many rounds ---------------------------------------------------------------------------------

ROUNDS = """
import json, os, sys
from pyocirun import Factory

manager, root, prefix, rounds, *bundles = sys.argv[1:]
factory = Factory(root, cgroup_manager=manager)

def cycle(number):
    container = factory.create(f"{prefix}-{number}", bundles[number % len(bundles)])
    container.start()
    assert container.wait(30) == 0
    container.delete()

def own():
    with open("/proc/self/mountinfo") as file:
        mounts = file.read()
    with open("/proc/thread-self/children") as file:
        children = file.read()
    return [sorted(os.listdir("/proc/self/fd")), children, mounts]

for number in range(2):
    cycle(number)
before = own()
for number in range(2, int(rounds)):
    cycle(number)
assert own() == before, (before, own())
print("as before")
"""


def limited(bundle: Bundle) -> Bundle:
    bundle.with_namespace("cgroup")
    bundle.linux["resources"] |= {"memory": {"limit": 64 * MIB}, "pids": {"limit": 9}, "cpu": {"quota": 50000}}
    return bundle


@only("pyocirun")
@pytest.mark.parametrize("rounds", [pytest.param(20, marks=pytest.mark.vm), 200])
def test_rounds_by_the_library_leave_everything_as_it_was(
    runtime: Managed, bundle: Bundle, other_bundle: Bundle, place: Path, rounds: int
) -> None:
    """With limits in a cgroup namespace, and with neither; also descriptors, mounts and children of the library."""
    for one in (bundle, limited(other_bundle)):
        one.args("exit", "0").save()
    script = place / "rounds.py"
    script.write_text(ROUNDS)
    command = [*runtime.mode.prefix(), python(), "-P", str(script), runtime.mode.manager, str(runtime.root)]
    command += [runtime.prefix, str(rounds), str(bundle.path), str(other_bundle.path)]
    before = (inventory(), mounts())

    result = subprocess.run(command, capture_output=True, text=True, timeout=600 * PATIENCE, check=False)

    assert (result.returncode, result.stdout) == (0, "as before\n"), result.stderr
    assert (inventory(), mounts()) == before
    assert runtime.traces() == []


def test_ten_rounds_by_command_leave_everything_as_it_was(
    runtime: Managed, bundle: Bundle, other_bundle: Bundle
) -> None:
    limited(other_bundle)
    before = (inventory(), mounts(), sorted(os.listdir("/proc/self/fd")))

    for number in range(10):
        id = runtime.running((bundle, other_bundle)[number % 2])
        runtime.stop(id)
        runtime.delete(id).ok()

    assert (inventory(), mounts(), sorted(os.listdir("/proc/self/fd"))) == before
    assert runtime.traces() == []


def python() -> str:
    """The interpreter that has the package."""
    beside = Path(runtime_command()[0]).parent / "python"
    return str(beside if beside.exists() else sys.executable)
