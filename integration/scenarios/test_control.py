"""Pausing, limits, readings and notices by the library, and commands that runc does not have."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.harness import (
    PATIENCE,
    Bundle,
    Runtime,
    cgroups,
    children,
    eventually,
    only,
    reap,
    requires,
    wait_for_orphan,
)
from integration.modes import HAS_SWAP, ROOT, Mode, modes
from pyocirun import CgroupError, Container, Factory, SpecError, StateError, UsageError

pytestmark = [requires("root", "busybox"), only("pyocirun"), modes(*ROOT)]

HUNGRY = 64
"""Mebibytes that a process takes to be killed under the limit of `small`."""


class Box:
    """A factory with a root directory of its own, and containers of one bundle."""

    def __init__(self, root: Path, prefix: str, bundle: Bundle, manager: str) -> None:
        self.factory = Factory(str(root), cgroup_manager=manager, warn=lambda text: None)
        self.prefix, self.bundle, self.count = prefix, bundle, 0

    def created(self, *args: str) -> Container:
        self.count += 1
        self.bundle.args(*(args or ("sleep", "60"))).save()
        return self.factory.create(f"{self.prefix}-{self.count}", str(self.bundle.path))

    def running(self, *args: str) -> Container:
        container = self.created(*args)
        container.start()
        return container

    def small(self) -> Container:
        """A container with little memory, in which `hungry` is killed."""
        limit = 16 << 20
        self.bundle.linux["resources"]["memory"] = {"limit": limit}
        if HAS_SWAP:
            self.bundle.linux["resources"]["memory"]["swap"] = limit
        return self.running()


def hungry(container: Container) -> None:
    container.exec(args=["/bin/probe", "alloc", str(HUNGRY)]).wait(20 * PATIENCE)


@pytest.fixture
def box(place: Path, bundle: Bundle, mode: Mode) -> Iterator[Box]:
    """Afterwards its containers are deleted, and nothing of them may be left."""
    box = Box(place / "root", f"ctl{os.getpid()}-{place.name}", bundle, mode.manager)
    yield box
    for container in box.factory.list() if (place / "root").exists() else []:
        container.delete(force=True)
    reap()
    assert not [path for path in cgroups() if box.prefix in path]
    assert not children()


# ---- the library ---------------------------------------------------------------------------------


def test_pause_and_resume(box: Box) -> None:
    container = box.running()

    container.pause()

    assert container.status == "paused"
    with pytest.raises(StateError, match="container paused"):
        container.pause()
    with pytest.raises(StateError, match="cannot exec in a paused container"):
        container.exec(args=["/bin/true"])
    container.resume()
    assert container.status == "running"
    with pytest.raises(StateError, match="container not paused"):
        container.resume()


def test_readings_are_a_value_with_runcs_json(box: Box) -> None:
    box.bundle.linux["resources"]["pids"] = {"limit": 9}
    container = box.running()

    stats = container.stats()

    assert (stats.pids.current, stats.pids.limit) == (1, 9)
    assert stats.memory.usage.usage > 0
    assert stats.memory.swap.usage >= stats.memory.usage.usage or not stats.memory.swap.limit
    assert stats.to_json()["pids"] == {"current": 1, "limit": 9}


def test_a_stopped_container_has_no_readings(box: Box) -> None:
    container = box.running()
    container.kill(9)
    container.wait(5 * PATIENCE)

    for ask in (container.stats, container.events, container.notify_oom, container.notify_memory_pressure):
        with pytest.raises(StateError, match="is not running"):
            ask()


def test_update_changes_cgroup_and_saved_configuration(box: Box) -> None:
    container = box.running()

    container.update({"pids": {"limit": 5}, "cpu": None})

    assert container.stats().pids.limit == 5
    resources = container.spec().linux.resources
    assert resources is not None and resources.pids is not None and resources.pids.limit == 5
    assert box.factory.load(container.id).spec().linux.resources == resources


@pytest.mark.parametrize("resources", [{"pids": {"limit": "many"}}, {"memory": {"limit": 1.5}}, {"pids": 3}])
def test_an_update_of_wrong_types_is_refused(box: Box, resources: dict[str, object]) -> None:
    container = box.running()
    before = container.stats().pids.limit

    with pytest.raises(SpecError) as caught:
        container.update(resources)

    assert caught.value.pointer.split("/")[1] in resources
    assert container.stats().pids.limit == before


def test_a_kill_for_lack_of_memory_is_noticed_by_a_thread(box: Box) -> None:
    container = box.small()
    with container.notify_oom() as notices:
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(next(iter(notices))))
        thread.start()

        hungry(container)

        thread.join(10 * PATIENCE)
    assert found and found[0] >= 1


def test_notices_end_with_the_cgroup(box: Box) -> None:
    container = box.running()
    notices = container.notify_oom()

    container.delete(force=True)

    assert list(notices) == []
    notices.close()


def test_notices_are_awaited(box: Box) -> None:
    container = box.small()

    async def watch() -> int:
        with container.notify_oom() as notices:
            hunger = asyncio.to_thread(hungry, container)
            count, _ = await asyncio.gather(anext(aiter(notices)), hunger)
            return count

    assert asyncio.run(asyncio.wait_for(watch(), 20)) >= 1


@pytest.mark.parametrize("level", ["low", "medium", "critical"])
def test_memory_pressure_is_noticed(box: Box, level: str) -> None:
    container = box.small()
    with container.notify_memory_pressure(level) as notices:
        hungry(container)

        assert eventually(notices.take, "a notice") >= 1


def test_an_unknown_level_is_refused(box: Box) -> None:
    container = box.running()

    with pytest.raises(CgroupError, match="unknown memory pressure level 'high'"):
        container.notify_memory_pressure("high")


def test_events_are_readings_and_kills_until_the_end(box: Box) -> None:
    container = box.small()
    found = []

    with container.events(0.05) as events:
        for event in events:
            found.append(event)
            if len(found) == 2:
                hungry(container)
            if [event.type for event in found].count("stats") > 4:
                container.kill(9)

    assert {event.type for event in found} == {"stats", "oom"}
    assert all(event.id == container.id for event in found)
    assert found[0].data is not None and found[0].data.pids.current >= 1


def test_events_are_awaited(box: Box) -> None:
    container = box.running()

    async def watch() -> list[str]:
        types = []
        async for event in container.events(0.05):
            types.append(event.type)
            if len(types) == 3:
                container.kill(9)
        return types

    assert asyncio.run(asyncio.wait_for(watch(), 20))[:3] == ["stats"] * 3


def test_a_cancelled_wait_for_events_gives_its_descriptors_back(box: Box) -> None:
    container = box.running()

    async def watch() -> None:
        with container.events(None) as events:
            await asyncio.wait_for(anext(events), 0.1)

    gc.collect()  # what earlier tests left must not go meanwhile
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(asyncio.TimeoutError):
            asyncio.run(watch())

    assert len(os.listdir("/proc/self/fd")) == before


def test_events_without_an_interval_are_no_readings(box: Box) -> None:
    container = box.small()
    threading.Timer(1.0, container.kill, (9,)).start()

    with container.events(None) as events:
        hungry(container)
        types = {event.type for event in events}

    assert types == {"oom"}


@pytest.mark.parametrize("interval", [0, -1.0])
def test_an_interval_of_nothing_is_refused(box: Box, interval: float) -> None:
    container = box.running()

    with pytest.raises(UsageError, match="greater than 0"):
        container.events(interval)


def test_two_watchers_get_all_events_each(box: Box) -> None:
    container = box.running()

    async def three() -> list[str]:
        with container.events(0.02) as events:
            return [(await anext(events)).type for _ in range(3)]

    async def both() -> list[list[str]]:
        return list(await asyncio.gather(three(), three()))

    assert asyncio.run(asyncio.wait_for(both(), 20)) == [["stats"] * 3] * 2


# ---- the command ---------------------------------------------------------------------------------


@modes("v1", "v2")
@pytest.mark.parametrize("command", ["kill", "delete"])
def test_an_expression_names_several_containers(runtime: Runtime, bundle: Bundle, command: str) -> None:
    ids = [runtime.running(bundle) for _ in range(3)]
    wanted = f"({ids[0][-1]}|{ids[1][-1]})$"

    options = ("kill", "--regex", wanted, "KILL") if command == "kill" else ("delete", "-f", "--regex", wanted)
    runtime(*options).ok()

    gone = "stopped" if command == "kill" else "nobody"
    for id in ids[:2]:
        eventually(lambda id=id: _status(runtime, id) == gone, gone)  # type: ignore[misc]
    assert runtime.status(ids[2]) == "running"


def _status(runtime: Runtime, id: str) -> str:
    result = runtime("state", id)
    return str(json.loads(result.stdout)["status"]) if result.status == 0 else "nobody"


@modes("v1", "v2")
def test_an_expression_that_matches_nothing_is_fine(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    runtime("delete", "--force", "--regex", "^nobody$").ok()

    assert runtime.status(id) == "running"


@modes("v1", "v2")
def test_delete_by_expression_goes_on_after_one_that_runs(runtime: Runtime, bundle: Bundle) -> None:
    running, created = runtime.running(bundle), runtime.created(bundle)

    runtime("delete", "--regex", ".").fails("that is not stopped: running")

    assert _status(runtime, created) == "nobody"
    assert runtime.status(running) == "running"


@modes("v1", "v2")
def test_what_is_no_expression_is_refused(runtime: Runtime) -> None:
    runtime("kill", "--regex", "(", "KILL").fails("invalid regular expression")


@pytest.mark.skipif(tuple(int(part) for part in os.uname().release.split(".")[:2]) < (6, 15), reason="needs Linux 6.15")
@pytest.mark.parametrize(("args", "printed"), [(("exit", "7"), "7\n"), (("kill-self", "9"), "137\n")])
def test_wait_prints_the_exit_status(runtime: Runtime, bundle: Bundle, args: tuple[str, ...], printed: str) -> None:
    id = runtime.created(bundle.args(*args))
    waiting = runtime.spawn("wait", id)
    eventually(lambda: "pidfd" in " ".join(_descriptors(waiting.process.pid)), "it waits")
    pid = runtime.pid(id)
    runtime.start(id).ok()

    wait_for_orphan(pid)

    assert waiting.wait().ok().stdout == printed
    assert runtime.state(id)["exitStatus"] == int(printed)
    assert runtime("wait", id).ok().stdout == printed


def _descriptors(pid: int) -> list[str]:
    return [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]


def test_wait_for_what_has_ended_says_so(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    runtime.stop(id)

    runtime("wait", id).fails("ended before it was loaded")


# ---- lack of memory at the start -----------------------------------------------------------------


def test_a_limit_too_low_to_start_with_is_said_with_figures(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["memory"] = {"limit": 4096}

    # The kernel may kill it in execve itself, when start has nobody to hear from any more; mostly it does before.
    found = eventually(lambda: [result] if (result := runtime.run(bundle)).status == 1 else [])

    (result,) = found
    result.fails("container init was OOM-killed (memory limit too low?)", "the limit is 4096 bytes")
    assert "execve alone takes" in result.stderr
