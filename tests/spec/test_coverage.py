"""No property of the specification is missing: the schema's objects and the reader's Records have the same fields."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pyocirun
from pyocirun.linux.idmap import IDMapping
from pyocirun.record import Record
from pyocirun.spec import config, hooks, linux, mounts, process, resources, seccomp

SCHEMA = json.loads((Path(pyocirun.__file__).parent / "spec/schema/config.json").read_text())

HOMES: dict[str, type[Record]] = {
    "": config.Spec,
    "/root": config.Root,
    "/process": process.Process,
    "/process/consoleSize": process.ConsoleSize,
    "/process/user": process.User,
    "/process/capabilities": process.Capabilities,
    "/process/rlimits/-": process.Rlimit,
    "/process/scheduler": process.Scheduler,
    "/process/ioPriority": process.IOPriority,
    "/process/execCPUAffinity": process.CPUAffinity,
    "/mounts/-": mounts.Mount,
    "/mounts/-/uidMappings/-": IDMapping,
    "/mounts/-/gidMappings/-": IDMapping,
    "/hooks": hooks.Hooks,
    **dict.fromkeys((f"/hooks/{kind}/-" for kind in hooks.KINDS), hooks.Hook),
    "/linux": linux.Linux,
    "/linux/namespaces/-": linux.Namespace,
    "/linux/uidMappings/-": IDMapping,
    "/linux/gidMappings/-": IDMapping,
    "/linux/devices/-": linux.Device,
    "/linux/timeOffsets/*": linux.TimeOffset,
    "/linux/netDevices/*": linux.NetDevice,
    "/linux/intelRdt": linux.IntelRdt,
    "/linux/memoryPolicy": linux.MemoryPolicy,
    "/linux/personality": linux.Personality,
    "/linux/seccomp": seccomp.Seccomp,
    "/linux/seccomp/syscalls/-": seccomp.SyscallRule,
    "/linux/seccomp/syscalls/-/args/-": seccomp.SyscallArg,
    "/linux/resources": resources.Resources,
    "/linux/resources/devices/-": resources.DeviceRule,
    "/linux/resources/memory": resources.Memory,
    "/linux/resources/cpu": resources.CPU,
    "/linux/resources/blockIO": resources.BlockIO,
    "/linux/resources/blockIO/weightDevice/-": resources.WeightDevice,
    **dict.fromkeys(
        (
            f"/linux/resources/blockIO/throttle{what}Device/-"
            for what in ("ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS")
        ),
        resources.ThrottleDevice,
    ),
    "/linux/resources/hugepageLimits/-": resources.HugepageLimit,
    "/linux/resources/network": resources.Network,
    "/linux/resources/network/priorities/-": resources.InterfacePriority,
    "/linux/resources/pids": resources.Pids,
    "/linux/resources/rdma/*": resources.Rdma,
}
"""The Record of each object of config.json. "-" is any element of a list, "*" any value of a map."""

ELSEWHERE: dict[str, set[str]] = {"": {"foreign"}, "/linux/seccomp": {"refuses_unknown"}}
"""Fields of a Record that are no property: names of what is not read, and what an annotation says."""


def objects(schema: Any = SCHEMA, at: str = "") -> Iterator[tuple[str, set[str]]]:
    """(place, names of the properties) of every object of the schema."""
    while "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    properties = schema.get("properties", {})
    if properties:
        yield at, set(properties)
    for name, member in properties.items():
        yield from objects(member, f"{at}/{name}")
    for keyword, part in (("items", "-"), ("additionalProperties", "*")):
        if isinstance(schema.get(keyword), dict):
            yield from objects(schema[keyword], f"{at}/{part}")


def plain(names: set[str]) -> set[str]:
    """The names without what differs between JSON and Python: capitals and underscores."""
    return {name.replace("_", "").lower() for name in names}


OBJECTS = dict(objects())


@pytest.mark.parametrize("place", OBJECTS, ids=lambda place: place or "/")
def test_every_property_has_a_field(place: str) -> None:
    fields = set(HOMES[place].__annotations__) - ELSEWHERE.get(place, set())

    assert plain(fields) == plain(OBJECTS[place])


def test_the_table_has_no_place_that_is_not_in_the_schema() -> None:
    assert set(HOMES) == set(OBJECTS)
