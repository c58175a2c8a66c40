"""Device rules as eBPF: the program is run here, by a small interpreter of the few instructions that it has."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyocirun.cgroup import ebpf
from pyocirun.cgroup.devices import FIXED
from pyocirun.errors import SpecError
from pyocirun.spec.resources import DeviceRule

DENY_ALL = DeviceRule(False)


def run(program: bytes, type: str, major: int, minor: int, access: str) -> bool:
    """Whether the program allows this use."""
    word = sum(ebpf.ACCESS[letter] for letter in access) << 16 | ebpf.TYPES[type]
    context = struct.pack("<III", word, major, minor)
    code = [struct.unpack_from("<BBhi", program, at) for at in range(0, len(program), 8)]
    registers = [0] * 10
    at = 0
    while True:
        opcode, both, offset, immediate = code[at]
        to, source = both & 15, both >> 4
        at += 1
        if opcode == ebpf.EXIT:
            return registers[0] == 1
        if opcode == ebpf.LOAD:
            registers[to] = struct.unpack_from("<I", context, offset)[0]
        elif opcode == ebpf.MOVE:
            registers[to] = immediate
        elif opcode == ebpf.COPY:
            registers[to] = registers[source]
        elif opcode == ebpf.AND:
            registers[to] &= immediate & ((1 << 64) - 1)
        elif opcode == ebpf.SHIFT_RIGHT:
            registers[to] >>= immediate
        elif opcode == 0x05:
            at += offset
        elif opcode == ebpf.JUMP_UNEQUAL:
            at += offset if (registers[to] & 0xFFFFFFFF) != immediate & 0xFFFFFFFF else 0
        elif opcode == ebpf.JUMP_BITS:
            at += offset if registers[to] & immediate & 0xFFFFFFFF else 0
        else:
            pytest.fail(f"opcode {opcode:#x}")


def allowed(rules: list[DeviceRule], type: str, major: int, minor: int, access: str) -> bool:
    program = ebpf.program(rules)
    return not program or run(program, type, major, minor, access)


def expected(rules: list[DeviceRule], type: str, major: int, minor: int, access: str) -> bool:
    """The same by reading the rules: the last one that names the device and the letter decides."""
    fixed = [DeviceRule(True, device[0], device[1], device[2], letters) for device, letters in FIXED]
    for letter in access:
        verdict = False
        for rule in [*rules, *fixed]:
            matches = rule.type in ("a", type) and rule.major in (None, major) and rule.minor in (None, minor)
            if matches and letter in rule.access:
                verdict = rule.allow
        if not verdict:
            return False
    return True


def test_without_a_rule_everything_but_the_fixed_list_is_denied() -> None:
    assert not allowed([], "b", 8, 0, "r")
    assert allowed([], "c", 1, 3, "rw")
    assert allowed([], "b", 8, 0, "m")


def test_the_fixed_list_comes_last_and_cannot_be_turned_off() -> None:
    rules = [DENY_ALL, DeviceRule(False, "c", 1, 3, "rwm")]

    assert allowed(rules, "c", 1, 3, "rw")


def test_the_last_rule_that_matches_decides() -> None:
    rules = [DENY_ALL, DeviceRule(True, "b", 8, None, "rwm"), DeviceRule(False, "b", 8, 1, "w")]

    assert allowed(rules, "b", 8, 0, "rw")
    assert allowed(rules, "b", 8, 1, "r")
    assert not allowed(rules, "b", 8, 1, "rw")


def test_a_rule_for_everything_wipes_what_came_before() -> None:
    rules = [DeviceRule(True, "b", 8, 0, "rwm"), DENY_ALL]

    assert not allowed(rules, "b", 8, 0, "r")
    assert len(ebpf.program(rules)) == len(ebpf.program([]))


def test_two_rules_add_up_to_one_use() -> None:
    rules = [DENY_ALL, DeviceRule(True, "b", 8, 0, "r"), DeviceRule(True, "b", 8, 0, "w")]

    assert allowed(rules, "b", 8, 0, "rw")


def test_all_allowed_needs_no_program() -> None:
    assert ebpf.program([DENY_ALL, DeviceRule(True)]) == b""


def test_an_exception_from_all_allowed_needs_one() -> None:
    rules = [DeviceRule(True), DeviceRule(False, "b", 8, 0, "w")]

    assert ebpf.program(rules)
    assert not allowed(rules, "b", 8, 0, "rw")
    assert allowed(rules, "b", 8, 0, "r")
    assert allowed(rules, "b", 9, 0, "rw")


def test_a_large_major_number_is_not_negative() -> None:
    rules = [DENY_ALL, DeviceRule(True, "b", (1 << 32) - 1, 1 << 31, "r")]

    assert allowed(rules, "b", (1 << 32) - 1, 1 << 31, "r")
    assert not allowed(rules, "b", (1 << 31) - 1, 1 << 31, "r")


@pytest.mark.parametrize("access", ["", "x"])
def test_bad_access_is_refused(access: str) -> None:
    with pytest.raises(SpecError, match="access"):
        ebpf.program([DeviceRule(True, "b", 8, 0, access)])


NUMBERS = st.sampled_from([0, 1, 3, 8, 136, (1 << 32) - 1])
LETTERS = st.sampled_from(["r", "w", "m", "rw", "rm", "wm", "rwm"])
RULES = st.lists(
    st.builds(DeviceRule, st.booleans(), st.sampled_from("abc"), st.none() | NUMBERS, st.none() | NUMBERS, LETTERS),
    max_size=8,
)


@given(RULES, st.sampled_from("bc"), NUMBERS, NUMBERS, LETTERS)
def test_any_rules_decide_as_they_read(rules: list[DeviceRule], type: str, major: int, minor: int, access: str) -> None:
    assert allowed(rules, type, major, minor, access) == expected(rules, type, major, minor, access)


@given(RULES)
def test_every_jump_lands_inside_the_program_and_forward(rules: list[DeviceRule]) -> None:
    program = ebpf.program(rules)
    count = len(program) // 8

    for index in range(count):
        opcode, _, offset, _ = struct.unpack_from("<BBhi", program, index * 8)
        if opcode in (0x05, ebpf.JUMP_UNEQUAL, ebpf.JUMP_BITS):
            assert 0 < offset < count - index - 1
