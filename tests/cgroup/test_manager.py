"""Choosing a manager, and what of it needs no cgroups."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyocirun.cgroup.fs import V1Manager
from pyocirun.cgroup.fs2 import V2Manager
from pyocirun.cgroup.manager import cautions, ignored, load, select
from pyocirun.cgroup.none import NullManager
from pyocirun.cgroup.systemd import BOOTED, SystemdV1, SystemdV2, place
from pyocirun.cgroup.unit import Unit
from pyocirun.cgroup.v1 import Write, writes
from pyocirun.errors import CgroupError
from pyocirun.linux.host import Host
from pyocirun.spec.resources import DeviceRule, Memory, Pids, Resources

PATHS = {"cpu": "/sys/fs/cgroup/cpu/x"}


def test_cgroupfs_on_v1_is_the_v1_manager() -> None:
    manager = select(Host(), "cgroupfs", PATHS)

    assert isinstance(manager, V1Manager)
    assert manager.paths == PATHS


def test_none_is_the_null_manager_on_any_host() -> None:
    manager = select(Host(cgroup2_only=True), "none", PATHS)

    assert isinstance(manager, NullManager)
    assert manager.paths == {}


def test_cgroupfs_on_a_host_with_only_v2_is_the_v2_manager() -> None:
    manager = select(Host(cgroup2_only=True), "cgroupfs", {"": "/sys/fs/cgroup/x"})

    assert isinstance(manager, V2Manager)
    assert manager.path("memory") == "/sys/fs/cgroup/x"


def test_a_hybrid_host_is_one_of_v1() -> None:
    manager = select(Host(), "cgroupfs", {**PATHS, "": "/sys/fs/cgroup/unified/x"})

    assert isinstance(manager, V1Manager)


def test_a_unit_of_systemd_has_the_manager_of_the_hosts_cgroups() -> None:
    unit = Unit("system.slice", "a.scope")

    assert isinstance(select(Host(), "systemd", PATHS, unit), SystemdV1)
    assert isinstance(select(Host(cgroup2_only=True), "systemd", {"": "/sys/fs/cgroup/x"}, unit), SystemdV2)


def test_a_saved_unit_gives_the_manager_that_started_it() -> None:
    fields = {"slice": "a.slice", "name": "b.scope", "subgroup": "", "delegated": "", "user": True, "version": 257}

    manager = load({"": "/sys/fs/cgroup/x"}, fields)

    assert isinstance(manager, SystemdV2)
    assert manager.unit == Unit("a.slice", "b.scope", user=True, version=257)


def test_the_manager_of_a_unit_loads_dbus_when_it_asks_for_something() -> None:
    load_one = "load({'': '/sys/fs/cgroup/x'}, {'slice': 'a.slice', 'name': 'b.scope'})"
    script = f"import sys; from pyocirun.cgroup.manager import load; {load_one}; print('jeepney' in sys.modules)"

    output = subprocess.run([sys.executable, "-P", "-c", script], stdout=subprocess.PIPE, check=True, timeout=60).stdout

    assert output == b"False\n"


@pytest.mark.skipif(os.path.isdir(BOOTED), reason="systemd is running here")
def test_without_systemd_there_is_no_unit() -> None:
    with pytest.raises(CgroupError, match="systemd is not running"):
        place(None, "box", {}, Host())


@pytest.mark.parametrize("paths", [{"": "/sys/fs/cgroup/x"}, {**PATHS, "": "/sys/fs/cgroup/unified/x"}, PATHS, {}])
def test_saved_paths_give_the_manager_that_made_them(paths: dict[str, str]) -> None:
    made = select(Host(cgroup2_only=set(paths) == {""}), "cgroupfs" if paths else "none", paths)

    loaded = load(paths)

    assert (type(loaded), loaded.paths) == (type(made), paths)


@pytest.mark.parametrize(("host", "driver"), [(Host(), "systemd"), (Host(), "openrc")])
def test_what_is_not_there_is_refused(host: Host, driver: str) -> None:
    with pytest.raises(CgroupError):
        select(host, driver, PATHS)


@pytest.mark.parametrize("path", ["relative", "", "/sys/fs/cgroup/cpu/../../../../etc"])
def test_path_that_is_none_of_a_cgroup_is_refused(path: str) -> None:
    with pytest.raises(CgroupError):
        V1Manager({"cpu": path})
    with pytest.raises(CgroupError):
        V2Manager(path)


def test_null_manager_cannot_limit() -> None:
    with pytest.raises(CgroupError, match="cannot set pids limit") as caught:
        NullManager().set(Resources(pids=Pids(3)))

    assert caught.value.controller == "pids"


def test_null_manager_tells_whether_a_cgroup_was_wanted() -> None:
    with pytest.raises(CgroupError, match="there are no statistics: the cgroup driver is none"):
        load({}).stats()
    with pytest.raises(CgroupError, match=r"cgroup not exist: .*'web' may not make .*/web") as caught:
        load({}, without="web").freeze()

    assert caught.value.path.endswith("/web")


def test_null_manager_passes_over_devices() -> None:
    NullManager().write(writes(None))


def test_limit_without_its_controller_is_refused_by_name() -> None:
    with pytest.raises(CgroupError, match="cannot set memory limit") as caught:
        V1Manager(PATHS).write([Write("memory", "memory.limit_in_bytes", "4096")])

    assert caught.value.controller == "memory"
    assert "memory controller mounted" in caught.value.hint


def test_failed_write_names_file_value_and_reason(tmp_path: Path) -> None:
    with pytest.raises(CgroupError) as caught:
        V1Manager({"cpu": str(tmp_path)}).write([Write("cpu", "cpu.idle", "1")])

    assert str(caught.value) == f"failed to write '1' to {tmp_path}/cpu.idle: No such file or directory"
    assert caught.value.path == f"{tmp_path}/cpu.idle"
    assert caught.value.errno == 2
    assert caught.value.hint == "cpu.idle needs Linux 5.15"


def test_other_name_serves_where_the_first_is_missing(tmp_path: Path) -> None:
    (tmp_path / "blkio.bfq.weight").write_text("")

    V1Manager({"blkio": str(tmp_path)}).write([Write("blkio", "blkio.weight", "7", other="blkio.bfq.weight")])

    assert (tmp_path / "blkio.bfq.weight").read_text() == "7"


def test_optional_file_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("")

    V1Manager({"cpu": str(tmp_path)}).write([Write("cpu", "a", "1", optional=True), Write("cpu", "b", "2")])

    assert (tmp_path / "b").read_text() == "2"


def test_write_leaves_no_descriptor_open(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    before = len(os.listdir("/proc/self/fd"))

    with pytest.raises(CgroupError):
        V1Manager({"cpu": str(tmp_path)}).write(
            [Write("cpu", "a", "1"), Write("cpu", "a", "2"), Write("cpu", "c", "3")]
        )

    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("below", ["..", "a/../..", "../other"])
def test_subcgroup_never_leads_out(below: str) -> None:
    with pytest.raises(CgroupError, match="bad sub cgroup path"):
        V1Manager(PATHS).add_pid(below, 1)


def test_gone_cgroup_is_removed_already(tmp_path: Path) -> None:
    manager = V1Manager({"cpu": str(tmp_path / "gone")})

    manager.destroy()

    assert not manager.exists()


def test_failed_create_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    manager = V1Manager({"cpu": str(tmp_path / "new/leaf"), "memory": str(tmp_path / "file/leaf")})

    with pytest.raises(CgroupError, match="cannot create cgroup"):
        manager.create()

    assert os.listdir(tmp_path) == ["file"]


def test_create_tells_what_it_made(tmp_path: Path) -> None:
    manager = V1Manager({"cpu": str(tmp_path / "a/b"), "cpuacct": str(tmp_path / "a/b")})

    made = manager.create()

    assert made == [str(tmp_path / "a"), str(tmp_path / "a/b")]


V1_PATHS = {"memory": "/sys/fs/cgroup/memory/c"}


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        (V1_PATHS, ["linux.resources.memory.kernel"]),
        ({"": "/sys/fs/cgroup/c"}, ["linux.resources.memory.kernel", "linux.resources.memory.swappiness"]),
        ({}, ["linux.resources.memory", "linux.resources.pids"]),
    ],
)
def test_what_a_cgroup_cannot_obey_is_told(paths: dict[str, str], told: list[str]) -> None:
    resources = Resources(memory=Memory(kernel=1, swappiness=0), pids=Pids(5))

    assert [line.split()[0] for line in ignored(resources, paths)] == told


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (65536, ["memory limit 65536: 77824 bytes are in use and cannot be freed (current usage: 131072)"]),
        (77824, []),
        (None, []),
        (-1, []),
    ],
)
def test_v2_takes_a_memory_limit_below_what_is_used_and_it_is_told(
    tmp_path: Path, limit: int | None, said: list[str]
) -> None:
    (tmp_path / "memory.stat").write_text("anon 73728\nfile 8192\nkernel 24576\nslab_reclaimable 20480\n")
    (tmp_path / "memory.current").write_text("131072\n")

    lines = cautions(Resources(memory=Memory(limit=limit)), V2Manager(str(tmp_path)))

    assert [line.partition(";")[0] for line in lines] == said


@pytest.mark.parametrize("paths", [V1_PATHS, {"": "/sys/fs/cgroup/c"}, {}])
def test_what_is_obeyed_is_no_warning(paths: dict[str, str]) -> None:
    rules = (DeviceRule(False),)

    assert ignored(None, paths) == ignored(Resources(devices=rules), paths) == []
