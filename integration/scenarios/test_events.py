"""events: readings, and processes killed for lack of memory."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from integration.harness import Bundle, cgroup_of, eventually, only, requires
from integration.modes import HAS_SWAP, Managed, modes

pytestmark = [requires("root"), modes()]


def stats(runtime: Managed, id: str, *options: str) -> dict[str, Any]:
    (line,) = runtime("events", "--stats", *options, id).ok().stdout.splitlines()
    event = json.loads(line)
    assert (event["type"], event["id"]) == ("stats", id)
    data: dict[str, Any] = event["data"]
    return data


def used(runtime: Managed, id: str) -> int:
    """Nanoseconds of processor time."""
    if runtime.mode.version == 1:
        return int((runtime.cgroup(id, "cpuacct") / "cpuacct.usage").read_text())
    return int((runtime.cgroup(id) / "cpu.stat").read_text().split()[1]) * 1000


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_limits_and_usage_are_those_of_the_cgroup(runtime: Managed, bundle: Bundle) -> None:
    bundle.linux["resources"] |= {"memory": {"limit": 64 << 20}, "pids": {"limit": 7}}
    id = runtime.running(bundle)

    data = stats(runtime, id)

    assert data["memory"]["usage"]["limit"] == 64 << 20
    raw = {1: ("hierarchical_memory_limit", 64 << 20), 2: ("file_dirty", 0)}
    name, least = raw[runtime.mode.version]
    assert data["memory"]["raw"][name] >= least
    assert data["pids"] == {"current": 1, "limit": 7}
    assert runtime.mode.version == 2 or len(data["cpu"]["usage"]["percpu"]) >= 1
    # What the set-up cost is given back with delay, so the two may differ at first.
    eventually(lambda: stats(runtime, id)["memory"]["usage"]["usage"] == runtime.limit(id, "memory.usage"), timeout=30)
    eventually(lambda: stats(runtime, id)["cpu"]["usage"]["total"] == used(runtime, id), timeout=30)


def test_the_keys_are_the_ones_that_callers_know(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    data = stats(runtime, id)

    assert set(data) == {
        *("cpu", "cpuset", "memory", "pids", "blkio"),
        *("hugetlb", "intel_rdt", "network_interfaces"),
    }
    assert set(data["memory"]) - {"cache", "psi"} == {"usage", "swap", "kernel", "kernelTCP", "raw"}
    assert set(data["cpu"]) - {"psi"} == {"usage", "throttling"}
    assert data["cpuset"]["cpus"][0] == 0
    assert runtime.mode.systemd or "limit" not in data["pids"]  # systemd has a limit for who asks for none


def test_throttling_is_counted(runtime: Managed, bundle: Bundle) -> None:
    bundle.linux["resources"]["cpu"] = {"quota": 5000, "period": 100000}
    id = runtime.running(bundle, "/bin/sh", "-c", "while :; do :; done")

    throttling = eventually(
        lambda: found if "throttledPeriods" in (found := stats(runtime, id)["cpu"]["throttling"]) else {}
    )

    assert throttling["periods"] >= throttling["throttledPeriods"] > 0
    assert throttling["throttledTime"] > 0


def test_readings_come_at_the_interval_until_the_container_ends(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    watching = runtime.spawn("events", "--interval", "100ms", id)
    eventually(lambda: len(watching.out.read_text().splitlines()) >= 3, "three readings")

    runtime.stop(id)
    runtime.delete(id).ok()

    assert watching.wait().status == 0
    assert {event["type"] for event in events(watching.out)} == {"stats"}
    assert time.monotonic() - watching.began >= 0.3


@pytest.mark.parametrize(("interval", "text"), [("0s", "interval must be greater than 0"), ("-1s", "greater than 0")])
def test_an_interval_of_nothing_is_refused(runtime: Managed, bundle: Bundle, interval: str, text: str) -> None:
    id = runtime.running(bundle)

    runtime("events", f"--interval={interval}", id).fails(text)


def test_a_stopped_container_has_no_events(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    runtime.stop(id)

    runtime("events", "--stats", id).fails(f"container with id {id} is not running")


def test_an_unknown_container_has_none_either(runtime: Managed) -> None:
    runtime("events", "--stats", "nobody").fails("container does not exist")


@pytest.mark.vm
@requires("busybox")
def test_a_kill_for_lack_of_memory_is_told(runtime: Managed, bundle: Bundle) -> None:
    bundle.linux["resources"]["memory"] = {"limit": 16 << 20} | ({"swap": 16 << 20} if HAS_SWAP else {})
    id = runtime.running(bundle, "/bin/sh", "-c", "while :; do sleep 1; done")
    watching = runtime.spawn("events", "--interval", "60s", id)

    eventually(lambda: watching.out.read_text() or runtime.exec(id, "alloc", "64").stdout, "an event")

    assert events(watching.out)[0] == {"type": "oom", "id": id}
    runtime.stop(id)
    runtime.delete(id).ok()
    assert watching.wait().status == 0


@only("pyocirun")  # runc 1.1 knows none
@pytest.mark.parametrize(("part", "file"), [("cpu", "cpu"), ("memory", "memory"), ("blkio", "io")])
def test_pressures_are_those_of_the_cgroup(runtime: Managed, bundle: Bundle, part: str, file: str) -> None:
    id = runtime.running(bundle)
    top = "/sys/fs/cgroup/unified" if runtime.mode.version == 1 else "/sys/fs/cgroup"
    path = Path(top, cgroup_of(runtime.pid(id), "").relative_to("/sys/fs/cgroup"), f"{file}.pressure")

    def shown() -> dict[str, Any] | None:
        pressures: dict[str, Any] | None = stats(runtime, id)[part].get("psi")
        return pressures

    eventually(lambda: shown() == pressures(path), "they are the same")


def pressures(path: Path) -> dict[str, Any] | None:
    """What a file of this kind says; None if this kernel, or this mode, does not have it."""
    if not path.exists():
        return None
    lines = [line.split() for line in path.read_text().splitlines()]
    return {
        kind: {name: float(value) for name, value in (figure.split("=") for figure in figures)}
        for kind, *figures in lines
    }


@only("pyocirun")
def test_counters_beyond_those_of_runc(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    data = stats(runtime, id, "--full")

    assert data["memory"]["events"]["oom_kill"] == 0
    assert data["cpu"]["burst"] == {"periods": 0, "time": 0}
    assert data["memory"]["numa"]["total" if runtime.mode.version == 1 else "anon"]["N0"] >= 0
