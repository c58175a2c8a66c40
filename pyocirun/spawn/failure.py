"""FAILED of nsexec -> an error with words: what was tried, why it failed, what to try."""

from __future__ import annotations

import errno
import os

from pyocirun import native
from pyocirun.errors import Error, HookError, OperationError
from pyocirun.plan import ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyocirun.spawn.message import Message

ESCAPE = (
    "current working directory is outside of container mount namespace root -- possible container breakout detected"
)


def operation_error(plan: ops.Plan, message: Message) -> Error:
    """The error for an operation of `plan` that failed."""
    if not 0 <= message.index < len(plan.ops):
        text = f"nsexec refused the plan: {native.step_name(message.step)}: {words(message.error)}"
        return OperationError(text, errno=message.error, step=native.step_name(message.step))
    op = plan.ops[message.index]
    if type(op) is ops.RunHook:
        return hook_error(op, message)
    if type(op) is ops.LoadSeccomp:
        return filter_error(message, message.index, len(plan.ops))
    return behind_gate(op, message, message.index, len(plan.ops))


def behind_gate(op: ops.Op, message: Message, index: int, total: int) -> Error:
    """The same, where the plan itself is not at hand: `start` knows only the operations that come after the gate."""
    step = native.step_name(message.step)
    special = _SPECIAL.get(type(op))
    text, hint = special(op, step, message.error) if special else ("", "")
    if not text:
        origin = getattr(op, "origin", "")
        where = f"{origin}, " if origin else ""
        text = f"cannot {op.describe()}: {step}: {os.strerror(message.error)} ({where}operation {index} of {total})"
    return OperationError(
        text,
        index=index,
        op=op.describe(),
        step=step,
        errno=message.error,
        path=_path(op),
        hint=hint or _hint(op, message),
    )


def filter_error(message: Message, index: int, total: int) -> OperationError:
    """A seccomp filter that could not be loaded, or whose agent did not take it."""
    step = native.step_name(message.step)
    return OperationError(
        f"cannot load the seccomp filter: {step}: {os.strerror(message.error)} (operation {index} of {total})",
        index=index,
        op="load the seccomp filter",
        step=step,
        errno=message.error,
        hint=_FILTER_HINTS.get((step, message.error), ""),
    )


_FILTER_HINTS = {
    ("seccomp", errno.EACCES): "it takes process.noNewPrivileges, or CAP_SYS_ADMIN in the container's user namespace",
    ("seccomp", errno.EBUSY): "there can be one agent only: a filter that the runtime itself runs under has one",
    ("sendmsg", errno.EPIPE): "the seccomp agent at linux.seccomp.listenerPath has closed its connection",
    ("sendmsg", errno.EAGAIN): "the seccomp agent at linux.seccomp.listenerPath does not read",
    ("clone3", errno.EAGAIN): "with an agent this takes a second thread: is the limit of pids too low?",
}


def hook_error(op: ops.RunHook, message: Message) -> HookError:
    """A hook that failed, could not be started or took too long. The ends of its output are in the payload."""
    name = f"{op.kind} hook #{op.index}"
    first = 4 + int.from_bytes(message.payload[:4], "little")
    stdout, stderr = (part.decode("utf-8", "replace") for part in (message.payload[4:first], message.payload[first:]))
    if message.error == errno.ETIME:
        why = f"hook ran past specified timeout of {float(op.timeout or 0):.1f}s"
    elif message.value < 0:
        why = f"{native.step_name(message.step)} {op.path}: {words(message.error)}"
    elif message.value & 0x7F:
        why = f"signal: {signal_words(message.value & 0x7F)}"
    else:
        why = f"exit status {message.value >> 8}"
    text = f"error running {name}: {why}"
    if message.value >= 0:
        text += f", stdout: {stdout.strip()}, stderr: {stderr.strip()}"
    return HookError(text, hook=name, status=message.value, stdout=stdout, stderr=stderr, path=op.path)


def signal_words(number: int) -> str:
    """What the signal is called, in Go's words: "bad system call"; its number if it has no name."""
    from signal import strsignal

    return (strsignal(number) or str(number)).lower()


def words(number: int) -> str:
    """The text of an errno as Go has it, which clients look for: "no such file or directory"."""
    return os.strerror(number).lower()


