"""Device rules: what a list of them allows in the end, and how to bring a cgroup v1 there. Pure. For v2 see ebpf.py.

A policy is what the kernel keeps for a cgroup: a default, and exceptions from it.
"""

from __future__ import annotations

from pyocirun.errors import SpecError
from pyocirun.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyocirun.spec.resources import DeviceRule

    Device = tuple[str, int | None, int | None]
    """type "b" or "c", major, minor; None: any."""

_POINTER = "/linux/resources/devices"

ANY: tuple[Device, ...] = (("b", None, None), ("c", None, None))

# Always allowed, after the user's rules: making a node of any kind (using it is another matter), and what every
# program expects of /dev. runc's list: configurations are written against it.
FIXED: tuple[tuple[Device, str], ...] = (
    (("c", None, None), "m"),
    (("b", None, None), "m"),
    (("c", 1, 3), "rwm"),  # null
    (("c", 1, 8), "rwm"),  # random
    (("c", 1, 7), "rwm"),  # full
    (("c", 5, 0), "rwm"),  # tty
    (("c", 1, 5), "rwm"),  # zero
    (("c", 1, 9), "rwm"),  # urandom
    (("c", 136, None), "rwm"),  # pts/*
    (("c", 5, 2), "rwm"),  # ptmx
    (("c", 10, 200), "rwm"),  # net/tun
)


class Policy(Record):
    """What a cgroup may do with devices.

    allowed: whether a device that no exception names may be used.
    exceptions: (device, access) for which it is the other way round; access is a part of "rwm", in that order.
    """

    allowed: bool
    exceptions: tuple[tuple[Device, str], ...] = ()


EVERYTHING = Policy(True)


def policy(rules: Sequence[DeviceRule]) -> Policy:
    """What `rules` come to, applied in order on top of "nothing is allowed", and then the fixed list.

    A rule for any type, any device and any access sets the default and wipes what came before.

    Spec: config-linux.md#allowed-device-list. Raises SpecError for an empty or unknown access or type, and for a rule
    that takes a part out of an earlier, wider one: the kernel has no way to say that, and would ignore it silently.
    """
    state = _State()
    for index, rule in enumerate(rules):
        devices, access = parse_rule(rule, index)
        if access == "rwm" and devices == ANY:
            state.reset(rule.allow)
            continue
        for device in devices:
            state.apply(rule.allow, device, access, f"{_POINTER}/{index}")
    for device, access in FIXED:
        state.apply(True, device, access, _POINTER)
    return Policy(state.allowed, tuple(state.exceptions.items()))


def allows(policy: Policy, device: tuple[str, int, int], access: str) -> bool:
    """Whether the kernel lets a process use `device` with every letter of `access`, for instance "rw" to open it."""
    matching = [kept for excepted, kept in policy.exceptions if _covers(excepted, device)]
    if policy.allowed:
        return not any(letter in kept for kept in matching for letter in access)
    return any(all(letter in kept for letter in access) for kept in matching)


def transition(old: Policy | None, new: Policy) -> list[tuple[str, str]]:
    """(file, value) to write, in this order, to bring a cgroup from `old`, None: unknown, to `new`.

    Where the default is known and stays, nothing that both allow is ever refused on the way.
    Files: devices.allow and devices.deny, see the kernel's admin-guide/cgroup-v1/devices.rst.
    """
    except_, revoke = ("devices.deny", "devices.allow") if new.allowed else ("devices.allow", "devices.deny")
    if old is None or old.allowed != new.allowed:
        reset = "devices.allow" if new.allowed else "devices.deny"
        return [(reset, "a")] + [(except_, _line(device, access)) for device, access in new.exceptions]
    before, after = dict(old.exceptions), dict(new.exceptions)
    added = [(except_, _line(device, more)) for device, more in _difference(after, before)]
    removed = [(revoke, _line(device, less)) for device, less in _difference(before, after)]
    return removed + added if new.allowed else added + removed


