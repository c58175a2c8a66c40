"""Namespaces: new ones, those of the host, those of others, and user namespaces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.harness import (
    Bundle,
    Runtime,
    eventually,
    helper,
    mount,
    namespace,
    only,
    requires,
    umount,
    wait_for_orphan,
)
from integration.modes import Managed

KINDS = [("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("mount", "mnt"), ("cgroup", "cgroup")]
SHARED = [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")]


@pytest.mark.parametrize(("type", "kind"), KINDS)
def test_a_namespace_in_the_config_is_new(runtime: Runtime, bundle: Bundle, type: str, kind: str) -> None:
    bundle.with_namespace(type)

    report = runtime.run(bundle).report

    assert report["namespaces"][kind] != namespace(kind)


@pytest.mark.parametrize(("type", "kind"), [(t, k) for t, k in SHARED if t != "ipc"])
def test_a_namespace_that_is_absent_is_that_of_the_runtime(
    runtime: Runtime, bundle: Bundle, type: str, kind: str
) -> None:
    bundle.without_namespace(type)
    if type == "uts":
        del bundle.config["hostname"]
    if type == "network":
        bundle.config["mounts"] = [m for m in bundle.config["mounts"] if m["type"] != "sysfs"]

    report = runtime.run(bundle).report

    assert report["namespaces"][kind] == namespace(kind)


def test_the_ipc_namespace_of_the_runtime_can_be_kept(runtime: Runtime, bundle: Bundle) -> None:
    bundle.without_namespace("ipc")
    bundle.config["mounts"] = [m for m in bundle.config["mounts"] if m["type"] != "mqueue"]

    assert runtime.run(bundle).report["namespaces"]["ipc"] == namespace("ipc")


@pytest.fixture
def neighbour(runtime: Runtime, other_bundle: Bundle) -> Iterator[int]:
    """The init's pid of another container."""
    yield runtime.pid(runtime.running(other_bundle))


@pytest.mark.parametrize(("type", "kind"), SHARED)
def test_a_namespace_is_joined_by_path(runtime: Runtime, bundle: Bundle, neighbour: int, type: str, kind: str) -> None:
    bundle.with_namespace(type, f"/proc/{neighbour}/ns/{kind}")
    if type == "uts":
        del bundle.config["hostname"]

    report = runtime.run(bundle).report

    assert report["namespaces"][kind] == namespace(kind, neighbour)
    others = {k for _, k in SHARED} - {kind}
    assert all(report["namespaces"][other] != namespace(other, neighbour) for other in others)


def test_a_joined_pid_namespace_is_seen_in_proc(runtime: Runtime, bundle: Bundle, neighbour: int) -> None:
    bundle.with_namespace("pid", f"/proc/{neighbour}/ns/pid")

    report = runtime.run(bundle).report

    assert report["pid"] > 1
    assert report["exe"] == "/bin/probe"


def test_a_pod_shares_three_namespaces(runtime: Runtime, bundle: Bundle, neighbour: int) -> None:
    for type, kind in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")]:
        bundle.with_namespace(type, f"/proc/{neighbour}/ns/{kind}")
    del bundle.config["hostname"]

    report = runtime.run(bundle).report

    assert all(report["namespaces"][kind] == namespace(kind, neighbour) for kind in ("net", "ipc", "uts"))
    assert report["hostname"] == "scenario"


