"""linux.resources: limits for the container's cgroup (config-linux.md#control-groups), also what `update` reads."""

from __future__ import annotations

from pyocirun.record import Record
from pyocirun.spec import reader
from pyocirun.spec.reader import INT64, UINT32, UINT64, child, fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

UINT16 = (1 << 16) - 1


class DeviceRule(Record):
    """One rule about devices.

    type: "a" (all; if absent), "c", "b".  major, minor: None is any.  access: of "rwm"; other letters mean nothing.
    """

    allow: bool
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


class Memory(Record):
    """Bytes; -1: no limit. swap: memory and swap together.  swappiness: 0..100."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    kernel: int | None = None
    kernel_tcp: int | None = None
    swappiness: int | None = None
    disable_oom_killer: bool | None = None
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None


class CPU(Record):
    """quota, burst, period, realtime_*: microseconds; quota -1: no limit.  cpus, mems: lists such as "0-3,7"."""

    shares: int | None = None
    quota: int | None = None
    burst: int | None = None
    period: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str | None = None
    mems: str | None = None
    idle: int | None = None


class Pids(Record):
    """limit: number of tasks; -1: no limit; 0: none at all, which is another thing than None."""

    limit: int | None = None


class WeightDevice(Record):
    """Weights of one block device; one of the two is there."""

    major: int
    minor: int
    weight: int | None = None
    leaf_weight: int | None = None


class ThrottleDevice(Record):
    """A limit for one block device. rate: bytes or operations per second."""

    major: int
    minor: int
    rate: int


class BlockIO(Record):
    """Block devices. weight, leaf_weight: 0..65535 as written."""

    weight: int | None = None
    leaf_weight: int | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = ()


class HugepageLimit(Record):
    """page_size: as in the names of the kernel's files, "2MB".  limit: bytes."""

    page_size: str
    limit: int


class InterfacePriority(Record):
    """Priority of what leaves by the interface `name` of the runtime's network namespace."""

    name: str
    priority: int


class Network(Record):
    """class_id: 0xAAAABBBB for tc(8)."""

    class_id: int | None = None
    priorities: tuple[InterfacePriority, ...] = ()


class Rdma(Record):
    """Limits for one RDMA device; one of the two is there."""

    hca_handles: int | None = None
    hca_objects: int | None = None


class Resources(Record):
    """linux.resources.  rdma: by device.  unified: cgroup v2 file name -> what to write."""

    devices: tuple[DeviceRule, ...] = ()
    memory: Memory | None = None
    cpu: CPU | None = None
    pids: Pids | None = None
    block_io: BlockIO | None = None
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: Network | None = None
    rdma: dict[str, Rdma] = {}
    unified: dict[str, str] = {}


def parse_resources(fields: dict[str, Any], at: str = "/linux/resources") -> Resources:
    """The resources in an object. Raises SpecError."""
    return Resources(
        reader.records(fields, "devices", at, _device_rule) or (),
        _memory(fields, at),
        _cpu(fields, at),
        _pids(fields, at),
        _block_io(fields, at),
        reader.records(fields, "hugepageLimits", at, _hugepage_limit) or (),
        _network(fields, at),
        reader.record_map(fields, "rdma", at, _rdma),
        _unified(fields, at),
    )


def _device_rule(value: Any, at: str) -> DeviceRule:
    fields = reader.fields(value, at)
    allow = reader.optional_boolean(fields, "allow", at)
    if allow is None:
        raise fault(child(at, "allow"), "is missing")
    type = reader.optional_string(fields, "type", at) or "a"
    if type not in ("a", "b", "c"):
        raise fault(child(at, "type"), f'invalid cgroup device type "{type}"')
    access = reader.optional_string(fields, "access", at)
    if access is None:
        raise fault(child(at, "access"), f"device access at {at.rpartition('/')[2]} field cannot be empty")
    if access and not set(access) & set("rwm"):
        raise fault(child(at, "access"), f'"{access}" has none of the letters r, w and m')
    return DeviceRule(allow, type, _device_number(fields, "major", at), _device_number(fields, "minor", at), access)


def _device_number(fields: dict[str, Any], key: str, at: str) -> int | None:
    number = reader.optional_integer(fields, key, at, -1, UINT32)
    return None if number == -1 else number


def _memory(fields: dict[str, Any], at: str) -> Memory | None:
    section = reader.section(fields, "memory", at)
    if section is None:
        return None
    at = child(at, "memory")
    return Memory(
        reader.optional_integer(section, "limit", at, -1, INT64),
        reader.optional_integer(section, "reservation", at, -1, INT64),
        reader.optional_integer(section, "swap", at, -1, INT64),
        reader.optional_integer(section, "kernel", at, -1, INT64),
        reader.optional_integer(section, "kernelTCP", at, -1, INT64),
        reader.optional_integer(section, "swappiness", at, 0, 100),
        reader.optional_boolean(section, "disableOOMKiller", at),
        reader.optional_boolean(section, "useHierarchy", at),
        reader.optional_boolean(section, "checkBeforeUpdate", at),
    )


