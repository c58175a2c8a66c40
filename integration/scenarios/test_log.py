"""--log and --log-format: where errors go and how they are written."""

from __future__ import annotations

import json
import socket
from datetime import datetime
from pathlib import Path

import pytest

from integration.harness import PATIENCE, Bundle, Runtime, only


def test_an_error_stands_in_the_log_and_on_stderr(runtime: Runtime) -> None:
    result = runtime("state", runtime.new_id())

    assert "container does not exist" in result.error
    assert "container does not exist" in result.stderr


def test_a_json_line_has_level_msg_and_time(runtime: Runtime) -> None:
    line = runtime("state", runtime.new_id()).log[-1]

    assert line["level"] == "error"
    assert "container does not exist" in line["msg"]
    assert datetime.fromisoformat(line["time"]).tzinfo


def test_a_text_line_has_time_level_and_msg(runtime: Runtime) -> None:
    running = runtime.spawn("state", runtime.new_id(), log_format="text")
    running.wait()

    line = running.log.read_text().splitlines()[-1]

    assert line.startswith('time="')
    assert ' level=error msg="' in line


def test_without_a_log_file_errors_go_to_stderr(runtime: Runtime) -> None:
    result = runtime("state", runtime.new_id(), options=("--log", ""))

    last = json.loads([line for line in result.stderr.splitlines() if line.startswith("{")][-1])
    assert last["level"] == "error"