def test_a_namespace_is_joined_through_a_bind_mount(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    holder = helper("unshare", "--net", "sleep", "60")
    eventually(lambda: namespace("net", holder.pid) != namespace("net"), "a new network namespace")
    pin = place / "pin"
    pin.touch()
    mount(f"/proc/{holder.pid}/ns/net", pin, flags=0x1000)
    expected = namespace("net", holder.pid)
    holder.kill()
    holder.wait()
    bundle.with_namespace("network", str(pin))

    report = runtime.run(bundle).report

    umount(pin)
    assert report["namespaces"]["net"] == expected


def test_a_new_network_namespace_has_its_loopback_up(runtime: Runtime, bundle: Bundle) -> None:
    report = runtime.run(bundle.args("cat", "/proc/net/if_inet6", "/proc/net/dev")).ok().stdout

    assert " lo" in report or "lo:" in report


@requires("busybox")
def test_the_loopback_address_answers(runtime: Runtime, bundle: Bundle) -> None:
    os.symlink("busybox", bundle.rootfs / "bin/ip")
    bundle.shell("ip link show lo")

    assert ",UP" in runtime.run(bundle).ok().stdout


@pytest.mark.parametrize(("type", "kind"), [("network", "ipc"), ("ipc", "uts"), ("uts", "net"), ("pid", "mnt")])
def test_a_path_of_the_wrong_type_is_refused(
    runtime: Runtime, bundle: Bundle, neighbour: int, type: str, kind: str
) -> None:
    bundle.with_namespace(type, f"/proc/{neighbour}/ns/{kind}")

    runtime.create(bundle).fails()


@only("pyocirun")
@pytest.mark.parametrize("file", ["ns/user", "status", "root"])
def test_a_path_that_is_no_namespace_of_the_type_is_named(
    runtime: Runtime, bundle: Bundle, neighbour: int, file: str
) -> None:
    path = f"/proc/{neighbour}/{file}"
    bundle.with_namespace("network", path)

    runtime.create(bundle).fails(f"cannot join the network namespace {path}: it is no network namespace")


def test_a_path_that_is_missing_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    bundle.with_namespace("network", "/proc/1/ns/no-such")

    result = runtime.create(bundle)

    result.fails("/proc/1/ns/no-such")
    assert runtime.traces() == []


@requires("userns")
def test_a_user_namespace_maps_ids(runtime: Runtime, bundle: Bundle) -> None:
    bundle.map_users(100000)
    id = runtime.running(bundle)

    pid = runtime.pid(id)

    assert os.stat(f"/proc/{pid}").st_uid in (0, 100000)
    for file in ("uid_map", "gid_map"):
        assert Path(f"/proc/{pid}/{file}").read_text().split() == ["0", "100000", "65536"]
    assert "Uid:\t100000\t100000" in Path(f"/proc/{pid}/status").read_text()


@requires("userns")
def test_a_user_namespace_maps_several_ranges(runtime: Runtime, bundle: Bundle) -> None:
    bundle.map_users(100000)
    bundle.linux["uidMappings"] = [
        {"containerID": 0, "hostID": 100000, "size": 1000},
        {"containerID": 1000, "hostID": 5000, "size": 1},
        {"containerID": 1001, "hostID": 200000, "size": 100},
    ]
    id = runtime.running(bundle)

    lines = Path(f"/proc/{runtime.pid(id)}/uid_map").read_text().split()

    assert lines == ["0", "100000", "1000", "1000", "5000", "1", "1001", "200000", "100"]


@requires("userns")
def test_root_in_a_user_namespace_has_the_capabilities_of_the_config(runtime: Runtime, bundle: Bundle) -> None:
    bundle.map_users(100000)

    report = runtime.run(bundle).report

    assert (report["uid"], report["euid"], report["gid"]) == (0, 0, 0)
    assert report["capabilities"]["effective"] == f"{1 << 5 | 1 << 10 | 1 << 29:016x}"
    assert report["namespaces"]["user"] != namespace("user")


@requires("userns")
def test_a_user_namespace_has_the_default_devices(runtime: Runtime, bundle: Bundle) -> None:
    bundle.map_users(100000)

    report = runtime.run(bundle).report

    assert (report["dev"]["null"]["major"], report["dev"]["null"]["minor"]) == (1, 3)


@requires("userns")
def test_an_additional_group_works_in_a_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    bundle.map_users(100000)
    bundle.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [44]}

    report = runtime.run(bundle).report

    assert (report["uid"], report["gid"], report["groups"]) == (1000, 1000, [44])


@requires("userns")
def test_a_user_that_is_not_mapped_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    bundle.map_users(100000, size=1)
    bundle.process["user"] = {"uid": 5, "gid": 0}
    bundle.config["mounts"] = [mount for mount in bundle.config["mounts"] if mount["type"] != "devpts"]  # its gid=5

    result = runtime.create(bundle)

    result.fails("cannot setuid to unmapped uid 5 in user namespace")
    assert runtime.traces() == []


@requires("userns")
def test_a_user_namespace_without_a_mapping_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    bundle.with_namespace("user")

    runtime.create(bundle).fails()
    assert runtime.traces() == []


@requires("userns")
def test_a_mapping_without_a_user_namespace_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["uidMappings"] = [{"containerID": 0, "hostID": 1000, "size": 1}]

    runtime.create(bundle).fails("user namespace mappings specified, but")


@requires("userns", "busybox")
def test_other_namespaces_belong_to_the_new_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    """Root of the container may set the hostname: the uts namespace is owned by its user namespace."""
    bundle.map_users(100000)
    os.symlink("busybox", bundle.rootfs / "bin/hostname")
    for name in ("bounding", "permitted", "effective"):
        bundle.process["capabilities"][name] = ["CAP_SYS_ADMIN"]

    result = runtime.run(bundle.shell("hostname changed && hostname"))

    assert result.ok().stdout == "changed\n"


