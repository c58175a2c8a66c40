"""linux.resources as properties of a systemd unit. Pure.

Not everything has one: what is left goes to the cgroup's files, and so does what systemd rounds.
See systemd.resource-control(5), org.freedesktop.systemd1(5).
"""

from __future__ import annotations

from pyocirun.cgroup import devices, v2
from pyocirun.cgroup.gvariant import parse
from pyocirun.errors import SpecError
from pyocirun.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyocirun.cgroup.unit import Unit
    from pyocirun.spec.resources import CPU, DeviceRule, Resources

ANNOTATION = "org.systemd.property."
INFINITY = (1 << 64) - 1

_SECOND = 1_000_000
_QUOTA_STEP = 10_000
"""Microseconds a second: systemd keeps a quota in whole percent."""
_DEFAULT_PERIOD = 100_000
_MOST_CPUS = 1 << 16

COLLECTS = 236
"""The version of systemd since which a unit that failed does not stay."""

# The first version of systemd that has a property; older ones do without.
_SINCE = {
    "AllowedCPUs": 244,
    "AllowedMemoryNodes": 244,
    "CPUQuotaPeriodUSec": 242,
    "OOMPolicy": 253,
    "CollectMode": COLLECTS,
    "MemoryMin": 240,
    "MemoryZSwapMax": 253,
}
_IDLE_SINCE = 252


class Property(Record):
    """A property of a unit. signature: its type on D-Bus.  value: as the signature has it; arrays are lists."""

    name: str
    signature: str
    value: object

    def __str__(self) -> str:
        shown = "infinity" if self.value == INFINITY else self.value
        return f"{self.name}={bytes(shown).hex() if self.signature == 'ay' and isinstance(shown, bytes) else shown}"


def properties(
    unit: Unit, id: str, resources: Resources | None, annotations: dict[str, str], *, unified: bool, devices: bool
) -> tuple[Property, ...]:
    """All properties of a new unit; what an annotation names wins.

    unified: for cgroup v2.  devices: with device rules. Raises SpecError.
    """
    made = [*_description(unit, id, unified), *limits(resources, unit.version, unified=unified, devices=devices)]
    found = {each.name: each for each in (*made, *annotated(annotations))}
    return tuple(found.values())


def limits(resources: Resources | None, version: int, *, unified: bool, devices: bool) -> list[Property]:
    """The properties for `resources`. None of a value leaves it as it is. Raises SpecError."""
    if resources is None:
        return []
    found = _unified(resources) if unified else _legacy(resources)
    if resources.cpu is not None:
        found.update(_quota(resources.cpu.quota, resources.cpu.period))
    if resources.pids is not None and (limit := resources.pids.limit) is not None:
        found["TasksMax"] = ("t", _number(limit or 1))
    if unified:
        found.update(_files(resources.unified))
    # Weight 0 is what an idle cgroup has.
    if found.get("CPUWeight") == ("t", 0) and version < _IDLE_SINCE:
        del found["CPUWeight"]
    if devices and resources.devices:
        found.update(_devices(resources.devices))
    return [Property(name, *value) for name, value in found.items() if version >= _SINCE.get(name, 0)]


def changes(resources: Resources, version: int, *, unified: bool, devices: bool) -> list[Property]:
    """The same for a unit that runs: what it takes only when it is started is left to the files."""
    return [each for each in limits(resources, version, unified=unified, devices=devices) if each.name != "OOMPolicy"]


def annotated(annotations: dict[str, str]) -> list[Property]:
    """Those that annotations `org.systemd.property.NAME` give, as GVariant text; NAMESec in seconds is NAMEUSec.

    Raises SpecError.
    """
    found = []
    for key, text in annotations.items():
        if not key.startswith(ANNOTATION):
            continue
        name = key.removeprefix(ANNOTATION)
        pointer = f"/annotations/{key.replace('~', '~0').replace('/', '~1')}"
        if len(name) < 3 or not (name.isascii() and name.isalnum()):
            raise SpecError(f"{pointer}: {name!r} is not the name of a property", pointer=pointer)
        try:
            signature, value = parse(text)
            if name.endswith("Sec") and not name.endswith("USec"):
                name, signature, value = f"{name[:-3]}USec", "t", _microseconds(value)
        except ValueError as error:
            raise SpecError(f"{pointer}: {text!r} is no value for {name}: {error}", pointer=pointer) from None
        found.append(Property(name, signature, value))
    return found


