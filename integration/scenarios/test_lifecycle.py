"""create, start, run, state, delete: the way of a container through its statuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest

from integration.harness import PATIENCE, Bundle, Runtime, alive, eventually, only, wait_for_orphan


def test_run_returns_the_exit_status_of_the_process(runtime: Runtime, bundle: Bundle) -> None:
    bundle.args("exit", "7")

    result = runtime.run(bundle)

    assert result.status == 7


def test_run_returns_128_plus_the_signal_that_ended_the_process(runtime: Runtime, bundle: Bundle) -> None:
    bundle.args("sleep", "60")
    id = runtime.new_id()
    bundle.save()
    running = runtime.spawn("run", "--bundle", str(bundle.path), id)
    eventually(lambda: "ready" in running.out.read_text(), "the process runs")

    runtime.kill(id, "KILL").ok()

    assert running.wait().status == 128 + signal.SIGKILL


def test_run_deletes_the_container(runtime: Runtime, bundle: Bundle) -> None:
    bundle.args("exit", "0")

    runtime.run(bundle).ok()

    assert runtime.traces() == []


def test_run_takes_the_bundle_from_the_working_directory(runtime: Runtime, bundle: Bundle) -> None:
    bundle.args("exit", "3")
    bundle.save()

    result = runtime("run", runtime.new_id(), cwd=bundle.path)

    assert result.status == 3


def test_run_takes_a_relative_bundle(runtime: Runtime, bundle: Bundle) -> None:
    bundle.args("exit", "3")
    bundle.save()

    result = runtime("run", "--bundle", bundle.path.name, runtime.new_id(), cwd=bundle.path.parent)

    assert result.status == 3


def test_run_detached_returns_while_the_container_runs(runtime: Runtime, bundle: Bundle) -> None:
    bundle.args("sleep", "60")
    id = runtime.new_id()

    runtime.run(bundle, "--detach", id=id).ok()

    assert runtime.status(id) == "running"


@pytest.mark.parametrize("signal_name", ["USR1", "TERM", "HUP"])
def test_run_forwards_signals_to_the_process(runtime: Runtime, bundle: Bundle, signal_name: str) -> None:
    bundle.args("trap")
    bundle.save()
    running = runtime.spawn("run", "--bundle", str(bundle.path), runtime.new_id())
    eventually(lambda: "ready" in running.out.read_text(), "the process runs")

    number = int(getattr(signal, f"SIG{signal_name}"))
    running.process.send_signal(number)

    assert running.wait().ok().stdout == f"ready\n{number}\n"


def test_run_keep_leaves_a_stopped_container(runtime: Runtime, bundle: Bundle) -> None:
    if runtime.name == "runc" and "--keep" not in runtime("run", "--help").stdout:
        pytest.skip("this runc has no --keep")
    bundle.args("exit", "0")
    id = runtime.new_id()

    runtime.run(bundle, "--keep", id=id).ok()

    assert runtime.status(id) == "stopped"


def test_create_returns_with_the_container_created(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.created(bundle)

    state = runtime.state(id)

    assert state["status"] == "created"
    assert alive(state["pid"])


def test_create_does_not_run_the_process(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["root"]["readonly"] = False

    runtime.created(bundle.args("write", "/began", "x"))

    assert not (bundle.rootfs / "began").exists()


def test_start_runs_the_process(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.new_id()
    result = runtime.create(bundle.args("exit", "9"), id=id).ok()
    pid = runtime.pid(id)

    runtime.start(id).ok()

    assert wait_for_orphan(pid) == 9
    assert result.stderr == ""


def test_the_process_writes_to_the_output_that_create_was_given(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.new_id()
    result = runtime.create(bundle, id=id).ok()
    pid = runtime.pid(id)

    runtime.start(id).ok()
    wait_for_orphan(pid)

    assert result.report["pid"] == 1


def test_the_process_reads_the_input_that_create_was_given(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    (place / "input").write_text("hello")
    id = runtime.new_id()
    with open(place / "input", "rb") as file:
        result = runtime.create(bundle.args("cat", "/proc/self/fd/0"), id=id, stdin=file).ok()
    pid = runtime.pid(id)

    runtime.start(id).ok()
    wait_for_orphan(pid)

    assert result.stdout == "hello"


def test_the_container_is_stopped_when_its_process_has_ended(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.created(bundle.args("exit", "0"))
    pid = runtime.pid(id)

    runtime.start(id).ok()
    wait_for_orphan(pid)

    assert runtime.status(id) == "stopped"


def test_the_state_of_a_running_container(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["annotations"] = {"org.example.note": "a value"}
    id = runtime.running(bundle)

    result = runtime("state", id).ok()

    state = runtime.state(id)
    assert list(state)[:7] == ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created"]
    assert (state["id"], state["status"]) == (id, "running")
    assert (state["bundle"], state["rootfs"]) == (str(bundle.path), str(bundle.rootfs))
    assert state["annotations"] == {"org.example.note": "a value"}
    assert os.readlink(f"/proc/{state['pid']}/exe").endswith("/bin/probe")
    assert result.stdout.startswith('{\n  "ociVersion": "')


def test_the_state_says_when_the_container_was_created(runtime: Runtime, bundle: Bundle) -> None:
    began = time.time()
    id = runtime.created(bundle)

    created = runtime.state(id)["created"]

    assert created.endswith("Z")
    moment = datetime.fromisoformat(created[:19] + "+00:00").timestamp()
    assert began - 1 <= moment <= time.time()


def test_the_state_of_a_stopped_container_has_pid_0(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    runtime.stop(id)

    state = runtime.state(id)

    assert (state["status"], state["pid"]) == ("stopped", 0)
    assert "annotations" not in state


def test_debug_leaves_the_output_of_state_pure(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.created(bundle)

    result = runtime("state", id, options=("--debug",)).ok()

    assert result.stdout == runtime("state", id).stdout


def test_pid_file_holds_the_pid_and_nothing_else(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    id = runtime.new_id()

    runtime.create(bundle, "--pid-file", str(place / "pid"), id=id).ok()

    assert (place / "pid").read_text() == str(runtime.pid(id))
    assert [name for name in os.listdir(place) if "pid" in name] == ["pid"]


def test_pid_file_is_relative_to_the_working_directory(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    runtime.create(bundle, "--pid-file", "mine.pid", cwd=place).ok()

    assert (place / "mine.pid").exists()


@only("pyocirun")
@pytest.mark.vm  # where the plan has a device program
def test_create_may_print_its_steps_and_change_nothing(runtime: Runtime, bundle: Bundle) -> None:
    bundle.bind("/etc", "/new/place")
    before = sorted(bundle.rootfs.rglob("*"))

    result = runtime.create(bundle, "--dry-run", "--format", "json").ok()

    steps = json.loads(result.stdout)
    assert [step["index"] for step in steps] == list(range(len(steps)))
    assert "/new/place" in result.stdout
    assert steps[-1]["op"] == "Exec"
    assert runtime.traces() == []
    assert sorted(bundle.rootfs.rglob("*")) == before


@only("pyocirun")
@pytest.mark.parametrize("option", ["--config", "-f"])
@pytest.mark.parametrize(("command", "status"), [("create", 0), ("run", 7)])
def test_the_configuration_may_be_elsewhere(
    runtime: Runtime, bundle: Bundle, place: Path, command: str, status: int, option: str
) -> None:
    bundle.args("exit", "7").save()
    other = place / "other.json"
    (bundle.path / "config.json").rename(other)

    result = runtime(command, "--bundle", str(bundle.path), option, str(other), runtime.new_id())

    assert result.status == status


def test_create_refuses_an_id_in_use(runtime: Runtime, bundle: Bundle, other_bundle: Bundle) -> None:
    id = runtime.running(bundle)

    result = runtime.create(other_bundle, id=id)

    result.fails("container with given ID already exists")
    assert runtime.status(id) == "running"


def test_the_same_id_can_be_used_again_after_delete(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.created(bundle)
    runtime.delete(id).ok()

    runtime.create(bundle, id=id).ok()

    assert runtime.status(id) == "created"


def test_start_refuses_a_running_container(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    result = runtime.start(id)

    result.fails("cannot start an already running container")
    assert runtime.status(id) == "running"


@only("pyocirun")
def test_start_returns_when_the_program_has_been_executed(runtime: Runtime, bundle: Bundle) -> None:
    """runc's answers when its init has been told to go on."""
    id = runtime.created(bundle.args("sleep", "60"))
    pid = runtime.pid(id)

    runtime.start(id).ok()

    assert os.readlink(f"/proc/{pid}/exe").endswith("/bin/probe")


