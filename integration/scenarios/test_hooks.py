"""Hooks of all six kinds: when and where they run, what they are given, and what their failure does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from integration.harness import PATIENCE, Bundle, Runtime, alive, eventually, namespace, only, requires, wait_for_orphan

pytestmark = requires("busybox")

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
AT_CREATE = ("prestart", "createRuntime", "createContainer")
AT_START = ("startContainer", "poststart")


@pytest.fixture
def notes(place: Path, bundle: Bundle) -> Path:
    """A directory in which hooks leave files: /notes in the container, and the same path there as on the host."""
    path = place / "notes"
    path.mkdir(mode=0o777)
    os.chmod(path, 0o777)
    bundle.bind(path, str(path))
    return path


def _script(bundle: Bundle, kind: str, script: str, **fields: Any) -> None:
    bundle.hook(kind, "/bin/sh", "-c", script, **fields)


def _proc(kind: str) -> str:
    """A procfs in which the hook finds itself: createContainer runs in the container's pid namespace, in the rootfs."""
    return "proc" if kind == "createContainer" else "/proc"


def _whole_life(runtime: Runtime, bundle: Bundle) -> str:
    """create, start, end, delete: the id."""
    id = runtime.created(bundle.args("exit", "0"))
    pid = runtime.pid(id)
    runtime.start(id).ok()
    wait_for_orphan(pid)
    runtime.delete(id).ok()
    return id


def test_hooks_run_in_their_order(runtime: Runtime, bundle: Bundle, notes: Path) -> None:
    for kind in KINDS:
        for number in (1, 2):
            _script(bundle, kind, f"echo {kind}{number} >> {notes}/order")

    _whole_life(runtime, bundle)

    assert (notes / "order").read_text().split() == [f"{kind}{number}" for kind in KINDS for number in (1, 2)]


@pytest.mark.parametrize(
    ("kind", "statuses"),
    [
        ("prestart", ("creating", "created")),
        ("createRuntime", ("creating",)),
        ("createContainer", ("creating",)),
        ("startContainer", ("created",)),
        ("poststart", ("running",)),
        ("poststop", ("stopped",)),
    ],
)
def test_the_state_is_given_on_stdin(
    runtime: Runtime, bundle: Bundle, notes: Path, kind: str, statuses: tuple[str, ...]
) -> None:
    bundle.config["annotations"] = {"org.example.note": "a value"}
    _script(bundle, kind, f"cat > {notes}/state")
    id = runtime.created(bundle.args("sleep", "60"))
    pid = runtime.pid(id)
    runtime.start(id).ok()
    runtime.stop(id)
    runtime.delete(id).ok()

    state = json.loads((notes / "state").read_text())

    assert state["id"] == id
    assert state["bundle"] == str(bundle.path)
    assert state["status"] in statuses
    assert state["ociVersion"].startswith("1.")
    assert state["annotations"]["org.example.note"] == "a value"
    if kind != "poststop":
        assert state["pid"] == pid if kind in ("prestart", "createRuntime", "poststart") else state["pid"] in (1, pid)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hook_runs_in_the_namespaces_of_its_kind(runtime: Runtime, bundle: Bundle, notes: Path, kind: str) -> None:
    _script(bundle, kind, f"for n in mnt pid uts; do readlink /proc/self/ns/$n; done > {notes}/ns")
    id = runtime.created(bundle.args("sleep", "60"))
    pid = runtime.pid(id)
    inside = {name: namespace(name, pid) for name in ("mnt", "pid", "uts")}
    runtime.start(id).ok()
    runtime.stop(id)
    runtime.delete(id).ok()

    seen = [int(line.partition("[")[2].rstrip("]")) for line in (notes / "ns").read_text().split()]

    if kind in ("createContainer", "startContainer"):
        assert seen == list(inside.values())
    else:
        assert seen == [namespace(name) for name in inside]


def test_create_container_hooks_begin_in_the_rootfs_before_it_is_the_root(
    runtime: Runtime, bundle: Bundle, notes: Path
) -> None:
    _script(bundle, "createContainer", f"pwd > {notes}/cwd; ls / > {notes}/root")

    runtime.created(bundle)

    assert (notes / "cwd").read_text().strip() == str(bundle.rootfs)
    assert "rootfs" not in (notes / "root").read_text()
    assert sorted((notes / "root").read_text().split()) == sorted(n for n in os.listdir("/") if not n.startswith("."))


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "poststart", "poststop"])
def test_hooks_of_the_host_begin_in_the_bundle(runtime: Runtime, bundle: Bundle, notes: Path, kind: str) -> None:
    _script(bundle, kind, f"pwd > {notes}/cwd")

    runtime.run(bundle.args("exit", "0")).ok()

    assert (notes / "cwd").read_text().strip() == str(bundle.path)