def quota_per_second(quota: int, period: int) -> int:
    """CPUQuotaPerSecUSec for cpu.quota and cpu.period, in microseconds: rounded up, as systemd drops what is below."""
    if quota <= 0:
        return INFINITY
    return -(-quota * _SECOND // (period * _QUOTA_STEP)) * _QUOTA_STEP


def bits(numbers: str, pointer: str) -> bytes:
    """A list such as "0-2,7" as a mask, the lowest in the first byte. Raises SpecError."""
    mask = 0
    for part in numbers.replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        try:
            low, high = int(first), int(last if dash else first)
        except ValueError:
            low, high = 1, 0
        if not 0 <= low <= high < _MOST_CPUS:
            raise SpecError(f"{numbers!r} is no list of numbers such as 0-2,7", pointer=pointer)
        mask |= ((1 << (high - low + 1)) - 1) << low
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


def allowed(rules: Sequence[DeviceRule]) -> dict[tuple[str, int | None, int | None], str]:
    """Devices and the access to them that `rules` can allow at most: systemd has no rules that deny.

    What is denied within something wider stays here; the program of the container's own denies it.
    """
    found: dict[tuple[str, int | None, int | None], str] = {}
    for index, rule in enumerate(rules):
        named, access = devices.parse_rule(rule, index)
        for device in named:
            if rule.allow:
                found[device] = devices.letters(found.get(device, "") + access)
                continue
            for known in list(found):
                if known[0] == device[0] and device[1] in (None, known[1]) and device[2] in (None, known[2]):
                    found[known] = "".join([letter for letter in found[known] if letter not in access])
    for device, access in devices.FIXED:
        found[device] = devices.letters(found.get(device, "") + access)
    return {device: access for device, access in found.items() if access}


def _description(unit: Unit, id: str, unified: bool) -> list[Property]:
    made = [
        Property("Description", "s", f"container {id}"),
        Property("DefaultDependencies", "b", False),
        Property("MemoryAccounting", "b", True),
        Property("CPUAccounting", "b", True),
        Property("IOAccounting" if unified else "BlockIOAccounting", "b", True),
        Property("TasksAccounting", "b", True),
    ]
    if unit.version >= COLLECTS:  # a scope that failed, by lack of memory say, does not stay
        made.append(Property("CollectMode", "s", "inactive-or-failed"))
    if unit.is_scope:
        return [*made, Property("Slice", "s", unit.slice), Property("Delegate", "b", True)]
    return [*made, Property("Wants", "as", [unit.slice])]


def _unified(resources: Resources) -> dict[str, tuple[str, object]]:
    found: dict[str, tuple[str, object]] = {}
    if (memory := resources.memory) is not None:
        if memory.limit:
            found["MemoryMax"] = ("t", _number(memory.limit))
        if memory.reservation:
            found["MemoryLow"] = ("t", _number(memory.reservation))
        if swap := v2.swap_max(memory):
            found["MemorySwapMax"] = ("t", _amount(swap))
    if (cpu := resources.cpu) is not None:
        found.update(_processors(cpu))
        if cpu.idle:
            found["CPUWeight"] = ("t", 0)
        elif weight := v2.weight_of_shares(cpu.shares or 0):
            found["CPUWeight"] = ("t", weight)
    if (block_io := resources.block_io) is not None and block_io.weight:
        found["IOWeight"] = ("t", v2.weight_of_blkio(block_io.weight))
    return found


def _legacy(resources: Resources) -> dict[str, tuple[str, object]]:
    """For cgroup v1, whose swap and cpusets systemd knows nothing of."""
    found: dict[str, tuple[str, object]] = {}
    if (memory := resources.memory) is not None and memory.limit:
        found["MemoryLimit"] = ("t", _number(memory.limit))
    if (cpu := resources.cpu) is not None and cpu.shares:
        found["CPUShares"] = ("t", min(max(cpu.shares, 2), 262144))
    if (block_io := resources.block_io) is not None and block_io.weight:
        found["BlockIOWeight"] = ("t", block_io.weight)
    return found


def _quota(quota: int | None, period: int | None) -> dict[str, tuple[str, object]]:
    found: dict[str, tuple[str, object]] = {}
    if period:
        found["CPUQuotaPeriodUSec"] = ("t", period)
    if quota or period:
        found["CPUQuotaPerSecUSec"] = ("t", quota_per_second(quota or -1, period or _DEFAULT_PERIOD))
    return found


def _processors(cpu: CPU) -> dict[str, tuple[str, object]]:
    found: dict[str, tuple[str, object]] = {}
    if cpu.cpus:
        found["AllowedCPUs"] = ("ay", bits(cpu.cpus, "/linux/resources/cpu/cpus"))
    if cpu.mems:
        found["AllowedMemoryNodes"] = ("ay", bits(cpu.mems, "/linux/resources/cpu/mems"))
    return found


_AMOUNTS = {
    "memory.max": "MemoryMax",
    "memory.high": "MemoryHigh",
    "memory.low": "MemoryLow",
    "memory.min": "MemoryMin",
    "memory.swap.max": "MemorySwapMax",
    "memory.zswap.max": "MemoryZSwapMax",
    "pids.max": "TasksMax",
    "cpu.weight": "CPUWeight",
}
_MASKS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}


