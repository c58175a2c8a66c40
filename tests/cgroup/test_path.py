"""Where the container's cgroups are."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyocirun.cgroup.path import cgroup_paths, own_directory
from pyocirun.errors import SpecError
from pyocirun.linux.host import Hierarchy, Host
from pyocirun.record import replace

CPU = Hierarchy(("cpu", "cpuacct"), "/sys/fs/cgroup/cpu,cpuacct")
MEMORY = Hierarchy(("memory",), "/sys/fs/cgroup/memory", "/", "/agents/7")
SYSTEMD = Hierarchy(("name=systemd",), "/sys/fs/cgroup/systemd", "/", "/user.slice")
UNIFIED = Hierarchy((), "/sys/fs/cgroup/unified", "/", "/user.slice")
HOST = Host(hierarchies=(CPU, MEMORY, SYSTEMD))


@pytest.mark.parametrize("absent", [None, ""])
def test_without_a_path_the_id_is_beneath_the_callers_own_cgroup(absent: str | None) -> None:
    paths = cgroup_paths(absent, "web", HOST)

    assert paths == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct/web",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct/web",
        "memory": "/sys/fs/cgroup/memory/agents/7/web",
        "name=systemd": "/sys/fs/cgroup/systemd/user.slice/web",
    }


def test_absolute_path_counts_from_the_mountpoint() -> None:
    paths = cgroup_paths("/pods/a/web", "id", HOST)

    assert paths["memory"] == "/sys/fs/cgroup/memory/pods/a/web"


def test_relative_path_counts_from_the_callers_own_cgroup() -> None:
    paths = cgroup_paths("pods/web", "id", HOST)

    assert paths["memory"] == "/sys/fs/cgroup/memory/agents/7/pods/web"


@pytest.mark.parametrize(
    ("given_path", "cleaned"),
    [
        ("/a//b/./c/", "/sys/fs/cgroup/memory/a/b/c"),
        ("/a/../../../etc", "/sys/fs/cgroup/memory/etc"),
        ("../../etc", "/sys/fs/cgroup/memory/agents/7/etc"),
        ("a/../b", "/sys/fs/cgroup/memory/agents/7/b"),
        ("./a", "/sys/fs/cgroup/memory/agents/7/a"),
    ],
)
def test_path_is_cleaned_and_never_leads_above(given_path: str, cleaned: str) -> None:
    assert cgroup_paths(given_path, "id", HOST)["memory"] == cleaned


@pytest.mark.parametrize("nothing", ["/", "..", ".", "/..", "a/..", "/a/../.."])
def test_path_without_a_name_is_refused(nothing: str) -> None:
    with pytest.raises(SpecError) as caught:
        cgroup_paths(nothing, "id", HOST)

    assert caught.value.pointer == "/linux/cgroupsPath"


def test_nul_is_refused() -> None:
    with pytest.raises(SpecError) as caught:
        cgroup_paths("/a\0b", "id", HOST)

    assert caught.value.pointer == "/linux/cgroupsPath"


@pytest.mark.parametrize(
    ("root", "own", "directory"),
    [
        ("/", "/", "/m"),
        ("/", "/a/b", "/m/a/b"),
        ("/a", "/a", "/m"),
        ("/a", "/a/b", "/m/b"),
        ("/a", "/ab", "/m"),
        ("/docker/c0ffee", "/elsewhere", "/m"),
        ("/..", "/", "/m"),
        ("/..", "/../sibling", "/m/sibling"),
        ("/", "/../sibling", "/m"),
        ("/../..", "/../../x/y", "/m/x/y"),
    ],
)
def test_own_cgroup_is_found_in_what_the_mount_shows(root: str, own: str, directory: str) -> None:
    assert own_directory(Hierarchy(("cpu",), "/m", root, own)) == directory


def test_hybrid_v2_hierarchy_is_joined_from_its_mountpoint() -> None:
    host = replace(HOST, unified=UNIFIED)

    assert cgroup_paths(None, "web", host)[""] == "/sys/fs/cgroup/unified/web"
    assert cgroup_paths("/a/web", "id", host)[""] == "/sys/fs/cgroup/unified/a/web"


def test_first_mount_of_a_hierarchy_counts() -> None:
    again = replace(MEMORY, mountpoint="/var/lib/x/rootfs/sys/fs/cgroup/memory")

    assert cgroup_paths("/web", "id", Host(hierarchies=(MEMORY, again)))["memory"] == "/sys/fs/cgroup/memory/web"


@pytest.mark.parametrize("other", ["name=elogind", "debug"])
def test_hierarchies_of_others_are_left_alone(other: str) -> None:
    host = Host(hierarchies=(Hierarchy((other,), "/sys/fs/cgroup/other"),))

    assert cgroup_paths("/web", "id", host) == {}


@given(st.lists(st.sampled_from(["a", "..", ".", "", "b c", "...", "é"])).map("/".join))
def test_result_is_clean_and_strictly_beneath(path: str) -> None:
    try:
        paths = cgroup_paths(path, "id", HOST)
    except SpecError:
        return

    base = "/sys/fs/cgroup/memory" if path.startswith("/") else "/sys/fs/cgroup/memory/agents/7"
    assert paths["memory"].startswith(f"{base}/")
    assert posixpath.normpath(paths["memory"]) == paths["memory"]


V2 = Host(unified=Hierarchy((), "/sys/fs/cgroup", "/", "/user.slice/me.scope"), cgroup2_only=True)


def test_on_v2_a_relative_path_is_beside_the_callers_own_cgroup() -> None:
    assert cgroup_paths("pods/web", "id", V2) == {"": "/sys/fs/cgroup/user.slice/pods/web"}
    assert cgroup_paths(None, "web", V2) == {"": "/sys/fs/cgroup/user.slice/web"}


def test_on_v2_an_absolute_path_counts_from_the_mountpoint() -> None:
    assert cgroup_paths("/pods/../web", "id", V2) == {"": "/sys/fs/cgroup/web"}


def test_on_v2_a_caller_at_the_top_has_containers_below_it() -> None:
    top = replace(V2, unified=Hierarchy((), "/sys/fs/cgroup"))

    assert cgroup_paths(None, "web", top) == {"": "/sys/fs/cgroup/web"}
