"""linux.intelRdt: the resctrl group of a container. Loaded where it is set. Spec: config-linux.md#intelrdt"""

from __future__ import annotations

from pyocirun.errors import SpecError
from pyocirun.plan import ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.linux.host import Host
    from pyocirun.spec.linux import IntelRdt


def make(wanted: IntelRdt, host: Host, id: str) -> ops.MakeRdtGroup:
    """The operation that makes the group, or finds the one there is. Raises SpecError without a resctrl file system."""
    if not host.resctrl:
        pointer = "/linux/intelRdt"
        text = f"{pointer}: intelRdt is specified in config, but no resctrl file system is mounted"
        raise SpecError(
            text, pointer=pointer, hint="mount -t resctrl resctrl /sys/fs/resctrl, if this processor has it"
        )
    name = wanted.clos_id or id
    group = host.resctrl if name == "/" else f"{host.resctrl}/{name}"
    written = lines(wanted)
    return ops.MakeRdtGroup(
        group,
        written,
        f"{group}/mon_groups/{id}" if wanted.enable_monitoring else "",
        must_exist=name == "/" or bool(wanted.clos_id and not written),
        own=not wanted.clos_id,
    )


def lines(wanted: IntelRdt) -> tuple[str, ...]:
    """What is written to the file schemata, in this order: of two lines for one resource the last one counts."""
    return tuple(line for line in (wanted.l3_cache_schema, wanted.mem_bw_schema, *wanted.schemata) if line)


def differences(wanted: tuple[str, ...], found: str) -> list[str]:
    """What a group that others made has differently: "L3:0 is f, not ff". found: its file schemata.

    Compared are values, not texts: the kernel pads them, and sorts domains.
    """
    there = _values(found.splitlines())
    return [
        f"{resource}:{domain} is {there.get((resource, domain), 'not there')}, not {value}"
        for (resource, domain), value in _values(wanted).items()
        if there.get((resource, domain)) != value
    ]


def _values(lines: list[str] | tuple[str, ...]) -> dict[tuple[str, str], str]:
    """(resource, domain) -> value, without the zeros in front of it."""
    found: dict[tuple[str, str], str] = {}
    for line in lines:
        resource, _, domains = line.strip().partition(":")
        for part in domains.split(";"):
            domain, equals, value = part.partition("=")
            if equals:
                found[resource.strip(), domain.strip()] = value.strip().lower().lstrip("0") or "0"
    return found
