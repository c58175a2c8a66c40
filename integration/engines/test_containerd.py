"""containerd runs its containers through the runtime: what `ctr` asks for arrives, and nothing stays behind.

RUNTIME names the runtime, by path or name; without it, the installed pyocirun.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from integration.engines.containerd import TOOLS, Containerd, eventually
from integration.engines.machine import BASE
from integration.engines.test_common import both, runtime_with, tree
from integration.harness import requires

STATUS_OF_TERM = 3

other_words = pytest.mark.xfail(
    Path(os.environ.get("RUNTIME", "")).name == "crun", reason="crun words these errors in its own way", strict=True
)


@pytest.fixture(scope="module", params=both())
def daemon(request: pytest.FixtureRequest) -> Iterator[Containerd]:
    containerd = Containerd(runtime_with(TOOLS), tree(request.param), again=True)
    yield containerd
    containerd.stop()


@pytest.fixture
def engine(daemon: Containerd) -> Iterator[Containerd]:
    """containerd without a container, before and after the test."""
    yield daemon
    left = daemon.leftovers()
    daemon.tidy()
    assert not left, f"left behind: {left}"


def _begin(engine: Containerd, container: str, *options: str) -> None:
    result = engine.ctr(*engine.run_arguments(container, "wait", options=("--detach", "--null-io", *options)))
    assert result.returncode == 0, result.stderr


def _end(engine: Containerd, container: str) -> None:
    engine.ctr("task", "kill", "--signal", "SIGKILL", container)
    eventually(lambda: engine.tasks().get(container) == "STOPPED", f"{container} is stopped")
    engine.ctr("task", "delete", container)
    engine.ctr("container", "delete", container)


def test_stdout_and_stderr_arrive(engine: Containerd) -> None:
    arguments = engine.run_arguments("both", "both", "hello", "careful")
    held = engine.ctr_begin(*arguments, stdin=subprocess.PIPE)
    assert held.stdout and held.stderr

    lines = held.stdout.readline(), held.stderr.readline()
    # Only now may it end: the end of stdin tells it.
    rest = held.communicate(timeout=60)

    assert (lines, rest, held.returncode) == (("hello\n", "careful\n"), ("", ""), 0)


def test_exit_code_arrives(engine: Containerd) -> None:
    result = engine.run("seven", "exit", "7")

    assert result.returncode == 7


def test_environment_of_image_and_caller_arrives(engine: Containerd) -> None:
    image = engine.run("image-env", "env", "FROM_IMAGE")
    caller = engine.run("caller-env", "env", "GIVEN", options=("--rm", "--env", "GIVEN=x y"))

    assert image.stdout == "yes\n"
    assert caller.stdout == "x y\n"


@other_words
def test_message_of_a_command_that_is_not_there_arrives(engine: Containerd) -> None:
    arguments = engine.run_arguments("nope")[:-1]

    result = engine.ctr(*arguments, "/nope")

    assert result.returncode != 0
    assert 'exec: "/nope": stat /nope: no such file or directory' in result.stderr


@other_words
def test_message_of_a_command_that_may_not_be_executed_arrives(engine: Containerd) -> None:
    arguments = engine.run_arguments("denied")[:-1]

    result = engine.ctr(*arguments, "/etc")

    assert result.returncode != 0
    assert 'exec: "/etc":' in result.stderr
    assert "directory" in result.stderr or "permission denied" in result.stderr


@other_words
def test_message_of_a_command_not_on_the_path_arrives(engine: Containerd) -> None:
    arguments = engine.run_arguments("unfound")[:-1]

    result = engine.ctr(*arguments, "unfound")

    assert result.returncode != 0
    assert 'exec: "unfound": executable file not found in $PATH' in result.stderr


def test_detached_task_runs_until_it_is_killed(engine: Containerd) -> None:
    _begin(engine, "held")
    running = engine.tasks()

    engine.ctr("task", "kill", "--signal", "SIGKILL", "held")
    eventually(lambda: engine.tasks() == {"held": "STOPPED"}, "the task is stopped")
    deleted = engine.ctr("task", "delete", "held")
    engine.ctr("container", "delete", "held")

    assert running == {"held": "RUNNING"}
    assert "137" in deleted.stderr


def test_signal_reaches_the_process_and_its_status_comes_back(engine: Containerd) -> None:
    waiting = engine.ctr_begin(*engine.run_arguments("trap", "wait"))
    assert waiting.stdout
    assert waiting.stdout.readline() == "waiting\n"

    killed = engine.ctr("task", "kill", "--signal", "SIGTERM", "trap")
    waiting.communicate(timeout=60)

    assert killed.returncode == 0
    assert waiting.returncode == STATUS_OF_TERM


def test_exec_runs_beside_init_and_gives_its_output_and_exit_code(engine: Containerd) -> None:
    _begin(engine, "host")

    result = engine.ctr("task", "exec", "--exec-id", "one", "host", "/box", "echo", "beside")
    failing = engine.ctr("task", "exec", "--exec-id", "two", "host", "/box", "exit", "9")
    _end(engine, "host")

    assert (result.returncode, result.stdout) == (0, "beside\n")
    assert failing.returncode == 9


@other_words
def test_message_of_a_failing_exec_arrives(engine: Containerd) -> None:
    _begin(engine, "host")

    result = engine.ctr("task", "exec", "--exec-id", "one", "host", "/nope")
    state = engine.tasks()
    _end(engine, "host")

    assert result.returncode != 0
    assert 'exec: "/nope": stat /nope: no such file or directory' in result.stderr
    assert state == {"host": "RUNNING"}


def test_processes_of_exec_end_with_init(engine: Containerd) -> None:
    _begin(engine, "host")
    beside = engine.ctr_begin("task", "exec", "--exec-id", "one", "host", "/box", "wait")
    assert beside.stdout
    assert beside.stdout.readline() == "waiting\n"

    _end(engine, "host")
    beside.communicate(timeout=60)

    assert beside.returncode == 137


def test_kill_of_a_stopped_task_says_that_it_is_not_found(engine: Containerd) -> None:
    _begin(engine, "held")
    engine.ctr("task", "kill", "--signal", "SIGKILL", "held")
    eventually(lambda: engine.tasks() == {"held": "STOPPED"}, "the task is stopped")

    again = engine.ctr("task", "kill", "--signal", "SIGTERM", "held")
    _end(engine, "held")

    assert again.returncode != 0
    assert "not found" in again.stderr


def test_id_can_be_used_again(engine: Containerd) -> None:
    first = engine.run("again", "echo", "first")
    second = engine.run("again", "echo", "second")

    assert (first.stdout, second.stdout) == ("first\n", "second\n")


def test_delete_of_a_task_that_runs_by_force(engine: Containerd) -> None:
    _begin(engine, "held")

    result = engine.ctr("task", "delete", "--force", "held")
    tasks = engine.tasks()
    engine.ctr("container", "delete", "held")

    assert "137" in result.stderr
    assert tasks == {}


def test_memory_limit_reaches_the_cgroup(engine: Containerd) -> None:
    _begin(engine, "small", "--memory-limit", str(32 << 20))

    limits = [_first_line(path) for path in engine.cgroup_files("small", "memory.limit_in_bytes", "memory.max")]
    _end(engine, "small")

    assert limits == [str(32 << 20)]


def test_the_default_seccomp_profile_is_in_force_for_exec_too(engine: Containerd) -> None:
    _begin(engine, "sealed", "--seccomp")
    engine.ctr("task", "exec", "--detach", "--exec-id", "more", "sealed", "/box", "wait")

    (file,) = engine.cgroup_files("sealed", "pids.max")
    pids = Path(file).with_name("cgroup.procs").read_text().split()
    modes = [_status(pid, "Seccomp") for pid in pids]
    _end(engine, "sealed")

    assert modes == ["2", "2"]


def test_five_at_once(engine: Containerd) -> None:
    names = [f"five-{number}" for number in range(5)]

    with ThreadPoolExecutor(5) as pool:
        ended = list(pool.map(lambda name: engine.run(name, "echo", name), names))

    assert [(each.returncode, each.stdout, each.stderr) for each in ended] == [(0, f"{name}\n", "") for name in names]


def _status(pid: str, name: str) -> str:
    """A field of proc_pid_status(5)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def _first_line(path: str) -> str:
    return Path(path).read_text().splitlines()[0]


