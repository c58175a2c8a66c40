"""FAILED -> the texts that people and engines read."""

from __future__ import annotations

import errno

import pytest

from pyocirun import native
from pyocirun.errors import HookError, OperationError
from pyocirun.plan import ops
from pyocirun.plan.ops import Op, Plan
from pyocirun.spawn.failure import behind_gate, operation_error, words
from pyocirun.spawn.message import FAILED, Message

STEPS = {native.step_name(number): number for number in range(60)}


def failed(op: Op, step: str, number: int, value: int = 0, payload: bytes = b"") -> Message:
    return Message(FAILED, 1, number, STEPS[step], value, payload)


def error(op: Op, step: str, number: int) -> OperationError:
    found = operation_error(Plan((ops.Clone(0), op)), failed(op, step, number))
    assert isinstance(found, OperationError)
    return found


NO_BASH = ops.Resolve("bash", "/usr/bin:/bin")
NO_PATH = ops.Resolve("/bin/bash", "/bin")


@pytest.mark.parametrize(
    ("op", "step", "number", "text"),
    [
        (NO_BASH, "lookup", errno.ENOENT, 'exec: "bash": executable file not found in $PATH'),
        (NO_BASH, "access", errno.EACCES, 'exec: "bash": permission denied'),
        (NO_BASH, "lookup", errno.EIO, 'exec: "bash": input/output error'),
        (NO_PATH, "stat", errno.ENOENT, 'exec: "/bin/bash": stat /bin/bash: no such file or directory'),
        (NO_PATH, "access", errno.EACCES, 'exec: "/bin/bash": permission denied'),
        (ops.Exec(("/bin/a", "b"), ()), "execve", errno.ENOEXEC, "exec /bin/a: exec format error"),
        (ops.Exec(("/bin/a",), ()), "execve", errno.ENOENT, "exec /bin/a: no such file or directory"),
        (
            ops.Cwd("/proc/self/fd/7"),
            "getcwd",
            errno.ENOENT,
            "current working directory is outside of container mount namespace root"
            " -- possible container breakout detected",
        ),
        (
            ops.Cwd("/proc/self/fd/7"),
            "open",
            errno.ELOOP,
            "current working directory is outside of container mount namespace root"
            " -- possible container breakout detected",
        ),
        (
            ops.Cwd("/missing"),
            "open",
            errno.ENOENT,
            'chdir to cwd ("/missing") set in config.json failed: no such file or directory',
        ),
        (
            ops.Mount("proc", "/proc", "proc", plain=True),
            "open",
            errno.ELOOP,
            'filesystem "proc" must be mounted on ordinary directory',
        ),
        (
            ops.Bind("/srv", "/proc"),
            "statfs",
            errno.EINVAL,
            '"/proc" cannot be mounted because it is not of type proc',
        ),
        (
            ops.MaskPath("/proc/kcore"),
            "verify",
            errno.ENODEV,
            "cannot mask /proc/kcore: container's /dev/null is invalid",
        ),
        (
            ops.SetUser(5, 6),
            "setresuid",
            errno.EINVAL,
            "cannot setuid to unmapped uid 5 in user namespace",
        ),
        (
            ops.SetUser(5, 6),
            "setresgid",
            errno.EINVAL,
            "cannot setgid to unmapped gid 6 in user namespace",
        ),
        (
            ops.SetUser(5, 6, (7,)),
            "setgroups",
            errno.EPERM,
            "cannot set any additional groups in a rootless container",
        ),
        (
            ops.OomScoreAdj("-5"),
            "write",
            errno.EACCES,
            "failed to update /proc/self/oom_score_adj to -5: permission denied",
        ),
    ],
)
def test_texts_that_callers_match(op: Op, step: str, number: int, text: str) -> None:
    found = error(op, step, number)

    assert str(found) == text


@pytest.mark.parametrize(
    ("op", "step", "number", "text"),
    [
        (
            ops.Mount("tmpfs", "/run", "tmpfs", 2, "size=1", origin="mounts[3]"),
            "mount",
            errno.EINVAL,
            "cannot mount tmpfs on /run (MS_NOSUID,size=1): mount: Invalid argument (mounts[3], operation 1 of 2)",
        ),
        (ops.PivotRoot(), "pivot_root", errno.EINVAL, "cannot pivot to the rootfs: pivot_root: Invalid argument"),
        (ops.Hostname("x"), "sethostname", errno.EPERM, "cannot set hostname x: sethostname: Operation not permitted"),
    ],
)
def test_other_texts_name_operation_step_and_reason(op: Op, step: str, number: int, text: str) -> None:
    found = error(op, step, number)

    assert text in str(found)
    assert "operation 1 of 2" in str(found)
    assert (found.index, found.step, found.errno, found.op) == (1, step, number, op.describe())


