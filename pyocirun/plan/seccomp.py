"""linux.seccomp -> what to ask libseccomp for, and what is put before the program that it makes. Pure."""

from __future__ import annotations

from pyocirun.errors import SpecError
from pyocirun.linux import seccomp as numbers
from pyocirun.plan import ops
from pyocirun.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyocirun.spec.seccomp import Seccomp, SyscallRule

AT = "/linux/seccomp"
SHORT = 32
"""More rules than this are compiled into a binary tree: a chain would be walked at every system call."""

KILLABLE_KERNEL = (5, 19)
PREFIX = "SECCOMP_FILTER_FLAG_"

# Instructions of classic BPF, see linux/filter.h. Loads are from struct seccomp_data: number, architecture.
LOAD = 0x20
JUMP_EQUAL = 0x15
JUMP_GREATER = 0x25
JUMP_NOT_LESS = 0x35
RETURN = 0x06
NUMBER, ARCHITECTURE = 0, 4


class Condition(Record):
    """A comparison of argument `index`, as libseccomp takes it. operator: enum scmp_compare.  second: if masked."""

    index: int
    operator: int
    first: int
    second: int = 0


class Rule(Record):
    """What the filter answers for some system calls. pointer: of the rule in the profile.

    alternatives: one of them has to hold, and of that every condition: ((),) always; () nothing is to be added, since
    the default is the same.
    """

    names: tuple[str, ...]
    answer: int
    alternatives: tuple[tuple[Condition, ...], ...]
    pointer: str


class Filter(Record):
    """A filter to compile. default: its answer where no rule fits.  architectures: libseccomp's names, besides our own.

    tree: compile it into a binary tree.  refuses_new: what is newer than all it names gets ENOSYS.
    flags: of seccomp(2).  refuses_unknown: a name that libseccomp does not know is an error.
    """

    default: int
    architectures: tuple[str, ...]
    rules: tuple[Rule, ...]
    tree: bool
    refuses_new: bool
    flags: int
    refuses_unknown: bool = False

    def describe(self) -> str:
        """In a few words: what is done by default, how many rules there are, for which architectures."""
        rules = [rule for rule in self.rules if rule.alternatives]
        names = {name for rule in rules for name in rule.names}
        flags = [name.removeprefix(PREFIX) for name, bit in numbers.FLAGS.items() if self.flags & bit]
        parts = [
            f"default {numbers.action_name(self.default)}",
            f"{_count(len(rules), 'rule')} for {_count(len(names), 'system call')}",
            ", ".join(self.architectures) or "native architecture",
        ]
        return "; ".join([*parts, ", ".join(flags)] if flags else parts)


class Newest(Record):
    """The newest system call that a profile names. audit: AUDIT_ARCH_*, which the kernel tells the filter.

    limit: from this number on there are no further ordinary calls: another ABI, or private ones.
    """

    audit: int
    number: int
    limit: int


def agent(seccomp: Seccomp) -> list[ops.Op]:
    """The connection to the agent, where some system calls are answered by one."""
    if not notifies(seccomp):
        return []
    assert seccomp.listener_path is not None
    return [ops.ConnectAgent(seccomp.listener_path), ops.Sync("seccomp")]


def load(seccomp: Seccomp, kernel: tuple[int, int] | None = None) -> list[ops.Op]:
    """The filter, right before execve: a tight one knows nothing of what nsexec calls. kernel: see make_filter."""
    return [ops.LoadSeccomp(make_filter(seccomp, kernel))]


def make_filter(seccomp: Seccomp, kernel: tuple[int, int] | None = None) -> Filter:
    """What a profile asks for. Raises SpecError for a flag that this kernel lacks; None: it is known to do."""
    default = numbers.answer(seccomp.default_action, seccomp.default_errno_ret)
    count = sum(len(rule.names) for rule in seccomp.syscalls)
    permissive = default & 0xFFFF0000 in (numbers.ALLOW, numbers.LOG, numbers.TRACE)
    return Filter(
        default,
        tuple(dict.fromkeys(name.removeprefix("SCMP_ARCH_").lower() for name in seccomp.architectures)),
        tuple(_rule(rule, default, f"{AT}/syscalls/{index}") for index, rule in enumerate(seccomp.syscalls)),
        count > SHORT,
        not permissive and default != numbers.ERRNO | numbers.ENOSYS,
        _flags(seccomp, kernel),
        seccomp.refuses_unknown,
    )


