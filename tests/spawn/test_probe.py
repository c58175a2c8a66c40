"""What is read from /proc, and what it means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyocirun.linux.host import Hierarchy
from pyocirun.linux.namespaces import FILES
from pyocirun.spawn import probe
from pyocirun.spawn.probe import namespace_inode, own_cgroups

MEMORY = r"30 24 0:26 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory"
CPU = r"31 24 0:27 /docker/1 /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct"
SYSTEMD = r"32 24 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd"
UNIFIED = r"33 24 0:29 / /sys/fs/cgroup/unified rw shared:3 master:2 - cgroup2 cgroup2 rw,nsdelegate"
ODD = r"34 24 0:30 /a\040b /mnt/x\040y\011z\134w\012v ro,relatime - tmpfs none rw,size=1k"
OWN = {"memory": "/user", "cpu": "/docker/1/2", "cpuacct": "/docker/1/2", "name=systemd": "/", "": "/x"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", {}),
        ("0::/init.scope\n", {"": "/init.scope"}),
        ("4:cpu,cpuacct:/a\n", {"cpu": "/a", "cpuacct": "/a"}),
        ("1:name=systemd:/\n", {"name=systemd": "/"}),
        ("3:memory:/with:colon\n2:pids:/\n", {"memory": "/with:colon", "pids": "/"}),
        ("0::/../other\n", {"": "/../other"}),
    ],
)
def test_own_cgroups(text: str, wanted: dict[str, str]) -> None:
    assert own_cgroups(text) == wanted


@pytest.mark.parametrize(
    ("release", "wanted"),
    [
        ("6.18.0", (6, 18)),
        ("5.10.0-28-amd64", (5, 10)),
        ("6.1-rc3", (6, 1)),
        ("6.12.0+", (6, 12)),
        ("5.4rc1.2", (5, 4)),
        ("10.0.1", (10, 0)),
        ("5.x", (5, 0)),
    ],
)
def test_kernel_version(release: str, wanted: tuple[int, int]) -> None:
    assert probe.kernel_version(release) == wanted


def test_mount_line_with_escapes() -> None:
    assert probe._mount(ODD) == ("/mnt/x y\tz\\w\nv", "/a b", "tmpfs", "rw,size=1k")


@pytest.mark.parametrize(
    ("escaped", "wanted"), [(r"/a\134040b", "/a\\040b"), (r"/a\040b", "/a b"), (r"\134\134", "\\\\")]
)
def test_escapes_are_taken_once(escaped: str, wanted: str) -> None:
    line = MEMORY.replace("/sys/fs/cgroup/memory", escaped)

    assert probe._mount(line)[0] == wanted


def test_mount_line_with_several_optional_fields() -> None:
    assert probe._mount(UNIFIED)[0] == "/sys/fs/cgroup/unified"
    assert probe._mount(UNIFIED)[2] == "cgroup2"


def test_hierarchies_of_version_1() -> None:
    mounts = [probe._mount(line) for line in (MEMORY, CPU, SYSTEMD, UNIFIED, ODD)]

    assert list(probe._hierarchies(mounts, OWN)) == [
        Hierarchy(("memory",), "/sys/fs/cgroup/memory", "/", "/user"),
        Hierarchy(("cpu", "cpuacct"), "/sys/fs/cgroup/cpu,cpuacct", "/docker/1", "/docker/1/2"),
        Hierarchy(("name=systemd",), "/sys/fs/cgroup/systemd", "/", "/"),
    ]


def test_of_two_mounts_on_one_place_the_last_counts() -> None:
    mounts = [
        probe._mount(line) for line in (CPU, UNIFIED, CPU.replace("/docker/1", "/"), UNIFIED.replace(" / ", " /a "))
    ]

    assert list(probe._hierarchies(mounts, OWN)) == [
        Hierarchy(("cpu", "cpuacct"), "/sys/fs/cgroup/cpu,cpuacct", "/", "/docker/1/2")
    ]
    assert list(probe._unified(mounts, OWN)) == [Hierarchy((), "/sys/fs/cgroup/unified", "/a", "/x")]


def test_a_hierarchy_that_is_mounted_in_two_places_is_one() -> None:
    mounts = [probe._mount(line) for line in (MEMORY, MEMORY.replace("/sys/fs", "/elsewhere"))]

    assert list(probe._hierarchies(mounts, OWN)) == [Hierarchy(("memory",), "/sys/fs/cgroup/memory", "/", "/user")]


def test_unified_hierarchy() -> None:
    mounts = [probe._mount(line) for line in (MEMORY, UNIFIED)]

    assert list(probe._unified(mounts, OWN)) == [Hierarchy((), "/sys/fs/cgroup/unified", "/", "/x")]


def test_hierarchy_that_the_caller_is_not_in_is_passed_over() -> None:
    assert list(probe._hierarchies([probe._mount(MEMORY)], {})) == []


def test_this_machine() -> None:
    host = probe.probe()

    assert (host.euid, host.egid) == (os.geteuid(), os.getegid())
    assert host.kernel >= (5, 10)
    assert dict(host.namespaces)["network"] == os.stat("/proc/self/ns/net").st_ino
    assert {type for type, _ in host.namespaces} == set(FILES)
    assert "/" in host.mountpoints
    assert 30 < host.last_cap < 64


def test_inode_of_a_namespace_that_is_gone(tmp_path: Path) -> None:
    assert namespace_inode(str(tmp_path / "missing")) == 0
