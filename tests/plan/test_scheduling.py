"""Scheduling, CPUs, memory policy and personality: which operations, with which numbers, and where."""

from __future__ import annotations

import pytest

from pyocirun.linux.namespaces import CLONE_NEWNS
from pyocirun.plan import ops, tenant
from pyocirun.spec.linux import Linux, MemoryPolicy, Personality
from pyocirun.spec.process import CPUAffinity, IOPriority, Scheduler, User
from tests.support import CHARGED_PATHS, build, every, minimal_process, minimal_spec, only, where

RESET = ops.Affinity(optional=True)


def test_a_scheduler_is_turned_into_numbers() -> None:
    wanted = Scheduler("SCHED_DEADLINE", None, None, ("SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"), 1, 2, 3)

    op = only(build(minimal_spec(process=minimal_process(scheduler=wanted))), ops.SetScheduler)

    assert (op.policy, op.flags, op.nice, op.priority, op.runtime, op.deadline, op.period) == (6, 5, 0, 0, 1, 2, 3)


def test_a_negative_nice_value_is_encoded_as_a_number_of_64_bits() -> None:
    wanted = Scheduler("SCHED_OTHER", -5)

    op = only(build(minimal_spec(process=minimal_process(scheduler=wanted))), ops.SetScheduler)

    assert op.fields({})[2] == 2**64 - 5


@pytest.mark.parametrize(
    ("wanted", "value"),
    [(IOPriority("IOPRIO_CLASS_BE", 5), 2 << 13 | 5), (IOPriority("IOPRIO_CLASS_IDLE", 0), 3 << 13)],
)
def test_an_io_priority_has_its_class_above_its_level(wanted: IOPriority, value: int) -> None:
    op = only(build(minimal_spec(process=minimal_process(io_priority=wanted))), ops.SetIOPriority)

    assert op.value == value


@pytest.mark.parametrize("kind", [ops.SetScheduler, ops.SetIOPriority])
def test_what_takes_privilege_comes_before_the_user(kind: type[ops.Op]) -> None:
    process = minimal_process(
        user=User(1000), scheduler=Scheduler("SCHED_FIFO", None, 3), io_priority=IOPriority("IOPRIO_CLASS_RT", 1)
    )

    plan = build(minimal_spec(process=process))

    assert where(plan, kind) < where(plan, ops.SetUser)


@pytest.mark.parametrize(("domain", "value"), [("LINUX", 0), ("LINUX32", 8)])
def test_personality(domain: str, value: int) -> None:
    assert only(build(minimal_spec(personality=Personality(domain))), ops.SetPersonality).value == value


def test_a_memory_policy_has_its_flags_in_its_mode() -> None:
    policy = MemoryPolicy("MPOL_INTERLEAVE", "0,2-3", ("MPOL_F_STATIC_NODES",))

    op = only(build(minimal_spec(memory_policy=policy)), ops.SetMemoryPolicy)

    assert (op.mode, op.nodes) == (3 | 1 << 15, (0, 2, 3))
    assert op.fields({}) == (3 | 1 << 15, (0b1101,))


def test_a_node_of_a_later_word() -> None:
    op = only(build(minimal_spec(memory_policy=MemoryPolicy("MPOL_BIND", "65"))), ops.SetMemoryPolicy)

    assert op.fields({}) == (2, (0, 2))


def test_a_memory_policy_without_nodes_has_no_mask() -> None:
    op = only(build(minimal_spec(memory_policy=MemoryPolicy("MPOL_LOCAL"))), ops.SetMemoryPolicy)

    assert op.fields({}) == (4, ())


def test_the_cpus_of_the_runtime_are_forgotten_in_the_cgroup() -> None:
    plan = build(minimal_spec(), cgroup_paths=CHARGED_PATHS)

    assert plan.ops.index(RESET) == where(plan, ops.Clone) + 2
    assert type(plan.ops[plan.ops.index(RESET) - 1]) is ops.JoinCgroup


# exec


def test_exec_forgets_the_cpus_of_the_runtime_too() -> None:
    plan = tenant.build(minimal_process(), "box", CLONE_NEWNS, cgroups=CHARGED_PATHS)

    assert plan.ops.index(RESET) == 2


def test_exec_runs_on_its_first_cpus_until_it_is_in_the_cgroup() -> None:
    process = minimal_process(exec_cpu_affinity=CPUAffinity("0", "1-2"))

    plan = tenant.build(process, "box", CLONE_NEWNS, cgroups=CHARGED_PATHS)

    kinds = [type(op) for op in plan.ops[:4]]
    assert kinds == [ops.Clone, ops.Affinity, ops.JoinCgroup, ops.Affinity]
    assert [op.cpus for op in every(plan, ops.Affinity)] == [(0,), (1, 2)]


@pytest.mark.parametrize("final", [None, ""])
def test_without_last_cpus_exec_changes_none_in_the_cgroup(final: str | None) -> None:
    process = minimal_process(exec_cpu_affinity=CPUAffinity("0", final))

    assert [op.cpus for op in every(tenant.build(process, "box", 0), ops.Affinity)] == [(0,)]


def test_the_cpus_of_exec_do_not_concern_the_init_of_the_container() -> None:
    process = minimal_process(exec_cpu_affinity=CPUAffinity("0", "1"))

    assert every(build(minimal_spec(process=process)), ops.Affinity) == [RESET]


def test_exec_has_the_personality_and_memory_policy_of_the_container() -> None:
    linux = Linux(personality=Personality("LINUX32"), memory_policy=MemoryPolicy("MPOL_LOCAL"))

    plan = tenant.build(minimal_process(), "box", 0, linux=linux)

    assert only(plan, ops.SetPersonality).value == 8
    assert only(plan, ops.SetMemoryPolicy).mode == 4
