"""Device rules as the eBPF program that cgroup v2 asks about every use of a device. Pure.

The kernel gives it a `struct bpf_cgroup_dev_ctx` (access and type in one word, major, minor), and 1 in r0 allows. See
the kernel's include/uapi/linux/bpf.h and Documentation/bpf/standardization/instruction-set.rst.
"""

from __future__ import annotations

from _struct import pack

from pyocirun.cgroup.devices import ANY, FIXED, parse_rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyocirun.cgroup.devices import Device
    from pyocirun.spec.resources import DeviceRule

    Step = tuple[bool, Device, str]
    """Whether it allows, the device, the access."""

# Opcodes. The jumps compare 32 bits, so that a major number above 2**31 is no negative one.
LOAD = 0x61  # u32 of memory
MOVE = 0xB7
AND = 0x57
SHIFT_RIGHT = 0x77
COPY = 0xBF
JUMP_UNEQUAL = 0x56
JUMP_BITS = 0x46
EXIT = 0x95

RESULT, CONTEXT, TYPE, LEFT, MAJOR, MINOR = range(6)
"""Registers. LEFT: the access that no rule has allowed yet."""

TYPES = {"b": 1, "c": 2}
ACCESS = {"m": 1, "r": 2, "w": 4}


def program(rules: Sequence[DeviceRule]) -> bytes:
    """The program for `rules`, and the fixed list after them; b"" if everything is allowed, which needs none.

    The last rule that matches decides, for each of mknod, read and write apart; without one, all is denied.

    Spec: config-linux.md#allowed-device-list. Raises SpecError for an empty or unknown access or type.
    """
    default, steps = _steps(rules)
    if default and all(allow for allow, _, _ in steps):
        return b""
    code = [
        _instruction(LOAD, TYPE, CONTEXT, 0),
        _instruction(COPY, LEFT, TYPE),
        _instruction(AND, TYPE, immediate=0xFFFF),
        _instruction(SHIFT_RIGHT, LEFT, immediate=16),
        _instruction(LOAD, MAJOR, CONTEXT, 4),
        _instruction(LOAD, MINOR, CONTEXT, 8),
    ]
    for step in reversed(steps):
        code += _step(*step)
    return b"".join([*code, *_answer(default)])


def permits_everything(rules: Sequence[DeviceRule]) -> bool:
    """Whether there is no rule that denies anything: then nothing is lost where no program can be loaded."""
    return all(rule.allow and set(rule.access) >= set("rwm") for rule in rules)


def _steps(rules: Sequence[DeviceRule]) -> tuple[bool, list[Step]]:
    """(the default, the rules that count from there on). One for every device and access wipes what came before."""
    default = False
    steps: list[Step] = []
    for index, rule in enumerate(rules):
        devices, access = parse_rule(rule, index)
        if access == "rwm" and devices == ANY:
            default, steps = rule.allow, []
        else:
            steps += [(rule.allow, device, access) for device in devices]
    return default, steps + [(True, device, access) for device, access in FIXED]


def _step(allow: bool, device: Device, access: str) -> list[bytes]:
    """Instructions for one rule; where it does not apply, they jump to what comes after them."""
    bits = sum(ACCESS[letter] for letter in access)
    type_, major, minor = device
    tests = [(TYPE, TYPES[type_])]
    tests += [(register, number) for register, number in ((MAJOR, major), (MINOR, minor)) if number is not None]
    if allow:
        body = [_instruction(AND, LEFT, immediate=~bits), _instruction(JUMP_UNEQUAL, LEFT, offset=2), *_answer(True)]
    else:
        body = [_instruction(JUMP_BITS, LEFT, offset=1, immediate=bits), _jump(2), *_answer(False)]
    return [
        _instruction(JUMP_UNEQUAL, register, offset=len(tests) - number - 1 + len(body), immediate=value)
        for number, (register, value) in enumerate(tests)
    ] + body


def _answer(allowed: bool) -> list[bytes]:
    return [_instruction(MOVE, RESULT, immediate=int(allowed)), _instruction(EXIT)]


def _jump(offset: int) -> bytes:
    return _instruction(0x05, offset=offset)


def _instruction(code: int, to: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return pack("<BBhI", code, to | source << 4, offset, immediate & 0xFFFFFFFF)
