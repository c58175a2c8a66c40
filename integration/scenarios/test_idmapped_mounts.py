"""Id-mapped mounts: idmap and ridmap, by the mount's own mappings or the container's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.harness import Bundle, Runtime, mount, only, umount

pytestmark = only("pyocirun")  # runc has it since 1.2

FILE_SYSTEMS = Path("/proc/filesystems")
OWN = [{"containerID": 0, "hostID": 100000, "size": 65536}]


@pytest.fixture
def source(place: Path) -> Path:
    """A directory with files of ids 0 and 7, and a tmpfs below with one of id 5."""
    source = place / "source"
    (source / "below").mkdir(parents=True)
    mount("below", source / "below", "tmpfs")
    for path, id in (("root", 0), ("seven", 7), ("below/five", 5)):
        (source / path).write_text("")
        os.chown(source / path, id, id)
    return source


def owners(runtime: Runtime, bundle: Bundle, *paths: str) -> list[tuple[int, int]]:
    """(uid, gid) of these files, as the container sees them."""
    seen = json.loads(runtime.run(bundle.args("stat", *paths)).ok().stdout)
    return [(seen[path]["uid"], seen[path]["gid"]) for path in paths]


def idmapped(bundle: Bundle, source: Path, *options: str, maps: list[dict[str, int]] | None = OWN) -> None:
    bundle.mount("/mnt", "bind", str(source), options)
    if maps:
        bundle.config["mounts"][-1] |= {"uidMappings": maps, "gidMappings": maps}


def test_owners_are_shifted_by_the_mappings_of_the_mount(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    idmapped(bundle, source, "bind", "idmap")

    assert owners(runtime, bundle, "/mnt/root", "/mnt/seven") == [(100000, 100000), (100007, 100007)]


@pytest.mark.parametrize("mapped", [False, True])
def test_a_source_in_the_own_root_is_mapped_too(runtime: Runtime, bundle: Bundle, source: Path, mapped: bool) -> None:
    if mapped:
        bundle.map_users(100000)
    bundle.bind(source, "/first", "rbind")
    bundle.mount("/second", "bind", str(bundle.rootfs / "first"), ("rbind", "ridmap"))
    bundle.mount("/third", "bind", str(bundle.rootfs / "first/below"), ("bind", "idmap"))
    for mapped_mount in bundle.config["mounts"][-2:]:
        mapped_mount |= {"uidMappings": OWN, "gidMappings": OWN}

    wanted = [(0, 0), (7, 7), (5, 5), (5, 5)]
    shift = 0 if mapped else 100000
    seen = owners(runtime, bundle, "/second/root", "/second/seven", "/second/below/five", "/third/five")

    assert seen == [(uid + shift, gid + shift) for uid, gid in wanted]


def test_a_source_in_the_own_root_that_is_missing_is_named(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/mnt", "bind", str(bundle.rootfs / "missing"), ("bind", "idmap"))
    bundle.config["mounts"][-1] |= {"uidMappings": OWN, "gidMappings": OWN}

    runtime.create(bundle).fails("/missing of the container", "No such file or directory")
    assert runtime.traces() == []


def test_several_ranges(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    ranges = [(0, 3000, 1), (5, 4000, 2), (7, 5000, 1)]
    maps = [{"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in ranges]
    idmapped(bundle, source, "bind", "idmap", maps=maps)

    assert owners(runtime, bundle, "/mnt/root", "/mnt/seven") == [(3000, 3000), (5000, 5000)]


def test_mappings_need_no_option(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    idmapped(bundle, source, "bind")

    assert owners(runtime, bundle, "/mnt/root") == [(100000, 100000)]


@pytest.mark.parametrize(("option", "below"), [("idmap", 5), ("ridmap", 100005)])
def test_mounts_below_are_mapped_by_ridmap_alone(
    runtime: Runtime, bundle: Bundle, source: Path, option: str, below: int
) -> None:
    idmapped(bundle, source, "rbind", option)

    assert owners(runtime, bundle, "/mnt/root", "/mnt/below/five") == [(100000, 100000), (below, below)]


def test_in_a_user_namespace_files_have_the_ids_that_they_have_on_the_disk(
    runtime: Runtime, bundle: Bundle, source: Path
) -> None:
    bundle.map_users(100000)
    idmapped(bundle, source, "bind", "idmap", maps=None)

    assert owners(runtime, bundle, "/mnt/root", "/mnt/seven") == [(0, 0), (7, 7)]


def test_mappings_of_the_mount_come_before_those_of_the_container(
    runtime: Runtime, bundle: Bundle, source: Path
) -> None:
    bundle.map_users(200000)
    idmapped(bundle, source, "bind", "idmap", maps=[{"containerID": 0, "hostID": 200010, "size": 20}])

    assert owners(runtime, bundle, "/mnt/root", "/mnt/seven") == [(10, 10), (17, 17)]


def test_what_is_written_through_it_belongs_to_the_unmapped_id(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    bundle.map_users(100000)
    idmapped(bundle, source, "bind", "idmap", maps=None)

    runtime.run(bundle.args("write", "/mnt/new", "x")).ok()

    assert (os.stat(source / "new").st_uid, os.stat(source / "new").st_gid) == (0, 0)


def test_the_source_on_the_host_stays_as_it_is(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    idmapped(bundle, source, "rbind", "ridmap")

    runtime.run(bundle.args("exit", "0")).ok()

    assert [os.stat(source / path).st_uid for path in ("root", "seven", "below/five")] == [0, 7, 5]


def test_other_options_hold_too(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    idmapped(bundle, source, "bind", "idmap", "ro")

    assert runtime.run(bundle.args("write", "/mnt/new", "x")).stdout == "EROFS\n"


# ---- by file system ------------------------------------------------------------------------------

MIB = {"ext4": 16, "xfs": 320, "btrfs": 128}
"""How large a file system has to be at least."""


@pytest.fixture(params=["ext4", "xfs", "btrfs", "tmpfs"])
def mounted(request: pytest.FixtureRequest, place: Path) -> Iterator[Path]:
    """A directory on a file system of this type, with a file of id 7."""
    type = request.param
    if type != "tmpfs" and (not shutil.which(f"mkfs.{type}") or f"\t{type}\n" not in FILE_SYSTEMS.read_text()):
        pytest.skip(f"needs {type}, and its mkfs")
    directory = place / "file-system"
    directory.mkdir()
    if type == "tmpfs":
        mount("tmpfs", directory, "tmpfs")
    else:
        image = place / "image"
        with image.open("wb") as file:
            file.truncate(MIB[type] << 20)
        subprocess.run([f"mkfs.{type}", image], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", image, directory], check=True)
    (directory / "seven").write_text("")
    os.chown(directory / "seven", 7, 7)
    directory.chmod(0o777)
    yield directory
    umount(directory)


def test_ids_of_every_usual_file_system_can_be_mapped(runtime: Runtime, bundle: Bundle, mounted: Path) -> None:
    idmapped(bundle, mounted, "bind", "idmap")

    seen = owners(runtime, bundle, "/mnt", "/mnt/seven")

    assert seen == [(100000, 100000), (100007, 100007)]


def test_what_a_user_namespace_writes_there_is_unmapped_on_the_disk(
    runtime: Runtime, bundle: Bundle, mounted: Path
) -> None:
    bundle.map_users(100000)
    bundle.process["user"] = {"uid": 9, "gid": 8}
    idmapped(bundle, mounted, "bind", "idmap", maps=None)

    runtime.run(bundle.args("write", "/mnt/new", "x")).ok()

    assert (os.stat(mounted / "new").st_uid, os.stat(mounted / "new").st_gid) == (9, 8)


def test_an_overlay_cannot_be_mapped_itself_and_is_named(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    """The kernel takes mapped layers, but maps no overlay."""
    merged = overlay(place)

    idmapped(bundle, merged, "bind", "idmap")
    done = runtime.create(bundle)

    umount(merged)
    done.fails(f"cannot map the ids of {merged} (overlay)", "mounts[6]", "mount_setattr")


def overlay(place: Path) -> Path:
    """An overlay on a tmpfs."""
    base = place / "overlay"
    base.mkdir()
    mount("tmpfs", base, "tmpfs")
    for name in ("lower", "upper", "work", "merged"):
        (base / name).mkdir()
    mount("overlay", base / "merged", "overlay", 0, f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work")
    return base / "merged"


def test_a_file_system_that_cannot_is_named(runtime: Runtime, bundle: Bundle) -> None:
    idmapped(bundle, Path("/sys/kernel"), "bind", "idmap")

    runtime.create(bundle).fails("cannot map the ids of /sys/kernel (sysfs)", "mounts[6]", "mount_setattr")
    assert runtime.traces() == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"options": ["bind", "idmap"]}, "idmap needs uidMappings and gidMappings of the mount, or a user namespace"),
        ({"options": ["bind", "idmap"], "uidMappings": OWN}, "must have both uid and gid mappings specified"),
        ({"options": ["bind"], "gidMappings": OWN}, "must have both uid and gid mappings specified"),
        ({"type": "tmpfs", "options": ["idmap"]}, "id-mapped mounts are only supported for bind-mounts"),
    ],
)
def test_what_makes_no_sense_is_refused(runtime: Runtime, bundle: Bundle, changes: dict[str, Any], text: str) -> None:
    bundle.config["mounts"].append({"destination": "/mnt", "source": "/srv", **changes})

    runtime.create(bundle).fails(text)
    assert runtime.traces() == []
