"""process.scheduler, ioPriority and execCPUAffinity; linux.personality and memoryPolicy. Loaded where one is set."""

from __future__ import annotations

from pyocirun.linux.sched import FLAGS, MEMORY_FLAGS, MEMORY_MODES, PERSONALITIES, POLICIES, io_priority, parse_list
from pyocirun.plan import ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.spec.linux import Linux
    from pyocirun.spec.process import CPUAffinity, Process


def scheduling(process: Process) -> list[ops.Op]:
    """How the process is scheduled. Spec: config.md#linux-process"""
    plan: list[ops.Op] = []
    wanted = process.scheduler
    if wanted is not None:
        plan.append(
            ops.SetScheduler(
                _words(wanted.policy, *wanted.flags),
                POLICIES[wanted.policy],
                _bits(wanted.flags, FLAGS),
                wanted.nice or 0,
                wanted.priority or 0,
                wanted.runtime or 0,
                wanted.deadline or 0,
                wanted.period or 0,
            )
        )
    if process.io_priority is not None:
        kind, level = process.io_priority.class_, process.io_priority.priority
        plan.append(ops.SetIOPriority(f"{kind} {level}", io_priority(kind, level)))
    return plan


def domain(linux: Linux) -> list[ops.Op]:
    """What all processes of the container have in common. Spec: config-linux.md#personality, #memory-policy"""
    plan: list[ops.Op] = []
    if linux.personality is not None:
        plan.append(ops.SetPersonality(linux.personality.domain, PERSONALITIES[linux.personality.domain]))
    policy = linux.memory_policy
    if policy is not None:
        mode = MEMORY_MODES[policy.mode] | _bits(policy.flags, MEMORY_FLAGS)
        text = _words(policy.mode, *policy.flags, policy.nodes or "")
        plan.append(ops.SetMemoryPolicy(text, mode, tuple(parse_list(policy.nodes or ""))))
    return plan


def initial_affinity(wanted: CPUAffinity) -> list[ops.Op]:
    """Where the set-up of a process that joins runs, before it is in the cgroup."""
    cpus = parse_list(wanted.initial or "")
    return [ops.Affinity(tuple(cpus))] if cpus else []


def final_affinity(wanted: CPUAffinity) -> list[ops.Op]:
    """Where it runs from then on. Without a list, what the kernel made of it when it joined the cgroup stays."""
    cpus = parse_list(wanted.final or "")
    return [ops.Affinity(tuple(cpus))] if cpus else []


def _bits(names: tuple[str, ...], numbers: dict[str, int]) -> int:
    value = 0
    for name in names:
        value |= numbers[name]
    return value


def _words(*parts: str) -> str:
    return " ".join(part for part in parts if part)
