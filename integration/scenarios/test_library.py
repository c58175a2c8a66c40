"""The library: what an embedder can rely on, and what it must not notice."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pyocirun
from integration.harness import (
    PATIENCE,
    Bundle,
    alive,
    cgroups,
    children,
    eventually,
    mounts,
    only,
    reap,
    requires,
    wait_for_orphan,
)
from pyocirun import Container, ContainerNotExist, Error, Factory, HookError, IDInUse, InvalidID, SpecError, StateError

pytestmark = [requires("root", "busybox"), only("pyocirun")]


class Box:
    """A factory with a root directory of its own, and containers of one bundle."""

    def __init__(self, root: Path, prefix: str, bundle: Bundle) -> None:
        self.warnings: list[str] = []
        self.factory = Factory(str(root), warn=self.warnings.append)
        self.root, self.prefix, self.bundle = root, prefix, bundle
        self._count = 0

    def new_id(self) -> str:
        self._count += 1
        return f"{self.prefix}-{self._count}"

    def create(self, *args: str, **options: Any) -> Container:
        """A created container with these process.args."""
        self.bundle.args(*args).save()
        return self.factory.create(self.new_id(), str(self.bundle.path), **options)

    def running(self, *args: str, **options: Any) -> Container:
        container = self.create(*(args or ("/bin/sleep", "60")), **options)
        container.start()
        return container

    def output_of(self, *args: str, **options: Any) -> str:
        """What a container with these process.args prints."""
        with _pipe() as (read, write):
            container = self.create(*args, stdout=write, **options)
            container.start()
            status = container.wait(10 * PATIENCE)
            container.delete()
            os.set_blocking(read, False)
            text = os.read(read, 1 << 16).decode()
        assert status == 0, text
        return text

    def exec_output(self, container: Container, *args: str, **options: Any) -> str:
        with _pipe() as (read, write):
            status = container.exec(args=list(args), stdout=write, **options).wait(10 * PATIENCE)
            os.set_blocking(read, False)
            text = os.read(read, 1 << 16).decode() if _readable(read) else ""
        assert status == 0, text
        return text


def _readable(fd: int) -> bool:
    import select

    return bool(select.select([fd], [], [], 0)[0])


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe2(os.O_CLOEXEC)
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


@pytest.fixture
def box(place: Path, bundle: Bundle) -> Iterator[Box]:
    """Afterwards its containers are deleted, and nothing of them may be left."""
    box = Box(place / "root", f"lib{os.getpid()}-{place.name}", bundle)
    before = mounts()
    yield box
    if box.root.exists():
        for container in box.factory.list():
            container.delete(force=True)
            del container
    gc.collect()
    reap()
    left = os.listdir(box.root) if box.root.exists() else []
    left += [path for path in cgroups() if box.prefix in path]
    left += [line for line in mounts() if line not in before]
    left += [f"process {pid}" for pid in children()]
    assert not left


def descriptors() -> dict[int, str]:
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[int(fd)] = os.readlink(f"/proc/self/fd/{fd}")
    return found


def embedder(script: str, box: Box, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program that uses the library, with `factory`, `bundle` (a path) and `new_id()`."""
    box.bundle.save()
    head = f"""
        import gc, json, os, signal, sys, threading, time
        from pyocirun import *
        factory = Factory({str(box.root)!r}, warn=lambda line: None)
        bundle = {str(box.bundle.path)!r}
        ids = iter(range(1000, 9999))
        new_id = lambda: f"{box.prefix}-{{next(ids)}}"
    """
    place = os.path.dirname(os.path.dirname(pyocirun.__file__))
    program = f"import sys; sys.path.insert(0, {place!r})\n" + textwrap.dedent(head) + textwrap.dedent(script)
    command = [sys.executable, "-P", "-c", program, *args]
    # Files, no pipes: a container that goes on holds them open.
    out, err = box.root.parent / "embedder.out", box.root.parent / "embedder.err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            timeout=20 * PATIENCE,
            check=False,
            **options,
        )
    return subprocess.CompletedProcess(command, result.returncode, out.read_text(), err.read_text())


# ---- states --------------------------------------------------------------------------------------


def test_a_life_from_create_to_delete(box: Box) -> None:
    container = box.create("/bin/sleep", "60")
    seen = [container.status]
    container.start()
    seen.append(container.status)
    container.kill(signal.SIGKILL)
    status = container.wait()
    seen.append(container.status)
    container.delete()

    assert seen == ["created", "running", "stopped"]
    assert status == -signal.SIGKILL
    with pytest.raises(ContainerNotExist):
        box.factory.load(container.id)


