"""Device nodes and the links in /dev."""

from __future__ import annotations

import os
from typing import Any

import pytest

from pyocirun.linux.idmap import IDMapping
from pyocirun.plan.devices import device_number
from pyocirun.plan.ops import Bind, Node, Plan, Symlink
from pyocirun.spec.linux import Device
from pyocirun.spec.mounts import Mount
from tests.support import HOST_NESTED, HOST_V1_ROOT, build, every, minimal_spec

MAP = (IDMapping(0, 100000, 65536),)
USER: dict[str, Any] = {"namespaces": ("user", "mount"), "uid_mappings": MAP, "gid_mappings": MAP}


def node(plan: Plan, path: str) -> Node:
    return next(op for op in every(plan, Node) if op.path == path)


def test_default_devices_are_made() -> None:
    plan = build(minimal_spec())

    names = ("null", "zero", "full", "random", "urandom", "tty")
    assert [op.path for op in every(plan, Node)] == [f"/dev/{name}" for name in names]
    assert node(plan, "/dev/null") == Node("/dev/null", 0o020666, os.makedev(1, 3))


def test_default_links_are_made() -> None:
    plan = build(minimal_spec())

    assert every(plan, Symlink) == [
        Symlink("/proc/self/fd", "/dev/fd"),
        Symlink("/proc/self/fd/0", "/dev/stdin"),
        Symlink("/proc/self/fd/1", "/dev/stdout"),
        Symlink("/proc/self/fd/2", "/dev/stderr"),
        Symlink("pts/ptmx", "/dev/ptmx", True),
    ]


@pytest.mark.parametrize(
    ("device", "wanted"),
    [
        (Device("c", "/dev/x", 10, 229), Node("/dev/x", 0o020666, os.makedev(10, 229))),
        (Device("u", "/dev/x", 10, 229), Node("/dev/x", 0o020666, os.makedev(10, 229))),
        (Device("b", "/dev/x", 8, 0, 0o660, 1, 6), Node("/dev/x", 0o060660, os.makedev(8, 0), 1, 6)),
        (Device("p", "/dev/x", None, None, 0o600), Node("/dev/x", 0o010600, 0)),
        (Device("c", "/dev/x", 1, 3, 0o100644), Node("/dev/x", 0o020644, os.makedev(1, 3))),
    ],
)
def test_device_becomes_a_node(device: Device, wanted: Node) -> None:
    plan = build(minimal_spec(devices=(device,)))

    made = node(plan, "/dev/x")
    assert (made.mode, made.device, made.uid, made.gid) == (wanted.mode, wanted.device, wanted.uid, wanted.gid)
    assert made.origin == "linux.devices[0]"


def test_own_device_takes_the_place_of_a_default_one() -> None:
    plan = build(minimal_spec(devices=(Device("c", "/dev/null", 1, 3, 0o600),)))

    assert [op.mode for op in every(plan, Node) if op.path == "/dev/null"] == [0o020600]


@pytest.mark.parametrize("options", [("bind",), ("rbind", "ro")])
def test_bound_dev_is_left_as_it_is(options: tuple[str, ...]) -> None:
    plan = build(minimal_spec(mounts=[Mount("/dev/", "/dev", None, options)]))

    assert not [op for op in plan.ops if isinstance(op, (Node, Symlink))]


def test_user_namespace_gets_the_hosts_nodes_by_bind() -> None:
    plan = build(minimal_spec(**USER, devices=(Device("c", "/dev/fuse", 10, 229),)))

    assert not every(plan, Node)
    assert [op.source for op in every(plan, Bind) if op.handed][:2] == ["/dev/fuse", "/dev/null"]


@pytest.mark.parametrize("path", ["/dev/fuse", "//dev/fuse", "/./dev//fuse", "/etc/../dev/fuse"])
def test_nodes_in_dev_follow_no_link_of_the_image(path: str) -> None:
    plan = build(minimal_spec(**USER, devices=(Device("c", path, 10, 229),)))

    nodes = [op for op in every(plan, Bind) if op.source.startswith("/dev/")]
    assert nodes[0].target == "/dev/fuse"
    assert all(op.plain for op in nodes)


def test_fifo_is_made_in_a_user_namespace_too() -> None:
    plan = build(minimal_spec(**USER, devices=(Device("p", "/dev/pipe"),)))

    assert [op.path for op in every(plan, Node)] == ["/dev/pipe"]


def test_runtime_in_a_user_namespace_binds_nodes() -> None:
    plan = build(minimal_spec(), HOST_NESTED)

    assert not every(plan, Node)
    assert {op.handed for op in every(plan, Bind)} == {False}


@pytest.mark.parametrize(("major", "minor"), [(0, 0), (1, 3), (255, 255), (259, 300), (4095, 1048575)])
def test_device_number_is_the_kernels(major: int, minor: int) -> None:
    assert device_number(major, minor) == os.makedev(major, minor)


def test_devices_come_after_the_mounts() -> None:
    plan = build(minimal_spec(mounts=[Mount("/dev", "tmpfs", "tmpfs")]), HOST_V1_ROOT)

    kinds = [type(op).__name__ for op in plan.ops]
    assert kinds.index("Mount") < kinds.index("Node")