def test_without_a_log_file_warnings_go_to_stderr(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["capabilities"]["bounding"].append("CAP_NO_SUCH")

    result = runtime.run(bundle.args("exit", "0"), options=("--log", "")).ok()

    (line,) = [json.loads(line) for line in result.stderr.splitlines()]
    assert line["level"] == "warning"
    assert "CAP_NO_SUCH" in line["msg"]


def test_the_log_is_appended_to(runtime: Runtime) -> None:
    log = runtime.base / "kept.log"
    log.write_text('{"level":"info","msg":"old","time":""}\n')

    runtime("state", runtime.new_id(), options=("--log", str(log)))

    assert len(log.read_text().splitlines()) == 2


def test_an_unknown_log_format_is_refused(runtime: Runtime) -> None:
    result = runtime("list", log_format="xml")

    assert result.status == 1
    assert "xml" in result.stderr


def test_debug_of_exec_says_what_is_done(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    result = runtime("exec", id, "/bin/probe", "exit", "0", options=("--debug",)).ok()

    assert any(line["level"] == "debug" for line in result.log)
    assert result.stderr == ""


@only("pyocirun")  # runc has flags since 1.2
def test_debug_tells_the_flags_of_a_filter(runtime: Runtime, bundle: Bundle) -> None:
    flags = ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"]
    bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "flags": flags}

    result = runtime.run(bundle.args("exit", "0"), options=("--debug",)).ok()

    assert "seccomp filter flags: 6" in [line["msg"] for line in result.log]


def test_debug_says_more(runtime: Runtime, bundle: Bundle) -> None:
    result = runtime.run(bundle.args("exit", "0"), options=("--debug",)).ok()

    assert any(line["level"] == "debug" for line in result.log)


@only("pyocirun")
@pytest.mark.parametrize("name", ["handler", "seccomp.plugins", "seccomp_bpf_data", "systemd.force_cgroup_v1"])
def test_debug_tells_of_an_annotation_that_only_crun_knows(runtime: Runtime, bundle: Bundle, name: str) -> None:
    bundle.config["annotations"] = {f"run.oci.{name}": "1"}

    result = runtime.run(bundle.args("exit", "0"), options=("--debug",)).ok()

    told = [line["msg"] for line in result.log if line["level"] == "debug"]
    assert f"the annotation run.oci.{name} is ignored: it means something to crun alone" in told


@pytest.mark.parametrize("name", ["two\nlines", 'quo"te', "back\\slash", "\x1b[31m"])
def test_a_strange_name_stays_within_one_line_of_the_log(runtime: Runtime, bundle: Bundle, name: str) -> None:
    bundle.process["args"] = [f"/no/{name}"]

    result = runtime.create(bundle)

    result.fails()
    assert all(isinstance(line, dict) for line in result.log)


def test_a_strange_name_forges_no_line_of_a_text_log(runtime: Runtime, bundle: Bundle) -> None:
    forged = "level=error msg=forged"
    bundle.process["args"] = [f"/no\n{forged}\r{forged}"]
    bundle.save()
    file = runtime.base / "text.log"

    runtime("create", "--bundle", str(bundle.path), runtime.new_id(), options=("--log", str(file)), log_format="text")

    lines = file.read_text().splitlines()
    assert [line for line in lines if not line.startswith("time=")] == []
    assert "level=error" in lines[-1]


def test_the_last_line_of_the_log_is_the_error(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["args"] = ["/no/such/program"]

    result = runtime.create(bundle)

    assert result.log[-1]["level"] == "error"
    assert "no such file or directory" in result.log[-1]["msg"]


@only("pyocirun")
def test_a_failure_tells_step_errno_path_and_hint(runtime: Runtime, bundle: Bundle) -> None:
    bundle.bind("/no/such/source", "/mnt")

    line = runtime.create(bundle).log[-1]

    assert {"level", "msg", "time", "step", "errno", "path", "hint"} == set(line)
    assert (line["step"], line["errno"], line["path"]) == ("open_tree", 2, "/mnt")
    assert "/no/such/source" in line["hint"]


@only("pyocirun")
def test_the_journal_gets_one_record_with_the_container(runtime: Runtime, place: Path) -> None:
    (place / "journal").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(place / "journal/socket"))
        journal.settimeout(10)
        mount = 'mount -t tmpfs run /run && mkdir -p /run/systemd/journal && mount --bind "$0" /run/systemd/journal'
        script = mount + ' && exec "$@"'
        runtime.command = ["unshare", "-m", "sh", "-c", script, str(place / "journal"), *runtime.command]

        result = runtime("state", "absent", options=("--log", "journald:box"))
        record = journal.recv(4096).decode().splitlines()

    assert result.status == 1
    assert "container does not exist" in result.stderr
    assert {"PRIORITY=3", "CONTAINER_ID=box"} <= set(record)
    assert "container does not exist" in record[0]


@only("pyocirun")
def test_timings_are_a_trace_whose_sum_is_the_whole(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    path = place / "timings.json"

    result = runtime.run(bundle.args("sleep", "3"), options=("--timings", str(path))).ok()

    events = [event for event in json.loads(path.read_text())["traceEvents"] if event["ph"] == "X"]
    steps = [event for event in events if event["tid"] == 1]
    assert {"read the configuration", "wait for the container"} <= {event["name"] for event in steps}
    assert abs(result.seconds - sum(event["dur"] for event in steps) / 1e6) < 0.05 * PATIENCE * result.seconds
    assert len(events) - len(steps) > 30
    assert "TERM=xterm" not in path.read_text()


def _rows(path: Path) -> tuple[list[str], list[str]]:
    """The names of the command's steps, and of nsexec's."""
    events = [event for event in json.loads(path.read_text())["traceEvents"] if event["ph"] == "X"]
    return [event["name"] for event in events if event["tid"] == 1], [
        event["name"] for event in events if event["tid"] == 2
    ]


@only("pyocirun")
def test_timings_of_exec_have_its_steps_and_those_of_nsexec(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    path = place / "timings.json"
    id = runtime.running(bundle)

    runtime("exec", id, "/bin/probe", "exit", "0", options=("--timings", str(path))).ok()

    steps, operations = _rows(path)
    assert {"load the state", "look at the container, and make the plan", "wait for the process"} <= set(steps)
    assert "join the container's pid, network, mount, ipc, uts namespaces" in operations
    assert operations[-1].startswith("exec")


@only("pyocirun")
def test_timings_of_start_tell_hooks_from_the_program(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    path = place / "timings.json"
    bundle.hook("startContainer", "/bin/true")
    bundle.hook("poststart", "/bin/true")
    id = runtime.created(bundle.args("sleep", "60"))

    runtime("start", id, options=("--timings", str(path))).ok()

    steps, operations = _rows(path)
    assert {"load the state", "open the gate", "poststart hooks"} <= set(steps)
    assert operations == ["run startContainer hook /bin/true", "execute /bin/probe"]


@only("pyocirun")
def test_a_level_leaves_warnings_out(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["capabilities"]["bounding"].append("CAP_NO_SUCH")

    result = runtime.run(bundle.args("exit", "0"), options=("--log-level", "error")).ok()

    assert result.log == []


@only("pyocirun")
def test_an_unknown_level_is_refused(runtime: Runtime) -> None:
    result = runtime("list", options=("--log-level", "loud"))

    result.fails("invalid log-level: loud")
