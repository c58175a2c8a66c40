"""SIGKILL at random moments, for whoever takes part: what is left can be deleted, and then nothing is left."""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from integration.harness import (
    PATIENCE,
    Bundle,
    Running,
    Runtime,
    alive,
    cgroups,
    children,
    eventually,
    mounts,
    only,
    reap,
    requires,
)
from integration.modes import ROOT, Managed, modes

pytestmark = [requires("root", "busybox"), only("pyocirun")]

SEED = 20260714
ROUNDS = float(os.environ.get("PYOCIRUN_KILL_ROUNDS", "1"))
"""How many times the usual number of moments: other ones each time. Below 1: fewer."""


def _duration(begin: Callable[[], Running], after: Callable[[], object]) -> float:
    """How long a command takes, in seconds: the median of five."""
    return _median(lambda: begin().wait().seconds, after)


def _median(measure: Callable[[], float], after: Callable[[], object]) -> float:
    seconds = []
    for _ in range(5):
        seconds.append(measure())
        after()
    return statistics.median(seconds)


def _moments(count: int, until: float) -> list[float]:
    return [random.Random(SEED + number).uniform(0, until * 1.05) for number in range(max(3, round(count * ROUNDS)))]


def _kill_after(running: Running, seconds: float, number: int = signal.SIGKILL) -> None:
    """Send a signal to a command some time after its begin, and wait for its end."""
    time.sleep(max(0.0, running.began + seconds - time.monotonic()))
    running.process.send_signal(number)
    running.wait()


def _delete(runtime: Runtime, id: str) -> None:
    """delete --force, while this process reaps orphans, as every init does: a zombie keeps its pid namespace."""
    running = runtime.spawn("delete", "--force", id)
    while running.process.poll() is None:
        reap()
    running.wait().ok()


def _left(runtime: Runtime, mounts_before: list[str]) -> list[str]:
    """What is left of all containers of this test. Who is just dying gets a moment."""
    deadline = time.monotonic() + 3 * PATIENCE
    while children() and time.monotonic() < deadline:
        reap()
    return [*runtime.traces(), *(line for line in mounts() if line not in mounts_before)]


def _rich(bundle: Bundle, variant: str) -> Bundle:
    if variant == "user namespace":
        bundle.map_users(200000)
    if variant == "cgroup namespace":
        bundle.with_namespace("cgroup")
        bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", ("ro",))
    if variant == "shared pid namespace":
        bundle.without_namespace("pid")
    if variant == "hooks":
        for kind in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"):
            bundle.hook(kind, "/bin/busybox", "sleep", "0.02")
            bundle.config["hooks"][kind][0]["args"] = ["busybox", "sleep", "0.02"]
    return bundle


# ---- the runtime ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "variant", "rounds"),
    [
        ("create", "plain", 50),
        ("run", "plain", 50),
        ("create", "hooks", 25),
        ("run", "hooks", 25),
        ("create", "user namespace", 25),
        ("create", "cgroup namespace", 25),
        ("run", "shared pid namespace", 25),
    ],
)
def test_a_runtime_killed_at_any_moment_leaves_nothing_that_delete_does_not_remove(
    runtime: Runtime, bundle: Bundle, command: str, variant: str, rounds: int
) -> None:
    _rich(bundle.args("/bin/true"), variant).save()
    arguments = (command, "--bundle", str(bundle.path))
    before = mounts()
    until = _duration(lambda: runtime.spawn(*arguments, runtime.new_id()), runtime.clean)
    bundle.args("/bin/sleep", "60").save()
    left: list[str] = []

    for moment in _moments(rounds, until):
        id = runtime.new_id()
        _kill_after(runtime.spawn(*arguments, id), moment)
        _delete(runtime, id)
        left += [f"after {moment * 1000:.1f} ms: {trace}" for trace in _left(runtime, before)]

    assert not left


