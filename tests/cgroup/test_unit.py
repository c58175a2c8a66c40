"""Which systemd unit is the container's, and where its cgroup is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyocirun.cgroup.unit import SUBGROUP, Unit, directories, escape, expand, is_below, parse_unit
from pyocirun.errors import SpecError
from pyocirun.linux.host import Hierarchy, Host

V2 = Host(unified=Hierarchy((), "/sys/fs/cgroup"), cgroup2_only=True)
V1 = Host(
    hierarchies=(
        Hierarchy(("cpu", "cpuacct"), "/sys/fs/cgroup/cpu,cpuacct"),
        Hierarchy(("name=systemd",), "/sys/fs/cgroup/systemd"),
        Hierarchy(("name=elogind",), "/sys/fs/cgroup/elogind"),
    )
)


@pytest.mark.parametrize(
    ("path", "slice", "name"),
    [
        ("a.slice:b:c", "a.slice", "b-c.scope"),
        ("machine.slice:libpod:0123", "machine.slice", "libpod-0123.scope"),
        (":b:c", "system.slice", "b-c.scope"),
        ("a.slice::c", "a.slice", "c.scope"),
        ("-.slice:b:c", "-.slice", "b-c.scope"),
        ("kube-pods.slice::kube-pods-one.slice", "kube-pods.slice", "kube-pods-one.slice"),
        ("::kube-pods-one.slice", "kube-pods.slice", "kube-pods-one.slice"),
        ("::one.slice", "-.slice", "one.slice"),
        (None, "system.slice", "runc-web.scope"),
        ("", "system.slice", "runc-web.scope"),
        (":my+app:a/b", "system.slice", "my\\x2bapp-a\\x2fb.scope"),
    ],
)
def test_a_path_of_three_parts_names_a_unit(path: str | None, slice: str, name: str) -> None:
    unit = parse_unit(path, "web", {})

    assert (unit.slice, unit.name) == (slice, name)


def test_units_of_a_user_are_in_user_slice_by_default() -> None:
    assert parse_unit(":b:c", "web", {}, user=True).slice == "user.slice"


@pytest.mark.parametrize(
    "path",
    ["/a/b", "a", "a:b", "a.slice:b:c:d", "a.slice:b:", "a:b:c", "a--b.slice:b:c", "-a.slice:b:c", "/a.slice:b:c"]
    + ["a/../b.slice:b:c", ".slice:b:c", "b.slice::a-c.slice", "a.slice:b:" + "x" * 255],
)
def test_any_other_path_is_refused(path: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_unit(path, "web", {})

    assert caught.value.pointer == "/linux/cgroupsPath"


@pytest.mark.parametrize(
    ("slice", "path"),
    [("-.slice", ""), ("a.slice", "a.slice"), ("a-b-c.slice", "a.slice/a-b.slice/a-b-c.slice")],
)
def test_dashes_lead_down(slice: str, path: str) -> None:
    assert expand(slice) == path


def test_a_unit_is_below_its_slices_on_cgroup_v2() -> None:
    unit = Unit("a-b.slice", "c.scope")

    assert directories(unit, V2) == {"": "/sys/fs/cgroup/a.slice/a-b.slice/c.scope"}
    assert directories(unit, V2, "/user.slice/u")[""] == "/sys/fs/cgroup/user.slice/u/a.slice/a-b.slice/c.scope"


def test_a_unit_of_the_topmost_slice_is_at_the_top() -> None:
    assert directories(Unit("-.slice", "c.scope"), V2) == {"": "/sys/fs/cgroup/c.scope"}


def test_a_unit_has_a_cgroup_in_every_hierarchy_of_v1_but_those_of_others() -> None:
    assert directories(Unit("a.slice", "c.scope"), V1) == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct/a.slice/c.scope",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct/a.slice/c.scope",
        "name=systemd": "/sys/fs/cgroup/systemd/a.slice/c.scope",
    }


def test_the_part_that_a_mount_does_not_show_is_left_out() -> None:
    host = Host(unified=Hierarchy((), "/sys/fs/cgroup", root="/outer"), cgroup2_only=True)

    assert directories(Unit("a.slice", "c.scope"), host, "/outer/inner")[""] == "/sys/fs/cgroup/inner/a.slice/c.scope"


def test_a_subgroup_is_below_the_unit() -> None:
    unit = parse_unit("a.slice:b:c", "web", {SUBGROUP: "container"})

    assert unit.name == "b-c.scope"
    assert directories(unit, V2)[""] == "/sys/fs/cgroup/a.slice/b-c.scope/container"


@pytest.mark.parametrize("name", ["a/b", "..", ".", "a\0", "cgroup.procs"])
def test_a_subgroup_is_one_name(name: str) -> None:
    with pytest.raises(SpecError, match="subgroup"):
        parse_unit(None, "web", {SUBGROUP: name})


def test_below_is_compared_by_whole_names() -> None:
    assert is_below("/user.slice/a", "/user.slice")
    assert is_below("/a", "/a")
    assert is_below("/a", "/")
    assert not is_below("/user.slice2", "/user.slice")


@given(st.text(max_size=12), st.text(max_size=12), st.text(max_size=12))
def test_no_path_leads_out_of_the_hierarchy(slice: str, prefix: str, name: str) -> None:
    try:
        unit = parse_unit(f"{slice}:{prefix}:{name}", "web", {})
    except SpecError:
        return

    directory = directories(unit, V2)[""]

    parts = directory.removeprefix("/sys/fs/cgroup/").split("/")
    assert directory.startswith("/sys/fs/cgroup/")
    assert all(part.endswith((".slice", ".scope")) for part in parts)
    assert directory.isprintable()


@given(st.text(min_size=1, max_size=20))
def test_two_names_are_never_escaped_to_one(text: str) -> None:
    assert escape(escape(text)) == escape(text)
    if "\\" not in text:
        assert escape(text).encode("latin-1").decode("unicode_escape").encode("latin-1").decode() == text