def test_a_paused_container(box: Box) -> None:
    container = box.running()

    container.manager.freeze()
    paused = container.status, container.state()["status"]
    with pytest.raises(StateError, match="paused"):
        container.exec(args=["/bin/true"])
    container.manager.thaw()

    assert paused == ("paused", "paused")
    assert container.status == "running"


def test_a_paused_container_can_be_killed_and_deleted(box: Box) -> None:
    container = box.running()
    container.manager.freeze()

    container.delete(force=True)

    assert box.factory.list() == []


def test_the_attributes_of_a_container(box: Box) -> None:
    box.bundle.config["annotations"] = {"org.example": "value"}
    container = box.create("/bin/sleep", "60")

    shown = container.state()

    assert json.loads(json.dumps(shown)) == shown
    assert shown["id"] == container.id
    assert shown["pid"] == container.pid > 0
    assert shown["bundle"] == container.bundle == str(box.bundle.path)
    assert container.rootfs == str(box.bundle.rootfs)
    assert shown["annotations"] == container.annotations == {"org.example": "value"}
    assert shown["ociVersion"] == container.oci_version == "1.0.2"
    assert shown["created"] == container.created
    assert container.owner == "root"
    assert container.processes() == [container.pid]


def test_the_pid_of_a_stopped_container_is_0(box: Box) -> None:
    container = box.running("/bin/true")
    container.wait()

    assert (container.pid, container.state()["pid"], container.status) == (0, 0, "stopped")


def test_list_has_all_containers_by_id(box: Box) -> None:
    made = [box.create("/bin/sleep", "60") for _ in range(3)]

    found = box.factory.list()

    assert [container.id for container in found] == sorted(container.id for container in made)
    assert {container.status for container in found} == {"created"}


def test_list_warns_of_a_broken_container_and_goes_on(box: Box) -> None:
    container = box.create("/bin/sleep", "60")
    (box.root / "broken").mkdir()
    (box.root / "broken" / "state.json").write_text("{")

    found = box.factory.list()

    assert [other.id for other in found] == [container.id]
    assert any("broken" in line for line in box.warnings)
    assert box.factory.remove_leftovers("broken")


@pytest.mark.parametrize("id", ["", ".", "..", "a/b", "a b", "a\n", "ä", "x" * 1025, "../../etc"])
def test_a_bad_id(box: Box, id: str) -> None:
    box.bundle.save()

    with pytest.raises(InvalidID):
        box.factory.create(id, str(box.bundle.path))
    with pytest.raises(InvalidID):
        box.factory.load(id)


def test_an_id_that_is_taken(box: Box) -> None:
    container = box.create("/bin/sleep", "60")

    with pytest.raises(IDInUse):
        box.factory.create(container.id, str(box.bundle.path))

    assert container.status == "created"


def test_an_unknown_id(box: Box) -> None:
    with pytest.raises(ContainerNotExist):
        box.factory.load("unknown")

    assert not box.factory.remove_leftovers("unknown")


def test_start_twice_is_refused(box: Box) -> None:
    container = box.running()

    with pytest.raises(StateError, match="already running"):
        container.start()


def test_start_of_a_stopped_container_is_refused(box: Box) -> None:
    container = box.running("/bin/true")
    container.wait()

    with pytest.raises(StateError, match="stopped"):
        container.start()


# ---- configurations ------------------------------------------------------------------------------


def test_a_document_for_a_configuration(box: Box) -> None:
    config = box.bundle.args("/bin/sh", "-c", "exit 42").config
    container = box.factory.create(box.new_id(), str(box.bundle.path), config=config)

    container.start()

    assert container.wait() == 42
    assert not (box.bundle.path / "config.json").exists()


def test_another_file_for_a_configuration(box: Box, place: Path) -> None:
    (place / "other.json").write_text(json.dumps(box.bundle.args("/bin/sh", "-c", "exit 43").config))
    container = box.factory.create(box.new_id(), str(box.bundle.path), config=str(place / "other.json"))

    container.start()

    assert container.wait() == 43


def test_a_changed_document_does_not_change_the_container(box: Box) -> None:
    config = box.bundle.args("/bin/sleep", "60").config
    container = box.factory.create(box.new_id(), str(box.bundle.path), config=config)

    config["process"]["cwd"] = "/no/such/directory"
    container.start()

    assert container.exec(args=["/bin/true"]).wait() == 0


