"""linux.resources as writes to the files of cgroup v1, in an order that the kernel accepts. Pure."""

from __future__ import annotations

from pyocirun.cgroup.devices import EVERYTHING, policy, transition
from pyocirun.errors import SpecError
from pyocirun.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyocirun.cgroup.devices import Policy
    from pyocirun.spec.resources import (
        CPU,
        BlockIO,
        DeviceRule,
        HugepageLimit,
        Memory,
        Network,
        Pids,
        Rdma,
        Resources,
        ThrottleDevice,
    )

_POINTER = "/linux/resources"


class Write(Record):
    """Write `value` to `file` in the container's directory of `controller`.

    other: name of the file where the first one does not exist.  other_value: what to write to that, "" for `value`.
    optional: without the file nothing is lost, so nothing is written.
    late: EINVAL may be owed to the order: try once more after everything else.
    """

    controller: str
    file: str
    value: str
    other: str = ""
    optional: bool = False
    late: bool = False
    other_value: str = ""


class Now(Record):
    """What an existing cgroup is set to, as far as the order of writes depends on it.

    memory_limit: bytes of memory.limit_in_bytes.  devices: None if devices.list does not tell.
    """

    memory_limit: int = (1 << 63) - 4096
    devices: Policy | None = None


def writes(resources: Resources | None, now: Now | None = None, *, devices: bool = True) -> list[Write]:
    """What to write for `resources`, None being the same as empty.

    now: None for a cgroup just made, where also the fixed list of devices is written; else the values of a cgroup that
    is to be changed, and its devices stay as they are unless `resources` names some.
    devices: False leaves devices alone, as one must in a user namespace.

    Units are those of the spec. -1: no limit. None leaves a value as it is, and so does 0 where the kernel could make
    no use of it (all but pids.limit, swappiness, burst, idle and the throttles).
    Left out: memory.kernel, which the kernel no longer has, and useHierarchy false, which it no longer does.
    Spec: config-linux.md#control-groups. Raises SpecError.
    """
    made: list[Write] = []
    if resources is None:
        return _devices((), now) if devices else made
    if resources.unified:
        raise SpecError("invalid configuration: cannot use unified on cgroup v1", pointer=f"{_POINTER}/unified")
    if resources.cpu is not None:
        made += cpuset_writes(resources.cpu)
    if devices and (now is None or resources.devices):
        made += _devices(resources.devices, now)
    if resources.memory is not None:
        made += _memory(resources.memory, now)
    if resources.cpu is not None:
        made += _cpu(resources.cpu)
    if resources.pids is not None:
        made += pids_writes(resources.pids)
    if resources.block_io is not None:
        made += _blkio(resources.block_io)
    if resources.hugepage_limits:
        made += _hugetlb(resources.hugepage_limits)
    if resources.network is not None:
        made += _network(resources.network)
    if resources.rdma:
        made += rdma_writes(resources.rdma)
    return made


def warnings(resources: Resources | None) -> list[str]:
    """One line for each setting that `writes` leaves out."""
    memory = resources.memory if resources is not None else None
    if memory is None:
        return []
    lines = []
    if memory.kernel is not None:
        lines.append("linux.resources.memory.kernel is ignored: kernels no longer limit kernel memory apart")
    if memory.use_hierarchy is False:
        lines.append("linux.resources.memory.useHierarchy false is ignored: kernels always account hierarchically")
    return lines


def _devices(rules: Sequence[DeviceRule], now: Now | None) -> list[Write]:
    old = EVERYTHING if now is None else now.devices
    return [Write("devices", file, value) for file, value in transition(old, policy(rules))]


def _memory(memory: Memory, now: Now | None) -> list[Write]:
    made = _limit_and_swap(memory, now)
    if memory.reservation:
        made.append(Write("memory", "memory.soft_limit_in_bytes", str(memory.reservation)))
    if memory.kernel_tcp:
        made.append(Write("memory", "memory.kmem.tcp.limit_in_bytes", str(memory.kernel_tcp)))
    if memory.use_hierarchy:
        made.append(Write("memory", "memory.use_hierarchy", "1", optional=True))
    if memory.disable_oom_killer or (memory.disable_oom_killer is False and now is not None):
        made.append(Write("memory", "memory.oom_control", "1" if memory.disable_oom_killer else "0"))
    if memory.swappiness is not None:
        made.append(Write("memory", "memory.swappiness", str(memory.swappiness)))
    return made


def _limit_and_swap(memory: Memory, now: Now | None) -> list[Write]:
    """The kernel demands limit <= memory+swap after each single write, so a growing memory+swap goes first."""
    limit, swap = memory.limit or 0, memory.swap or 0
    if limit == -1 and swap == 0:
        swap = -1
    _check_swap(limit, swap, now)
    made = []
    if limit:
        made.append(Write("memory", "memory.limit_in_bytes", str(limit)))
    if swap:
        # "No limit" holds anyway where the kernel does not account swap.
        made.append(Write("memory", "memory.memsw.limit_in_bytes", str(swap), optional=swap == -1))
    if now is not None and (swap == -1 or swap > now.memory_limit):
        made.reverse()
    return made


def _check_swap(limit: int, swap: int, now: Now | None) -> None:
    pointer = f"{_POINTER}/memory/swap"
    if swap <= 0:
        return
    if limit == 0 and now is None:
        raise SpecError("unable to set swap limit without memory limit", pointer=pointer)
    if limit == -1 or swap < limit:
        raise SpecError("memory+swap limit should be >= memory limit", pointer=pointer)


