"""Numbers of seccomp(2) for the names that a profile uses (config-linux.md#seccomp)."""

from __future__ import annotations

EPERM = 1
ENOSYS = 38

ALLOW = 0x7FFF0000
LOG = 0x7FFC0000
TRACE = 0x7FF00000
NOTIFY = 0x7FC00000
ERRNO = 0x00050000
TRAP = 0x00030000
KILL_THREAD = 0
KILL_PROCESS = 0x80000000

ACTIONS = {
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_ALLOW": ALLOW,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_NOTIFY": NOTIFY,
}
"""What a filter answers; ERRNO and TRACE carry a number in their lower 16 bits."""

OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
"""enum scmp_compare of libseccomp."""

TSYNC = 1
FLAG_LOG = 2
SPEC_ALLOW = 4
NEW_LISTENER = 8
WAIT_KILLABLE_RECV = 32

FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": TSYNC,
    "SECCOMP_FILTER_FLAG_LOG": FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": WAIT_KILLABLE_RECV,
}
"""The flags that a profile can ask for."""

MAX_INSTRUCTIONS = 4096
"""BPF_MAXINSNS"""

X32 = 0x4000003E
X32_BIT = 0x40000000
AUDIT_X86_64 = 0xC000003E
AUDIT_ARM = 0x40000028
ARM_PRIVATE = 0x0F0000


def answer(action: str, errno: int | None = None) -> int:
    """What the filter answers for an action. errno: None is EPERM, where the action carries one at all."""
    number = ACTIONS[action]
    return number | (EPERM if errno is None else errno) if number in (ERRNO, TRACE) else number


def action_name(answer: int) -> str:
    """The name of a filter's answer: "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO(1)"."""
    number = answer & 0xFFFF0000
    name = "SCMP_ACT_KILL" if number == KILL_THREAD else next(name for name in ACTIONS if ACTIONS[name] == number)
    return f"{name}({answer & 0xFFFF})" if number in (ERRNO, TRACE) else name