@requires("userns")
@pytest.mark.parametrize("mapped", [True, False])
def test_a_user_namespace_is_joined_by_path(
    runtime: Runtime, bundle: Bundle, other_bundle: Bundle, mapped: bool
) -> None:
    other_bundle.map_users(100000)
    pid = runtime.pid(runtime.running(other_bundle))
    bundle.map_users(100000)
    bundle.with_namespace("user", f"/proc/{pid}/ns/user")
    if not mapped:
        del bundle.linux["uidMappings"], bundle.linux["gidMappings"]

    report = runtime.run(bundle).report

    assert report["namespaces"]["user"] == namespace("user", pid)
    assert report["uid"] == 0


@only("pyocirun")
@requires("userns")
@pytest.mark.parametrize("key", ["uidMappings", "gidMappings"])
def test_a_user_namespace_that_is_joined_maps_what_the_mappings_say(
    runtime: Runtime, bundle: Bundle, other_bundle: Bundle, key: str
) -> None:
    other_bundle.map_users(100000)
    pid = runtime.pid(runtime.running(other_bundle))
    bundle.map_users(100000)
    bundle.with_namespace("user", f"/proc/{pid}/ns/user")
    bundle.linux[key] = [{"containerID": 0, "hostID": 200000, "size": 65536}]

    runtime.create(bundle).fails(f"/linux/{key}", "maps other ids: 0 100000 65536")


@only("pyocirun")
@requires("userns")
@pytest.mark.parametrize(("host_id", "status"), [(100000, 0), (200000, 1)])
def test_the_maps_of_a_namespace_that_a_bind_mount_keeps_are_compared_too(
    runtime: Runtime, bundle: Bundle, other_bundle: Bundle, place: Path, host_id: int, status: int
) -> None:
    other_bundle.map_users(100000)
    pid = runtime.pid(runtime.running(other_bundle))
    kept = place / "user"
    kept.touch()
    mount(f"/proc/{pid}/ns/user", kept, flags=0x1000)
    bundle.map_users(100000)
    bundle.with_namespace("user", str(kept))
    bundle.linux["uidMappings"] = [{"containerID": 0, "hostID": host_id, "size": 65536}]

    done = runtime.run(bundle)

    umount(kept)
    assert done.status == status
    if status:
        done.fails("/linux/uidMappings", "maps other ids: 0 100000 65536")
    else:
        assert "/linux/uidMappings changes nothing" in "".join(line["msg"] for line in done.log)


@requires("cgroupns")
def test_a_cgroup_namespace_has_the_cgroup_of_the_container_as_its_root(runtime: Managed, bundle: Bundle) -> None:
    bundle.with_namespace("cgroup")
    names = ("memory", "pids", "devices", "freezer") if runtime.mode.version == 1 else ("",)

    cgroups = runtime.run(bundle).report["cgroup"]

    mine = [line for line in cgroups if line.split(":")[1] in names]
    assert mine
    assert all(line.endswith(":/") for line in mine)


@requires("userns")
def test_a_user_namespace_takes_340_ranges(runtime: Runtime, bundle: Bundle) -> None:
    bundle.map_users(100000)
    ranges = [{"containerID": i, "hostID": 1000 + i * 2, "size": 1} for i in range(340)]  # less than a page of text
    bundle.linux["uidMappings"] = bundle.linux["gidMappings"] = ranges
    os.chown(bundle.rootfs, 1000, 1000)
    id = runtime.running(bundle)

    lines = Path(f"/proc/{runtime.pid(id)}/gid_map").read_text().splitlines()

    assert [line.split() for line in lines] == [[str(i), str(1000 + i * 2), "1"] for i in range(340)]


@requires("userns")
@only("pyocirun")
def test_a_user_namespace_takes_no_more_ranges(runtime: Runtime, bundle: Bundle) -> None:
    bundle.map_users(100000)
    ranges = [{"containerID": i * 3, "hostID": 100000 + i * 5, "size": 2} for i in range(341)]
    bundle.linux["uidMappings"] = ranges

    runtime.create(bundle).fails("341 id mappings, the kernel takes 340")