@pytest.mark.parametrize("command", ["delete", "start", "kill", "exec"])
def test_any_other_command_killed_at_any_moment_leaves_nothing_that_delete_does_not_remove(
    runtime: Runtime, bundle: Bundle, command: str
) -> None:
    _rich(bundle.args("/bin/sleep", "60"), "hooks" if command == "start" else "plain").save()
    before = mounts()
    options = {"delete": ("--force",), "start": (), "kill": (), "exec": ()}[command]
    rest = {"delete": (), "start": (), "kill": ("KILL",), "exec": ("/bin/sleep", "0.01")}[command]
    left: list[str] = []
    id = ""

    def begin() -> Running:
        nonlocal id
        id = runtime.created(bundle)
        if command != "start":
            runtime.start(id).ok()
        return runtime.spawn(command, *options, id, *rest)

    for moment in _moments(15, _duration(begin, runtime.clean)):
        _kill_after(begin(), moment)
        _delete(runtime, id)
        left += [f"after {moment * 1000:.1f} ms: {trace}" for trace in _left(runtime, before)]

    assert not left


def test_a_runtime_killed_leaves_the_container_that_it_has_started(runtime: Runtime, bundle: Bundle) -> None:
    running = runtime.spawn(
        "run", "--bundle", str(_saved(bundle.shell("echo ready; sleep 60"))), id := runtime.new_id()
    )
    eventually(lambda: b"ready" in running.out.read_bytes(), "the container runs")

    running.process.kill()
    running.wait()

    assert runtime.status(id) == "running"
    assert alive(runtime.pid(id))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_create_that_is_interrupted_leaves_nothing_that_delete_does_not_remove(
    runtime: Runtime, bundle: Bundle, number: int
) -> None:
    _saved(bundle.args("/bin/sleep", "60"))
    before = mounts()
    until = _duration(lambda: runtime.spawn("create", "--bundle", str(bundle.path), runtime.new_id()), runtime.clean)
    wrong: list[str] = []

    for moment in _moments(15, until):
        id = runtime.new_id()
        running = runtime.spawn("create", "--bundle", str(bundle.path), id)
        _kill_after(running, moment, number)
        if "pyocirun/" in running.err.read_text() and "Traceback" in running.err.read_text():
            wrong.append(f"after {moment * 1000:.1f} ms: {running.err.read_text()}")
        _delete(runtime, id)
        wrong += [f"after {moment * 1000:.1f} ms: {trace}" for trace in _left(runtime, before)]

    assert not wrong


def _saved(bundle: Bundle) -> Path:
    bundle.save()
    return bundle.path


# ---- nsexec, and the waiting init ----------------------------------------------------------------


def _child_of(running: Running) -> int:
    """The newest child of a command, as soon as there is one; 0 if it has ended before."""
    path = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children")
    while running.process.poll() is None:
        try:
            if found := path.read_text().split():
                return int(found[-1])
        except OSError:
            return 0
    return 0


def _kill(pid: int) -> None:
    if pid == 0:
        return  # the command was done before it could be seen, and kill(0) would be for this process group
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it was the intermediate process, and has ended


@pytest.mark.parametrize("variant", ["plain", "user namespace", "cgroup namespace", "hooks"])
def test_nsexec_killed_at_any_moment_fails_create_soon_and_leaves_nothing(
    runtime: Runtime, bundle: Bundle, variant: str
) -> None:
    _saved(_rich(bundle.args("/bin/sleep", "60"), variant))
    before = mounts()
    wrong: list[str] = []
    failed = 0
    id = ""

    def begin() -> tuple[Running, int]:
        nonlocal id
        id = runtime.new_id()
        running = runtime.spawn("create", "--bundle", str(bundle.path), id)
        return running, _child_of(running)

    def rest_of_create() -> float:
        running, _ = begin()
        born = time.monotonic()
        running.wait()
        return time.monotonic() - born

    for moment in _moments(25, _median(rest_of_create, runtime.clean)):
        running, pid = begin()
        time.sleep(moment)
        _kill(pid)
        killed = time.monotonic()
        result = running.wait(5 * PATIENCE)
        if time.monotonic() - killed > 2 * PATIENCE:
            wrong.append(f"{moment}: took {time.monotonic() - killed:.1f} s")
        if result.status:
            failed += 1
            wrong += [] if result.error else [f"{moment}: no error; {result.stderr}"]
        else:
            _delete(runtime, id)
        wrong += [f"after {moment * 1000:.1f} ms: {trace}" for trace in _left(runtime, before)]

    assert not wrong
    assert failed or ROUNDS < 1  # of a few moments each may be too late


