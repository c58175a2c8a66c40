"""linux.resources as writes to the files of cgroup v2, in an order that the kernel accepts. Pure."""

from __future__ import annotations

from pyocirun.cgroup.v1 import Write, cpuset_writes, pids_writes, rdma_writes
from pyocirun.errors import SpecError
from pyocirun.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyocirun.spec.resources import CPU, BlockIO, HugepageLimit, Memory, Resources, ThrottleDevice

_POINTER = "/linux/resources"
_DEFAULT_PERIOD = 100000
_MOST_SHARES = 262144
_MOST_WEIGHT = 10000

# Who is in the cgroup, and whether it runs.
_OWN = frozenset(("cgroup.procs", "cgroup.threads", "cgroup.freeze", "cgroup.kill", "cgroup.type"))


def writes(resources: Resources | None) -> list[Write]:
    """What to write for `resources`, None being the same as empty; devices are no files here, see `devices.program`.

    It is the same for a new cgroup and for one in use, but for what `complete` adds: no order of these depends on the
    values in force.

    Units are those of the spec. -1: no limit. None leaves a value as it is, and so does 0 where the kernel could make
    no use of it (all but pids.limit, idle and burst). A rate of 0 is written, and refused by the kernel.
    Left out: what only cgroup v1 has, see `warnings`.
    Spec: config-linux.md#control-groups. Raises SpecError.
    """
    made: list[Write] = []
    if resources is None:
        return made
    if resources.cpu is not None:
        made += cpuset_writes(resources.cpu) + _cpu(resources.cpu)
    if resources.memory is not None:
        made += _memory(resources.memory)
    if resources.pids is not None:
        made += pids_writes(resources.pids)
    if resources.block_io is not None:
        made += _io(resources.block_io)
    if resources.hugepage_limits:
        made += _hugetlb(resources.hugepage_limits)
    if resources.rdma:
        made += rdma_writes(resources.rdma)
    return made + _unified(resources.unified)


def warnings(resources: Resources | None) -> list[str]:
    """One line for each setting that `writes` leaves out."""
    if resources is None:
        return []
    ignored: list[tuple[str, object]] = []
    if (memory := resources.memory) is not None:
        ignored += [("memory.kernel", memory.kernel), ("memory.kernelTCP", memory.kernel_tcp)]
        ignored += [("memory.swappiness", memory.swappiness is not None)]
        ignored += [("memory.disableOOMKiller", memory.disable_oom_killer)]
    if (cpu := resources.cpu) is not None:
        ignored += [("cpu.realtimeRuntime", cpu.realtime_runtime), ("cpu.realtimePeriod", cpu.realtime_period)]
    if (block_io := resources.block_io) is not None:
        ignored.append(("blockIO.leafWeight", block_io.leaf_weight))
        leaves = any(device.leaf_weight for device in block_io.weight_device)
        ignored.append(("blockIO.weightDevice.leafWeight", leaves))
    if (network := resources.network) is not None:
        ignored += [("network.classID", network.class_id), ("network.priorities", network.priorities)]
    return [f"linux.resources.{name} is ignored: cgroup v2 has nothing like it" for name, value in ignored if value]


def weight_of_shares(shares: int) -> int:
    """cpu.weight, 1 to 10000, for cpu.shares, 2 to 262144 and 1024 by default; 0 for 0, which means "not set".

    Both defaults, 1024 and 100, and both ends belong together: the exponent is a parabola through these three points.
    """
    if shares == 0:
        return 0
    if shares <= 2:
        return 1
    if shares >= _MOST_SHARES:
        return _MOST_WEIGHT
    from math import ceil, log2

    power = log2(shares)
    return ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))


def weight_of_blkio(weight: int) -> int:
    """io.weight, 1 to 10000, for blkio.weight, 10 to 1000."""
    return 1 + (weight - 10) * 9999 // 990


def swap_max(memory: Memory) -> str:
    """What memory.swap.max becomes, "" if it stays: the spec's swap is memory and swap together.

    Raises SpecError for a swap that contradicts the limit, or has none to be above of.
    """
    limit, swap = memory.limit or 0, memory.swap or 0
    pointer = f"{_POINTER}/memory/swap"
    if swap == -1 or (swap == 0 and limit == -1):
        return "max"
    if swap == 0:
        return ""
    if limit == 0:
        raise SpecError("unable to set swap limit without memory limit", pointer=pointer)
    if limit == -1 or swap < limit:
        raise SpecError("memory+swap limit should be >= memory limit", pointer=pointer)
    return str(swap - limit)


