"""kill: signals by every name, and what they reach."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from integration.harness import (
    Bundle,
    Runtime,
    alive,
    children,
    eventually,
    helper,
    wait_for_orphan,
)
from integration.modes import ROOT, Managed, modes


def _trapping(runtime: Runtime, bundle: Bundle) -> tuple[str, Path]:
    """A container whose process prints the number of the signal that it gets: its id, and the file of its output."""
    id = runtime.new_id()
    output = runtime.create(bundle.args("trap"), id=id).ok()
    runtime.start(id).ok()
    eventually(lambda: "ready" in output.stdout, "the process runs")
    return id, output._stdout


@pytest.mark.parametrize(
    ("name", "number"),
    [("TERM", 15), ("SIGTERM", 15), ("term", 15), ("sigusr1", 10), ("10", 10), ("HUP", 1), ("Int", 2)],
)
def test_a_signal_goes_by_number_and_name(runtime: Runtime, bundle: Bundle, name: str, number: int) -> None:
    id, output = _trapping(runtime, bundle)

    runtime.kill(id, name).ok()

    eventually(lambda: output.read_text() == f"ready\n{number}\n", f"signal {number} arrives")


def test_the_default_is_sigterm(runtime: Runtime, bundle: Bundle) -> None:
    id, output = _trapping(runtime, bundle)

    runtime.kill(id).ok()

    eventually(lambda: output.read_text() == "ready\n15\n", "SIGTERM arrives")


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT"])
@pytest.mark.parametrize("own_pids", [True, False])
def test_a_created_container_ends_by_a_signal_that_asks_it_to(
    runtime: Runtime, bundle: Bundle, name: str, own_pids: bool
) -> None:
    if not own_pids:
        bundle.without_namespace("pid")
    id = runtime.created(bundle)
    pid = runtime.pid(id)

    runtime.kill(id, name).ok()
    wait_for_orphan(pid)

    assert runtime.status(id) == "stopped"


@pytest.mark.parametrize("name", ["FROB", "SIGFROB", "-1x", "1.5"])
def test_an_unknown_signal_is_refused(runtime: Runtime, bundle: Bundle, name: str) -> None:
    id = runtime.running(bundle)

    result = runtime("kill", id, "--", name) if name.startswith("-") else runtime.kill(id, name)

    assert result.status == 1
    assert f'unknown signal "{name}"' in result.stderr
    assert runtime.status(id) == "running"


def test_a_created_container_can_be_killed(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.created(bundle)
    pid = runtime.pid(id)

    runtime.kill(id, "KILL").ok()

    assert wait_for_orphan(pid) == -signal.SIGKILL
    assert runtime.status(id) == "stopped"


def test_a_stopped_container_cannot_be_killed(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    runtime.stop(id)

    runtime.kill(id, "KILL").fails("container not running")


def test_kill_all_of_a_stopped_container_is_no_error(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    runtime.stop(id)

    result = runtime("kill", "--all", id, "KILL")

    assert result.status == 0


def test_a_kill_of_init_ends_the_whole_pid_namespace(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle, "fork", "3", "stay")
    pids = eventually(lambda: members(runtime, id, 4), "four processes")

    runtime.stop(id)

    eventually(lambda: not any(alive(pid) for pid in pids), "all have ended")


@modes()
def test_kill_all_of_a_pid_namespace_leaves_no_process(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle, "fork", "3", "stay")
    pids = eventually(lambda: members(runtime, id, 4), "four processes")

    runtime("kill", "--all", id, "KILL").ok()

    eventually(lambda: not any(alive(pid) for pid in pids), "all have ended")
    assert runtime.status(id) == "stopped"


@pytest.mark.vm
@modes(*ROOT)  # a user may not mount proc without a pid namespace
def test_kill_all_reaches_every_process(runtime: Managed, bundle: Bundle) -> None:
    bundle.without_namespace("pid")
    id = runtime.running(bundle, "fork", "3", "stay")
    pids = eventually(lambda: members(runtime, id, 4), "four processes")

    runtime("kill", "--all", id, "KILL").ok()

    eventually(lambda: not any(alive(pid) for pid in pids), "all have ended")


@modes()
def test_sigkill_reaches_a_frozen_container(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    pid = runtime.pid(id)
    runtime.freeze(id)

    runtime.kill(id, "KILL").ok()

    assert wait_for_orphan(pid) == -signal.SIGKILL


@modes()
def test_a_frozen_container_is_paused(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    runtime.freeze(id)

    assert runtime.status(id) == "paused"
    runtime.delete(id).fails(f"cannot delete container {id} that is not stopped: paused")


def test_a_process_that_has_taken_over_the_pid_is_left_alone(runtime: Runtime, bundle: Bundle) -> None:
    """The start time of the saved process differs from that of the process with its pid now."""
    id = runtime.created(bundle)
    pid = runtime.pid(id)
    started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    file = runtime.root / id / "state.json"
    text = file.read_text()
    assert started in text
    file.write_text(text.replace(started, str(int(started) + 1)))

    result = runtime.kill(id, "KILL")

    result.fails("container not running")
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)
    wait_for_orphan(pid)


def test_a_process_outside_is_never_reached(runtime: Runtime, bundle: Bundle) -> None:
    bystander = helper("sleep", "60")
    id = runtime.running(bundle)

    runtime("kill", "--all", id, "KILL").ok()

    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def members(runtime: Managed, id: str, count: int) -> list[int]:
    """All processes of a container's cgroup, once they are so many."""
    pids = runtime.members(id)
    return pids if len(pids) == count else []


def test_the_subreaper_sees_no_other_child(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    assert children() == [runtime.pid(id)]