@pytest.mark.parametrize("pid_namespace", [True, False])
def test_nsexec_killed_inside_a_hook_fails_create_and_ends_the_hook(
    runtime: Runtime, bundle: Bundle, pid_namespace: bool
) -> None:
    if not pid_namespace:
        bundle.without_namespace("pid")
    bundle.hook("createContainer", "/bin/busybox", "sleep", "20")
    bundle.config["hooks"]["createContainer"][0]["args"] = ["busybox", "sleep", "20"]
    running = runtime.spawn("create", "--bundle", str(_saved(bundle)), runtime.new_id())
    pid = _child_of(running)
    children_of = Path(f"/proc/{pid}/task/{pid}/children")
    hook = int(eventually(lambda: children_of.read_text().split(), "the hook")[0])

    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    result = running.wait()

    assert result.status == 1
    assert "signal 9" in result.error
    assert time.monotonic() - killed < 2 * PATIENCE
    eventually(lambda: not alive(hook), "the hook's end", 2)


def test_start_after_the_waiting_init_was_killed_fails_soon(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.created(bundle)
    os.kill(runtime.pid(id), signal.SIGKILL)

    result = runtime.start(id)

    assert result.seconds < PATIENCE
    result.fails("stopped")
    assert runtime.status(id) == "stopped"


def test_start_while_init_is_killed_fails_soon(runtime: Runtime, bundle: Bundle) -> None:
    """The startContainer hook is what init is busy with."""
    bundle.hook("startContainer", "/bin/busybox", "sleep", "20")
    bundle.config["hooks"]["startContainer"][0]["args"] = ["busybox", "sleep", "20"]
    id = runtime.created(bundle)
    pid = runtime.pid(id)
    running = runtime.spawn("start", id)
    eventually(lambda: Path(f"/proc/{pid}/task/{pid}/children").read_text().split(), "the hook")

    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    result = running.wait()

    assert time.monotonic() - killed < PATIENCE
    result.fails()


@modes(*ROOT)
def test_the_cgroup_of_a_killed_container_is_empty_before_it_goes(runtime: Managed, bundle: Bundle) -> None:
    """What the container left running in another session and process group goes too."""
    bundle.without_namespace("pid")
    id = runtime.running(bundle, "/bin/sh", "-c", "(setsid sleep 60 &) ; (sleep 61 &) ; sleep 62")
    found = eventually(lambda: pids if len(pids := runtime.members(id)) >= 3 else [], "three")
    assert found

    _delete(runtime, id)

    assert not [pid for pid in found if alive(pid)]
    assert not [path for path in cgroups() if id in path]


# ---- run in the foreground -----------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_to_run_reaches_the_container(runtime: Runtime, bundle: Bundle, number: int) -> None:
    bundle.shell(f"trap 'exit 7' {int(number)}; echo ready; while :; do sleep 0.02; done")
    running = runtime.spawn("run", "--bundle", str(_saved(bundle)), runtime.new_id())
    eventually(lambda: b"ready" in running.out.read_bytes(), "the container runs")

    running.process.send_signal(number)

    assert running.wait().status == 7
    assert not runtime.traces()


def test_the_end_by_a_signal_is_128_and_its_number(runtime: Runtime, bundle: Bundle) -> None:
    bundle.without_namespace("pid")
    bundle.shell("echo ready; exec sleep 60")
    running = runtime.spawn("run", "--bundle", str(_saved(bundle)), runtime.new_id())
    eventually(lambda: b"ready" in running.out.read_bytes(), "the container runs")

    running.process.terminate()

    assert running.wait().status == 128 + signal.SIGTERM
    assert not runtime.traces()