def _resolve(op: ops.Resolve, step: str, number: int) -> tuple[str, str]:
    if number == errno.EACCES:
        return f'exec: "{op.name}": permission denied', "is it executable, for this user, and no directory?"
    if "/" in op.name:
        hint = "it is looked for in the rootfs" if number == errno.ENOENT else ""
        return f'exec: "{op.name}": stat {op.name}: {words(number)}', hint
    if number == errno.ENOENT:
        return f'exec: "{op.name}": executable file not found in $PATH', f"PATH of the process is {op.search!r}"
    return f'exec: "{op.name}": {words(number)}', ""


def _exec(op: ops.Exec, step: str, number: int) -> tuple[str, str]:
    hint = ""
    if number == errno.ENOENT:
        hint = "the program is there: is the interpreter that it names (#!, or the dynamic loader) missing?"
    elif number == errno.ENOEXEC:
        hint = "it is no program for this machine, or a script without #!"
    elif number == errno.EACCES:
        hint = "does a security module, or the annotation for Landlock, allow it and the loader that it names?"
    return f"exec {op.args[0]}: {words(number)}", hint


def _cwd(op: ops.Cwd, step: str, number: int) -> tuple[str, str]:
    if step == "getcwd" or number == errno.ELOOP:
        return ESCAPE, ""
    return f'chdir to cwd ("{op.path}") set in config.json failed: {words(number)}', ""


def _make_cwd(op: ops.MakeCwd, step: str, number: int) -> tuple[str, str]:
    return (ESCAPE, "") if number == errno.ELOOP else ("", "")


def _mount(op: ops.Mount, step: str, number: int) -> tuple[str, str]:
    if step == "verify":
        return f'"{op.target}" cannot be mounted because it is inside /proc', "a link in the rootfs leads there"
    if op.plain and number in (errno.ELOOP, errno.ENOTDIR):
        return f'filesystem "{op.fstype}" must be mounted on ordinary directory', f"what is {op.target} in the rootfs?"
    return "", ""


def _bind(op: ops.Bind, step: str, number: int) -> tuple[str, str]:
    if step == "verify":
        return f'"{op.target}" cannot be mounted because it is inside /proc', "a link in the rootfs leads there"
    if step == "statfs":
        return f'"{op.target}" cannot be mounted because it is not of type proc', f"{op.source} is no procfs"
    return "", ""


def _mask(op: ops.MaskPath, step: str, number: int) -> tuple[str, str]:
    if step == "verify":
        return (
            f"cannot mask {op.text}: container's /dev/null is invalid",
            "it must be the device 1:3, and no link to it",
        )
    return "", ""


def _user(op: ops.SetUser, step: str, number: int) -> tuple[str, str]:
    if number == errno.EINVAL and step in ("setresuid", "setresgid"):
        kind, id = ("uid", op.uid) if step == "setresuid" else ("gid", op.gid)
        return f"cannot set{kind} to unmapped {kind} {id} in user namespace", f"map it in linux.{kind}Mappings"
    if step == "setgroups" and number == errno.EPERM:
        return "cannot set any additional groups in a rootless container", ""
    return "", ""


def _oom(op: ops.OomScoreAdj, step: str, number: int) -> tuple[str, str]:
    text = f"failed to update /proc/self/oom_score_adj to {op.text}: {words(number)}"
    return text, "lowering it needs CAP_SYS_RESOURCE" if number == errno.EACCES else ""


def _apparmor(op: ops.AppArmorProfile, step: str, number: int) -> tuple[str, str]:
    text = f"unable to apply apparmor profile {op.text!r}: {step}: {words(number)}"
    return text, "is it loaded? see /sys/kernel/security/apparmor/profiles" if number == errno.ENOENT else ""


def _selinux(op: ops.SelinuxLabel, step: str, number: int) -> tuple[str, str]:
    text = f"unable to apply selinux label {op.text!r}: {step}: {words(number)}"
    return text, "the loaded policy does not know this label" if number == errno.EINVAL else ""


_SPECIAL: dict[type[ops.Op], Callable[..., tuple[str, str]]] = {
    ops.Resolve: _resolve,
    ops.Exec: _exec,
    ops.Cwd: _cwd,
    ops.MakeCwd: _make_cwd,
    ops.Mount: _mount,
    ops.Bind: _bind,
    ops.MaskPath: _mask,
    ops.SetUser: _user,
    ops.OomScoreAdj: _oom,
    ops.AppArmorProfile: _apparmor,
    ops.SelinuxLabel: _selinux,
}