def test_pause_and_resume(engine: Containerd) -> None:
    _begin(engine, "held")

    paused = engine.ctr("task", "pause", "held")
    while_paused = engine.tasks()
    resumed = engine.ctr("task", "resume", "held")
    afterwards = engine.tasks()
    _end(engine, "held")

    assert (paused.returncode, while_paused) == (0, {"held": "PAUSED"}), paused.stderr
    assert (resumed.returncode, afterwards) == (0, {"held": "RUNNING"}), resumed.stderr


def test_ps_has_init_and_what_exec_started(engine: Containerd) -> None:
    _begin(engine, "held")
    engine.ctr("task", "exec", "--detach", "--exec-id", "more", "held", "/box", "wait")

    listed = engine.ctr("task", "ps", "held")
    _end(engine, "held")

    rows = [line.split() for line in listed.stdout.splitlines()[1:]]
    assert len(rows) == 2, listed.stdout + listed.stderr
    assert all(row[0].isdigit() for row in rows)


@requires("criu")
def test_a_container_is_restored_from_an_image_of_it(engine: Containerd) -> None:
    _begin(engine, "saved")
    reference = "example.test/saved:1"

    saved = engine.ctr("container", "checkpoint", "--task", "--image", "--rw", "saved", reference)
    _end(engine, "saved")
    restored = engine.ctr("container", "restore", "--live", "--rw", "again", reference)
    tasks = engine.tasks()
    inside = engine.ctr("task", "exec", "--exec-id", "x", "again", "/box", "echo", "here")

    _end(engine, "again")
    engine.ctr("image", "remove", reference)
    assert (saved.returncode, restored.returncode) == (0, 0), saved.stderr + restored.stderr
    assert tasks == {"again": "RUNNING"}
    assert inside.stdout == "here\n"


