"""process: what runs, and as whom (config.md#process, also the file that `exec --process` takes)."""

from __future__ import annotations

from pyocirun.record import Record, replace
from pyocirun.spec import reader
from pyocirun.spec.reader import UINT32, UINT64, child, fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

MAX_ID = UINT32 - 1
"""Highest user or group id: the one above is -1, which setresuid(2) and chown(2) take for "leave as it is"."""

LONGEST_SIDE = 65535
"""Of a terminal: the kernel's struct winsize has 16 bits for each."""


class User(Record):
    """Who the process runs as, by ids of the container. uid, gid: 0 if absent.  umask: None is 0022."""

    uid: int = 0
    gid: int = 0
    umask: int | None = None
    additional_gids: tuple[int, ...] = ()


class Capabilities(Record):
    """The five sets, by names as config.json has them, unknown ones too. None: absent, which is as good as ()."""

    bounding: tuple[str, ...] | None = None
    effective: tuple[str, ...] | None = None
    inheritable: tuple[str, ...] | None = None
    permitted: tuple[str, ...] | None = None
    ambient: tuple[str, ...] | None = None


class Rlimit(Record):
    """A resource limit. type: "RLIMIT_NOFILE", a key of `linux.rlimits.RLIMITS`.  2**64-1: no limit."""

    type: str
    soft: int
    hard: int


class ConsoleSize(Record):
    """Characters of the terminal."""

    height: int
    width: int


class Scheduler(Record):
    """How the process is scheduled, sched_setattr(2). runtime, deadline, period: nanoseconds, None is 0."""

    policy: str
    nice: int | None = None
    priority: int | None = None
    flags: tuple[str, ...] = ()
    runtime: int | None = None
    deadline: int | None = None
    period: int | None = None


class IOPriority(Record):
    """ioprio_set(2): class_ is a key of `linux.sched.IO_CLASSES`, priority 0 (highest) to 7."""

    class_: str
    priority: int


class CPUAffinity(Record):
    """Lists of CPUs ("0-3,7") before and after the process enters its cgroup, or None."""

    initial: str | None = None
    final: str | None = None


class Process(Record):
    """What to run.

    capabilities: None if the object is absent, then no set is changed.  rlimits: None if absent.
    oom_score_adj: None leaves it as it is.
    """

    cwd: str
    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    user: User = User()
    terminal: bool = False
    console_size: ConsoleSize | None = None
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] | None = None
    no_new_privileges: bool = False
    oom_score_adj: int | None = None
    apparmor_profile: str | None = None
    selinux_label: str | None = None
    scheduler: Scheduler | None = None
    io_priority: IOPriority | None = None
    exec_cpu_affinity: CPUAffinity | None = None


def parse_process(value: Any, at: str = "/process") -> Process:
    """The process in `value`; `at` is its JSON pointer, "" for a document of its own. Raises SpecError."""
    fields = reader.fields(value, at)
    return Process(
        _cwd(fields, at),
        _args(fields, at),
        _env(fields, at),
        _user(fields, at),
        reader.boolean(fields, "terminal", at),
        _console_size(fields, at),
        _capabilities(fields, at),
        _rlimits(fields, at),
        reader.boolean(fields, "noNewPrivileges", at),
        reader.optional_integer(fields, "oomScoreAdj", at, -1000, 1000),
        reader.optional_string(fields, "apparmorProfile", at),
        reader.optional_string(fields, "selinuxLabel", at),
        _scheduler(fields, at),
        _io_priority(fields, at),
        _cpu_affinity(fields, at),
    )


def with_terminal(process: Process, terminal: bool | None, size: tuple[int, int] | None) -> Process:
    """`process` with or without a terminal, of this size in rows and columns; None: as it is. Raises SpecError."""
    if terminal is not None:
        process = replace(process, terminal=terminal)
    if size is None:
        return process
    if not all(0 <= number <= LONGEST_SIDE for number in size):
        raise fault("/consoleSize", f"rows and columns go from 0 to {LONGEST_SIDE}")
    return replace(process, console_size=ConsoleSize(*size))


def _cwd(fields: dict[str, Any], at: str) -> str:
    cwd = reader.optional_string(fields, "cwd", at)
    if cwd is None:
        raise fault(child(at, "cwd"), "Cwd property must not be empty")
    if not cwd.startswith("/"):
        raise fault(child(at, "cwd"), "Cwd must be an absolute path")
    return cwd


def _args(fields: dict[str, Any], at: str) -> tuple[str, ...]:
    args = reader.strings(fields, "args", at)
    if not args:
        raise fault(child(at, "args"), "args must not be empty")
    return args


def _env(fields: dict[str, Any], at: str) -> tuple[str, ...]:
    env = reader.strings(fields, "env", at) or ()
    check_env(env, child(at, "env"))
    return env


def check_env(env: Sequence[str], at: str) -> None:
    """Raises SpecError: an entry without a name or without "=" is nothing that execve(2)'s readers agree upon."""
    for index, variable in enumerate(env):
        if variable.find("=") < 1:
            raise fault(child(at, index), "invalid environment variable: must have the form NAME=VALUE")