def _path(op: ops.Op) -> str:
    for field in ("target", "path", "text", "name"):
        value = getattr(op, field, "")
        if isinstance(value, str) and value.startswith("/"):
            return value
    return ""


def _hint(op: ops.Op, message: Message) -> str:
    if type(op) in (ops.Unshare, ops.Fork, ops.Propagation, ops.BecomeRoot):
        from pyocirun.spawn.restriction import user_namespace_hint

        return user_namespace_hint(message.error)
    hint = _HINTS.get((type(op), message.error), _COMMON_HINTS.get(message.error, ""))
    return hint if isinstance(hint, str) else hint(op, message)


def _mount_permission(op: ops.Mount, message: Message) -> str:
    if op.fstype == "mqueue":
        return "mqueue needs an ipc namespace of the container's own"
    if op.fstype not in ("proc", "sysfs"):
        return ""
    namespace = "pid" if op.fstype == "proc" else "network"
    text = f"a user namespace may mount {op.fstype} only with a {namespace} namespace of its own"
    return f"{text}, and where the host's {op.fstype} is not partly masked; else bind the host's"


def _mount_options(op: ops.Mount, message: Message) -> str:
    options = op.data.split(",")
    if 0 < message.value <= len(options):
        return f"{op.fstype} refused the option {options[message.value - 1]!r}"
    return f"the file system refused its options {op.data!r}: the kernel log may say which"


def _scheduler_permission(op: ops.SetScheduler, message: Message) -> str:
    if not op.text.startswith("SCHED_DEADLINE"):
        return "this takes CAP_SYS_NICE, and on some kernels with cgroup v1 linux.resources.cpu.realtimeRuntime"
    text = "this takes CAP_SYS_NICE, and every CPU of the machine"
    return f"{text}: a process scheduler can't be used together with AllowedCPUs"


_HINTS: dict[tuple[type[ops.Op], int], str | Callable[[Any, Message], str]] = {
    (ops.Mount, errno.EPERM): _mount_permission,
    (ops.Mount, errno.EINVAL): _mount_options,
    (ops.Mount, errno.ENODEV): lambda op, _: f"this kernel has no file system {op.fstype!r}",
    (ops.Bind, errno.ENOENT): lambda op, _: f"does {op.source} exist on the host?",
    (ops.Bind, errno.EPERM): (
        "a user namespace may not take away ro, nosuid, nodev or noexec from what the host mounted so"
    ),
    (ops.SetScheduler, errno.EPERM): _scheduler_permission,
    (ops.SetScheduler, errno.EINVAL): "sched_setattr(2) tells what values go together",
    (ops.SetIOPriority, errno.EPERM): "the real-time class takes CAP_SYS_NICE or CAP_SYS_ADMIN",
    (ops.LandlockPath, errno.ENOENT): 'it is not there in the container; "optional" passes over what may be missing',
    (ops.LandlockPath, errno.ENOTDIR): "it is no directory, and nothing that is allowed is about files",
    (ops.LandlockRestrict, errno.EPERM): (
        "it takes process.noNewPrivileges, or CAP_SYS_ADMIN in the container's user namespace"
    ),
    (ops.LandlockRestrict, errno.E2BIG): (
        "a process can be under 16 rulesets, those of whoever runs the runtime among them"
    ),
    (ops.PivotRoot, errno.EINVAL): "is the root a ramfs? then --no-pivot helps",
    (ops.JoinNamespace, errno.EPERM): (
        "joining takes CAP_SYS_ADMIN in the user namespace that it belongs to, and in one's own"
    ),
    (ops.JoinNamespace, errno.EINVAL): (
        "is it a user namespace that the caller is in already, or a pid namespace that is no descendant of its own?"
    ),
    (ops.LowerRlimit, errno.EPERM): "raising a hard limit needs CAP_SYS_RESOURCE",
    (ops.OwnRlimit, errno.EPERM): "raising a hard limit needs CAP_SYS_RESOURCE",
}
_COMMON_HINTS = {errno.ELOOP: "a symbolic link in the rootfs leads where it may not"}
