"""linux.seccomp: which system calls the container may make (config-linux.md#seccomp)."""

from __future__ import annotations

from pyocirun.record import Record
from pyocirun.spec import reader
from pyocirun.spec.reader import UINT64, child, fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ACTIONS = (
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
)

OPERATORS = (
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
)

ARCHITECTURES = (
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
)

FLAGS = (
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
)

WITH_ERRNO = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
"""The actions that take an errnoRet; it is 16 bits wide in the filter's answer (seccomp(2), SECCOMP_RET_DATA)."""

RECEIVER = "run.oci.seccomp.receiver"
REFUSES_UNKNOWN = "run.oci.seccomp_fail_unknown_syscall"

MAX_ERRNO = (1 << 16) - 1


class SyscallArg(Record):
    """A condition on argument `index` (0..5). value_two: for SCMP_CMP_MASKED_EQ, the value under the mask `value`."""

    index: int
    value: int
    op: str
    value_two: int | None = None


class SyscallRule(Record):
    """What to do about some system calls. errno_ret: None is EPERM.  args: all have to hold; () always."""

    names: tuple[str, ...]
    action: str
    errno_ret: int | None = None
    args: tuple[SyscallArg, ...] = ()


class Seccomp(Record):
    """A seccomp profile. flags: None if absent, which is not the same as ().

    listener_path: from an annotation where the profile has none.  refuses_unknown: a name that libseccomp does not know
    is an error; another annotation asks for that.
    """

    default_action: str
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] | None = None
    listener_path: str | None = None
    listener_metadata: str | None = None
    syscalls: tuple[SyscallRule, ...] = ()
    refuses_unknown: bool = False


def parse_seccomp(
    fields: dict[str, Any], at: str = "/linux/seccomp", annotations: dict[str, str] | None = None
) -> Seccomp:
    """The profile in an object, with what crun's annotations add to it. Raises SpecError."""
    given = annotations or {}
    seccomp = Seccomp(
        reader.choice(fields, "defaultAction", at, ACTIONS),
        reader.optional_integer(fields, "defaultErrnoRet", at, 0, MAX_ERRNO),
        _known(fields, "architectures", at, ARCHITECTURES) or (),
        _known(fields, "flags", at, FLAGS),
        reader.optional_string(fields, "listenerPath", at) or _receiver(given),
        reader.optional_string(fields, "listenerMetadata", at),
        reader.records(fields, "syscalls", at, _rule) or (),
        given.get(REFUSES_UNKNOWN, "0") != "0",
    )
    if seccomp.default_errno_ret is not None and seccomp.default_action not in WITH_ERRNO:
        raise fault(child(at, "defaultErrnoRet"), f"{seccomp.default_action} does not support an errno")
    _check_notify(seccomp, at)
    return seccomp


def _receiver(annotations: dict[str, str]) -> str | None:
    """Where an agent listens, for those who write no listenerPath."""
    path = annotations.get(RECEIVER) or None
    if path is not None and not path.startswith("/"):
        raise fault(f"/annotations/{RECEIVER}", f"the seccomp receiver `{path}` is not an absolute path")
    return path


def _known(fields: dict[str, Any], key: str, at: str, known: tuple[str, ...]) -> tuple[str, ...] | None:
    values = reader.strings(fields, key, at)
    for index, value in enumerate(values or ()):
        if value not in known:
            raise fault(child(child(at, key), index), f'"{value}" is not one of {", ".join(known)}')
    return values


def _rule(value: Any, at: str) -> SyscallRule:
    fields = reader.fields(value, at)
    rule = SyscallRule(
        reader.strings(fields, "names", at) or (),
        reader.choice(fields, "action", at, ACTIONS),
        reader.optional_integer(fields, "errnoRet", at, 0, MAX_ERRNO),
        reader.records(fields, "args", at, _argument) or (),
    )
    if not rule.names:
        raise fault(child(at, "names"), "must name at least one system call")
    if "" in rule.names:
        raise fault(child(child(at, "names"), rule.names.index("")), "must not be empty")
    if rule.errno_ret is not None and rule.action not in WITH_ERRNO:
        raise fault(child(at, "errnoRet"), f"{rule.action} does not support an errno")
    return rule


def _argument(value: Any, at: str) -> SyscallArg:
    fields = reader.fields(value, at)
    return SyscallArg(
        reader.integer(fields, "index", at, 0, 5),
        reader.integer(fields, "value", at, 0, UINT64),
        reader.choice(fields, "op", at, OPERATORS),
        reader.optional_integer(fields, "valueTwo", at, 0, UINT64),
    )


def _check_notify(seccomp: Seccomp, at: str) -> None:
    """An agent that answers for a system call must be there, and must not be needed to tell the agent about itself."""
    if seccomp.default_action == "SCMP_ACT_NOTIFY":
        raise fault(child(at, "defaultAction"), "SCMP_ACT_NOTIFY cannot be used as default action")
    for index, rule in enumerate(seccomp.syscalls):
        if rule.action == "SCMP_ACT_NOTIFY":
            pointer = child(child(at, "syscalls"), index)
            if "write" in rule.names:
                raise fault(pointer, "SCMP_ACT_NOTIFY cannot be used for the write syscall")
            if seccomp.listener_path is None:
                raise fault(pointer, "seccomp listenerPath is not set")
    if seccomp.listener_metadata is not None and seccomp.listener_path is None:
        raise fault(child(at, "listenerMetadata"), "must not be set without listenerPath")