def _cpu(cpu: CPU) -> list[Write]:
    made = []
    if cpu.shares:
        made.append(Write("cpu", "cpu.shares", str(_shares(cpu.shares))))
    # Quota/period, burst/quota and rt_runtime/rt_period are checked against each other and the parent at every write.
    if cpu.period:
        made.append(Write("cpu", "cpu.cfs_period_us", str(cpu.period), late=bool(cpu.quota)))
    if cpu.burst is not None:
        made.append(Write("cpu", "cpu.cfs_burst_us", str(cpu.burst), optional=cpu.burst == 0, late=bool(cpu.quota)))
    if cpu.quota:
        made.append(Write("cpu", "cpu.cfs_quota_us", str(cpu.quota)))
    if cpu.realtime_period:
        made.append(Write("cpu", "cpu.rt_period_us", str(cpu.realtime_period), late=bool(cpu.realtime_runtime)))
    if cpu.realtime_runtime:
        made.append(Write("cpu", "cpu.rt_runtime_us", str(cpu.realtime_runtime)))
    if cpu.idle is not None:
        idle = Write("cpu", "cpu.idle", str(cpu.idle), optional=cpu.idle == 0)
        # The kernel refuses shares for an idle group.
        made = made + [idle] if cpu.idle else [idle] + made
    return made


def _shares(shares: int) -> int:
    """`shares` as it is: beyond these bounds the kernel would silently take another number."""
    if shares < 2:
        raise SpecError("the minimum allowed cpu-shares is 2", pointer=f"{_POINTER}/cpu/shares")
    if shares > 262144:
        raise SpecError("the maximum allowed cpu-shares is 262144", pointer=f"{_POINTER}/cpu/shares")
    return shares


def cpuset_writes(cpu: CPU) -> list[Write]:
    """The same on v1 and v2."""
    made = []
    if cpu.cpus:
        made.append(Write("cpuset", "cpuset.cpus", cpu.cpus))
    if cpu.mems:
        made.append(Write("cpuset", "cpuset.mems", cpu.mems))
    return made


def pids_writes(pids: Pids) -> list[Write]:
    """The same on v1 and v2. 0 becomes 1, as in runc: systemd cannot be told 0, and init needs no room for another."""
    if pids.limit is None:
        return []
    return [Write("pids", "pids.max", "max" if pids.limit < 0 else str(pids.limit or 1))]


def _blkio(block_io: BlockIO) -> list[Write]:
    """The weight files are CFQ's; since Linux 5.0 BFQ has them, under its own name."""
    made = []
    if block_io.weight:
        made.append(Write("blkio", "blkio.weight", str(block_io.weight), other="blkio.bfq.weight"))
    if block_io.leaf_weight:
        made.append(Write("blkio", "blkio.leaf_weight", str(block_io.leaf_weight)))
    for device in block_io.weight_device:
        node = f"{device.major}:{device.minor}"
        if device.weight:
            value = f"{node} {device.weight}"
            made.append(Write("blkio", "blkio.weight_device", value, other="blkio.bfq.weight_device"))
        if device.leaf_weight:
            made.append(Write("blkio", "blkio.leaf_weight_device", f"{node} {device.leaf_weight}"))
    made += _throttle("read_bps_device", block_io.throttle_read_bps_device)
    made += _throttle("write_bps_device", block_io.throttle_write_bps_device)
    made += _throttle("read_iops_device", block_io.throttle_read_iops_device)
    made += _throttle("write_iops_device", block_io.throttle_write_iops_device)
    return made


def _throttle(name: str, devices: Sequence[ThrottleDevice]) -> list[Write]:
    """Rate 0 lifts the limit."""
    return [
        Write("blkio", f"blkio.throttle.{name}", f"{device.major}:{device.minor} {device.rate}") for device in devices
    ]


def _hugetlb(limits: Sequence[HugepageLimit]) -> list[Write]:
    """Limits on pages in use and, since Linux 5.7, on pages reserved."""
    made = []
    for index, huge in enumerate(limits):
        digits, unit = huge.page_size[:-2], huge.page_size[-2:]
        # The size becomes part of a file's name.
        if unit not in ("KB", "MB", "GB") or not (digits.isascii() and digits.isdigit()) or digits[0] == "0":
            raise SpecError(
                f"invalid page size {huge.page_size!r}: must be a number and KB, MB or GB, such as 2MB",
                pointer=f"{_POINTER}/hugepageLimits/{index}/pageSize",
            )
        made.append(Write("hugetlb", f"hugetlb.{huge.page_size}.limit_in_bytes", str(huge.limit)))
        made.append(Write("hugetlb", f"hugetlb.{huge.page_size}.rsvd.limit_in_bytes", str(huge.limit), optional=True))
    return made


def _network(network: Network) -> list[Write]:
    made = []
    if network.class_id:
        made.append(Write("net_cls", "net_cls.classid", str(network.class_id)))
    for entry in network.priorities:
        made.append(Write("net_prio", "net_prio.ifpriomap", f"{entry.name} {entry.priority}"))
    return made


def rdma_writes(limits: dict[str, Rdma]) -> list[Write]:
    """The same on v1 and v2."""
    made = []
    for device, limit in limits.items():
        parts = [device]
        if limit.hca_handles is not None:
            parts.append(f"hca_handle={limit.hca_handles}")
        if limit.hca_objects is not None:
            parts.append(f"hca_object={limit.hca_objects}")
        if len(parts) > 1:
            made.append(Write("rdma", "rdma.max", " ".join(parts)))
    return made