def notifies(seccomp: Seccomp) -> bool:
    """Whether some system calls are answered by an agent."""
    return any(rule.action == "SCMP_ACT_NOTIFY" for rule in seccomp.syscalls)


def refuse_new(program: Sequence[int], newest: Sequence[Newest]) -> tuple[int, ...]:
    """`program` with ENOSYS for whatever is newer than the newest call of its profile.

    A C library that gets EPERM from a call believes that the call is there and was refused; after ENOSYS it tries the
    older one. A program is a tuple of struct sock_filter, each as one little-endian number.
    """
    added: list[int] = []
    for audit in dict.fromkeys(one.audit for one in newest):
        ranges = [one for one in newest if one.audit == audit]
        added += [_step(LOAD, ARCHITECTURE), _step(JUMP_EQUAL, audit, 0, 1 + 3 * len(ranges)), _step(LOAD, NUMBER)]
        for one in ranges:
            added.append(_step(JUMP_GREATER, one.number, 0, 2))
            added.append(_step(JUMP_NOT_LESS, one.limit, 1, 0))
            added.append(_step(RETURN, numbers.ERRNO | numbers.ENOSYS))
    if len(added) + len(program) > numbers.MAX_INSTRUCTIONS:
        text = f"{AT}: the filter takes {len(added) + len(program)} instructions; the kernel takes at most"
        raise SpecError(f"{text} {numbers.MAX_INSTRUCTIONS}", pointer=AT)
    return (*added, *program)


def limit(audit: int, architecture: int) -> int:
    """Where ordinary numbers of an architecture end. audit: AUDIT_ARCH_*, architecture: libseccomp's number of it."""
    if architecture == numbers.X32:
        return 2 * numbers.X32_BIT
    if audit == numbers.AUDIT_X86_64:
        return numbers.X32_BIT
    return numbers.ARM_PRIVATE if audit == numbers.AUDIT_ARM else 1 << 31


def _rule(rule: SyscallRule, default: int, pointer: str) -> Rule:
    answer = numbers.answer(rule.action, rule.errno_ret)
    alternatives: tuple[tuple[Condition, ...], ...] = ()
    if answer != default:
        conditions = tuple(
            Condition(arg.index, numbers.OPERATORS[arg.op], arg.value, arg.value_two or 0) for arg in rule.args
        )
        # One call has each argument once: two conditions on it, as old profiles have them, mean one or the other.
        alone = len({condition.index for condition in conditions}) < len(conditions)
        alternatives = tuple((condition,) for condition in conditions) if alone else (conditions,)
    return Rule(rule.names, answer, alternatives, pointer)


def _flags(seccomp: Seccomp, kernel: tuple[int, int] | None) -> int:
    """Bits of seccomp(2).

    No list is not an empty one: it means SPEC_ALLOW. TSYNC changes nothing, since nsexec has one thread, nor does
    WAIT_KILLABLE_RECV where nobody is asked; the kernel would refuse it then.
    """
    if seccomp.flags is None:
        wanted = numbers.SPEC_ALLOW
    else:
        wanted = 0
        for index, name in enumerate(seccomp.flags):
            wanted |= numbers.FLAGS[name]
            if numbers.FLAGS[name] == numbers.WAIT_KILLABLE_RECV and kernel and kernel < KILLABLE_KERNEL:
                pointer = f"{AT}/flags/{index}"
                raise SpecError(f"{pointer}: {name} needs Linux 5.19 or newer", pointer=pointer)
    wanted &= ~numbers.TSYNC
    return wanted | numbers.NEW_LISTENER if notifies(seccomp) else wanted & ~numbers.WAIT_KILLABLE_RECV


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> int:
    return code | if_true << 16 | if_false << 24 | value << 32


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
