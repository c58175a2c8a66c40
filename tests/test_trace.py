"""Where the time went: steps without gaps, and nsexec's operations beside them."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from pyocirun.trace import NSEXEC, Trace


def events(trace: Trace, path: Path) -> list[dict[str, Any]]:
    trace.write(str(path), "create")
    document = json.loads(path.read_text())
    return [event for event in document["traceEvents"] if event["ph"] == "X"]


def test_steps_follow_each_other_without_gaps(tmp_path: Path) -> None:
    trace = Trace()
    trace.step("one")
    trace.step("two")

    found = events(trace, tmp_path / "t")

    assert [event["name"] for event in found] == ["start the interpreter", "one", "two"]
    for before, after in pairwise(found):
        assert abs(before["ts"] + before["dur"] - after["ts"]) < 0.01


def test_operations_have_a_row_of_their_own(tmp_path: Path) -> None:
    trace = Trace()
    now = time.monotonic_ns()
    stamps = b"".join(number.to_bytes(8, "little") for number in (now, 0, now + 1000))
    trace.operations(["clone", "of the parent", "mount"], stamps)

    found = [event for event in events(trace, tmp_path / "t") if event["tid"] == NSEXEC]

    assert [event["name"] for event in found] == ["clone", "mount"]
    assert found[0]["dur"] == 1


def test_a_step_of_nsexec_lasts_until_the_next_one(tmp_path: Path) -> None:
    trace = Trace()
    trace.step("hooks", NSEXEC)
    trace.step("execute", NSEXEC)
    trace.step("", NSEXEC)

    found = [event for event in events(trace, tmp_path / "t") if event["tid"] == NSEXEC]

    assert [event["name"] for event in found] == ["hooks", "execute"]