@only("pyocirun")
def test_hooks_begin_in_the_bundle_whichever_command_runs_them(runtime: Runtime, bundle: Bundle, notes: Path) -> None:
    for kind in ("createRuntime", "poststart", "poststop"):
        _script(bundle, kind, f"pwd >> {notes}/cwd")

    _whole_life(runtime, bundle)

    assert (notes / "cwd").read_text().split() == [str(bundle.path)] * 3


@only("pyocirun")
def test_poststop_hooks_run_where_the_bundle_is_gone(runtime: Runtime, bundle: Bundle, notes: Path) -> None:
    _script(bundle, "poststop", f"pwd > {notes}/cwd")
    id = runtime.created(bundle)
    bundle.path.rename(f"{bundle.path}.gone")

    runtime.delete(id, "--force").ok()

    assert (notes / "cwd").exists()


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer", "poststart", "poststop"])
def test_hooks_of_the_host_are_never_looked_up_in_the_container(
    runtime: Runtime, bundle: Bundle, place: Path, kind: str
) -> None:
    """The image has a program of the same path."""
    hook = place / "hooks/hook"
    for path, name in ((hook, "host"), (bundle.rootfs / str(hook)[1:], "image")):
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\ntouch {hook.parent}/{name}\n")
        path.chmod(0o755)
    bundle.config["root"]["readonly"] = False
    bundle.hook(kind, str(hook))

    _whole_life(runtime, bundle)

    assert sorted(os.listdir(hook.parent)) == ["hook", "host"]
    assert os.listdir(bundle.rootfs / str(hook.parent)[1:]) == ["hook"]


def test_start_container_hooks_are_looked_up_in_the_container(runtime: Runtime, bundle: Bundle, notes: Path) -> None:
    bundle.hook("startContainer", "/bin/probe", "write", f"{notes}/seen", "inside")

    _whole_life(runtime, bundle)

    assert (notes / "seen").read_text() == "inside"


def test_mounts_are_there_before_the_hooks_of_the_container(runtime: Runtime, bundle: Bundle, notes: Path) -> None:
    _script(bundle, "createContainer", f"ls proc/self dev > {notes}/inside")

    runtime.created(bundle)

    assert "null" in (notes / "inside").read_text()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "startContainer"])
def test_the_environment_of_a_hook_is_exact(runtime: Runtime, bundle: Bundle, notes: Path, kind: str) -> None:
    _script(bundle, kind, f"cat {_proc(kind)}/$$/environ > {notes}/env", env=["A=1", "B=two words"])

    _whole_life(runtime, bundle)

    assert (notes / "env").read_bytes() == b"A=1\0B=two words\0"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "startContainer"])
def test_a_hook_without_an_environment_has_none(runtime: Runtime, bundle: Bundle, notes: Path, kind: str) -> None:
    _script(bundle, kind, f"cat {_proc(kind)}/$$/environ > {notes}/env")

    _whole_life(runtime, bundle)

    assert (notes / "env").read_bytes() == b""


@requires("busybox")
def test_a_start_container_hook_without_an_environment_has_that_of_the_process(
    runtime: Runtime, bundle: Bundle, notes: Path
) -> None:
    bundle.process["env"] = ["PATH=/bin", "ONE=1"]
    _script(bundle, "startContainer", f'echo "$ONE $HOME" > {notes}/env')

    _whole_life(runtime, bundle)

    assert (notes / "env").read_text() == "1 /root\n"


def test_a_start_container_hook_keeps_the_environment_that_it_has(
    runtime: Runtime, bundle: Bundle, notes: Path
) -> None:
    bundle.process["env"] = ["PATH=/bin", "ONE=1"]
    _script(bundle, "startContainer", f'echo "$ONE $HOME" > {notes}/env', env=["HOME=/mine"])

    _whole_life(runtime, bundle)

    assert (notes / "env").read_text() == " /mine\n"


def test_a_hook_takes_its_arguments_as_they_are(runtime: Runtime, bundle: Bundle, notes: Path) -> None:
    bundle.hook("createRuntime", "other name", "-c", f'echo "$0 $1" > {notes}/args', "zero", "o n e", path="/bin/sh")

    runtime.created(bundle)

    assert (notes / "args").read_text() == "zero o n e\n"


def test_hooks_get_no_descriptors_but_three(runtime: Runtime, bundle: Bundle, notes: Path) -> None:
    for kind in KINDS:
        probe = "/bin/probe" if kind == "startContainer" else f"{bundle.rootfs}/bin/probe"
        _script(bundle, kind, f"{probe} report > {notes}/{kind}.json")

    _whole_life(runtime, bundle)

    for kind in KINDS:
        assert set(json.loads((notes / f"{kind}.json").read_text())["descriptors"]) == {"0", "1", "2"}, kind


