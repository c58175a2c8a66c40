"""The cgroup v1 manager against the kernel: every test makes a cgroup of its own and leaves none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from integration.harness import only, requires
from pyocirun.cgroup.fs import V1Manager
from pyocirun.cgroup.path import cgroup_paths
from pyocirun.cgroup.v1 import Write, writes
from pyocirun.errors import CgroupError
from pyocirun.linux.host import Hierarchy, Host
from pyocirun.spec.resources import CPU, BlockIO, DeviceRule, Memory, Pids, Resources, ThrottleDevice

pytestmark = [requires("root", "cgroup1"), only("pyocirun")]

Start = Callable[..., "subprocess.Popen[str]"]

_serial = iter(range(1_000_000))


def this_host() -> Host:
    own: dict[str, str] = {}
    with open("/proc/self/cgroup") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            own.update(dict.fromkeys(controllers.split(","), path))
    hierarchies, unified = [], None
    with open("/proc/self/mountinfo") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            root, mountpoint = left.split()[3:5]
            type, _, options = right.split()
            if type == "cgroup":
                carried = tuple(option for option in options.split(",") if option in own)
                hierarchies.append(Hierarchy(carried, mountpoint, root, own[carried[0]]))
            elif type == "cgroup2":
                unified = Hierarchy((), mountpoint, root, own[""])
    return Host(hierarchies=tuple(hierarchies), unified=unified)


@pytest.fixture
def name() -> str:
    return f"pyocirun-manager-{os.getpid()}-{next(_serial)}"


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a program, `sleep` if none is given, and ends it after the test."""
    children: list[subprocess.Popen[str]] = []

    def started(*args: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(args or ("sleep", "60"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        children.append(child)
        return child

    yield started
    for child in children:
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def manager(name: str, start: Start) -> Iterator[V1Manager]:
    """Ended before what `start` started, which may be frozen in it."""
    made = V1Manager(cgroup_paths(None, name, this_host()))
    yield made
    fresh = V1Manager(made.paths)
    fresh.kill(signal.SIGKILL)
    fresh.destroy()


def read(directory: str, file: str) -> str:
    with open(f"{directory}/{file}") as opened:
        return opened.read().strip()


def value(manager: V1Manager, file: str) -> str:
    return read(manager.path(file.partition(".")[0]), file)


def cgroups_of(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/cgroup") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    return {controller: path for _, controllers, path in lines for controller in controllers.split(",")}


def eventually(condition: Callable[[], object], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_process_is_in_the_cgroup_of_every_hierarchy(manager: V1Manager, name: str, start: Start) -> None:
    child = start()

    manager.apply(child.pid)

    joined = {controller for controller, path in cgroups_of(child.pid).items() if path.endswith(f"/{name}")}
    assert joined >= set(manager.paths)
    assert manager.pids() == manager.all_pids() == [child.pid]


def test_some_controllers_can_be_joined_later(manager: V1Manager, name: str, start: Start) -> None:
    child = start()
    manager.create()

    manager.join(child.pid, set(manager.paths) - {"memory", "pids"})

    paths = cgroups_of(child.pid)
    assert paths["cpu"].endswith(name)
    assert not paths["memory"].endswith(name)
    assert manager.all_pids() == [child.pid]


def test_cgroup_in_use_is_refused_and_stays(manager: V1Manager, start: Start) -> None:
    manager.apply(start().pid)
    second = V1Manager(manager.paths)

    with pytest.raises(CgroupError, match=r"container's cgroup is not empty: 1 process\(es\) found"):
        second.create()
    second.destroy()

    assert all(os.path.isdir(path) for path in manager.paths.values())


def test_cgroup_with_a_used_one_below_is_refused(manager: V1Manager, start: Start) -> None:
    manager.create()
    os.mkdir(f"{manager.path('devices')}/below")
    manager.add_pid("below", start().pid, {"devices"})

    with pytest.raises(CgroupError, match="not empty"):
        V1Manager(manager.paths).create()


def test_frozen_cgroup_is_refused(manager: V1Manager) -> None:
    manager.create()
    manager.freeze()

    with pytest.raises(CgroupError, match="container's cgroup unexpectedly frozen"):
        V1Manager(manager.paths).create()


def test_empty_cgroup_is_taken(manager: V1Manager) -> None:
    manager.create()

    assert V1Manager(manager.paths).create() == []


def test_missing_parents_are_made_filled_and_kept(name: str, start: Start) -> None:
    manager = V1Manager(cgroup_paths(f"/{name}/a/leaf", "id", this_host()))

    try:
        made = manager.create()
        manager.join(start().pid)
        manager.kill(signal.SIGKILL)
        filled = [read(os.path.dirname(manager.path("cpuset")), file) for file in ("cpuset.cpus", "cpuset.mems")]
        manager.destroy()
        kept = [os.path.isdir(os.path.dirname(path)) for path in manager.paths.values()]
    finally:
        parents = V1Manager({key: os.path.dirname(os.path.dirname(path)) for key, path in manager.paths.items()})
        parents.destroy()

    assert len(made) == 3 * len(set(manager.paths.values()))
    assert all(filled)
    assert all(kept)


def test_existing_cpuset_keeps_its_processors(manager: V1Manager) -> None:
    manager.create()
    manager.write([Write("cpuset", "cpuset.cpus", "0")])

    manager.create()

    assert value(manager, "cpuset.cpus") == "0"


@pytest.mark.parametrize(
    ("asked", "file", "expected"),
    [
        ({"memory": Memory(limit=64 << 20)}, "memory.limit_in_bytes", str(64 << 20)),
        ({"memory": Memory(limit=64 << 20, swap=128 << 20)}, "memory.memsw.limit_in_bytes", str(128 << 20)),
        ({"memory": Memory(limit=64 << 20, swap=64 << 20)}, "memory.memsw.limit_in_bytes", str(64 << 20)),
        ({"memory": Memory(reservation=32 << 20)}, "memory.soft_limit_in_bytes", str(32 << 20)),
        ({"memory": Memory(kernel_tcp=32 << 20)}, "memory.kmem.tcp.limit_in_bytes", str(32 << 20)),
        ({"memory": Memory(swappiness=7)}, "memory.swappiness", "7"),
        ({"memory": Memory(use_hierarchy=True)}, "memory.use_hierarchy", "1"),
        ({"cpu": CPU(shares=512)}, "cpu.shares", "512"),
        ({"cpu": CPU(quota=50_000, period=200_000)}, "cpu.cfs_quota_us", "50000"),
        ({"cpu": CPU(quota=50_000, period=200_000)}, "cpu.cfs_period_us", "200000"),
        ({"cpu": CPU(quota=50_000, burst=1_000)}, "cpu.cfs_burst_us", "1000"),
        ({"cpu": CPU(quota=-1)}, "cpu.cfs_quota_us", "-1"),
        ({"cpu": CPU(shares=512, idle=1)}, "cpu.idle", "1"),
        ({"cpu": CPU(cpus="0", mems="0")}, "cpuset.cpus", "0"),
        ({"pids": Pids(10)}, "pids.max", "10"),
        ({"pids": Pids(0)}, "pids.max", "1"),
        ({"pids": Pids(-1)}, "pids.max", "max"),
        ({"block_io": BlockIO(weight=400)}, "blkio.bfq.weight", "400"),
    ],
)
def test_limit_reaches_the_kernel(manager: V1Manager, asked: dict[str, Any], file: str, expected: str) -> None:
    manager.create()
    if not os.path.exists(f"{manager.path(file.partition('.')[0])}/{file}"):
        pytest.skip(f"this kernel has no {file}")

    manager.write(writes(Resources(**asked)))

    assert value(manager, file) == expected


def test_quota_that_is_too_small_gets_a_hint(manager: V1Manager) -> None:
    manager.create()

    with pytest.raises(CgroupError, match=r"failed to write '10' to .*cpu\.cfs_quota_us: Invalid argument") as caught:
        manager.write(writes(Resources(cpu=CPU(quota=10))))

    assert "at least 1000" in caught.value.hint


def test_throttle_of_a_device_that_is_not_there_names_it(manager: V1Manager) -> None:
    manager.create()
    throttle = BlockIO(throttle_read_bps_device=(ThrottleDevice(251, 77, 1000),))

    with pytest.raises(CgroupError, match="251:77 1000") as caught:
        manager.write(writes(Resources(block_io=throttle)))

    assert caught.value.controller == "blkio"


@pytest.mark.parametrize("memory", [Memory(limit=256 << 20, swap=256 << 20), Memory(limit=8 << 20, swap=9 << 20)])
def test_memory_and_swap_move_together(manager: V1Manager, memory: Memory) -> None:
    manager.create()
    manager.write(writes(Resources(memory=Memory(limit=64 << 20, swap=65 << 20))))

    manager.set(Resources(memory=memory))

    assert value(manager, "memory.limit_in_bytes") == str(memory.limit)
    assert value(manager, "memory.memsw.limit_in_bytes") == str(memory.swap)


def test_no_limit_lifts_swap_too(manager: V1Manager) -> None:
    manager.create()
    manager.write(writes(Resources(memory=Memory(limit=64 << 20, swap=65 << 20))))

    manager.set(Resources(memory=Memory(limit=-1)))

    assert int(value(manager, "memory.memsw.limit_in_bytes")) > 1 << 60


def test_limit_below_usage_tells_the_usage(manager: V1Manager, start: Start) -> None:
    eater = "import sys; held = bytearray(b'x' * (40 << 20)); print('ready', flush=True); sys.stdin.read()"
    child = start(sys.executable, "-I", "-S", "-c", f"input(); {eater}")
    manager.apply(child.pid)
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    child.stdout.readline()

    with pytest.raises(
        CgroupError, match=r"unable to set memory limit to 4096 \(current usage: \d+, peak usage: \d+\)"
    ):
        manager.set(Resources(memory=Memory(limit=4096)))


def test_period_waits_for_the_quota_where_the_parent_is_limited(manager: V1Manager) -> None:
    manager.create()
    manager.write(writes(Resources(cpu=CPU(quota=50_000, period=100_000)), devices=False))
    below = V1Manager({"cpu": f"{manager.path('cpu')}/below"})
    below.create()
    below.write(writes(Resources(cpu=CPU(quota=50_000, period=100_000)), devices=False))

    below.set(Resources(cpu=CPU(quota=5_000, period=10_000)))

    assert [value(below, f"cpu.cfs_{file}_us") for file in ("period", "quota")] == ["10000", "5000"]


def opens_kmsg(start: Start, manager: V1Manager) -> bool:
    child = start("sh", "-c", "read line; if : </dev/kmsg; then echo yes; else echo no; fi 2>/dev/null")
    manager.join(child.pid)
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    return child.stdout.readline() == "yes\n"


def test_device_that_is_not_allowed_cannot_be_opened(manager: V1Manager, start: Start) -> None:
    manager.create()

    manager.write(writes(None))

    assert not opens_kmsg(start, manager)
    assert "c 1:3 rwm" in value(manager, "devices.list")


def test_allowed_device_can_be_opened_and_taken_away_again(manager: V1Manager, start: Start) -> None:
    manager.create()
    manager.write(writes(None))
    before = sorted(value(manager, "devices.list").splitlines())

    manager.set(Resources(devices=(DeviceRule(True, "c", 1, 11, "rw"),)))
    opened = opens_kmsg(start, manager)
    manager.set(Resources(devices=(DeviceRule(False),)))

    assert opened
    assert sorted(value(manager, "devices.list").splitlines()) == before


def test_everything_can_be_allowed(manager: V1Manager, start: Start) -> None:
    manager.create()
    manager.write(writes(None))

    manager.set(Resources(devices=(DeviceRule(True),)))

    assert value(manager, "devices.list") == "a *:* rwm"
    assert opens_kmsg(start, manager)


def test_update_of_other_limits_keeps_devices(manager: V1Manager) -> None:
    manager.create()
    manager.write(writes(None))
    before = value(manager, "devices.list")

    manager.set(Resources(pids=Pids(5)))

    assert value(manager, "devices.list") == before


def test_freeze_and_thaw(manager: V1Manager, start: Start) -> None:
    manager.apply(start().pid)

    states = [manager.freezer_state()]
    manager.freeze()
    states.append(manager.freezer_state())
    manager.thaw()
    states.append(manager.freezer_state())

    assert states == ["THAWED", "FROZEN", "THAWED"]


def test_frozen_by_an_ancestor_is_thawed_of_its_own(manager: V1Manager) -> None:
    manager.create()
    below = V1Manager({"freezer": f"{manager.path('freezer')}/below"})
    below.create()

    manager.freeze()
    state = below.freezer_state()
    manager.thaw()

    assert state == "THAWED"


FORKS = "while :; do sleep 30 & done 2>/dev/null"


def test_forking_group_is_frozen(manager: V1Manager, start: Start) -> None:
    manager.create()
    manager.write(writes(Resources(pids=Pids(100))))
    child = start("sh", "-c", f"read line; {FORKS}")
    manager.join(child.pid)
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()
    eventually(lambda: len(manager.pids()) > 5)

    manager.freeze()

    assert manager.freezer_state() == "FROZEN"


def test_kill_leaves_no_survivor_of_a_forking_group(manager: V1Manager, start: Start) -> None:
    manager.create()
    manager.write(writes(Resources(pids=Pids(100))))
    child = start("sh", "-c", f"read line; {FORKS}")
    manager.join(child.pid)
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()
    eventually(lambda: len(manager.pids()) > 5)

    manager.kill(signal.SIGKILL)

    assert manager.all_pids() == []
    assert child.wait(5) == -signal.SIGKILL


def test_sigkill_ends_a_frozen_group(manager: V1Manager, start: Start) -> None:
    child = start()
    manager.apply(child.pid)
    manager.freeze()

    manager.kill(signal.SIGKILL)

    assert child.wait(5) == -signal.SIGKILL
    assert manager.freezer_state() == "THAWED"


def test_other_signals_leave_a_frozen_group_frozen(manager: V1Manager, start: Start) -> None:
    child = start()
    manager.apply(child.pid)
    manager.freeze()

    manager.kill(signal.SIGTERM)
    state = manager.freezer_state()
    manager.thaw()

    assert state == "FROZEN"
    assert child.wait(5) == -signal.SIGTERM


def test_cgroups_below_are_killed_and_removed(manager: V1Manager, start: Start) -> None:
    child = start()
    manager.create()
    for path in set(manager.paths.values()):
        os.makedirs(f"{path}/a/b")
    for file in ("cpuset.cpus", "cpuset.mems"):
        for below in ("a", "a/b"):
            with open(f"{manager.path('cpuset')}/{below}/{file}", "w") as opened:
                opened.write(value(manager, file))
    manager.add_pid("a/b", child.pid)
    found = manager.all_pids()

    manager.kill(signal.SIGKILL)
    manager.destroy()

    assert found == [child.pid]
    assert not manager.exists()


def test_destroy_waits_for_the_dying(manager: V1Manager, start: Start) -> None:
    child = start()
    manager.apply(child.pid)
    child.kill()

    manager.destroy()

    assert not manager.exists()


def test_destroy_names_who_is_in_the_way(manager: V1Manager, start: Start) -> None:
    child = start()
    manager.apply(child.pid)
    begun = time.monotonic()

    with pytest.raises(CgroupError, match=rf"cannot remove cgroup .*: in use by {child.pid} \(sleep\)"):
        manager.destroy()

    assert 0.5 < time.monotonic() - begun < 5


def test_destroy_twice_is_fine(manager: V1Manager) -> None:
    manager.create()
    manager.destroy()

    manager.destroy()

    assert not manager.exists()


def test_failed_create_removes_what_it_made(name: str, manager: V1Manager, start: Start) -> None:
    manager.create()
    manager.join(start().pid, {"pids"})
    elsewhere = {"cpu": f"{os.path.dirname(manager.path('cpu'))}/{name}-new", "pids": manager.path("pids")}

    with pytest.raises(CgroupError, match="not empty"):
        V1Manager(elsewhere).create()

    assert not os.path.exists(elsewhere["cpu"])


def test_oom_kills_are_counted(manager: V1Manager, start: Start) -> None:
    child = start(sys.executable, "-I", "-S", "-c", "input(); bytearray(b'x' * (200 << 20))")
    manager.create()
    manager.write(writes(Resources(memory=Memory(limit=32 << 20, swap=32 << 20))))
    manager.join(child.pid)
    before = manager.oom_kill_count()

    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()

    assert child.wait(30) == -signal.SIGKILL
    assert (before, manager.oom_kill_count()) == (0, 1)


def test_lenient_manager_goes_without_what_it_may_not_make(manager: V1Manager) -> None:
    lenient = V1Manager(manager.paths, lenient=True)

    os.seteuid(65534)
    try:
        made = lenient.create()
    finally:
        os.seteuid(0)

    assert made == []
    assert "memory" not in lenient.paths
    with pytest.raises(CgroupError, match="cannot set memory limit: container could not join or create cgroup"):
        lenient.write([Write("memory", "memory.limit_in_bytes", "4096")])


def test_strict_manager_tells_what_it_may_not_make(manager: V1Manager) -> None:
    os.seteuid(65534)
    try:
        with pytest.raises(CgroupError, match=r"cannot create cgroup .*: Permission denied"):
            manager.create()
    finally:
        os.seteuid(0)


def test_threads_share_a_parent(name: str, start: Start) -> None:
    host = this_host()
    child = start()

    def cycle(number: int) -> bool:
        manager = V1Manager(cgroup_paths(f"/{name}/{number}", "id", host))
        manager.create()
        manager.write(writes(Resources(pids=Pids(10))))
        manager.destroy()
        return manager.exists()

    try:
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(cycle, range(64)))
    finally:
        V1Manager(cgroup_paths(f"/{name}", "id", host)).destroy()

    assert child.poll() is None
    assert not any(results)
