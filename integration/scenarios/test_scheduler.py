"""scheduler, ioPriority, execCPUAffinity, personality, memoryPolicy, and the CPUs that a container gets."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from integration.harness import Bundle, Runtime, only

pytestmark = only("pyocirun")


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """The runtime is started on the first CPU alone, as a service manager may do it."""
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("needs two CPUs")
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def _cpus() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def _seen(report: dict[str, Any]) -> list[int]:
    return [int(cpu) for cpu in report["cpus"].split(",")]


def _exec(runtime: Runtime, id: str, *options: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(runtime("exec", *options, id, "/bin/probe", "report").ok().stdout)
    return report


@pytest.mark.parametrize(
    ("scheduler", "seen"),
    [
        ({"policy": "SCHED_OTHER", "nice": 5}, {"policy": 0, "nice": 5}),
        ({"policy": "SCHED_BATCH", "nice": 7}, {"policy": 3, "nice": 7}),
        ({"policy": "SCHED_IDLE"}, {"policy": 5}),
        ({"policy": "SCHED_FIFO", "priority": 3}, {"policy": 1, "priority": 3}),
        ({"policy": "SCHED_RR", "priority": 4}, {"policy": 2, "priority": 4}),
        (
            {"policy": "SCHED_RR", "priority": 4, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
            {"policy": 2, "priority": 4, "flags": 1},
        ),
    ],
)
def test_scheduler(runtime: Runtime, bundle: Bundle, scheduler: dict[str, Any], seen: dict[str, int]) -> None:
    bundle.process["scheduler"] = scheduler
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    if "priority" in scheduler and os.path.exists("/sys/fs/cgroup/cpu/cpu.rt_runtime_us"):
        bundle.linux["resources"] = {"cpu": {"realtimeRuntime": 1000, "realtimePeriod": 1_000_000}}

    report = runtime.run(bundle).report["scheduler"]

    assert {key: report[key] for key in seen} == seen


def test_a_deadline(runtime: Runtime, bundle: Bundle) -> None:
    times = {"runtime": 1_000_000, "deadline": 100_000_000, "period": 100_000_000}
    bundle.process["scheduler"] = {"policy": "SCHED_DEADLINE", **times}

    report = runtime.run(bundle).report["scheduler"]

    assert {key: report[key] for key in ("policy", *times)} == {"policy": 6, **times}


def test_a_real_time_policy_without_time_for_it_is_an_error_with_a_hint(runtime: Runtime, bundle: Bundle) -> None:
    if not os.path.exists("/sys/fs/cgroup/cpu/cpu.rt_runtime_us"):
        pytest.skip("needs a kernel with CONFIG_RT_GROUP_SCHED and cgroup v1")
    bundle.process["scheduler"] = {"policy": "SCHED_FIFO", "priority": 3}

    result = runtime.create(bundle).fails("set scheduler SCHED_FIFO", "sched_setattr")

    assert "realtimeRuntime" in result.stderr
    assert runtime.traces() == []


def test_a_scheduler_that_the_kernel_has_not_is_an_error(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["scheduler"] = {"policy": "SCHED_ISO"}

    runtime.create(bundle).fails("set scheduler SCHED_ISO", "sched_setattr")
    assert runtime.traces() == []


@pytest.mark.parametrize(
    ("scheduler", "text"),
    [
        ({"policy": ""}, "scheduler policy is required"),
        ({"policy": "SCHED_FAST"}, "invalid scheduler policy"),
        ({"policy": "SCHED_OTHER", "nice": 20}, "invalid scheduler.nice: 20"),
        ({"policy": "SCHED_OTHER", "priority": 1}, "scheduler.priority can only be specified for"),
        ({"policy": "SCHED_FIFO", "runtime": 1}, "scheduler runtime/deadline/period can only be specified for"),
    ],
)
def test_a_scheduler_that_contradicts_itself_is_refused(
    runtime: Runtime, bundle: Bundle, scheduler: dict[str, Any], text: str
) -> None:
    bundle.process["scheduler"] = scheduler

    runtime.create(bundle).fails(text)
    assert runtime.traces() == []


@pytest.mark.parametrize(
    ("kind", "priority", "number"),
    [("IOPRIO_CLASS_RT", 1, 1), ("IOPRIO_CLASS_BE", 6, 2), ("IOPRIO_CLASS_IDLE", 0, 3)],
)
def test_io_priority(runtime: Runtime, bundle: Bundle, kind: str, priority: int, number: int) -> None:
    bundle.process["ioPriority"] = {"class": kind, "priority": priority}
    bundle.process["user"] = {"uid": 1000, "gid": 1000}

    assert runtime.run(bundle).report["io_priority"] == number << 13 | priority


def test_an_io_priority_out_of_range_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 8}

    runtime.create(bundle).fails("invalid ioPriority.Priority: 8")


@pytest.mark.usefixtures("one_cpu")
def test_the_cpus_of_the_runtime_are_not_those_of_the_container(runtime: Runtime, bundle: Bundle) -> None:
    assert len(_cpus()) == 1

    assert len(_seen(runtime.run(bundle).report)) > 1


def test_the_cpus_of_a_container_are_those_of_its_cpuset(runtime: Runtime, bundle: Bundle) -> None:
    last = _cpus()[-1]
    bundle.linux["resources"] = {"cpu": {"cpus": str(last), "mems": "0"}}

    assert _seen(runtime.run(bundle).report) == [last]


@pytest.mark.usefixtures("one_cpu")
def test_the_cpus_of_the_runtime_are_not_those_of_an_exec(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle.args("sleep", "60"))

    assert len(_seen(_exec(runtime, id))) > 1


def test_exec_runs_on_the_cpus_of_the_config(runtime: Runtime, bundle: Bundle) -> None:
    last = _cpus()[-1]
    bundle.process["execCPUAffinity"] = {"initial": str(_cpus()[0]), "final": str(last)}
    id = runtime.running(bundle.args("sleep", "60"))

    assert _seen(_exec(runtime, id)) == [last]


def test_a_process_file_has_cpus_of_its_own_or_those_of_the_config(runtime: Runtime, bundle: Bundle) -> None:
    first, last = _cpus()[0], _cpus()[-1]
    bundle.process["execCPUAffinity"] = {"final": str(last)}
    id = runtime.running(bundle.args("sleep", "60"))
    process = {"cwd": "/", "args": ["/bin/probe", "report"]}
    plain, own = bundle.path / "plain.json", bundle.path / "own.json"
    plain.write_text(json.dumps(process))
    own.write_text(json.dumps({**process, "execCPUAffinity": {"final": str(first)}}))

    seen = [_seen(json.loads(runtime("exec", "--process", str(file), id).ok().stdout)) for file in (plain, own)]

    assert seen == [[last], [first]]


def test_cpus_that_are_not_there_are_an_error_of_exec(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["execCPUAffinity"] = {"final": "8000"}
    id = runtime.running(bundle.args("sleep", "60"))

    runtime("exec", id, "/bin/probe").fails("run on CPUs 8000", status=255)


@pytest.mark.parametrize(("domain", "machine"), [("LINUX32", "i686"), ("LINUX", "x86_64")])
def test_personality(runtime: Runtime, bundle: Bundle, domain: str, machine: str) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the names are those of x86_64")
    bundle.linux["personality"] = {"domain": domain}
    id = runtime.running(bundle.args("sleep", "60"))

    assert _exec(runtime, id)["machine"] == machine
    assert runtime.run(bundle.args("report")).report["machine"] == machine


def test_flags_of_a_personality_are_a_warning(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["personality"] = {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}

    result = runtime.run(bundle).ok()

    assert any(line["level"] == "warning" and "ADDR_NO_RANDOMIZE" in line["msg"] for line in result.log)


@pytest.mark.parametrize(
    ("policy", "seen"),
    [
        ({"mode": "MPOL_DEFAULT"}, {"mode": 0, "nodes": 0}),
        ({"mode": "MPOL_LOCAL"}, {"mode": 4, "nodes": 0}),
        ({"mode": "MPOL_BIND", "nodes": "0"}, {"mode": 2, "nodes": 1}),
        ({"mode": "MPOL_PREFERRED", "nodes": "0"}, {"mode": 1, "nodes": 1}),
        ({"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}, {"mode": 5, "nodes": 1}),
        ({"mode": "MPOL_INTERLEAVE", "nodes": "0"}, {"mode": 3, "nodes": 1}),
        (
            {"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
            {"mode": 3 | 1 << 15, "nodes": 1},
        ),
        (
            {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]},
            {"mode": 2 | 1 << 14, "nodes": 1},
        ),
    ],
)
def test_memory_policy(runtime: Runtime, bundle: Bundle, policy: dict[str, Any], seen: dict[str, int]) -> None:
    bundle.linux["memoryPolicy"] = policy
    id = runtime.running(bundle.args("sleep", "60"))

    assert _exec(runtime, id)["memory_policy"] == seen
    assert runtime.run(bundle.args("report")).report["memory_policy"] == seen


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ({"mode": "MPOL_FAR"}, "invalid memory policy mode"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_X"]}, "invalid memory policy flag"),
        ({"mode": "MPOL_DEFAULT", "nodes": "0"}, "requires 0 nodes but got 1"),
        ({"mode": "MPOL_BIND"}, "requires at least one node but got 0"),
        ({"mode": "MPOL_BIND", "nodes": "a"}, "invalid memory policy nodes"),
    ],
)
def test_a_memory_policy_that_contradicts_itself_is_refused(
    runtime: Runtime, bundle: Bundle, policy: dict[str, Any], text: str
) -> None:
    bundle.linux["memoryPolicy"] = policy

    runtime.create(bundle).fails(text)
    assert runtime.traces() == []


def test_a_node_that_is_not_there_is_an_error(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "1000"}

    runtime.create(bundle).fails("set memory policy MPOL_BIND 1000", "set_mempolicy")
    assert runtime.traces() == []