# ---- failure -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", AT_CREATE)
def test_a_failed_hook_fails_create_and_leaves_nothing(
    runtime: Runtime, bundle: Bundle, notes: Path, kind: str
) -> None:
    _script(bundle, kind, "echo to-stdout; echo to-stderr >&2; exit 3")
    _script(bundle, kind, f"touch {notes}/second")

    result = runtime.create(bundle)

    result.fails("hook #0", "exit status 3", "to-stderr")
    assert not (notes / "second").exists()
    assert runtime.traces() == []


@only("pyocirun")
@pytest.mark.parametrize("kind", AT_CREATE)
def test_the_failure_names_the_kind_of_the_hook(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    _script(bundle, kind, "exit 3")

    runtime.create(bundle).fails(f"error running {kind} hook #0")


def test_a_failed_start_container_hook_fails_start(runtime: Runtime, bundle: Bundle, notes: Path) -> None:
    _script(bundle, "startContainer", "exit 3")
    id = runtime.new_id()
    result = runtime.create(bundle.args("write", f"{notes}/ran", "x"), id=id).ok()
    pid = runtime.pid(id)

    started = runtime.start(id)

    assert wait_for_orphan(pid) != 0
    assert not (notes / "ran").exists()
    assert started.status == 1 or "hook #0" in result.stderr


@only("pyocirun")
def test_start_tells_that_a_start_container_hook_failed(runtime: Runtime, bundle: Bundle) -> None:
    _script(bundle, "startContainer", "echo reason >&2; exit 3")
    id = runtime.created(bundle)

    runtime.start(id).fails("startContainer")


@pytest.mark.parametrize("kind", AT_CREATE)
def test_a_hook_that_cannot_run_fails_create(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    bundle.hook(kind, "/no/such/hook")

    runtime.create(bundle).fails("/no/such/hook")
    assert runtime.traces() == []


@pytest.mark.parametrize("path", ["relative/hook", ""])
def test_the_path_of_a_hook_must_be_absolute(runtime: Runtime, bundle: Bundle, path: str) -> None:
    bundle.hook("createRuntime", "/bin/true", path=path)

    runtime.create(bundle).fails()
    assert runtime.traces() == []


def test_a_failed_poststart_hook_stops_the_container(runtime: Runtime, bundle: Bundle, notes: Path) -> None:
    _script(bundle, "poststart", "exit 3")
    _script(bundle, "poststop", f"touch {notes}/poststop")
    id = runtime.created(bundle.args("sleep", "60"))
    pid = runtime.pid(id)

    runtime.start(id).fails("poststart")

    eventually(lambda: not alive(pid), "the process has ended")
    assert (notes / "poststop").exists()
    assert runtime.traces() == []


@only("pyocirun")
def test_a_failed_poststart_hook_is_all_that_run_tells_of(runtime: Runtime, bundle: Bundle) -> None:
    _script(bundle, "poststart", "exit 3")

    done = runtime.run(bundle.args("sleep", "60"))

    done.fails("poststart")
    assert [line["level"] for line in done.log] == ["error"]
    assert runtime.traces() == []


def test_every_poststop_hook_runs_whatever_the_others_do(runtime: Runtime, bundle: Bundle, notes: Path) -> None:
    _script(bundle, "poststop", "exit 3")
    _script(bundle, "poststop", f"touch {notes}/second")
    id = runtime.created(bundle)

    result = runtime.delete(id)

    assert result.status == 0
    assert (notes / "second").exists()
    assert runtime.traces() == []


def test_poststop_hooks_run_after_a_create_that_failed(runtime: Runtime, bundle: Bundle, notes: Path) -> None:
    _script(bundle, "createRuntime", "exit 3")
    _script(bundle, "poststop", f"touch {notes}/poststop")

    runtime.create(bundle).fails("hook #0")

    assert (notes / "poststop").exists()


def test_poststop_hooks_find_no_process_any_more(runtime: Runtime, bundle: Bundle, notes: Path) -> None:
    id = runtime.new_id()
    _script(
        bundle, "poststop", f"ls {runtime.root}/{id} > {notes}/left 2>&1; ls /sys/fs/cgroup/*/{id} >> {notes}/left 2>&1"
    )
    runtime.create(bundle, id=id).ok()

    runtime.delete(id).ok()

    assert "state.json" not in (notes / "left").read_text()
    assert "cgroup.procs" not in (notes / "left").read_text()


@only("pyocirun")
def test_the_two_outputs_are_told_apart(runtime: Runtime, bundle: Bundle) -> None:
    _script(bundle, "createRuntime", "echo one; echo two >&2; exit 3")

    runtime.create(bundle).fails("error running createRuntime hook #0: exit status 3, stdout: one, stderr: two")


@only("pyocirun")
@pytest.mark.parametrize("kind", ["createRuntime", "createContainer"])
def test_only_the_end_of_long_outputs_is_told(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    write = "i=0; while [ $i -lt 9999 ]; do echo $i; i=$((i+1)); done"
    _script(bundle, kind, f"{write}; echo end-1; ({write}; echo end-2) >&2; exit 3")

    error = runtime.create(bundle).fails("end-1, stderr: ", "end-2").error

    assert len(error) < 2500


@only("pyocirun")
def test_start_names_the_hook_that_failed(runtime: Runtime, bundle: Bundle) -> None:
    _script(bundle, "startContainer", "true")
    _script(bundle, "startContainer", "echo reason >&2; exit 3")
    id = runtime.created(bundle)

    runtime.start(id).fails("error running startContainer hook #1: exit status 3, stdout: , stderr: reason")


# ---- output to files -----------------------------------------------------------------------------


@only("pyocirun")
def test_the_output_of_all_hooks_goes_to_the_files_that_annotations_name(
    runtime: Runtime, bundle: Bundle, place: Path
) -> None:
    out, err = place / "out", place / "err"
    out.write_text("before\n")
    bundle.config["annotations"] = {"run.oci.hooks.stdout": str(out), "run.oci.hooks.stderr": str(err)}
    for kind in KINDS:
        for number in (1, 2):
            _script(bundle, kind, f"echo {kind}{number}; echo {kind}{number}-err >&2")

    _whole_life(runtime, bundle)

    wanted = [f"{kind}{number}" for kind in KINDS for number in (1, 2)]
    assert out.read_text().split() == ["before", *wanted]
    assert err.read_text().split() == [f"{line}-err" for line in wanted]


@only("pyocirun")
def test_one_file_takes_both_outputs_and_the_error_tells_what_the_hook_wrote(
    runtime: Runtime, bundle: Bundle, place: Path
) -> None:
    file = place / "both"
    file.write_text("of another\n")
    bundle.config["annotations"] = {"run.oci.hooks.stdout": str(file), "run.oci.hooks.stderr": str(file)}
    _script(bundle, "createContainer", "echo one; echo two >&2; exit 3")

    error = runtime.create(bundle).fails("one\ntwo").error

    assert file.read_text() == "of another\none\ntwo\n"
    assert "of another" not in error


@only("pyocirun")
@pytest.mark.parametrize("name", ["run.oci.hooks.stdout", "run.oci.hooks.stderr"])
def test_a_file_for_output_must_have_an_absolute_path(runtime: Runtime, bundle: Bundle, name: str) -> None:
    bundle.config["annotations"] = {name: "relative"}
    _script(bundle, "poststop", "true")

    runtime.create(bundle).fails(name, "absolute")
    assert runtime.traces() == []


@only("pyocirun")
def test_a_file_for_output_that_cannot_be_made_fails_create(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    bundle.config["annotations"] = {"run.oci.hooks.stdout": str(place / "missing/file")}
    _script(bundle, "createContainer", "true")

    runtime.create(bundle).fails("missing/file")
    assert runtime.traces() == []


# ---- timeout -------------------------------------------------------------------------------------


def test_a_hook_is_stopped_after_its_timeout(runtime: Runtime, bundle: Bundle) -> None:
    _script(bundle, "createRuntime", f"exec sleep {20 * PATIENCE}", timeout=1)

    result = runtime.create(bundle)

    result.fails("hook ran past specified timeout of 1.0s")
    assert result.seconds < 5 * PATIENCE
    assert runtime.traces() == []


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer"])
def test_the_timeout_ends_what_the_hook_started_too(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    _script(bundle, kind, f"sleep {6 * PATIENCE} & sleep {6 * PATIENCE}", timeout=1)

    result = runtime.create(bundle)

    result.fails("timeout")
    assert result.seconds < 4 * PATIENCE
    assert runtime.traces() == []


def test_a_hook_that_is_quick_enough_is_left_alone(runtime: Runtime, bundle: Bundle, notes: Path) -> None:
    _script(bundle, "createRuntime", f"touch {notes}/done", timeout=int(10 * PATIENCE))

    result = runtime.create(bundle).ok()

    assert (notes / "done").exists()
    assert result.seconds < 5 * PATIENCE


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_timeout_must_be_positive(runtime: Runtime, bundle: Bundle, timeout: int) -> None:
    _script(bundle, "createRuntime", "true", timeout=timeout)

    runtime.create(bundle).fails()
    assert runtime.traces() == []