@pytest.mark.parametrize("config", [{}, {"ociVersion": 7}, {"ociVersion": "1.0.2", "process": []}])
def test_a_document_that_is_wrong(box: Box, config: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as caught:
        box.factory.create(box.new_id(), str(box.bundle.path), config=config)

    assert caught.value.faults


def test_a_plan_has_no_side_effects(box: Box) -> None:
    box.bundle.hook("prestart", "/bin/touch", str(box.bundle.path / "touched"))
    box.bundle.args("/bin/true").save()
    before = (descriptors(), cgroups(), mounts(), sorted(os.listdir(box.bundle.path)))

    plan = box.factory.plan(str(box.bundle.path))

    assert (descriptors(), cgroups(), mounts(), sorted(os.listdir(box.bundle.path))) == before
    assert not box.root.exists()
    assert plan.ops[-1].describe() == "exec /bin/true"


# ---- waiting and signals -------------------------------------------------------------------------


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("exit 255", 255)])
def test_the_status_of_init(box: Box, script: str, status: int) -> None:
    assert box.running("/bin/sh", "-c", script).wait() == status


def test_the_status_of_a_killed_process_is_minus_the_signal(box: Box) -> None:
    process = box.running().exec(args=["/bin/sleep", "60"])

    process.signal(signal.SIGTERM)

    assert process.wait() == -signal.SIGTERM


def test_the_exit_status_is_in_the_state_of_who_has_waited(box: Box) -> None:
    container = box.running("/bin/sh", "-c", "exit 6")
    container.wait()

    assert (container.exit_status, container.state()["exitStatus"]) == (6, 6)
    assert "exitStatus" not in box.factory.load(container.id).state()


def test_an_exit_status_that_is_noted_is_known_to_all(box: Box) -> None:
    container = box.running("/bin/sleep", "60")
    container.kill(signal.SIGKILL)
    container.wait()

    container.note_exit_status()

    loaded = box.factory.load(container.id)
    assert (loaded.exit_status, loaded.wait(), loaded.state()["exitStatus"]) == (-9, -9, 137)


def test_to_note_the_exit_status_of_what_is_deleted_is_no_error(box: Box) -> None:
    container = box.running("/bin/true")
    container.wait()
    container.delete()

    container.note_exit_status()

    assert not os.path.exists(f"{box.factory.root}/{container.id}")


def test_wait_twice_gives_the_same(box: Box) -> None:
    container = box.running("/bin/sh", "-c", "exit 5")

    assert [container.wait(), container.wait(), container.wait(0)] == [5, 5, 5]