def _memory(memory: Memory) -> list[Write]:
    """Swap first: a process that a lower limit pushes out of memory must find the swap that it may use."""
    made = []
    if swap := swap_max(memory):
        # "No limit" holds anyway where the kernel has no swap to account.
        made.append(Write("memory", "memory.swap.max", swap, optional=swap == "max"))
    if memory.limit:
        made.append(Write("memory", "memory.max", _number(memory.limit)))
    if memory.reservation:
        made.append(Write("memory", "memory.low", _number(memory.reservation)))
    return made


def complete(resources: Resources, cpu_max: str) -> Resources:
    """`resources` for a cgroup in use. Quota and period stand in one file: the one that is not named stays.

    cpu_max: what that file holds, such as "max 100000".
    """
    cpu = resources.cpu
    if cpu is None or bool(cpu.quota) == bool(cpu.period):
        return resources
    quota, period = cpu_max.split()
    change = {"period": int(period)} if cpu.quota else {"quota": -1 if quota == "max" else int(quota)}
    return replace(resources, cpu=replace(cpu, **change))


def _cpu(cpu: CPU) -> list[Write]:
    """An idle group takes no weight. Burst must not exceed quota, so either may have to be written first."""
    made = []
    if cpu.idle is not None:
        made.append(Write("cpu", "cpu.idle", str(cpu.idle), optional=cpu.idle == 0))
    if (weight := weight_of_shares(cpu.shares or 0)) and not cpu.idle:
        made.append(Write("cpu", "cpu.weight", str(weight)))
    if cpu.burst is not None:
        made.append(Write("cpu", "cpu.max.burst", str(cpu.burst), late=True, optional=cpu.burst == 0))
    if cpu.quota or cpu.period:
        quota = str(cpu.quota) if cpu.quota and cpu.quota > 0 else "max"
        made.append(Write("cpu", "cpu.max", f"{quota} {cpu.period or _DEFAULT_PERIOD}", late=cpu.burst is not None))
    return made


def _io(block_io: BlockIO) -> list[Write]:
    """Weights are BFQ's where it is in use, with v1's numbers, and else those of io.cost on a scale of its own."""
    made = []
    if block_io.weight:
        other = str(weight_of_blkio(block_io.weight))
        made.append(Write("io", "io.bfq.weight", str(block_io.weight), other="io.weight", other_value=other))
    for device in block_io.weight_device:
        if device.weight:
            made.append(Write("io", "io.bfq.weight", f"{device.major}:{device.minor} {device.weight}"))
    made += _throttle("rbps", block_io.throttle_read_bps_device)
    made += _throttle("wbps", block_io.throttle_write_bps_device)
    made += _throttle("riops", block_io.throttle_read_iops_device)
    made += _throttle("wiops", block_io.throttle_write_iops_device)
    return made


def _throttle(key: str, devices: Sequence[ThrottleDevice]) -> list[Write]:
    return [Write("io", "io.max", f"{device.major}:{device.minor} {key}={device.rate}") for device in devices]


def _hugetlb(limits: Sequence[HugepageLimit]) -> list[Write]:
    """Limits on pages in use and, since Linux 5.7, on pages reserved."""
    made = []
    for huge in limits:
        made.append(Write("hugetlb", f"hugetlb.{huge.page_size}.max", str(huge.limit)))
        made.append(Write("hugetlb", f"hugetlb.{huge.page_size}.rsvd.max", str(huge.limit), optional=True))
    return made


def _unified(files: dict[str, str]) -> list[Write]:
    """Last, so that they win over what the other fields gave. One write a line, as the kernel takes one at a time."""
    made = []
    for name, value in files.items():
        pointer = f"{_POINTER}/unified/{name.replace('~', '~0').replace('/', '~1')}"
        if "/" in name or "." not in name.strip("."):
            raise SpecError(f"{name!r} is not the name of a file in a cgroup v2", pointer=pointer)
        if name in _OWN:
            raise SpecError(f"{name!r} cannot be set by a configuration: it is the runtime's own", pointer=pointer)
        made += [Write(name.partition(".")[0], name, line) for line in value.splitlines() or [""]]
    return made


def _number(value: int) -> str:
    return "max" if value < 0 else str(value)