def parse_list(text: str) -> Policy | None:
    """The policy that a `devices.list` shows; None if it allows by default, for then it hides its exceptions."""
    exceptions: list[tuple[Device, str]] = []
    for line in text.splitlines():
        type_, numbers, access = line.split()
        if type_ == "a":
            return None
        major, minor = [None if number == "*" else int(number) for number in numbers.split(":")]
        exceptions.append(((type_, major, minor), access))
    return Policy(False, tuple(exceptions))


class _State:
    """A policy in the making."""

    def __init__(self) -> None:
        self.allowed = False
        self.exceptions: dict[Device, str] = {}

    def reset(self, allowed: bool) -> None:
        self.allowed = allowed
        self.exceptions.clear()

    def apply(self, allow: bool, device: Device, access: str, pointer: str) -> None:
        if allow == self.allowed:
            self._take_back(device, access, pointer)
        else:
            self.exceptions[device] = letters(access + self.exceptions.get(device, ""))

    def _take_back(self, device: Device, access: str, pointer: str) -> None:
        """Remove `access` from every exception that lies within `device`; one that reaches beyond it is an error."""
        for excepted, kept in list(self.exceptions.items()):
            rest = "".join([letter for letter in kept if letter not in access])
            if rest == kept or not _overlap(excepted, device):
                continue
            if not _covers(device, excepted):
                raise SpecError(
                    f"device rule {_line(device, access)!r} cannot take a part out of the wider rule "
                    f"{_line(excepted, kept)!r} on cgroup v1",
                    pointer=pointer,
                    hint="name the single devices instead of a wildcard",
                )
            if rest:
                self.exceptions[excepted] = rest
            else:
                del self.exceptions[excepted]


def parse_rule(rule: DeviceRule, index: int) -> tuple[tuple[Device, ...], str]:
    """The devices that a rule names, type "a" being both types, and its access in the order of "rwm"."""
    pointer = f"{_POINTER}/{index}"
    if not rule.access:
        raise SpecError(f"device access at {index} field cannot be empty", pointer=f"{pointer}/access")
    if not letters(rule.access):
        raise SpecError(f"device access {rule.access!r} must be made of r, w and m", pointer=f"{pointer}/access")
    type_ = rule.type or "a"
    if type_ not in ("a", "b", "c"):
        raise SpecError(f"invalid cgroup device type {type_!r}: must be a, b or c", pointer=f"{pointer}/type")
    major, minor = _number(rule.major, f"{pointer}/major"), _number(rule.minor, f"{pointer}/minor")
    types = ("b", "c") if type_ == "a" else (type_,)
    return tuple([(one, major, minor) for one in types]), letters(rule.access)


def _number(value: int | None, pointer: str) -> int | None:
    """None and -1 both stand for any number."""
    if value is None or value == -1:
        return None
    if not 0 <= value < 1 << 32:
        raise SpecError(f"device number {value} is out of range", pointer=pointer)
    return value


def letters(access: str) -> str:
    return "".join([letter for letter in "rwm" if letter in access])


def _covers(wide: Device, narrow: Device) -> bool:
    return wide[0] == narrow[0] and wide[1] in (None, narrow[1]) and wide[2] in (None, narrow[2])


def _overlap(one: Device, other: Device) -> bool:
    return (
        one[0] == other[0]
        and (one[1] is None or other[1] in (None, one[1]))
        and (one[2] is None or other[2] in (None, one[2]))
    )


def _difference(of: dict[Device, str], without: dict[Device, str]) -> list[tuple[Device, str]]:
    left = [(device, "".join([c for c in access if c not in without.get(device, "")])) for device, access in of.items()]
    return [(device, access) for device, access in left if access]


def _line(device: Device, access: str) -> str:
    type_, major, minor = device
    return f"{type_} {'*' if major is None else major}:{'*' if minor is None else minor} {access}"