@requires("userns")
def test_a_map_that_is_too_long_for_the_kernel_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    bundle.map_users(100000)
    bundle.linux["uidMappings"] = [
        {"containerID": i * 3, "hostID": 1000000000 + i * 5, "size": 2} for i in range(os.sysconf("SC_PAGE_SIZE") // 16)
    ]

    runtime.create(bundle).fails()
    assert runtime.traces() == []


@requires("userns")
def test_a_network_namespace_of_another_user_namespace_is_joined(
    runtime: Runtime, bundle: Bundle, other_bundle: Bundle
) -> None:
    """Root has power over both, until it is in one of them."""
    other_bundle.map_users(300000)
    pid = runtime.pid(runtime.running(other_bundle))
    bundle.map_users(100000)
    bundle.with_namespace("network", f"/proc/{pid}/ns/net")
    bundle.config["mounts"] = [mount for mount in bundle.config["mounts"] if mount["type"] != "sysfs"]

    report = runtime.run(bundle).report

    assert report["namespaces"]["net"] == namespace("net", pid)
    assert report["namespaces"]["user"] != namespace("user", pid)


@requires("timens")
@only("pyocirun")
def test_clocks_are_shifted_in_a_time_namespace(runtime: Runtime, bundle: Bundle) -> None:
    bundle.with_namespace("time")
    bundle.linux["timeOffsets"] = {"boottime": {"secs": 1_000_000}, "monotonic": {"secs": 7, "nanosecs": 9}}

    uptime, offsets = (
        runtime.run(bundle.shell("cat /proc/uptime; cat /proc/self/timens_offsets")).ok().stdout.split("\n", 1)
    )

    host = float(Path("/proc/uptime").read_text().split()[0])
    assert 0 <= host + 1_000_000 - float(uptime.split()[0]) < 60
    assert offsets.split() == ["monotonic", "7", "9", "boottime", "1000000", "0"]


@requires("timens")
@only("pyocirun")
@pytest.mark.parametrize("offsets", [None, {}, {"monotonic": {"secs": 100}}])
def test_a_time_namespace_is_new(runtime: Runtime, bundle: Bundle, offsets: dict[str, object] | None) -> None:
    bundle.with_namespace("time")
    if offsets is not None:
        bundle.linux["timeOffsets"] = offsets
    id = runtime.running(bundle)
    pid = runtime.pid(id)

    assert namespace("time", pid) == namespace("time_for_children", pid) != namespace("time")


@requires("timens", "userns")
@only("pyocirun")
def test_a_time_namespace_in_a_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    bundle.map_users(100000)
    bundle.with_namespace("time")
    bundle.linux["timeOffsets"] = {"boottime": {"secs": 1_000_000}}

    uptime = runtime.run(bundle.args("cat", "/proc/uptime")).ok().stdout.split()[0]

    assert float(uptime) > 1_000_000


@requires("timens")
@only("pyocirun")
def test_a_process_of_exec_sees_the_shifted_clocks(runtime: Runtime, bundle: Bundle) -> None:
    bundle.with_namespace("time")
    bundle.linux["timeOffsets"] = {"boottime": {"secs": 1_000_000}}
    id = runtime.running(bundle)

    uptime = runtime.exec(id, "cat", "/proc/uptime").ok().stdout.split()[0]

    assert float(uptime) > 1_000_000
    assert runtime.status(id) == "running"


@requires("timens")
@only("pyocirun")
def test_a_time_namespace_is_joined_by_path(runtime: Runtime, bundle: Bundle, other_bundle: Bundle) -> None:
    other_bundle.with_namespace("time")
    other_bundle.linux["timeOffsets"] = {"boottime": {"secs": 1_000_000}}
    pid = runtime.pid(runtime.running(other_bundle))
    bundle.with_namespace("time", f"/proc/{pid}/ns/time")
    id = runtime.running(bundle)

    assert namespace("time", runtime.pid(id)) == namespace("time", pid)


@only("pyocirun")
@pytest.mark.parametrize(
    ("path", "text"),
    [
        (None, "time namespace offsets specified, but time namespace isn't enabled"),
        ("/proc/self/ns/time", "both namespace path and time offsets specified"),
    ],
)
def test_offsets_need_a_new_time_namespace(runtime: Runtime, bundle: Bundle, path: str | None, text: str) -> None:
    if path:
        bundle.with_namespace("time", path)
    bundle.linux["timeOffsets"] = {"boottime": {"secs": 1}}

    runtime.create(bundle).fails(text)


@requires("timens")
@only("pyocirun")
def test_an_offset_that_the_clock_cannot_take_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    bundle.with_namespace("time")
    bundle.linux["timeOffsets"] = {"boottime": {"secs": -(10**9)}}

    runtime.create(bundle).fails("cannot shift clocks: boottime -1000000000 0")
    assert runtime.traces() == []


def test_two_namespaces_of_a_type_are_refused(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["namespaces"].append({"type": "ipc"})

    runtime.create(bundle).fails()
    assert runtime.traces() == []


def test_an_unknown_namespace_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    bundle.with_namespace("galaxy")

    runtime.create(bundle).fails("galaxy")
    assert runtime.traces() == []


def test_init_in_the_pid_namespace_of_the_host_is_no_session_leader_of_the_runtime(
    runtime: Runtime, bundle: Bundle
) -> None:
    bundle.without_namespace("pid")

    report = runtime.run(bundle).report

    assert report["sid"] == report["pid"] == report["pgid"]


def test_the_exit_status_arrives_without_a_pid_namespace(runtime: Runtime, bundle: Bundle) -> None:
    bundle.without_namespace("pid")
    id = runtime.created(bundle.args("exit", "11"))
    pid = runtime.pid(id)

    runtime.start(id).ok()

    assert wait_for_orphan(pid) == 11