def _user(fields: dict[str, Any], at: str) -> User:
    user = reader.section(fields, "user", at)
    if user is None:
        return User()
    at = child(at, "user")
    return User(
        reader.optional_integer(user, "uid", at, 0, MAX_ID) or 0,
        reader.optional_integer(user, "gid", at, 0, MAX_ID) or 0,
        reader.optional_integer(user, "umask", at, 0, UINT32),
        reader.integers(user, "additionalGids", at, 0, MAX_ID) or (),
    )


def _console_size(fields: dict[str, Any], at: str) -> ConsoleSize | None:
    size = reader.section(fields, "consoleSize", at)
    if size is None:
        return None
    at = child(at, "consoleSize")
    sides = [reader.integer(size, name, at, 0, LONGEST_SIDE) for name in ("height", "width")]
    return ConsoleSize(*sides)


def _capabilities(fields: dict[str, Any], at: str) -> Capabilities | None:
    sets = reader.section(fields, "capabilities", at)
    if sets is None:
        return None
    at = child(at, "capabilities")
    return Capabilities(*[reader.strings(sets, name, at) for name in Capabilities._fields])


def _rlimits(fields: dict[str, Any], at: str) -> tuple[Rlimit, ...] | None:
    limits = reader.records(fields, "rlimits", at, _rlimit)
    seen: set[str] = set()
    for index, limit in enumerate(limits or ()):
        if limit.type in seen:
            raise fault(child(child(at, "rlimits"), index), f"duplicate rlimit: {limit.type}")
        seen.add(limit.type)
    return limits


def _rlimit(value: Any, at: str) -> Rlimit:
    from pyocirun.linux.rlimits import RLIMITS

    fields = reader.fields(value, at)
    limit = Rlimit(
        reader.string(fields, "type", at),
        reader.integer(fields, "soft", at, 0, UINT64),
        reader.integer(fields, "hard", at, 0, UINT64),
    )
    if limit.type not in RLIMITS:
        raise fault(child(at, "type"), f"wrong rlimit value: {limit.type}")
    if limit.soft > limit.hard:
        raise fault(child(at, "soft"), f"the soft limit of {limit.type} is above the hard limit")
    return limit


def _scheduler(fields: dict[str, Any], at: str) -> Scheduler | None:
    if fields.get("scheduler") is None:
        return None
    from pyocirun.linux.sched import FLAGS, POLICIES

    at = child(at, "scheduler")
    fields = reader.fields(fields["scheduler"], at)
    if not fields.get("policy"):
        raise fault(child(at, "policy"), "scheduler policy is required")
    scheduler = Scheduler(
        reader.choice(fields, "policy", at, POLICIES, "invalid scheduler policy:"),
        reader.optional_integer(fields, "nice", at, -(1 << 31), (1 << 31) - 1),
        reader.optional_integer(fields, "priority", at, -(1 << 31), (1 << 31) - 1),
        reader.strings(fields, "flags", at) or (),
        reader.optional_integer(fields, "runtime", at, 0, UINT64),
        reader.optional_integer(fields, "deadline", at, 0, UINT64),
        reader.optional_integer(fields, "period", at, 0, UINT64),
    )
    for index, flag in enumerate(scheduler.flags):
        if flag not in FLAGS:
            raise fault(child(child(at, "flags"), index), f"invalid scheduler flag: {flag}")
    _check_scheduler(scheduler, at)
    return scheduler


def _check_scheduler(scheduler: Scheduler, at: str) -> None:
    policy = scheduler.policy
    if policy in ("SCHED_OTHER", "SCHED_BATCH") and not -20 <= (scheduler.nice or 0) <= 19:
        raise fault(child(at, "nice"), f"invalid scheduler.nice: {scheduler.nice} when scheduler.policy is {policy}")
    if scheduler.priority and policy not in ("SCHED_FIFO", "SCHED_RR"):
        text = "scheduler.priority can only be specified for SchedFIFO or SchedRR policy"
        raise fault(child(at, "priority"), text)
    if policy != "SCHED_DEADLINE" and (scheduler.runtime or scheduler.deadline or scheduler.period):
        raise fault(at, "scheduler runtime/deadline/period can only be specified for SchedDeadline policy")


def _io_priority(fields: dict[str, Any], at: str) -> IOPriority | None:
    if fields.get("ioPriority") is None:
        return None
    from pyocirun.linux.sched import IO_CLASSES

    at = child(at, "ioPriority")
    fields = reader.fields(fields["ioPriority"], at)
    io_class = reader.choice(fields, "class", at, IO_CLASSES, "invalid ioPriority.Class:")
    priority = reader.optional_integer(fields, "priority", at, -(1 << 31), (1 << 31) - 1) or 0
    if not 0 <= priority <= 7:
        raise fault(child(at, "priority"), f"invalid ioPriority.Priority: {priority}")
    return IOPriority(io_class, priority)


def _cpu_affinity(fields: dict[str, Any], at: str) -> CPUAffinity | None:
    if fields.get("execCPUAffinity") is None:
        return None
    from pyocirun.linux.sched import parse_list

    at = child(at, "execCPUAffinity")
    fields = reader.fields(fields["execCPUAffinity"], at)
    affinity = CPUAffinity(reader.optional_string(fields, "initial", at), reader.optional_string(fields, "final", at))
    for key, text in (("initial", affinity.initial), ("final", affinity.final)):
        try:
            parse_list(text or "")
        except ValueError as error:
            raise fault(child(at, key), str(error)) from None
    return affinity
