"""Damaged plans against nsexec's checker, built with the sanitizers of the compiler."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyocirun.linux.namespaces import CLONE_NEWNS
from pyocirun.plan import tenant
from pyocirun.plan.encode import encode
from pyocirun.plan.ops import WIRE, Clone, Exec, Finish, MaskPath, Plan, SetUser
from pyocirun.spec.example import default_config
from tests.support import CSRC, HOST_V1_ROOT, build_document, compile_c, minimal_process

SANITIZERS = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
SEED = 20260101
MUTATIONS = 1500
"""Of each plan."""

WORDS = (0, 1, 7, 8, 39, 40, 0xFFFF, 0xFFFFFF, 0x1000000, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 32, 1 << 61, (1 << 63) - 1)
EXTREMES = (*WORDS, 1 << 63, (1 << 64) - 8, (1 << 64) - 1)


def whole_plans() -> list[bytes]:
    """Encoded plans as they are really made: large, small, with every kind of field."""
    config = default_config()
    config["process"]["terminal"] = False
    plans = [
        build_document(config, HOST_V1_ROOT),
        tenant.build(minimal_process(env=("A=1", "B=2")), "box", CLONE_NEWNS),
        Plan((Clone(0), MaskPath("/a"), Exec(("a", "b"), ("C=1",)), Finish())),
        Plan((Clone(0), Finish())),
        # Lists at the very end, with next to nothing behind them.
        Plan((Clone(0), Exec((), ()))),
        Plan((Clone(0), SetUser(1, 2, (3, 4)))),
    ]
    return [encode(plan, stamps=bool(number % 2)).data for number, plan in enumerate(plans)]


def mutate(data: bytes, chance: random.Random) -> bytes:
    """One to three changes; mostly such that the first glance finds nothing."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        chance.choice(KINDS)(changed, chance)
    if chance.random() < 0.9 and len(changed) >= 12:
        changed[8:12] = len(changed).to_bytes(4, "little")
    if chance.random() < 0.8 and changed:
        changed[-1] = 0
    return bytes(changed)


def flip_bit(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def set_byte(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] = chance.randrange(256)


def set_word(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(0, max(len(data) - 8, 1), 8)
    data[place : place + 8] = chance.choice(EXTREMES).to_bytes(8, "little")


def set_offset(data: bytearray, chance: random.Random) -> None:
    """A word that may well be an offset inside of the plan, or just behind it."""
    place = chance.randrange(0, max(len(data) - 8, 1), 8)
    data[place : place + 8] = chance.randrange(len(data) + 16).to_bytes(8, "little")


def set_half(data: bytearray, chance: random.Random) -> None:
    """Half a word: counts of the header, offsets of fields."""
    place = chance.randrange(8, max(min(len(data) - 4, 800), 9), 4)
    data[place : place + 4] = (chance.choice(EXTREMES) & 0xFFFFFFFF).to_bytes(4, "little")


def set_code(data: bytearray, chance: random.Random) -> None:
    """Another operation, with the fields of this one."""
    count = max(int.from_bytes(data[12:16], "little") % 4096, 1)
    place = 40 + 8 * chance.randrange(count)
    data[place : place + 2] = chance.randrange(len(WIRE) + 2).to_bytes(2, "little")


def swap_words(data: bytearray, chance: random.Random) -> None:
    first, second = (chance.randrange(40, max(len(data) - 8, 41), 8) for _ in range(2))
    data[first : first + 8], data[second : second + 8] = data[second : second + 8], data[first : first + 8]


def cut(data: bytearray, chance: random.Random) -> None:
    del data[max(chance.randrange(len(data)), 1) :]


def cut_a_little(data: bytearray, chance: random.Random) -> None:
    del data[max(len(data) - chance.randint(1, 24), 1) :]


def grow(data: bytearray, chance: random.Random) -> None:
    data += bytes(chance.randint(1, 24))


KINDS = (flip_bit, set_byte, set_word, set_offset, set_offset, set_half, set_code, swap_words, cut, cut_a_little, grow)


def mutations() -> Iterator[bytes]:
    chance = random.Random(SEED)
    for data in whole_plans():
        for _ in range(MUTATIONS):
            yield mutate(data, chance)


@pytest.fixture(scope="module")
def fuzz_plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = [CSRC / "wire.c", CSRC / "test" / "fuzz_plan.c"]
    return compile_c(tmp_path_factory.mktemp("fuzz_plan") / "fuzz_plan", sources, *SANITIZERS)


def check(program: Path, plans: list[bytes]) -> tuple[int, int]:
    """How many plans the checker accepted and refused. Fails with the report of a sanitizer."""
    stream = b"".join(len(plan).to_bytes(4, "little") + plan for plan in plans)
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    done = subprocess.run([program], input=stream, capture_output=True, env=environment, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-4000:]
    words = done.stdout.split()
    return int(words[1]), int(words[3])


def test_whole_plans_are_accepted(fuzz_plan: Path) -> None:
    plans = whole_plans()

    assert check(fuzz_plan, plans) == (len(plans), 0)


def test_damaged_plans_are_refused_or_harmless(fuzz_plan: Path) -> None:
    plans = list(mutations())

    accepted, refused = check(fuzz_plan, plans)

    assert accepted + refused == len(plans)
    assert accepted > 100, "the mutations are too wild to get past the first checks"
    assert refused > 100


def test_every_word_of_a_plan_at_its_worst(fuzz_plan: Path) -> None:
    plans = []
    for data in whole_plans()[1:]:
        for place in range(8, len(data) - 8, 4):
            for value in EXTREMES:
                changed = data[:place] + value.to_bytes(8, "little") + data[place + 8 :]
                plans.append(changed[:-1] + b"\0")

    accepted, refused = check(fuzz_plan, plans)

    assert accepted + refused == len(plans)


def test_every_cut_of_a_plan_is_refused(fuzz_plan: Path) -> None:
    data = whole_plans()[1]
    cuts = [data[:length] for length in range(len(data))]

    assert check(fuzz_plan, cuts) == (0, len(data))


def test_every_cut_that_tells_its_size_is_harmless(fuzz_plan: Path) -> None:
    data = whole_plans()[1]
    cuts = [data[:8] + length.to_bytes(4, "little") + data[12 : length - 1] + b"\0" for length in range(13, len(data))]

    accepted, refused = check(fuzz_plan, cuts)

    assert accepted + refused == len(cuts)
