"""config.json's mounts: order, destinations, options, propagation."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.harness import Bundle, Runtime, mount, mount_at, mounts, only, requires, umount

MS_NOSYMFOLLOW = 256
MS_SHARED = 1 << 20


def test_the_default_mounts(runtime: Runtime, bundle: Bundle) -> None:
    report = runtime.run(bundle).report

    seen = {target: mount_at(report, target)["fstype"] for target in ("/proc", "/dev", "/dev/pts", "/dev/shm", "/sys")}
    assert seen == {"/proc": "proc", "/dev": "tmpfs", "/dev/pts": "devpts", "/dev/shm": "tmpfs", "/sys": "sysfs"}
    assert mount_at(report, "/dev/mqueue")["fstype"] == "mqueue"
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(mount_at(report, "/sys")["options"])
    assert report["dev"]["shm"]["mode"] == 0o1777


def test_the_root_is_the_rootfs_and_nothing_of_the_host_is_seen(runtime: Runtime, bundle: Bundle) -> None:
    report = runtime.run(bundle).report

    targets = [line.split()[4] for line in report["mounts"]]
    assert targets[0] == "/"
    assert mount_at(report, "/")["root"].endswith("/bundle/rootfs")
    assert all(target == "/" or target.startswith(("/proc", "/dev", "/sys")) for target in targets)


# ---- destinations --------------------------------------------------------------------------------


def test_a_missing_directory_is_made(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/made/for/it", "tmpfs")

    report = runtime.run(bundle).report

    assert mount_at(report, "/made/for/it")["fstype"] == "tmpfs"
    assert (bundle.rootfs / "made/for/it").is_dir()


def test_a_missing_file_is_made_for_a_file(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    (place / "note").write_text("from outside")
    bundle.bind(place / "note", "/some/note")

    result = runtime.run(bundle.args("cat", "/some/note"))

    assert result.ok().stdout == "from outside"
    assert (bundle.rootfs / "some/note").read_text() == ""


def test_mounts_are_made_in_order(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    (place / "source/inner").mkdir(parents=True)
    bundle.mount("/mnt", "tmpfs", "first")
    bundle.bind(place / "source", "/mnt/bound")
    bundle.mount("/mnt/bound/inner", "tmpfs", "third")

    report = runtime.run(bundle).report

    targets = [line.split()[4] for line in report["mounts"]]
    assert [target for target in targets if target.startswith("/mnt")] == ["/mnt", "/mnt/bound", "/mnt/bound/inner"]


def test_a_later_mount_covers_an_earlier_one(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/mnt", "tmpfs", "first")
    bundle.mount("/mnt", "tmpfs", "second")

    assert mount_at(runtime.run(bundle).report, "/mnt")["source"] == "second"


@pytest.mark.parametrize("link", ["/etc/inner", "etc/inner", "../../../../etc/inner", "/../../etc/inner"])
def test_a_link_in_the_destination_stays_in_the_rootfs(runtime: Runtime, bundle: Bundle, link: str) -> None:
    (bundle.rootfs / "etc/inner").mkdir()
    os.symlink(link, bundle.rootfs / "link")
    bundle.mount("/link", "tmpfs", "here")

    assert mount_at(runtime.run(bundle).report, "/etc/inner")["source"] == "here"


def test_a_dangling_link_is_made_within_the_rootfs(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    outside = place / "outside"
    os.symlink(outside, bundle.rootfs / "link")
    bundle.mount("/link/below", "tmpfs", "here")

    runtime.run(bundle)

    assert not outside.exists()


@pytest.mark.parametrize(
    ("links", "made"),
    [
        ({"link": "/missing"}, "missing/below"),
        ({"link": "missing/deeper"}, "missing/deeper/below"),
        ({"link": "../../../../missing"}, "missing/below"),
        ({"link": "/second", "second": "etc/third", "etc/third": "../missing"}, "missing/below"),
        ({"link": "missing/../there"}, "there/below"),
    ],
)
def test_what_a_dangling_link_names_is_made_in_the_rootfs(
    runtime: Runtime, bundle: Bundle, links: dict[str, str], made: str
) -> None:
    for name, text in links.items():
        os.symlink(text, bundle.rootfs / name)
    bundle.mount("/link/below", "tmpfs", "here")

    report = runtime.run(bundle).report

    assert mount_at(report, f"/{made}")["source"] == "here"
    assert (bundle.rootfs / made).is_dir()


@pytest.mark.parametrize(("text", "made"), [("/missing/file", "missing/file"), ("missing", "missing")])
def test_a_file_that_a_dangling_link_names_is_made_in_the_rootfs(
    runtime: Runtime, bundle: Bundle, place: Path, text: str, made: str
) -> None:
    (place / "note").write_text("from outside")
    os.symlink(text, bundle.rootfs / "link")
    bundle.bind(place / "note", "/link")

    assert runtime.run(bundle.args("cat", f"/{made}")).ok().stdout == "from outside"
    assert (bundle.rootfs / made).read_text() == ""


def test_links_in_a_circle_are_refused(runtime: Runtime, bundle: Bundle) -> None:
    os.symlink("/two", bundle.rootfs / "one")
    os.symlink("/one", bundle.rootfs / "two")
    bundle.mount("/one/below", "tmpfs")

    runtime.create(bundle).fails("oo many levels of symbolic links")
    assert runtime.traces() == []


def test_dots_in_the_destination_stay_in_the_rootfs(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    bundle.mount("/../../../escaped", "tmpfs", "here")

    result = runtime.run(bundle)

    assert not any("escaped" in line for line in mounts())
    if result.status == 0:
        assert mount_at(result.report, "/escaped")["source"] == "here"


def test_a_mount_on_the_root_itself_is_refused_or_seen(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/", "tmpfs")

    runtime.create(bundle)

    assert not any(str(bundle.rootfs) in line for line in mounts())


# ---- bind mounts ---------------------------------------------------------------------------------


def test_a_bind_mount_is_writable(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    (place / "shared").mkdir()
    bundle.bind(place / "shared", "/mnt")

    runtime.run(bundle.args("write", "/mnt/file", "hello")).ok()

    assert (place / "shared/file").read_text() == "hello"


def test_a_readonly_bind_mount_is_not(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    (place / "shared").mkdir()
    bundle.bind(place / "shared", "/mnt", "ro")

    result = runtime.run(bundle.args("write", "/mnt/file", "hello"))

    assert (result.status, result.stdout) == (1, "EROFS\n")
    assert list((place / "shared").iterdir()) == []


def test_a_source_is_relative_to_the_bundle(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.path / "data").mkdir()
    (bundle.path / "data/note").write_text("relative")
    bundle.bind("data", "/mnt")

    assert runtime.run(bundle.args("cat", "/mnt/note")).ok().stdout == "relative"


@pytest.mark.parametrize(("option", "seen"), [("bind", False), ("rbind", True)])
def test_mounts_below_come_along_with_rbind_alone(
    runtime: Runtime, bundle: Bundle, place: Path, option: str, seen: bool
) -> None:
    (place / "tree/below").mkdir(parents=True)
    mount("below", place / "tree/below", "tmpfs")
    bundle.mount("/mnt", "bind", str(place / "tree"), (option,))

    report = runtime.run(bundle).report

    assert any(line.split()[4] == "/mnt/below" for line in report["mounts"]) is seen


def test_options_of_a_bind_mount(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    (place / "shared").mkdir()
    bundle.bind(place / "shared", "/mnt", "nosuid", "nodev", "noexec", "noatime")

    seen = mount_at(runtime.run(bundle).report, "/mnt")["options"]

    assert {"rw", "nosuid", "nodev", "noexec", "noatime"} <= set(seen)


def test_a_bind_mount_leaves_the_options_of_its_source_alone(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    (place / "source").mkdir()
    mount("source", place / "source", "tmpfs")
    before = [line for line in mounts() if str(place / "source") in line]
    bundle.bind(place / "source", "/mnt", "ro", "nosuid")

    runtime.run(bundle).ok()

    assert [line for line in mounts() if str(place / "source") in line] == before


def test_a_bind_mount_keeps_the_restrictions_of_its_source_in_a_user_namespace(
    runtime: Runtime, bundle: Bundle, place: Path
) -> None:
    (place / "source").mkdir()
    mount("source", place / "source", "tmpfs", flags=2 | 4 | 8 | MS_NOSYMFOLLOW, data="mode=755")
    bundle.map_users(100000)
    bundle.bind(place / "source", "/mnt", "ro")

    seen = mount_at(runtime.run(bundle).report, "/mnt")["options"]

    assert {"ro", "nosuid", "nodev", "noexec"} <= set(seen)
    assert "nosymfollow" not in seen  # which is not among what is locked


def test_a_source_behind_a_closed_directory_works_in_a_user_namespace(
    runtime: Runtime, bundle: Bundle, place: Path
) -> None:
    (place / "closed").mkdir(mode=0o700)
    (place / "closed/source").mkdir(mode=0o755)
    (place / "closed/source/note").write_text("through")
    bundle.map_users(100000)
    bundle.bind(place / "closed/source", "/mnt")

    assert runtime.run(bundle.args("cat", "/mnt/note")).ok().stdout == "through"


@pytest.mark.parametrize("mapped", [False, True])
def test_a_bind_mount_of_the_own_root_has_what_was_mounted_there_before(
    runtime: Runtime, bundle: Bundle, place: Path, mapped: bool
) -> None:
    (place / "closed/source").mkdir(parents=True)
    (place / "closed/source/note").write_text("found")
    (place / "closed").chmod(0o700)
    if mapped:
        bundle.map_users(100000)
    bundle.bind(place / "closed/source", "/first")
    bundle.bind(bundle.rootfs / "first", "/second")
    bundle.bind(bundle.rootfs, "/all", "rbind")

    assert runtime.run(bundle.args("cat", "/second/note", "/all/first/note")).ok().stdout == "foundfound"


@only("pyocirun")
def test_a_bind_mount_of_the_own_root_follows_no_link_out_of_it(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    (place / "secret").mkdir()
    (place / "secret/note").write_text("of the host")
    (bundle.rootfs / "data").symlink_to(place / "secret")
    bundle.bind(bundle.rootfs / "data", "/mnt")

    runtime.create(bundle).fails("/data of the container", "No such file or directory")
    assert runtime.traces() == []


@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_a_destination_may_begin_with_the_rootfs(runtime: Runtime, bundle: Bundle, place: Path, kind: str) -> None:
    if kind == "bind":
        bundle.bind(place, f"{bundle.rootfs}/mnt")
    else:
        bundle.mount(f"{bundle.rootfs}/mnt", "tmpfs")

    assert mount_at(runtime.run(bundle).report, "/mnt")


def test_a_bind_mount_takes_no_options_of_a_filesystem(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    bundle.bind(place, "/mnt", "size=64k")

    runtime.create(bundle).fails("bind mounts cannot have any filesystem-specific options applied")
    assert runtime.traces() == []


def test_the_type_of_a_bind_mount_is_ignored(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    (place / "note").write_text("x")
    bundle.mount("/note", "none", str(place / "note"), ("bind",))

    assert runtime.run(bundle.args("cat", "/note")).ok().stdout == "x"


def test_a_recursive_readonly_bind_reaches_mounts_below(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    (place / "tree/below").mkdir(parents=True)
    mount("below", place / "tree/below", "tmpfs")
    bundle.bind(place / "tree", "/mnt", "rbind", "rro")

    report = runtime.run(bundle).report

    assert "ro" in mount_at(report, "/mnt")["options"]
    assert "ro" in mount_at(report, "/mnt/below")["options"]


@only("pyocirun")
@pytest.mark.parametrize("namespace", ["none", "joined"])
def test_in_a_user_namespace_sysfs_of_another_network_is_the_hosts_and_closed(
    runtime: Runtime, bundle: Bundle, namespace: str
) -> None:
    bundle.map_users(100000)
    bundle.without_namespace("network")
    if namespace == "joined":
        bundle.with_namespace("network", "/proc/self/ns/net")

    report = runtime.run(bundle).report

    inside = [line.split() for line in report["mounts"] if line.split()[4].startswith("/sys")]
    assert mount_at(report, "/sys")["fstype"] == "sysfs"
    assert len(inside) > 1
    assert all("ro" in fields[5].split(",") for fields in inside)


@pytest.fixture
def host_mqueue() -> Iterator[None]:
    """An mqueue on /dev/mqueue, as most hosts have it."""
    if os.path.ismount("/dev/mqueue"):
        yield
        return
    made = not os.path.isdir("/dev/mqueue")
    if made:
        os.mkdir("/dev/mqueue")
    mount("mqueue", "/dev/mqueue", "mqueue")
    yield
    umount("/dev/mqueue")
    if made:
        os.rmdir("/dev/mqueue")


@only("pyocirun")
@requires("mqueue")
def test_in_a_user_namespace_mqueue_of_the_host_is_bound(runtime: Runtime, bundle: Bundle, host_mqueue: None) -> None:
    bundle.map_users(100000)
    bundle.without_namespace("ipc")

    assert mount_at(runtime.run(bundle).report, "/dev/mqueue")["fstype"] == "mqueue"


# ---- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "present", "absent"),
    [
        ("ro", "ro", "rw"),
        ("nosuid", "nosuid", ""),
        ("nodev", "nodev", ""),
        ("noexec", "noexec", ""),
        ("noatime", "noatime", "relatime"),
        ("relatime", "relatime", ""),
        ("strictatime", "rw", "relatime"),
        ("nodiratime", "nodiratime", ""),
    ],
)
def test_an_option_of_a_mount(runtime: Runtime, bundle: Bundle, option: str, present: str, absent: str) -> None:
    bundle.mount("/mnt", "tmpfs", "tmpfs", (option,))

    seen = mount_at(runtime.run(bundle).report, "/mnt")["options"]

    assert present in seen
    assert absent not in seen


@pytest.mark.parametrize(("option", "flag"), [("sync", "sync"), ("dirsync", "dirsync"), ("lazytime", "lazytime")])
def test_an_option_of_a_superblock(runtime: Runtime, bundle: Bundle, option: str, flag: str) -> None:
    bundle.mount("/mnt", "tmpfs", "tmpfs", (option,))

    seen = mount_at(runtime.run(bundle).report, "/mnt")

    assert flag in seen["super_options"]


def test_symlinks_may_be_forbidden(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/mnt", "tmpfs", "tmpfs", ("nosymfollow",))

    assert "nosymfollow" in mount_at(runtime.run(bundle).report, "/mnt")["options"]


def test_the_last_of_two_options_wins(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/mnt", "tmpfs", "tmpfs", ("ro", "nosuid", "rw", "suid"))

    seen = mount_at(runtime.run(bundle).report, "/mnt")["options"]

    assert "rw" in seen
    assert "nosuid" not in seen


def test_other_options_go_to_the_filesystem(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/mnt", "tmpfs", "tmpfs", ("size=64k", "mode=711", "uid=3"))

    seen = mount_at(runtime.run(bundle).report, "/mnt")["super_options"]

    assert {"size=64k", "mode=711", "uid=3"} <= set(seen)


def test_a_tmpfs_takes_the_mode_of_its_directory(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/tmp", "tmpfs")

    seen = json.loads(runtime.run(bundle.args("stat", "/tmp")).ok().stdout)

    assert seen["/tmp"]["mode"] == 0o1777


@pytest.mark.parametrize("target", ["/missing", "/not/there"])
def test_a_tmpfs_on_a_directory_that_was_missing_is_for_everybody(
    runtime: Runtime, bundle: Bundle, target: str
) -> None:
    bundle.mount(target, "tmpfs")

    report = runtime.run(bundle.args("stat", target)).ok()

    assert stat.S_IMODE(json.loads(report.stdout)[target]["mode"]) == 0o1777
    assert stat.S_IMODE(os.stat(f"{bundle.rootfs}{target}").st_mode) == 0o755


@pytest.mark.parametrize("propagation", [(), ("rprivate",), ("slave",)])
def test_an_option_may_be_longer_than_a_short_string(
    runtime: Runtime, bundle: Bundle, propagation: tuple[str, ...]
) -> None:
    layers = [bundle.path / f"{'layer' * 40}{number}" for number in range(2)]
    for layer in layers:
        layer.mkdir()
        (layer / f"file-{layer.name[-1]}").touch()
    bundle.mount("/merged", "overlay", "overlay", (f"lowerdir={layers[0]}:{layers[1]}", "ro", *propagation))

    listed = runtime.run(bundle.shell("ls /merged; cat /proc/self/mountinfo")).ok().stdout.splitlines()

    assert listed[:2] == ["file-0", "file-1"]
    assert [" shared:" in line for line in listed if " /merged " in line] == [False]


@requires("cgroup1")
def test_something_may_be_mounted_inside_readonly_cgroups(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", ("ro", "nosuid", "noexec", "nodev"))
    bundle.mount("/sys/fs/cgroup/added", "bind", str(bundle.path), ("bind",))

    listed = runtime.run(bundle.shell("ls /sys/fs/cgroup/added; mkdir /sys/fs/cgroup/x || echo refused")).ok()

    assert "config.json" in listed.stdout
    assert "refused" in listed.stdout


def test_a_readonly_tmpfs_may_have_mounts_inside(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/outer", "tmpfs", "outer", ("ro",))
    bundle.mount("/outer/inner", "tmpfs", "inner")

    report = runtime.run(bundle).report

    assert "ro" in mount_at(report, "/outer")["options"]
    assert "ro" not in mount_at(report, "/outer/inner")["options"]


def test_dev_may_be_readonly(runtime: Runtime, bundle: Bundle) -> None:
    next(mount for mount in bundle.config["mounts"] if mount["destination"] == "/dev")["options"].append("ro")

    report = runtime.run(bundle).report

    assert "ro" in mount_at(report, "/dev")["options"]
    assert "ro" not in mount_at(report, "/dev/shm")["options"]


def test_a_readonly_tmpfs_is_readonly(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/mnt", "tmpfs", "tmpfs", ("ro",))

    assert runtime.run(bundle.args("write", "/mnt/file", "x")).stdout == "EROFS\n"


# ---- propagation ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("private", ""),
        ("shared", "shared:"),
        ("slave", "master:"),
        ("unbindable", "unbindable"),
        ("rprivate", ""),
        ("rshared", "shared:"),
        ("rslave", "master:"),
    ],
)
def test_propagation_of_a_mount(runtime: Runtime, bundle: Bundle, place: Path, option: str, expected: str) -> None:
    (place / "source").mkdir()
    mount("source", place / "source", "tmpfs")
    mount("", place / "source", flags=MS_SHARED)
    bundle.linux["rootfsPropagation"] = "rshared" if "shared" in option else "rslave"
    bundle.bind(place / "source", "/mnt", "rbind", option)

    fields = mount_at(runtime.run(bundle).report, "/mnt")["propagation"]

    assert any(field.startswith(expected) for field in fields) if expected else fields == []


def test_a_slave_mount_receives_and_does_not_send(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    source = place / "source"
    (source / "from-host").mkdir(parents=True)
    mount("source", source, "tmpfs")
    mount("", source, flags=MS_SHARED)
    (source / "from-host").mkdir()
    (source / "from-container").mkdir()
    bundle.bind(source, "/mnt", "rbind", "rslave")
    for name in ("bounding", "permitted", "effective"):
        bundle.process["capabilities"][name] = ["CAP_SYS_ADMIN"]
    id = runtime.running(bundle)

    mount("late", source / "from-host", "tmpfs")
    runtime.exec(id, "mount-tmpfs", "/mnt/from-container").ok()

    seen = runtime.exec(id, "report").report["mounts"]
    assert any(line.split()[4] == "/mnt/from-host" for line in seen)
    assert any(line.split()[4] == "/mnt/from-container" for line in seen)
    assert not any(line.split()[4] == str(source / "from-container") for line in mounts())


def test_a_shared_mount_sends(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    source = place / "source"
    source.mkdir()
    mount("source", source, "tmpfs")
    mount("", source, flags=MS_SHARED)
    (source / "from-container").mkdir()
    bundle.bind(source, "/mnt", "rbind", "rshared")
    bundle.linux["rootfsPropagation"] = "rshared"
    for name in ("bounding", "permitted", "effective"):
        bundle.process["capabilities"][name] = ["CAP_SYS_ADMIN"]
    id = runtime.running(bundle)

    runtime.exec(id, "mount-tmpfs", "/mnt/from-container").ok()

    assert any(line.split()[4] == str(source / "from-container") for line in mounts())
    umount(source / "from-container")


def test_a_private_mount_neither_sends_nor_receives(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    source = place / "source"
    source.mkdir()
    mount("source", source, "tmpfs")
    mount("", source, flags=MS_SHARED)
    (source / "from-host").mkdir()
    bundle.bind(source, "/mnt", "rbind", "rprivate")
    id = runtime.running(bundle)

    mount("late", source / "from-host", "tmpfs")

    assert not any(line.split()[4] == "/mnt/from-host" for line in runtime.exec(id, "report").report["mounts"])


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("destination", ["/proc/1", "/proc/sys", "/proc/self/attr"])
def test_a_mount_inside_proc_is_refused(runtime: Runtime, bundle: Bundle, place: Path, destination: str) -> None:
    bundle.bind(place, destination)

    runtime.create(bundle).fails("cannot be mounted because it is inside /proc")
    assert runtime.traces() == []


@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_a_link_of_the_image_leads_no_mount_into_proc(runtime: Runtime, bundle: Bundle, place: Path, kind: str) -> None:
    """The destination is harmless as a text: only what it has become in the root tells (CVE-2019-16884)."""
    os.symlink("/proc/1", bundle.rootfs / "link")
    bundle.mount("/link/attr", kind, str(place), ("bind",) if kind == "bind" else ())

    runtime.create(bundle).fails("/link/attr")
    assert runtime.traces() == []


def test_a_few_files_of_proc_may_be_covered(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    (place / "meminfo").write_text("MemTotal: 1 kB\n")
    bundle.bind(place / "meminfo", "/proc/meminfo")

    assert runtime.run(bundle.args("cat", "/proc/meminfo")).ok().stdout == "MemTotal: 1 kB\n"


def test_only_a_procfs_may_be_mounted_on_proc(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    bundle.bind(place, "/proc")

    runtime.create(bundle).fails("cannot be mounted because it is not of type proc")
    assert runtime.traces() == []


@only("pyocirun")
@pytest.mark.parametrize("more", [(), ("private",)])
def test_a_refused_mount_is_named_with_call_and_option(runtime: Runtime, bundle: Bundle, more: tuple[str, ...]) -> None:
    bundle.mount("/mnt", "tmpfs", "tmpfs", ("nosuid", "uid=3", "size=nonsense", *more))

    result = runtime.create(bundle)

    result.fails("mounts[6]", "/mnt", "mount: Invalid argument")
    assert "tmpfs refused the option 'size=nonsense'" in result.stderr + result.error
    assert runtime.traces() == []


@only("pyocirun")
def test_a_missing_source_is_named_with_its_mount(runtime: Runtime, bundle: Bundle) -> None:
    bundle.bind("/no/such/source", "/mnt")

    runtime.create(bundle).fails("/no/such/source", "/mnt", "mounts[6]", "open_tree", "No such file or directory")


@requires("mqueue")
def test_mqueue_belongs_to_the_ipc_namespace(runtime: Runtime, bundle: Bundle) -> None:
    report = runtime.run(bundle.args("ls", "/dev/mqueue")).ok()

    assert json.loads(report.stdout) == {"/dev/mqueue": {}}


@pytest.mark.parametrize("destination", ["relative", "./relative", "made/../relative"])
def test_a_relative_destination_counts_from_the_root(runtime: Runtime, bundle: Bundle, destination: str) -> None:
    bundle.mount(destination, "tmpfs")

    assert mount_at(runtime.run(bundle).report, "/relative")["fstype"] == "tmpfs"