@pytest.mark.parametrize(
    ("op", "step", "number", "hint"),
    [
        (NO_BASH, "lookup", errno.ENOENT, "/usr/bin:/bin"),
        (NO_PATH, "access", errno.EACCES, "executable"),
        (ops.Resolve("/nope", ""), "access", errno.ENOENT, "in the rootfs"),
        (ops.Exec(("a",), ()), "execve", errno.ENOENT, "interpreter"),
        (ops.Exec(("a",), ()), "execve", errno.ENOEXEC, "#!"),
        (ops.Mount("proc", "/proc", "proc"), "mount", errno.EPERM, "partly masked"),
        (ops.Mount("x", "/x", "zfs"), "mount", errno.ENODEV, "no file system 'zfs'"),
        (ops.Mount("x", "/x", "tmpfs", 0, "sice=1"), "mount", errno.EINVAL, "sice=1"),
        (ops.Bind("/srv", "/x"), "open_tree", errno.ENOENT, "does /srv exist on the host?"),
        (ops.Bind("/srv", "/x"), "mount_setattr", errno.EPERM, "user namespace"),
        (ops.PivotRoot(), "pivot_root", errno.EINVAL, "--no-pivot"),
        (ops.ReadonlyPath("/x"), "open", errno.ELOOP, "symbolic link"),
        (ops.SetUser(5, 6), "setresuid", errno.EINVAL, "linux.uidMappings"),
        (ops.OomScoreAdj("-5"), "write", errno.EACCES, "CAP_SYS_RESOURCE"),
    ],
)
def test_hint_is_one_thing_to_try(op: Op, step: str, number: int, hint: str) -> None:
    found = error(op, step, number)

    assert hint in found.hint


@pytest.mark.parametrize("copy_mode", [False, True])
def test_option_that_the_file_system_refused_is_named(copy_mode: bool) -> None:
    op = ops.Mount("x", "/x", "tmpfs", 0, "uid=3,size=much", copy_mode=copy_mode)

    found = operation_error(Plan((ops.Clone(0), op)), failed(op, "mount", errno.EINVAL, 2))

    assert found.hint == "tmpfs refused the option 'size=much'"


def test_path_is_that_of_the_operation() -> None:
    assert error(ops.Mount("x", "/run", "tmpfs"), "mount", 1).path == "/run"
    assert error(ops.MaskPath("/proc/x"), "open", 1).path == "/proc/x"
    assert error(ops.Hostname("x"), "sethostname", 1).path == ""


@pytest.mark.parametrize("index", [-1, 2, 4095, 2**32 - 1])
def test_plan_that_nsexec_refuses(index: int) -> None:
    message = Message(FAILED, index, errno.EPROTO, STEPS["plan"])

    found = operation_error(Plan((ops.Clone(0), ops.Finish())), message)

    assert str(found) == "nsexec refused the plan: plan: protocol error"


@pytest.mark.parametrize("op", [ops.Undumpable(), ops.Fork(), ops.Home(0), ops.Loopback()])
def test_any_operation_and_errno_gives_a_text(op: Op) -> None:
    for number in (0, 1, 2, 13, 22, 40, 133, 4095):
        for step in STEPS:
            assert str(error(op, step, number))


# Hooks

HOOK = ops.RunHook("createContainer", 2, "/bin/hook", ("hook",), ("SECRET=1",), 3)


@pytest.mark.parametrize(
    ("step", "number", "value", "payload", "text"),
    [
        ("wait", 0, 3 << 8, b"\3\0\0\0ok\nbad\n", "exit status 3, stdout: ok, stderr: bad"),
        ("wait", 0, 9, b"\0\0\0\0", "signal: killed, stdout: , stderr: "),
        ("wait", 0, 31, b"\0\0\0\0", "signal: bad system call, stdout: , stderr: "),
        ("timeout", errno.ETIME, -1, b"", "hook ran past specified timeout of 3.0s"),
        ("execve", errno.ENOENT, -1, b"", "execve /bin/hook: no such file or directory"),
        ("execve", errno.EACCES, -1, b"", "execve /bin/hook: permission denied"),
    ],
)
def test_hook_that_fails(step: str, number: int, value: int, payload: bytes, text: str) -> None:
    found = operation_error(Plan((ops.Clone(0), HOOK)), failed(HOOK, step, number, value, payload))

    assert isinstance(found, HookError)
    assert str(found) == f"error running createContainer hook #2: {text}"
    assert (found.hook, found.status, found.path) == ("createContainer hook #2", value, "/bin/hook")


def test_output_of_a_hook_need_not_be_text() -> None:
    found = operation_error(Plan((ops.Clone(0), HOOK)), failed(HOOK, "wait", 0, 256, b"\1\0\0\0\xfd\xff\xfe"))

    assert isinstance(found, HookError)
    assert (found.stdout, found.stderr) == ("\ufffd", "\ufffd\ufffd")


def test_start_has_the_same_text_without_the_plan() -> None:
    op = ops.Exec(("/bin/a",), ())

    found = behind_gate(op, Message(FAILED, 7, errno.ENOENT, STEPS["execve"]), 7, 8)

    assert str(found) == "exec /bin/a: no such file or directory"


@pytest.mark.parametrize(
    ("number", "text"), [(2, "no such file or directory"), (13, "permission denied"), (1, "operation not permitted")]
)
def test_words_are_those_of_go(number: int, text: str) -> None:
    assert words(number) == text
