"""tmpcopyup: a tmpfs begins with what it covers."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from integration.harness import Bundle, Runtime, mount_at, only, requires


@pytest.fixture
def data(bundle: Bundle) -> Path:
    """/data in the image: files, a directory, links, with owners and modes that are not the usual ones."""
    data = bundle.rootfs / "data"
    (data / "dir/deeper").mkdir(parents=True)
    (data / "file").write_text("content")
    (data / "big").write_bytes(b"x" * 300_000)
    (data / "dir/deeper/last").write_text("bottom")
    os.symlink("file", data / "link")
    os.symlink("/nowhere/at/all", data / "dangling")
    os.chmod(data / "dir", 0o1715)
    os.chmod(data / "file", 0o4755)
    os.chown(data / "dir", 3, 4)
    os.chown(data / "file", 5, 6)
    os.chmod(data / "file", 0o4755)
    os.lchown(data / "link", 7, 8)
    os.chmod(data, 0o2775)
    return data


def copied(bundle: Bundle, *options: str) -> None:
    bundle.mount("/data", "tmpfs", "tmpfs", ("tmpcopyup", *options))


def seen(runtime: Runtime, bundle: Bundle, *paths: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(runtime.run(bundle.args("stat", *paths)).ok().stdout)
    return found


def test_the_files_are_there(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    copied(bundle)

    result = runtime.run(bundle.args("cat", "/data/file", "/data/link", "/data/dir/deeper/last"))

    assert result.ok().stdout == "contentcontentbottom"


def test_it_is_a_tmpfs(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    copied(bundle, "size=1m")

    found = mount_at(runtime.run(bundle).report, "/data")

    assert found["fstype"] == "tmpfs"
    assert "size=1024k" in found["super_options"]


def test_owners_and_modes_are_kept(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    copied(bundle)

    found = seen(runtime, bundle, "/data", "/data/dir", "/data/file", "/data/big")

    assert [(entry["uid"], entry["gid"], entry["mode"]) for entry in found.values()] == [
        (0, 0, 0o2775),
        (3, 4, 0o1715),
        (5, 6, 0o4755),
        (0, 0, 0o644),
    ]
    assert found["/data/big"]["size"] == 300_000


@requires("busybox")
def test_links_stay_links(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    copied(bundle)

    result = runtime.run(bundle.shell("readlink /data/link; readlink /data/dangling; stat -c %u:%g /data/link"))

    assert result.ok().stdout.split() == ["file", "/nowhere/at/all", "7:8"]


def test_what_is_written_stays_out_of_the_image(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    copied(bundle)

    runtime.run(bundle.args("write", "/data/new", "x")).ok()

    assert not (data / "new").exists()


def test_a_readonly_one_has_the_files(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    copied(bundle, "ro")

    assert runtime.run(bundle.args("cat", "/data/file")).ok().stdout == "content"
    assert runtime.run(bundle.args("write", "/data/new", "x")).stdout == "EROFS\n"


def test_a_directory_that_was_missing_is_empty(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/made", "tmpfs", "tmpfs", ("tmpcopyup",))

    assert json.loads(runtime.run(bundle.args("ls", "/made")).ok().stdout) == {"/made": {}}


@only("pyocirun")  # runc leaves it to root
def test_the_tmpfs_itself_has_the_owner_of_what_it_covers(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    os.chown(data, 9, 10)
    copied(bundle)

    found = seen(runtime, bundle, "/data")

    assert (found["/data"]["uid"], found["/data"]["gid"]) == (9, 10)


@only("pyocirun")
@requires("busybox")
def test_in_a_user_namespace_owners_are_kept(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    bundle.map_users(100000)
    for path, id in (("file", 100005), ("dir/deeper/last", 100006), ("big", 100000)):
        os.chown(data / path, id, id)
    copied(bundle)

    found = seen(runtime, bundle, "/data/file", "/data/dir/deeper/last", "/data/dir", "/data")

    assert [(entry["uid"], entry["gid"]) for entry in found.values()] == [(5, 5), (6, 6), (0, 0), (0, 0)]


@only("pyocirun")
def test_an_owner_that_is_not_mapped_is_nobody_there_too(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    bundle.map_users(100000)
    copied(bundle)

    assert seen(runtime, bundle, "/data/big")["/data/big"]["uid"] == 65534


@only("pyocirun")
def test_extended_attributes_and_times_are_kept(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    os.setxattr(data / "file", "trusted.note", b"kept")
    os.utime(data / "file", (1_000_000, 2_000_000))
    copied(bundle)
    id = runtime.running(bundle)

    copy = Path(f"/proc/{runtime.pid(id)}/root/data/file")

    assert os.getxattr(copy, "trusted.note") == b"kept"
    assert copy.stat().st_mtime == 2_000_000


@only("pyocirun")
def test_sockets_and_what_is_mounted_below_are_left_out(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    here = os.open(data, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{here}/socket")
    os.close(here)
    os.mkfifo(data / "pipe", 0o640)
    bundle.mount("/data/dir", "tmpfs", "tmpfs", ("mode=755",))
    copied(bundle)

    listed = json.loads(runtime.run(bundle.args("ls", "/data", "/data/dir")).ok().stdout)

    assert sorted(listed["/data"]) == ["big", "dangling", "dir", "file", "link", "pipe"]
    assert listed["/data/dir"] == {}


@only("pyocirun")
def test_more_than_fits_is_an_error(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    copied(bundle, "size=64k")

    runtime.create(bundle).fails("cannot copy /big into the tmpfs: No space left on device")
    assert runtime.traces() == []


@only("pyocirun")
def test_holes_of_a_file_take_no_memory(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    """A terabyte that an image has for nothing."""
    with (data / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(1 << 40)
        file.write(b"end")
    copied(bundle, "size=1m")
    id = runtime.running(bundle)

    copy = Path(f"/proc/{runtime.pid(id)}/root/data/sparse")

    with copy.open("rb") as file:
        assert file.read(6) == b"begin\0"
        file.seek(1 << 40)
        assert file.read() == b"end"


@only("pyocirun")
def test_an_image_that_is_too_deep_is_refused(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    (data / "/".join(["d"] * 70)).mkdir(parents=True)
    copied(bundle)

    runtime.create(bundle).fails("more than 64 directories deep")
    assert runtime.traces() == []


@only("pyocirun")
def test_a_link_in_the_image_copies_nothing_of_the_host(
    runtime: Runtime, bundle: Bundle, data: Path, place: Path
) -> None:
    (place / "secret").mkdir()
    (place / "secret/key").write_text("host")
    os.symlink(place / "secret", data / "out")
    os.symlink(place / "secret", bundle.rootfs / "linked")
    copied(bundle)
    bundle.mount("/linked", "tmpfs", "tmpfs", ("tmpcopyup",))

    listed = json.loads(runtime.run(bundle.args("ls", "/linked")).ok().stdout)

    assert listed == {"/linked": {}}


def test_it_is_for_tmpfs_alone(runtime: Runtime, bundle: Bundle) -> None:
    bundle.bind("/etc", "/data", "tmpcopyup")

    runtime.create(bundle).fails("tmpcopyup is only")
    assert runtime.traces() == []


@only("pyocirun")
def test_propagation_of_a_filled_tmpfs(runtime: Runtime, bundle: Bundle, data: Path) -> None:
    copied(bundle, "shared")

    fields = mount_at(runtime.run(bundle).report, "/data")["propagation"]

    assert any(field.startswith("shared:") for field in fields)
