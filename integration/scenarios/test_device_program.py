"""The program that decides about devices on cgroup v2, wherever that is mounted: beside cgroup v1 it works as well."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.harness import only, requires
from pyocirun import native
from pyocirun.cgroup import ebpf
from pyocirun.cgroup.fs2 import V2Manager
from pyocirun.spec.resources import DeviceRule

TOPS = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines() if line.split()[2] == "cgroup2"]

pytestmark = [
    only("pyocirun"),
    requires("root"),
    pytest.mark.skipif(not TOPS, reason="no cgroup v2"),
]

KMSG = (1, 11)
"""A device that is on every host, and on no list of what is always allowed."""
ROUNDS = 500


@pytest.fixture
def manager(place: Path) -> Iterator[V2Manager]:
    manager = V2Manager(f"{TOPS[0]}/{place.name}-{os.getpid()}", TOPS[0])
    manager.apply(-1)
    yield manager
    manager.kill(9)
    manager.destroy()


def rules(*minors: int) -> list[DeviceRule]:
    """Nothing but writing to KMSG, and some more of its kind."""
    more = [DeviceRule(True, "c", 1, minor, "rw") for minor in minors]
    return [DeviceRule(False), DeviceRule(True, "c", *KMSG, access="w"), *more]


def test_rules_are_replaced_without_a_moment_between(manager: V2Manager, place: Path) -> None:
    """What both the old and the new rules allow is never refused, and what neither allows never goes."""
    node = place / "kmsg"
    os.mknod(node, 0o600 | 0o020000, os.makedev(*KMSG))
    manager.attach_devices(ebpf.program(rules()))
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        _open_over_and_over(node, manager, tell)
    os.close(tell)
    assert os.read(told, 1) == b"b"

    for number in range(ROUNDS):
        manager.attach_devices(ebpf.program(rules(*range(100, 100 + number % 3))))
        assert not select.select([told], [], [], 0)[0], os.read(told, 100)

    assert len(_programs(manager)) == 1
    manager.kill(9)
    os.waitpid(child, 0)
    os.close(told)


def _open_over_and_over(node: Path, manager: V2Manager, tell: int) -> None:
    """Say "b" when it begins, and then only what is wrong; until it is killed."""
    manager.add_pid("", os.getpid())
    os.write(tell, b"b")
    while True:
        for flags, wanted in ((os.O_WRONLY, "opened"), (os.O_RDONLY, "EPERM")):
            try:
                os.close(os.open(node, flags))
                found = "opened"
            except OSError as error:
                found = "EPERM" if error.errno == 1 else str(error)
            if found != wanted:
                os.write(tell, f"flags {flags}: {found}".encode())


def _programs(manager: V2Manager) -> list[int]:
    """The ids of descriptors, closed again: how many there are counts."""
    cgroup = os.open(manager.path(""), os.O_RDONLY)
    found = native.bpf_query(cgroup)
    for fd in (cgroup, *found):
        os.close(fd)
    return found