def _cpu(fields: dict[str, Any], at: str) -> CPU | None:
    section = reader.section(fields, "cpu", at)
    if section is None:
        return None
    at = child(at, "cpu")
    return CPU(
        reader.optional_integer(section, "shares", at, 0, UINT64),
        reader.optional_integer(section, "quota", at, -INT64 - 1, INT64),
        reader.optional_integer(section, "burst", at, 0, UINT64),
        reader.optional_integer(section, "period", at, 0, UINT64),
        reader.optional_integer(section, "realtimeRuntime", at, -INT64 - 1, INT64),
        reader.optional_integer(section, "realtimePeriod", at, 0, UINT64),
        _list(section, "cpus", at),
        _list(section, "mems", at),
        reader.optional_integer(section, "idle", at, -INT64 - 1, INT64),
    )


def _list(fields: dict[str, Any], key: str, at: str) -> str | None:
    """A list such as "0-3,7". The kernel reads no further than a line, and would say nothing of the rest."""
    text = reader.optional_string(fields, key, at)
    if text is not None and "\n" in text.rstrip("\n"):
        raise fault(child(at, key), "must be one line")
    return text


def _pids(fields: dict[str, Any], at: str) -> Pids | None:
    section = reader.section(fields, "pids", at)
    if section is None:
        return None
    return Pids(reader.optional_integer(section, "limit", child(at, "pids"), -INT64 - 1, INT64))


def _block_io(fields: dict[str, Any], at: str) -> BlockIO | None:
    section = reader.section(fields, "blockIO", at)
    if section is None:
        return None
    at = child(at, "blockIO")
    return BlockIO(
        reader.optional_integer(section, "weight", at, 0, UINT16),
        reader.optional_integer(section, "leafWeight", at, 0, UINT16),
        reader.records(section, "weightDevice", at, _weight_device) or (),
        reader.records(section, "throttleReadBpsDevice", at, _throttle_device) or (),
        reader.records(section, "throttleWriteBpsDevice", at, _throttle_device) or (),
        reader.records(section, "throttleReadIOPSDevice", at, _throttle_device) or (),
        reader.records(section, "throttleWriteIOPSDevice", at, _throttle_device) or (),
    )


def _weight_device(value: Any, at: str) -> WeightDevice:
    fields = reader.fields(value, at)
    device = WeightDevice(
        reader.integer(fields, "major", at, 0, INT64),
        reader.integer(fields, "minor", at, 0, INT64),
        reader.optional_integer(fields, "weight", at, 0, UINT16),
        reader.optional_integer(fields, "leafWeight", at, 0, UINT16),
    )
    if device.weight is None and device.leaf_weight is None:
        raise fault(at, "weight or leafWeight must be given")
    return device


def _throttle_device(value: Any, at: str) -> ThrottleDevice:
    fields = reader.fields(value, at)
    return ThrottleDevice(
        reader.integer(fields, "major", at, 0, INT64),
        reader.integer(fields, "minor", at, 0, INT64),
        reader.integer(fields, "rate", at, 0, UINT64),
    )


def _hugepage_limit(value: Any, at: str) -> HugepageLimit:
    fields = reader.fields(value, at)
    limit = HugepageLimit(reader.string(fields, "pageSize", at), reader.integer(fields, "limit", at, 0, UINT64))
    number = limit.page_size[:-2]
    if (
        limit.page_size[-2:] not in ("KB", "MB", "GB")
        or not number.isascii()
        or not number.isdigit()
        or number[0] == "0"
    ):
        raise fault(child(at, "pageSize"), f'"{limit.page_size}" is not a number followed by KB, MB or GB')
    return limit


def _network(fields: dict[str, Any], at: str) -> Network | None:
    section = reader.section(fields, "network", at)
    if section is None:
        return None
    at = child(at, "network")
    return Network(
        reader.optional_integer(section, "classID", at, 0, UINT32),
        reader.records(section, "priorities", at, _priority) or (),
    )


def _priority(value: Any, at: str) -> InterfacePriority:
    fields = reader.fields(value, at)
    return InterfacePriority(reader.string(fields, "name", at), reader.integer(fields, "priority", at, 0, UINT32))


def _rdma(value: Any, at: str) -> Rdma:
    fields = reader.fields(value, at)
    rdma = Rdma(
        reader.optional_integer(fields, "hcaHandles", at, 0, UINT32),
        reader.optional_integer(fields, "hcaObjects", at, 0, UINT32),
    )
    if rdma.hca_handles is None and rdma.hca_objects is None:
        raise fault(at, "hcaHandles or hcaObjects must be given")
    return rdma


def _unified(fields: dict[str, Any], at: str) -> dict[str, str]:
    unified = reader.string_map(fields, "unified", at)
    for name in unified:
        if "/" in name:
            raise fault(child(child(at, "unified"), name), "must be the name of a file, without a slash")
    return unified
