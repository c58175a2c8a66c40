"""Many threads of one process use the library at once; afterwards the process is what it was."""

from __future__ import annotations

import gc
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from integration.harness import PATIENCE, Bundle, cgroups, children, eventually, mounts, only, reap, requires
from pyocirun import Container, ContainerNotExist, Error, Factory, IDInUse, StateError

pytestmark = [requires("root", "busybox"), only("pyocirun")]

THREADS = 50
SEED = 20260714


class Crowd:
    """A factory, bundles, and threads that all begin at the same moment."""

    def __init__(self, place: Path, bundles: list[Bundle]) -> None:
        self.prefix = f"thr{os.getpid()}-{place.name}"
        self.factory = Factory(str(place / "root"), warn=lambda line: None)
        self.bundles = bundles
        self.root = place / "root"

    def create(self, id: str, number: int = 0) -> Container:
        return self.factory.create(f"{self.prefix}-{id}", str(self.bundles[number % len(self.bundles)].path))

    def each(self, work: Callable[[int], object], count: int = THREADS) -> list[object]:
        """What `work` returns, or raises, in each of many threads that are given their numbers."""
        found: list[object] = [None] * count
        gate = threading.Barrier(count)

        def run(number: int) -> None:
            gate.wait()
            try:
                found[number] = work(number)
            except Exception as error:
                found[number] = error

        threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60 * PATIENCE)
        assert not [thread for thread in threads if thread.is_alive()], "a thread hangs"
        return found


def _state() -> dict[str, object]:
    gc.collect()
    fds = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            fds[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            continue
    return {"descriptors": fds, "children": sorted(children()), "mounts": mounts(), "threads": threading.active_count()}


@pytest.fixture
def crowd(place: Path, bundle: Bundle, other_bundle: Bundle) -> Iterator[Crowd]:
    """Afterwards descriptors, children, mounts, cgroups and state directories are what they were."""
    for each in (bundle, other_bundle):
        each.shell("exit 7").save()
    crowd = Crowd(place, [bundle, other_bundle])
    crowd.create("warm").delete()
    before = _state()
    yield crowd
    after = _state()
    left = os.listdir(crowd.root) + [path for path in cgroups() if crowd.prefix in path]
    for container in crowd.factory.list():
        container.delete(force=True)
    reap()
    assert after == before
    assert not left


def _life(crowd: Crowd, number: int, rounds: int) -> list[int]:
    """A few containers, one after the other, an exec in every second one; the statuses."""
    statuses = []
    for turn in range(rounds):
        container = crowd.create(f"{number}-{turn}", number + turn)
        if turn % 2:
            statuses.append(container.exec(args=["/bin/sh", "-c", "exit 3"]).wait(30 * PATIENCE))
        container.start()
        statuses.append(container.wait(30 * PATIENCE))
        container.delete()
    return statuses


def test_50_threads_create_start_exec_wait_and_delete(crowd: Crowd) -> None:
    twice = 2 if PATIENCE == 1 else 1  # an emulated machine needs minutes for a hundred containers

    found = crowd.each(lambda number: _life(crowd, number, 2 * twice))

    assert found == [[7, 3, 7] * twice] * THREADS


def test_50_threads_of_a_large_process_with_idle_threads(crowd: Crowd) -> None:
    ballast = bytearray(os.urandom(1 << 20) * 300)
    done = threading.Event()
    idle = [threading.Thread(target=done.wait) for _ in range(50)]
    for thread in idle:
        thread.start()

    found = crowd.each(lambda number: _life(crowd, number, 2))

    done.set()
    for thread in idle:
        thread.join()
    assert len(ballast) == 300 << 20
    assert found == [[7, 3, 7]] * THREADS


def test_execs_of_many_threads_in_one_container(crowd: Crowd) -> None:
    crowd.bundles[0].args("/bin/sleep", "60").save()
    container = crowd.create("one")
    container.start()

    found = crowd.each(lambda number: container.exec(args=["/bin/sh", "-c", f"exit {number}"]).wait(30 * PATIENCE))

    container.delete(force=True)
    assert found == list(range(THREADS))


def test_of_many_that_want_the_same_id_one_gets_it(crowd: Crowd) -> None:
    for turn in range(5):
        found = crowd.each(partial(crowd.create, f"same-{turn}"), 16)

        won = [outcome for outcome in found if isinstance(outcome, Container)]
        lost = [outcome for outcome in found if isinstance(outcome, IDInUse)]
        assert (len(won), len(lost)) == (1, 15), found
        assert won[0].status == "created"
        won[0].start()
        assert won[0].wait(30 * PATIENCE) == 7
        won[0].delete()


def test_of_many_that_start_one_succeeds(crowd: Crowd) -> None:
    container = crowd.create("one")
    objects = [crowd.factory.load(container.id) for _ in range(8)] + [container] * 8

    found = crowd.each(lambda number: objects[number].start(), 16)

    assert Counter(type(outcome) for outcome in found) == {type(None): 1, StateError: 15}, found
    assert container.wait(30 * PATIENCE) == 7
    container.delete()


def test_of_many_that_delete_one_succeeds(crowd: Crowd) -> None:
    crowd.bundles[0].args("/bin/sleep", "60").save()
    for turn in range(5):
        container = crowd.create(f"one-{turn}")
        container.start()
        objects = [crowd.factory.load(container.id) for _ in range(8)] + [container] * 8

        found = crowd.each(partial(_delete, objects), 16)

        assert Counter(type(outcome) for outcome in found) == {type(None): 1, ContainerNotExist: 15}, found
        assert container.wait(5 * PATIENCE) == -9


def _delete(objects: list[Container], number: int) -> None:
    objects[number].delete(force=True)


def test_whatever_many_threads_do_to_the_same_containers_only_our_errors_come_out(crowd: Crowd) -> None:
    """Create, start, exec, kill, state, list and delete of four ids, in any order."""
    crowd.bundles[0].args("/bin/sleep", "60").save()
    crowd.bundles[1].args("/bin/sleep", "0.01").save()
    end = time.monotonic() + 4 * PATIENCE
    done: Counter[str] = Counter()

    def work(number: int) -> list[str]:
        chance = random.Random(SEED + number)
        wrong: list[str] = []
        while time.monotonic() < end:
            name = chance.choice(["create", "create", "start", "exec", "kill", "state", "list", "delete", "leftovers"])
            try:
                _do(crowd, name, f"any-{chance.randrange(4)}", chance)
                done[name] += 1
            except Error:
                pass
            except Exception as error:
                wrong.append(f"{name}: {error!r}")
        return wrong

    found = crowd.each(work, 12)

    for container in crowd.factory.list():
        container.delete(force=True)
        del container
    gc.collect()
    eventually(_nobody_left)  # what was killed last may still be ending
    assert not [outcome for outcome in found if outcome]
    assert set(done) >= {"create", "start", "exec", "kill", "state", "list", "delete"}


def _nobody_left() -> bool:
    reap()
    return not children()


def _do(crowd: Crowd, name: str, id: str, chance: random.Random) -> None:
    if name == "create":
        crowd.create(id, chance.randrange(2))
    elif name == "list":
        for container in crowd.factory.list():
            assert container.status
    elif name == "leftovers":
        pass
    else:
        container = crowd.factory.load(f"{crowd.prefix}-{id}")
        if name == "exec":
            container.exec(args=["/bin/true"]).wait(30 * PATIENCE)
        elif name == "kill":
            container.kill(9)
        elif name == "delete":
            container.delete(force=True)
        elif name == "start":
            container.start()
        else:
            container.state()
