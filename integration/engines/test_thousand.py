"""A thousand containers through containerd, twenty at a time: none is lost, and nothing of them is left."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from integration.engines.containerd import TOOLS, Containerd, eventually
from integration.engines.test_common import runtime_with

MANY = int(os.environ.get("CONTAINERS", "1000"))
AT_ONCE = 20

pytestmark = pytest.mark.full


@pytest.fixture
def engine() -> Iterator[Containerd]:
    containerd = Containerd(runtime_with(TOOLS))
    yield containerd
    containerd.stop()


def test_a_thousand_containers(engine: Containerd) -> None:
    _run(engine, "warm", AT_ONCE)
    _nothing_is_left(engine)
    before = _held(engine)

    ended = _run(engine, "many", MANY)

    odd = [each for number, each in enumerate(ended) if each != (0, f"many-{number}\n", "")]
    assert not odd, f"{len(odd)} of {MANY}: {odd[:5]}"
    _nothing_is_left(engine)
    eventually(lambda: all(now <= then for now, then in zip(_held(engine), before)), f"no more is held than {before}")


def _run(engine: Containerd, name: str, count: int) -> list[tuple[int, str, str]]:
    def one(number: int) -> tuple[int, str, str]:
        # Every other one has ended before `start` has, or nearly so.
        done = engine.run(f"{name}-{number}", ("later", "echo")[number % 2], f"{name}-{number}")
        return done.returncode, done.stdout, done.stderr

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, range(count)))


def _nothing_is_left(engine: Containerd) -> None:
    left: list[str] = []

    def gone() -> bool:
        left[:] = engine.leftovers()
        return not left

    try:
        eventually(gone, "nothing is left")
    except AssertionError:
        pytest.fail(f"left behind: {left[:20]}")


def _held(engine: Containerd) -> tuple[int, int, int]:
    """Descriptors and processes in the daemon's pid namespace, and mounts that its first process sees."""
    pids = engine.pids()
    descriptors = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids if os.path.isdir(f"/proc/{pid}/fd"))
    return descriptors, len(pids), len(engine.mounts())