@requires("criu")
def test_a_checkpoint_lets_a_task_go_on_or_ends_it(engine: Containerd) -> None:
    _begin(engine, "kept")

    on = engine.ctr("task", "checkpoint", "--image-path", f"{BASE}/first", "kept")
    tasks = engine.tasks()
    off = engine.ctr("task", "checkpoint", "--exit", "--image-path", f"{BASE}/second", "kept")
    eventually(lambda: engine.tasks() == {"kept": "STOPPED"}, "the task is stopped")

    _end(engine, "kept")
    assert (on.returncode, off.returncode) == (0, 0), on.stderr + off.stderr
    assert tasks == {"kept": "RUNNING"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["TERM", "KILL"])
def test_tasks_outlive_the_daemon(engine: Containerd, number: int) -> None:
    _begin(engine, "held")
    before = engine.ctr("task", "ls").stdout

    os.kill(_daemon(engine), number)
    eventually(lambda: engine.ctr("task", "ls").stdout == before, "the next daemon knows the task")
    inside = engine.ctr("task", "exec", "--exec-id", "x", "held", "/box", "echo", "here")

    _end(engine, "held")
    assert inside.stdout == "here\n"


def test_what_ends_without_a_daemon_is_known_to_the_next(engine: Containerd) -> None:
    _begin(engine, "held")
    pid = next(pid for pid, line in engine.machine.processes().items() if line == "/box wait")
    daemon = _daemon(engine)

    os.kill(daemon, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    os.kill(daemon, signal.SIGKILL)
    # containerd 2 does not keep such a task.
    after = {} if engine.newer else {"held": "STOPPED"}
    eventually(lambda: _answers(engine) and engine.tasks() == after, "the next daemon knows of the end")
    deleted = engine.ctr("task", "delete", "held")
    engine.ctr("container", "delete", "held")

    assert engine.newer or "137" in deleted.stderr


def _answers(engine: Containerd) -> bool:
    return engine.ctr("version").returncode == 0


def _daemon(engine: Containerd) -> int:
    return next(pid for pid, line in engine.machine.processes().items() if line.startswith("containerd --config"))
