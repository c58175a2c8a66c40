"""What the kernel does with a seccomp filter: a small interpreter of classic BPF, after bpf(4) and linux/filter.h."""

from __future__ import annotations

from collections.abc import Sequence

X86_64 = 0xC000003E
I386 = 0x40000003
X32_BIT = 0x40000000

ALLOW = 0x7FFF0000
ERRNO = 0x00050000
KILL_PROCESS = 0x80000000
EPERM, ENOSYS = 1, 38


def decide(program: Sequence[int], number: int, args: Sequence[int] = (), arch: int = X86_64) -> int:
    """The filter's answer to a system call. Raises AssertionError for what the kernel would not load."""
    data = _seccomp_data(number, arch, args)
    accumulator, index, position, memory = 0, 0, 0, [0] * 16
    while True:
        instruction = program[position]
        code, if_true, if_false = instruction & 0xFFFF, instruction >> 16 & 0xFF, instruction >> 24 & 0xFF
        value = instruction >> 32
        position += 1
        operand = index if code & 0x08 else value
        match code & 0x07:
            case 0x00 if code & 0x60 == 0x60:  # load from memory
                accumulator = memory[value]
            case 0x00 if code & 0x60 == 0x20:  # load a word of seccomp_data
                assert value % 4 == 0 and value < 64
                accumulator = int.from_bytes(data[value : value + 4], "little")
            case 0x00:
                accumulator = value
            case 0x01:
                index = memory[value] if code & 0x60 == 0x60 else value
            case 0x02:
                memory[value] = accumulator
            case 0x03:
                memory[value] = index
            case 0x04:
                accumulator = _calculate(code & 0xF0, accumulator, operand)
            case 0x05 if code & 0xF0 == 0x00:
                position += value
            case 0x05:
                position += if_true if _holds(code & 0xF0, accumulator, operand) else if_false
            case 0x06:
                return accumulator if code & 0x18 == 0x10 else value
            case 0x07:
                index, accumulator = (index, index) if code & 0x80 else (accumulator, accumulator)
        assert position < len(program), "the program runs past its end"


def _seccomp_data(number: int, arch: int, args: Sequence[int]) -> bytes:
    words = [*args, 0, 0, 0, 0, 0, 0][:6]
    head = (number & 0xFFFFFFFF).to_bytes(4, "little") + arch.to_bytes(4, "little") + bytes(8)
    return head + b"".join(word.to_bytes(8, "little") for word in words)


def _calculate(operation: int, left: int, right: int) -> int:
    assert operation in (0x40, 0x50), "an operation that no filter here needs"
    return left | right if operation == 0x40 else left & right


def _holds(comparison: int, left: int, right: int) -> bool:
    return {0x10: left == right, 0x20: left > right, 0x30: left >= right, 0x40: bool(left & right)}[comparison]