@only("pyocirun")
def test_start_fails_if_the_kernel_cannot_execute_the_program(runtime: Runtime, bundle: Bundle) -> None:
    program = bundle.rootfs / "bin/strange"
    program.write_text("neither a script nor a binary\n")
    program.chmod(0o755)
    bundle.config["process"]["args"] = ["/bin/strange"]
    id = runtime.created(bundle)

    result = runtime.start(id)

    result.fails("/bin/strange", "exec format error")


def test_start_refuses_a_stopped_container(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    runtime.stop(id)

    result = runtime.start(id)

    result.fails("cannot start a container that has stopped")


def test_start_of_a_container_whose_init_was_killed_fails_at_once(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.created(bundle)
    pid = runtime.pid(id)
    os.kill(pid, signal.SIGKILL)
    wait_for_orphan(pid)

    result = runtime.start(id)

    result.fails("cannot start a container that has stopped")
    assert result.seconds < 2 * PATIENCE


def test_delete_removes_a_stopped_container(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    runtime.stop(id)

    runtime.delete(id).ok()

    assert runtime.traces() == []


def test_delete_removes_a_created_container(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.created(bundle)

    runtime.delete(id).ok()

    assert runtime.traces() == []


def test_delete_refuses_a_running_container(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    result = runtime.delete(id)

    result.fails(f"cannot delete container {id} that is not stopped: running")
    assert runtime.status(id) == "running"


def test_delete_force_removes_a_running_container(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    runtime.delete(id, "--force").ok()

    assert runtime.traces() == []


def test_delete_force_of_an_unknown_container_is_no_error(runtime: Runtime) -> None:
    assert runtime.delete(runtime.new_id(), "--force").status == 0


def test_delete_of_an_unknown_container_is_an_error(runtime: Runtime) -> None:
    runtime.delete(runtime.new_id()).fails("container does not exist")


def test_delete_clears_a_state_directory_without_a_state(runtime: Runtime) -> None:
    id = runtime.new_id()
    (runtime.root / id).mkdir()

    runtime.delete(id, "--force").ok()

    assert not (runtime.root / id).exists()


def test_delete_force_clears_a_state_that_cannot_be_read(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    runtime.stop(id)
    (runtime.root / id / "state.json").write_text("{")

    runtime.delete(id, "--force").ok()

    assert not (runtime.root / id).exists()
    runtime.sweep()  # which cgroups were the container's stood in the state alone


def test_delete_leaves_the_bundle_alone(runtime: Runtime, bundle: Bundle) -> None:
    bundle.save()
    before = sorted(str(path) for path in bundle.path.rglob("*"))
    id = runtime.running(bundle)

    runtime.delete(id, "--force").ok()

    assert sorted(str(path) for path in bundle.path.rglob("*")) == before


def test_a_change_of_config_json_after_create_has_no_effect(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.created(bundle.args("exit", "5"))
    pid = runtime.pid(id)
    bundle.args("exit", "6").save()

    runtime.start(id).ok()

    assert wait_for_orphan(pid) == 5


def test_create_holds_no_output_pipe_open(runtime: Runtime, bundle: Bundle) -> None:
    """A reader of create's output sees its end when the container ends: no helper keeps the pipe."""
    id = runtime.new_id()
    bundle.args("sleep", "60").save()
    reading, writing = os.pipe()
    argv = [*runtime.command, "--root", str(runtime.root), "create", "--bundle", str(bundle.path), id]
    subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing, check=True, timeout=20 * PATIENCE)
    os.close(writing)
    runtime.start(id).ok()

    runtime.stop(id)

    os.set_blocking(reading, False)
    assert os.read(reading, 100) == b"ready\n"
    assert os.read(reading, 100) == b""
    os.close(reading)


def test_init_is_a_child_of_who_adopts_the_orphans_of_create(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.created(bundle)

    pid = runtime.pid(id)

    status = Path(f"/proc/{pid}/status").read_text()
    assert f"PPid:\t{os.getpid()}\n" in status


def test_no_process_of_the_runtime_stays_after_create(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.created(bundle)

    left = [trace for trace in runtime.traces() if trace.startswith("process")]

    assert [line.split()[1] for line in left] == [f"{runtime.pid(id)}:"]


@pytest.mark.parametrize("command", ["create", "run"])
def test_a_killed_runtime_leaves_nothing_that_delete_cannot_remove(
    runtime: Runtime, bundle: Bundle, command: str
) -> None:
    bundle.args("sleep", "60").save()
    ids = []
    for step in range(12):
        ids.append(runtime.new_id())
        running = runtime.spawn(command, "--bundle", str(bundle.path), ids[-1])
        time.sleep(0.003 + 0.004 * step)
        running.process.kill()
        running.wait()

    for id in ids:
        runtime.delete(id, "--force").ok()

    assert runtime.traces() == []
