"""exec: a further process in a container."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from integration.harness import (
    PATH,
    PATIENCE,
    Bundle,
    Runtime,
    cgroup_of,
    eventually,
    namespace,
    only,
    requires,
    wait_for_orphan,
)
from integration.modes import Managed, modes

KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


def test_exec_joins_every_namespace_of_the_container(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    report = runtime.exec(id, "report").report

    pid = runtime.pid(id)
    assert {kind: report["namespaces"][kind] for kind in KINDS} == {kind: namespace(kind, pid) for kind in KINDS}
    assert report["pid"] > 1


@requires("userns")
def test_exec_joins_the_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    bundle.map_users(100000)
    id = runtime.running(bundle)

    report = runtime.exec(id, "report").report

    assert report["namespaces"]["user"] == namespace("user", runtime.pid(id))
    assert (report["uid"], report["gid"]) == (0, 0)


def test_exec_joins_the_cgroups_of_the_container(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    report = runtime.exec(id, "report").report

    assert report["cgroup"] == Path(f"/proc/{runtime.pid(id)}/cgroup").read_text().splitlines()


def test_exec_sees_the_root_of_the_container(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.rootfs / "etc/note").write_text("inside")
    id = runtime.running(bundle)

    assert runtime.exec(id, "cat", "/etc/note").ok().stdout == "inside"


@pytest.mark.parametrize(("args", "status"), [(("exit", "0"), 0), (("exit", "7"), 7), (("kill-self", "9"), 137)])
def test_exec_returns_the_status_of_the_process(
    runtime: Runtime, bundle: Bundle, args: tuple[str, ...], status: int
) -> None:
    id = runtime.running(bundle)

    assert runtime.exec(id, *args).status == status


def test_exec_takes_the_environment_of_the_config_and_appends_to_it(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["env"] = [f"PATH={PATH}", "A=1", "B=1"]
    id = runtime.running(bundle)

    env = runtime.exec(id, "report", options=("-e", "A=2", "-e", "C=3")).report["env"]

    seen = dict(entry.split("=", 1) for entry in env)
    assert seen == {"PATH": PATH, "A": "2", "B": "1", "C": "3", "HOME": "/root"}


def test_exec_takes_nothing_of_the_environment_of_the_runtime(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    env = runtime.exec(id, "report", env={"PATH": os.environ["PATH"], "SECRET": "1"}).report["env"]

    assert not any(entry.startswith("SECRET") for entry in env)


def test_exec_changes_to_a_directory(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    assert runtime.exec(id, "report", options=("--cwd", "/etc")).report["cwd"] == "/etc"


@pytest.mark.parametrize(
    ("user", "ids"), [("1000", (1000, 0)), ("1000:2000", (1000, 2000)), ("1", (1, 0)), ("0:5", (0, 5))]
)
def test_exec_takes_another_user(runtime: Runtime, bundle: Bundle, user: str, ids: tuple[int, int]) -> None:
    id = runtime.running(bundle)

    report = runtime.exec(id, "report", options=("--user", user)).report

    assert (report["uid"], report["gid"]) == ids
    assert report["uid"] == report["euid"]


@pytest.mark.parametrize("user", ["x", "1x", "1:x", ":1", "1:", "-1", " 1"])
def test_exec_refuses_a_user_that_is_no_number(runtime: Runtime, bundle: Bundle, user: str) -> None:
    id = runtime.running(bundle)

    result = runtime.exec(id, "report", options=(f"--user={user}",))

    assert result.status == 255 or result.status == 1
    assert result.stdout == "" or "USAGE" in result.stdout.upper()


def test_exec_adds_groups(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["user"]["additionalGids"] = [40]
    id = runtime.running(bundle)

    report = runtime.exec(id, "report", options=("-g", "50", "-g", "60")).report

    assert sorted(report["groups"]) == [40, 50, 60]


def test_exec_warns_of_a_capability_that_nobody_knows(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    result = runtime.exec(id, "exit", "0", options=("--cap", "CAP_NO_SUCH")).ok()

    assert [line["level"] for line in result.log if "CAP_NO_SUCH" in line["msg"]] == ["warning"]


@pytest.mark.parametrize("variable", ["bad", "=bad"])
def test_exec_refuses_a_variable_without_a_name_or_a_value(runtime: Runtime, bundle: Bundle, variable: str) -> None:
    id = runtime.running(bundle)

    runtime.exec(id, "exit", "0", options=("--env", variable)).fails("environment variable", status=255)


def test_exec_adds_capabilities_but_none_that_is_inherited(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    before = runtime.exec(id, "report").report["capabilities"]

    after = runtime.exec(id, "report", options=("--cap", "CAP_NET_ADMIN", "--cap", "CAP_SYS_TIME")).report[
        "capabilities"
    ]

    added = 1 << 12 | 1 << 25
    for name in ("bounding", "permitted", "effective"):
        assert int(after[name], 16) == int(before[name], 16) | added
    assert int(after["inheritable"], 16) == int(after["ambient"], 16) == 0


def test_exec_without_a_capability_keeps_those_of_the_config(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    seen = runtime.exec(id, "report").report["capabilities"]

    expected = f"{1 << 5 | 1 << 10 | 1 << 29:016x}"
    assert seen == {
        "bounding": expected,
        "permitted": expected,
        "effective": expected,
        "inheritable": "0" * 16,
        "ambient": "0" * 16,
    }


def test_exec_may_forbid_new_privileges(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["noNewPrivileges"] = False
    id = runtime.running(bundle)

    assert runtime.exec(id, "report").report["no_new_privs"] == 0
    assert runtime.exec(id, "report", options=("--no-new-privs",)).report["no_new_privs"] == 1


@only("pyocirun")
def test_exec_does_not_take_no_new_privs_away(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    report = runtime.exec(id, "report", options=("--no-new-privs=false",)).report

    assert report["no_new_privs"] == 1


def test_exec_of_a_group_that_is_no_number_is_wrong_usage(runtime: Runtime) -> None:
    result = runtime("exec", "-g", "x", runtime.new_id(), "true")

    assert result.status == 1
    assert 'invalid value "x" for flag -g' in result.stderr


def test_exec_takes_limits_and_privileges_of_the_config(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 111, "hard": 222}]
    bundle.process["oomScoreAdj"] = 77
    id = runtime.running(bundle)

    report = runtime.exec(id, "report").report

    assert report["rlimits"]["RLIMIT_NOFILE"] == [111, 222]
    assert report["oom_score_adj"] == "77"
    assert report["no_new_privs"] == 1


def test_exec_passes_descriptors(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    (place / "passed").write_text("through")
    id = runtime.running(bundle)

    result = runtime.exec(id, "cat", "/proc/self/fd/3", options=("--preserve-fds", "1"), fd3=place / "passed")

    assert result.ok().stdout == "through"


def test_exec_passes_no_descriptor_unasked(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    (place / "passed").write_text("through")
    id = runtime.running(bundle)

    report = runtime.exec(id, "report", fd3=place / "passed").report

    assert set(report["descriptors"]) == {"0", "1", "2"}


def test_exec_detached_returns_at_once_and_tells_the_pid(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    id = runtime.running(bundle)
    file = place / "exec.pid"

    result = runtime.exec(id, "sleep", "60", options=("--detach", "--pid-file", str(file))).ok()

    pid = int(file.read_text())
    assert result.seconds < 5 * PATIENCE
    assert namespace("pid", pid) == namespace("pid", runtime.pid(id))
    os.kill(pid, signal.SIGKILL)
    assert wait_for_orphan(pid) == -signal.SIGKILL


def test_exec_takes_a_process_from_a_file(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    id = runtime.running(bundle)
    process = {
        "args": ["/bin/probe", "report", "more"],
        "cwd": "/etc",
        "env": ["ONE=1"],
        "user": {"uid": 1000, "gid": 1000, "additionalGids": [7]},
        "capabilities": {name: ["CAP_KILL"] for name in ("bounding", "permitted", "effective")},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}],
        "noNewPrivileges": True,
    }
    (place / "process.json").write_text(json.dumps(process))

    report = runtime("exec", "--process", str(place / "process.json"), id).report

    assert report["args"] == ["/bin/probe", "report", "more"]
    assert (report["cwd"], report["uid"], report["gid"]) == ("/etc", 1000, 1000)
    assert report["groups"] == [7]
    assert sorted(report["env"]) == ["HOME=/home/user", "ONE=1"]
    assert report["rlimits"]["RLIMIT_NOFILE"] == [64, 64]
    assert int(report["capabilities"]["bounding"], 16) == 1 << 5


@pytest.mark.parametrize("change", [{"cwd": "etc"}, {"args": []}, {"cwd": ""}])
def test_exec_refuses_a_bad_process_file(
    runtime: Runtime, bundle: Bundle, place: Path, change: dict[str, object]
) -> None:
    id = runtime.running(bundle)
    process = {"args": ["/bin/probe"], "cwd": "/", "user": {"uid": 0, "gid": 0}} | change
    (place / "process.json").write_text(json.dumps(process))

    runtime("exec", "--process", str(place / "process.json"), id).fails(status=255)


def test_exec_leaves_options_of_the_program_alone(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    args = runtime.exec(id, "report", "--cwd", "-x", "--", "--help").report["args"]

    assert args == ["/bin/probe", "report", "--cwd", "-x", "--", "--help"]


def test_exec_finds_a_program_in_the_path_of_the_container(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["env"] = ["PATH=/nowhere:/bin"]
    id = runtime.running(bundle)

    assert runtime("exec", id, "probe", "exit", "6").status == 6


def test_exec_reads_its_input(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    (place / "input").write_text("hello")
    id = runtime.running(bundle)

    with open(place / "input", "rb") as file:
        result = runtime.exec(id, "cat", "/proc/self/fd/0", stdin=file)

    assert result.ok().stdout == "hello"


def test_exec_forwards_signals(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    running = runtime.spawn("exec", id, "/bin/probe", "trap")
    eventually(lambda: "ready" in running.out.read_text(), "the process runs")

    running.process.send_signal(signal.SIGUSR1)

    assert running.wait().ok().stdout == "ready\n10\n"


def test_exec_in_a_created_container_is_allowed(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.created(bundle)

    assert runtime.exec(id, "report").report["namespaces"]["pid"] == namespace("pid", runtime.pid(id))
    assert runtime.status(id) == "created"


def test_exec_in_a_stopped_container_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    runtime.stop(id)

    runtime.exec(id, "report").fails("cannot exec in a stopped container", status=255)


def test_exec_in_an_unknown_container_is_refused(runtime: Runtime) -> None:
    runtime.exec(runtime.new_id(), "report").fails("container does not exist", status=255)


def test_exec_without_a_program_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    result = runtime("exec", id)

    assert result.status in (1, 255)
    assert "args cannot be empty" in result.stderr or "requires a minimum of" in result.stderr


def test_exec_that_fails_leaves_no_process(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    runtime("exec", id, "/no/such/program").fails(status=255)

    left = [trace for trace in runtime.traces() if trace.startswith("process")]
    assert [line.split()[1] for line in left] == [f"{runtime.pid(id)}:"]


@modes("v1")
def test_exec_joins_a_sub_cgroup_of_one_controller(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    (cgroup_of(runtime.pid(id), "memory") / "sub").mkdir()

    report = runtime.exec(id, "report", options=("--cgroup", "memory:sub")).report

    line = next(line for line in report["cgroup"] if ":memory:" in line)
    assert line.endswith(f"/{id}/sub")


@only("pyocirun")
@modes("v1")
def test_exec_says_that_it_may_have_been_for_lack_of_memory(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    below = cgroup_of(runtime.pid(id), "memory") / "sub"
    below.mkdir()
    (below / "memory.limit_in_bytes").write_text("0")

    result = runtime.exec(id, "report", options=("--cgroup", "memory:sub"))

    result.fails("was killed during set-up (signal 9) (possibly OOM-killed)", status=255)
    assert runtime.status(id) == "running"


@modes("v1")
@pytest.mark.parametrize("path", ["../other", "memory:../../", "memory:no-such"])
def test_exec_refuses_a_cgroup_that_is_not_below(runtime: Managed, bundle: Bundle, path: str) -> None:
    id = runtime.running(bundle)

    assert runtime.exec(id, "report", options=("--cgroup", path)).status == 255


@modes()
@pytest.mark.parametrize(
    ("path", "text"), [("../other", "is not a sub cgroup path"), ("no-such", " adding pid ")], ids=["above", "missing"]
)
def test_exec_tells_what_is_wrong_with_a_cgroup(runtime: Managed, bundle: Bundle, path: str, text: str) -> None:
    id = runtime.running(bundle)

    runtime.exec(id, "report", options=("--cgroup", path)).fails(text, status=255)


@modes("v1", "v2")
def test_exec_refuses_the_cgroup_of_a_neighbour_with_the_same_prefix(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    neighbour = Path(f"{runtime.cgroup(id, 'memory')}2")
    neighbour.mkdir()
    controller = "memory:" if runtime.mode.version == 1 else ""

    result = runtime.exec(id, "report", options=("--cgroup", f"{controller}../{id}2"))

    neighbour.rmdir()
    assert result.status == 255


@only("pyocirun")
def test_exec_takes_the_process_that_create_saw(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    bundle.process["env"] = ["LATER=1"]
    bundle.save()

    env = runtime.exec(id, "report").report["env"]

    assert "LATER=1" not in env