def _files(unified: dict[str, str]) -> dict[str, tuple[str, object]]:
    """Those of linux.resources.unified that have a property. The others, and what is no number, are for the files."""
    found: dict[str, tuple[str, object]] = {}
    for file, text in unified.items():
        words = text.split()
        if not words:
            continue
        if file in _AMOUNTS and (words[0] == "max" or words[0].isdecimal()):
            found[_AMOUNTS[file]] = ("t", _amount(words[0]))
        elif file in _MASKS:
            found[_MASKS[file]] = ("ay", bits(text.strip(), f"/linux/resources/unified/{file}"))
        elif file == "cpu.idle" and words[0] == "1":
            found["CPUWeight"] = ("t", 0)
        elif file == "cpu.max" and all(word.isdecimal() for word in words[words[0] == "max" :]):
            found.update(_quota(-1 if words[0] == "max" else int(words[0]), int((*words, "0")[1])))
        elif file == "memory.oom.group" and words[0] in ("0", "1"):
            found["OOMPolicy"] = ("s", "kill" if words[0] == "1" else "continue")
    return found


def _devices(rules: Sequence[DeviceRule]) -> dict[str, tuple[str, object]]:
    found = allowed(rules)
    if all(found.get(device) == "rwm" for device in devices.ANY):
        return {"DevicePolicy": ("s", "auto"), "DeviceAllow": ("a(ss)", [])}
    nodes: dict[str, str] = {}
    for (type, major, minor), access in found.items():
        kind = "char" if type == "c" else "block"
        node = f"/dev/{kind}/{major}:{minor}" if minor is not None else f"{kind}-{'*' if major is None else major}"
        if major is None:
            node = f"{kind}-*"
        nodes[node] = devices.letters(nodes.get(node, "") + access)
    return {"DevicePolicy": ("s", "strict"), "DeviceAllow": ("a(ss)", list(nodes.items()))}


def _number(value: int) -> int:
    return INFINITY if value < 0 else value


def _amount(text: str) -> int:
    return INFINITY if text == "max" else int(text)


def _microseconds(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("a number of seconds is expected")
    if not 0 <= value * _SECOND < INFINITY:
        raise ValueError("not a length of time")
    return int(value * _SECOND)
