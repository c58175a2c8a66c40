"""pause and resume, and what a paused container allows."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from integration.harness import Bundle, eventually, only, requires, wait_for_orphan
from integration.modes import Managed, modes

pytestmark = [requires("root"), modes()]


def ticks(file: Path) -> int:
    """How much the container has written."""
    return file.stat().st_size if file.exists() else 0


def ticking(runtime: Managed, bundle: Bundle) -> tuple[str, Path]:
    """A container that writes on and on, and what it writes to."""
    output = bundle.path / "ticks"
    output.mkdir()
    output.chmod(0o777)  # whatever the umask is: a user's container writes there
    bundle.bind(output, "/ticks", "rw")
    (bundle.rootfs / "ticks").mkdir()
    id = runtime.running(bundle, "/bin/sh", "-c", "while :; do echo >>/ticks/file; sleep 0.01; done")
    eventually(lambda: ticks(output / "file") > 2, "it writes")
    return id, output / "file"


@pytest.mark.vm
@requires("busybox")
def test_a_paused_container_stands_still_and_goes_on(runtime: Managed, bundle: Bundle) -> None:
    id, file = ticking(runtime, bundle)

    runtime("pause", id).ok()

    before = ticks(file)
    assert runtime.status(id) == "paused"
    assert ticks(file) == before
    runtime("resume", id).ok()
    assert runtime.status(id) == "running"
    eventually(lambda: ticks(file) > before, "it writes again")


def test_pause_returns_when_all_are_frozen(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle, "fork", "8", "stay")

    runtime("pause", id).ok()

    assert runtime.is_frozen(id)
    runtime("resume", id).ok()
    assert not runtime.is_frozen(id)


def test_a_created_container_is_paused_and_comes_back_as_created(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.created(bundle)

    runtime("pause", id).ok()

    assert runtime.status(id) == "paused"
    runtime.start(id).fails()
    runtime("resume", id).ok()
    assert runtime.status(id) == "created"


def test_only_a_paused_container_is_resumed(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    runtime("resume", id).fails("container not paused")


def test_a_stopped_container_is_not_paused(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    runtime.stop(id)

    runtime("pause", id).fails("container not running")
    runtime("resume", id).fails("container not paused")


@only("pyocirun")
def test_a_paused_container_is_not_paused_again(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    runtime("pause", id).ok()

    runtime("pause", id).fails("container paused")


def test_an_unknown_container_is_not_paused(runtime: Managed) -> None:
    runtime("pause", "nobody").fails("container does not exist")


def test_exec_in_a_paused_container_is_refused(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    runtime("pause", id).ok()

    result = runtime.exec(id, "exit", "0")

    result.fails("cannot exec in a paused container (use --ignore-paused to override)", status=255)


def test_exec_may_be_told_to_wait_for_the_resume(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    runtime("pause", id).ok()

    running = runtime.spawn("exec", "--ignore-paused", id, "/bin/probe", "exit", "7")

    with pytest.raises(subprocess.TimeoutExpired):
        running.process.wait(0.5)
    runtime("resume", id).ok()
    assert running.wait().status == 7


def test_sigkill_ends_a_paused_container(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    pid = runtime.pid(id)
    runtime("pause", id).ok()

    runtime.kill(id, "KILL").ok()

    assert wait_for_orphan(pid) == -signal.SIGKILL


def test_another_signal_waits_for_the_resume(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    pid = runtime.pid(id)
    runtime("pause", id).ok()

    runtime.kill(id, "USR1").ok()

    assert runtime.status(id) == "paused"
    runtime.kill(id, "KILL").ok()
    wait_for_orphan(pid)


def test_delete_refuses_a_paused_container(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    runtime("pause", id).ok()

    runtime.delete(id).fails("that is not stopped: paused")


@pytest.mark.parametrize("shared", [False, True])
def test_delete_force_removes_a_paused_container(runtime: Managed, bundle: Bundle, shared: bool) -> None:
    if shared and runtime.mode.user:
        pytest.skip("a user may not mount proc without a pid namespace")
    if shared:
        bundle.without_namespace("pid")
    id = runtime.running(bundle, "fork", "3", "stay")
    freezer = runtime.cgroup(id, "freezer")
    runtime("pause", id).ok()

    runtime.delete(id, "--force").ok()

    runtime("state", id).fails("container does not exist")
    assert not freezer.exists()