def test_wait_from_two_threads_gives_the_same(box: Box) -> None:
    container = box.running("/bin/sh", "-c", "sleep 0.2; exit 5")
    found: list[object] = []

    def wait() -> None:
        try:
            found.append(container.wait())
        except Error as error:
            found.append(error)

    threads = [threading.Thread(target=wait) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [5] * 8


@pytest.mark.parametrize("timeout", [0, 0.05, 0.3])
def test_wait_with_a_timeout(box: Box, timeout: float) -> None:
    container = box.running()
    began = time.monotonic()

    with pytest.raises(TimeoutError):
        container.wait(timeout)

    assert timeout <= time.monotonic() - began + 0.002 < timeout + 0.5 * PATIENCE


def test_a_signal_of_the_embedder_does_not_shorten_a_timeout(box: Box) -> None:
    container = box.running()
    before = signal.signal(signal.SIGALRM, lambda number, frame: None)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    began = time.monotonic()

    try:
        with pytest.raises(TimeoutError):
            container.wait(0.5)
        took = time.monotonic() - began
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert took > 0.45


def test_an_interrupt_ends_wait(box: Box) -> None:
    """The handler of the embedder runs, and what it raises comes out."""
    script = """
        container = factory.create(new_id(), bundle)
        container.start()
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        def handler(number, frame):
            raise InterruptedError("alarm")
        signal.signal(signal.SIGALRM, handler)
        began = time.monotonic()
        try:
            container.wait()
        except InterruptedError:
            print("interrupted", time.monotonic() - began < 2)
        container.delete(force=True)
    """
    box.bundle.args("/bin/sleep", "5")

    assert embedder(script, box).stdout == "interrupted True\n"


TELLS = tuple(int(part) for part in os.uname().release.split(".")[:2]) >= (6, 15)
"""Whether the kernel tells an exit status to whoever has a pidfd."""


def test_the_status_of_a_container_that_ended_before_it_was_loaded_is_not_known(box: Box) -> None:
    box.bundle.args("/bin/true")
    script = "container = factory.create(sys.argv[1], bundle); container.start(); container.init.ended(5)"
    id = box.new_id()
    assert embedder(script, box, id).returncode == 0
    container = box.factory.load(id)

    with pytest.raises(StateError, match="not known"):
        container.wait()

    for pid in children():
        os.waitpid(pid, 0)


@pytest.mark.skipif(not TELLS, reason="the kernel is older than 6.15")
def test_the_status_of_a_loaded_container_is_told_by_the_kernel(box: Box) -> None:
    box.bundle.args("/bin/probe", "sleep", "60")
    script = "factory.create(sys.argv[1], bundle).start()"
    id = box.new_id()
    assert embedder(script, box, id).returncode == 0
    container = box.factory.load(id)

    container.kill(9)
    pid = container.init.pid if container.init else 0
    assert wait_for_orphan(pid) == -9  # this test is its parent by now

    assert container.wait(5 * PATIENCE) == -9


def test_an_object_of_a_deleted_container_does_nothing_to_a_new_one_of_its_id(box: Box) -> None:
    old = box.create("/bin/sleep", "60")
    box.factory.load(old.id).delete(force=True)
    new = box.factory.create(old.id, str(box.bundle.path))
    new.start()

    with pytest.raises(StateError):
        old.start()
    with pytest.raises(StateError):
        old.kill(signal.SIGKILL, all=True)
    with pytest.raises(ContainerNotExist):
        old.delete(force=True)

    assert new.status == "running"
    assert box.factory.load(new.id).status == "running"


def test_delete_by_another_object_takes_no_status_away(box: Box) -> None:
    container = box.running()
    loaded = box.factory.load(container.id)

    loaded.delete(force=True)

    assert container.wait(5 * PATIENCE) == -signal.SIGKILL


def test_where_children_are_reaped_by_the_kernel_wait_says_so(box: Box) -> None:
    script = """
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        container = factory.create(new_id(), bundle)
        container.start()
        process = container.exec(args=["/bin/sh", "-c", "exit 3"])
        for waiter in (process, container):
            if waiter is container:
                container.kill(9)
            try:
                print(waiter.wait(5))
            except StateError as error:
                print("not known" if "not known" in str(error) and "SIGCHLD" in error.hint else error)
        print(container.status)
        container.delete()
        print(factory.list())
    """
    box.bundle.args("/bin/sleep", "60")

    result = embedder(script, box)

    statuses = "3\n-9\n" if TELLS else "not known\nnot known\n"
    assert result.stdout == f"{statuses}stopped\n[]\n", result.stderr


def test_a_negative_or_unknown_signal_is_an_error(box: Box) -> None:
    container = box.running()

    for number in (-1, 65, 1000):
        with pytest.raises((OSError, ValueError, Error)):
            container.kill(number)

    assert container.status == "running"


def test_signal_0_does_nothing(box: Box) -> None:
    container = box.running()

    container.kill(0)

    assert container.status == "running"


def test_kill_of_a_stopped_container(box: Box) -> None:
    container = box.running("/bin/true")
    container.wait()

    for all in (False, True):
        with pytest.raises(StateError, match="container not running"):
            container.kill(9, all=all)


def test_kill_all_reaches_every_process(box: Box) -> None:
    box.bundle.without_namespace("pid")
    container = box.running("/bin/sh", "-c", "sleep 60 & setsid sleep 60 & wait")
    eventually(lambda: len(container.processes()) == 3, "three processes")
    pids = container.processes()

    container.kill(signal.SIGKILL, all=True)

    eventually(lambda: not any(alive(pid) for pid in pids), "all dead")


def test_the_pidfd_serves_asyncio(box: Box) -> None:
    container = box.running("/bin/sh", "-c", "sleep 0.1; exit 4")
    process = container.exec(args=["/bin/sh", "-c", "sleep 0.05; exit 6"])
    assert container.init is not None
    waiters = (process, container.init)

    async def status(waiter: pyocirun.Process) -> int:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        loop.add_reader(waiter.pidfd, ended.set_result, None)
        await ended
        loop.remove_reader(waiter.pidfd)
        return waiter.wait(0)

    async def both() -> list[int]:
        return list(await asyncio.gather(*(status(waiter) for waiter in waiters)))

    assert asyncio.run(both()) == [6, 4]


# ---- exec ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 77, 255])
def test_the_status_of_an_exec(box: Box, status: int) -> None:
    container = box.running()

    process = container.exec(args=["/bin/sh", "-c", f"exit {status}"])

    assert [process.wait(), process.wait(), process.poll()] == [status] * 3


def test_exec_with_a_process_of_ones_own(box: Box) -> None:
    container = box.running()
    with _pipe() as (read, write):
        process = container.exec(
            {
                "args": ["/bin/sh", "-c", "id -u; pwd; echo $A"],
                "cwd": "/tmp",
                "env": ["A=b"],
                "user": {"uid": 1000, "gid": 1000},
            },
            stdout=write,
        )
        assert process.wait() == 0

        assert os.read(read, 999) == b"1000\n/tmp\nb\n"


def test_exec_with_changes(box: Box) -> None:
    container = box.running()

    text = box.exec_output(
        container, "/bin/sh", "-c", "id; pwd; echo $A", env=["A=b"], cwd="/tmp", user=(1000, 1000), additional_gids=[7]
    )

    assert text.split("\n")[1:] == ["/tmp", "b", ""]
    assert text.startswith("uid=1000(user) gid=1000(user)")
    assert "7" in text.partition("groups=")[2].split("\n")[0]


@pytest.mark.parametrize("id", [-1, (1 << 32) - 1, 1 << 32, 1 << 64])
@pytest.mark.parametrize("kind", ["uid", "gid", "additional_gids"])
def test_exec_refuses_an_id_that_is_none(box: Box, kind: str, id: int) -> None:
    container = box.running()
    options: dict[str, dict[str, Any]] = {
        "uid": {"user": (id, 0)},
        "gid": {"user": (0, id)},
        "additional_gids": {"additional_gids": [id]},
    }

    with pytest.raises(Error):
        container.exec(args=["/bin/true"], **options[kind])


def test_exec_in_a_created_container(box: Box) -> None:
    container = box.create("/bin/sleep", "60")

    assert container.exec(args=["/bin/true"]).wait() == 0
    assert container.status == "created"


def test_exec_in_a_stopped_container(box: Box) -> None:
    container = box.running("/bin/true")
    container.wait()

    with pytest.raises(StateError, match="stopped"):
        container.exec(args=["/bin/true"])


def test_delete_with_an_exec_that_nobody_has_waited_for(box: Box) -> None:
    """Its zombie would keep the pid namespace, and so init, for ever."""
    container = box.running()
    ended = container.exec(args=["/bin/sh", "-c", "exit 9"])
    container.exec(args=["/bin/true"])  # dropped at once
    lives = container.exec(args=["/bin/sleep", "60"])
    began = time.monotonic()

    container.delete(force=True)

    assert time.monotonic() - began < 3 * PATIENCE
    assert ended.wait() == 9
    assert lives.wait() == -signal.SIGKILL


def test_an_exec_that_races_with_the_end_of_the_container_never_runs_on_the_host(
    box: Box, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Init is dead and reaped after its status was looked at: there is nothing to join any more."""
    from pyocirun.container import tenant

    container = box.running()
    loaded = box.factory.load(container.id)
    wanted_process = tenant.wanted_process

    def slowly(*args: Any, **kwargs: Any) -> Any:
        wanted = wanted_process(*args, **kwargs)
        container.kill(signal.SIGKILL)
        container.wait()
        return wanted

    monkeypatch.setattr(tenant, "wanted_process", slowly)
    with pytest.raises(Error):
        loaded.exec(args=["/bin/touch", str(place / "on-the-host")])

    time.sleep(0.1)
    assert not (place / "on-the-host").exists()


def test_an_exec_that_meets_the_end_of_the_container_says_that_it_has_stopped(box: Box) -> None:
    for number in range(40):
        container = box.running()
        killer = threading.Timer(number / 8000, container.kill, (signal.SIGKILL,))
        killer.start()

        # The first ones may come before the end; as nobody waits for them yet, init is still there after its kill.
        with pytest.raises(StateError, match="cannot exec in a stopped container"):
            for _ in range(1000):
                container.exec(args=["/bin/true"])

        killer.join()
        container.delete(force=True)


def test_an_exec_without_a_mount_namespace_stays_in_the_rootfs(box: Box, place: Path) -> None:
    box.bundle.without_namespace("mount", "network", "ipc")
    box.bundle.config["mounts"] = []
    box.bundle.config["root"]["readonly"] = False
    box.bundle.linux["maskedPaths"] = box.bundle.linux["readonlyPaths"] = []
    (place / "on-the-host").touch()
    container = box.running()

    process = container.exec(args=["/bin/test", "-e", str(place / "on-the-host")])

    assert process.wait() == 1


# ---- delete --------------------------------------------------------------------------------------


def test_delete_of_a_running_container_needs_force(box: Box) -> None:
    container = box.running()

    with pytest.raises(StateError, match="not stopped: container still running"):
        container.delete()

    assert container.status == "running"
    container.delete(force=True)
    assert box.factory.list() == []


def test_delete_twice(box: Box) -> None:
    container = box.create("/bin/sleep", "60")
    container.delete()

    for force in (False, True):
        with pytest.raises(ContainerNotExist):
            container.delete(force=force)


def test_delete_of_a_loaded_container_leaves_no_zombie(box: Box) -> None:
    """Whoever keeps nothing but the id of what this process has made."""
    id = box.running().id
    gc.collect()
    before = sorted(children())

    box.factory.load(id).delete(force=True)

    assert [pid for pid in before if pid in children()] == []


def test_the_status_can_be_had_after_delete(box: Box) -> None:
    container = box.running("/bin/sh", "-c", "exit 5")
    eventually(lambda: container.status == "stopped", "the end")

    container.delete()

    assert container.wait() == 5


# ---- the embedder is left alone ------------------------------------------------------------------


def _surroundings() -> dict[str, object]:
    """What of the process an embedder may depend on."""
    gc.collect()
    before = os.umask(0)
    os.umask(before)
    return {
        "cwd": os.getcwd(),
        "umask": before,
        "handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "wakeup": [signal.set_wakeup_fd(fd) for fd in [signal.set_wakeup_fd(-1)]],
        "environment": dict(os.environ),
        "descriptors": descriptors(),
        "children": sorted(children()),
        "limits": [resource.getrlimit(number) for number in range(16)],
        "ids": (os.getresuid(), os.getresgid(), os.getgroups(), os.getsid(0), os.getpgid(0)),
        "threads": threading.active_count(),
        "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in sorted(os.listdir("/proc/self/ns"))},
        "cgroups": Path("/proc/self/cgroup").read_text(),
        "capabilities": [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Cap")],
        "oom_score_adj": Path("/proc/self/oom_score_adj").read_text(),
    }


def test_nothing_of_the_process_changes(box: Box) -> None:
    box.create("/bin/true").delete()
    sleeper = subprocess.Popen(["sleep", "60"])
    before = _surroundings()

    container = box.running()
    container.exec(args=["/bin/true"]).wait()
    with contextlib.suppress(Error):
        container.exec(args=["/no/such/program"])
    with contextlib.suppress(Error):
        box.create("/no/such/program")
    container.delete(force=True)
    del container

    after = _surroundings()
    sleeper.kill()
    assert sleeper.wait() == -signal.SIGKILL
    assert {name: (value, before[name]) for name, value in after.items() if value != before[name]} == {}


def test_200_cycles_leave_nothing(box: Box) -> None:
    def cycle() -> None:
        container = box.running("/bin/true")
        container.wait()
        container.delete()

    for _ in range(10):
        cycle()
    gc.collect()
    before = descriptors(), sorted(children())
    resident = _resident()
    for _ in range(200):
        cycle()
    gc.collect()

    assert (descriptors(), sorted(children())) == before
    assert _resident() - resident < 4 << 20


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_the_container_starts_with_default_signals(box: Box) -> None:
    script = """
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        container = factory.create(new_id(), bundle)
        container.start()
        container.wait()
        container.delete()
    """
    box.bundle.args("/bin/busybox", "grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status")

    result = embedder(script, box)

    assert {line.split()[1] for line in result.stdout.splitlines()} == {"0" * 16}, result.stderr


def test_a_container_outlives_the_thread_that_created_it(box: Box) -> None:
    made: list[Container] = []
    executed: list[pyocirun.Process] = []

    for action in (
        lambda: made.append(box.create("/bin/sleep", "60")),
        lambda: made[0].start(),
        lambda: executed.append(made[0].exec(args=["/bin/sleep", "60"])),
    ):
        thread = threading.Thread(target=action)
        thread.start()
        thread.join()
        time.sleep(0.05)

    assert made[0].status == "running"
    assert executed[0].poll() is None
    executed[0].signal(signal.SIGKILL)
    executed[0].wait()


def test_a_container_outlives_the_process_that_created_it(box: Box) -> None:
    box.bundle.args("/bin/sleep", "60")
    id = box.new_id()

    embedder("factory.create(sys.argv[1], bundle)", box, id)
    container = box.factory.load(id)

    assert container.status == "created"
    container.start()
    assert container.status == "running"
    container.delete(force=True)
    for pid in children():
        os.waitpid(pid, 0)


def test_no_descriptor_gets_into_the_container(box: Box) -> None:
    script = """
        made = [os.open("/etc/passwd", os.O_RDONLY) for _ in range(1000)]
        for fd in made[::2]:
            os.set_inheritable(fd, True)
        os.dup2(made[0], 5000)
        container = factory.create(new_id(), bundle)
        container.start()
        container.wait()
        container.delete()
    """
    box.bundle.config["process"]["rlimits"] = []
    box.bundle.args("/bin/busybox", "ls", "/proc/self/fd")

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    result = embedder(
        script, box, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    )

    assert result.stdout.split() == ["0", "1", "2", "3"], result.stderr  # 3 is the listing's own


def test_no_descriptor_gets_into_an_exec(box: Box) -> None:
    container = box.running()
    stray = [os.open("/etc/passwd", os.O_RDONLY) for _ in range(100)]
    for fd in stray:
        os.set_inheritable(fd, True)

    text = box.exec_output(container, "/bin/busybox", "ls", "/proc/self/fd")

    for fd in stray:
        os.close(fd)
    assert text.split() == ["0", "1", "2", "3"]


def test_preserved_descriptors_get_into_the_container(box: Box) -> None:
    script = """
        for number in (3, 4, 5, 6):
            made = os.open("/etc/hostname", os.O_RDONLY)
            if made != number:
                os.dup2(made, number)
                os.close(made)
            os.set_inheritable(number, True)
        container = factory.create(new_id(), bundle, preserve_fds=3)
        container.start()
        container.wait()
        container.delete()
    """
    box.bundle.args("/bin/busybox", "sh", "-c", "for n in 3 4 5 6; do readlink /proc/self/fd/$n; done")

    result = embedder(script, box)

    assert result.stdout.split() == ["/etc/hostname"] * 3, result.stderr


def test_the_output_goes_to_a_pipe(box: Box) -> None:
    assert box.output_of("/bin/sh", "-c", "echo hello") == "hello\n"


def test_the_input_comes_from_a_pipe(box: Box) -> None:
    with _pipe() as (read, write), _pipe() as (out, into):
        os.write(write, b"hello\n")
        container = box.create("/bin/sh", "-c", "read line; echo got $line >&2", stdin=read, stderr=into)
        container.start()
        container.wait(5 * PATIENCE)

        assert os.read(out, 99) == b"got hello\n"


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_an_embedder_without_standard_descriptors(box: Box, closed: tuple[int, ...]) -> None:
    """A daemon may have closed them; then what is opened next gets their numbers."""
    script = f"""
        report = os.dup(1)
        for fd in {closed}:
            os.close(fd)
        null = os.open("/dev/null", os.O_RDWR)
        container = factory.create(new_id(), bundle, stdin=null, stdout=report, stderr=null)
        container.start()
        container.wait()
        container.delete()
    """
    box.bundle.args("/bin/busybox", "sh", "-c", "readlink /proc/self/fd/0; echo done")

    result = embedder(script, box)

    assert result.stdout == "/dev/null\ndone\n", result.stderr


def test_an_embedder_in_a_directory_that_is_gone(box: Box) -> None:
    script = """
        here = os.path.join(os.path.dirname(bundle), "gone")
        os.mkdir(here)
        os.chdir(here)
        os.rmdir(here)
        container = factory.create(new_id(), bundle)
        container.start()
        print(container.wait())
        container.delete()
    """
    box.bundle.args("/bin/true")

    result = embedder(script, box)

    assert result.stdout == "0\n", result.stderr


# ---- types ---------------------------------------------------------------------------------------

SNIPPET = """
from pyocirun import Container, Error, Factory, Process, StateError


def run(bundle: str) -> int:
    factory = Factory("/run/example", cgroup_manager="cgroupfs", warn=print)
    container: Container = factory.create("box", bundle, stdin=0, stdout=1, stderr=2)
    container.start()
    process: Process = container.exec(args=["/bin/true"], env=["A=b"], user=(1, None))
    status: int = process.wait(timeout=1.5)
    process.signal(15)
    state: dict[str, object] = container.state()
    pids: list[int] = container.processes()
    try:
        container.kill(9, all=True)
    except StateError as error:
        print(error.status, error.hint, error.errno, state, pids)
    except Error:
        pass
    container.delete(force=True)
    found: list[Container] = factory.list()
    return status + len(found) + container.wait()
"""


def test_the_public_face_is_typed(place: Path) -> None:
    (place / "snippet.py").write_text(SNIPPET)
    (place / "mypy.ini").write_text("[mypy]\nstrict = True\n")
    pytest.importorskip("mypy")
    mypy = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(place / "mypy.ini"), "snippet.py"]

    result = subprocess.run(mypy, cwd=place, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout + result.stderr
    assert (Path(pyocirun.__path__[0]) / "py.typed").exists()


# ---- functions as hooks --------------------------------------------------------------------------


def test_functions_are_hooks(box: Box) -> None:
    seen: list[tuple[str, object, int]] = []
    kinds = ("prestart", "createRuntime", "poststart", "poststop")
    hooks = {kind: [lambda state, kind=kind: seen.append((kind, state["status"], os.getpid()))] for kind in kinds}

    container = box.running(hooks=hooks)
    container.delete(force=True)

    statuses = ("creating", "creating", "running", "stopped")
    assert seen == [(kind, status, os.getpid()) for kind, status in zip(kinds, statuses, strict=True)]


def test_functions_come_after_the_hooks_of_the_configuration(box: Box) -> None:
    file = box.bundle.path / "order"
    box.bundle.hook("createRuntime", "/bin/sh", "-c", f"echo program >> {file}")

    def function(state: dict[str, object]) -> None:
        file.write_text(file.read_text() + "function\n")

    box.create("/bin/true", hooks={"createRuntime": [function, function]})

    assert file.read_text().split() == ["program", "function", "function"]


def test_a_function_gets_the_state_of_a_process_in_its_namespaces(box: Box) -> None:
    seen: dict[str, Any] = {}

    def function(state: dict[str, object]) -> None:
        seen.update(state, ns=os.readlink(f"/proc/{state['pid']}/ns/uts"))

    container = box.create("/bin/true", hooks={"createRuntime": [function]})

    assert (seen["id"], seen["pid"], seen["bundle"]) == (container.id, container.pid, str(box.bundle.path))
    assert seen["ns"] != os.readlink("/proc/self/ns/uts")


def test_a_function_that_raises_fails_create_and_leaves_nothing(box: Box) -> None:
    stopped: list[object] = []

    def function(state: dict[str, object]) -> None:
        raise ValueError("no such device")

    with pytest.raises(HookError, match="error running createRuntime hook #0: ValueError: no such device") as caught:
        box.create("/bin/true", hooks={"createRuntime": [function], "poststop": [stopped.append]})

    assert isinstance(caught.value.__cause__, ValueError)
    assert len(stopped) == 1
    assert os.listdir(box.root) == []


def test_a_poststart_function_that_raises_stops_the_container(box: Box) -> None:
    def function(state: dict[str, object]) -> None:
        raise RuntimeError

    container = box.create("/bin/sleep", "60", hooks={"poststart": [function]})

    with pytest.raises(HookError, match="poststart hook #0"):
        container.start()

    assert os.listdir(box.root) == []


def test_a_poststop_function_that_raises_is_a_warning(box: Box) -> None:
    called: list[object] = []

    def function(state: dict[str, object]) -> None:
        raise RuntimeError("late")

    container = box.running(hooks={"poststop": [function, called.append]})
    container.delete(force=True)

    assert len(called) == 1
    assert any("poststop hook #0: RuntimeError: late" in warning for warning in box.warnings)


@pytest.mark.parametrize("kind", ["createContainer", "startContainer", "never"])
def test_a_function_cannot_run_in_a_container(box: Box, kind: str) -> None:
    with pytest.raises(Error, match=f"a function cannot be a {kind} hook"):
        box.create("/bin/true", hooks={kind: [print]})

    assert not box.root.exists() or os.listdir(box.root) == []
