"""What a tmpfs gets of what it covers; between two plain directories, which needs no root."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyocirun.errors import OperationError
from pyocirun.spawn import copyup
from pyocirun.spawn.copyup import Copied, copy_up

ROOT = (os.geteuid(), os.getegid())


class Pair:
    """Two directories, open as nsexec hands them over."""

    def __init__(self, path: Path) -> None:
        self.source, self.target = path / "source", path / "target"
        self.source.mkdir()
        self.target.mkdir()
        self.reading = os.open(self.source, os.O_PATH | os.O_DIRECTORY)
        self.filling = os.open(self.target, os.O_PATH | os.O_DIRECTORY)
        self.warnings: list[str] = []

    def copy(self) -> Copied:
        return copy_up(self.reading, self.filling, ROOT, self.warnings.append)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    yield pair
    os.close(pair.reading)
    os.close(pair.filling)


def test_files_and_directories_are_copied_with_mode_and_time(pair: Pair) -> None:
    (pair.source / "dir").mkdir(mode=0o700)
    file = pair.source / "dir/file"
    file.write_bytes(b"x" * 100_000)
    file.chmod(0o4751)
    os.utime(file, ns=(1_000, 2_000))

    copied = pair.copy()

    made = pair.target / "dir/file"
    assert made.read_bytes() == b"x" * 100_000
    assert stat.S_IMODE(made.stat().st_mode) == 0o4751
    assert made.stat().st_mtime_ns == 2_000
    assert copied == Copied(2, 0)


@pytest.mark.parametrize("parts", [[(0, b"a"), (1 << 20, b"b")], [(1 << 20, b"b" * 5000)], [(0, b"ab" * 70_000)], []])
def test_holes_are_kept(pair: Pair, parts: list[tuple[int, bytes]]) -> None:
    with (pair.source / "file").open("wb") as file:
        for offset, data in parts:
            file.seek(offset)
            file.write(data)
        file.truncate(3 << 20)

    pair.copy()

    made = pair.target / "file"
    assert made.read_bytes() == (pair.source / "file").read_bytes()
    assert made.stat().st_blocks <= (pair.source / "file").stat().st_blocks


def test_directory_that_nobody_may_write_is_filled(pair: Pair) -> None:
    (pair.source / "dir").mkdir()
    (pair.source / "dir/file").write_text("x")
    (pair.source / "dir").chmod(0o555)

    pair.copy()

    assert (pair.target / "dir/file").read_text() == "x"
    assert stat.S_IMODE((pair.target / "dir").stat().st_mode) == 0o555
    (pair.source / "dir").chmod(0o755)
    (pair.target / "dir").chmod(0o755)


def test_links_are_copied_as_they_are(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("host")
    (pair.source / "link").symlink_to(tmp_path / "secret")

    pair.copy()

    assert os.readlink(pair.target / "link") == str(tmp_path / "secret")


def test_pipes_are_copied_and_sockets_are_not(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(pair.source / "pipe", 0o640)
    monkeypatch.chdir(pair.source)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")

    pair.copy()

    assert os.listdir(pair.target) == ["pipe"]
    assert stat.S_IMODE((pair.target / "pipe").stat().st_mode) == 0o640


def test_what_is_there_already_is_an_error_that_names_it(pair: Pair) -> None:
    (pair.source / "dir").mkdir()
    (pair.source / "dir/file").write_text("x")
    (pair.target / "dir").mkdir()

    with pytest.raises(OperationError, match="cannot copy /dir into the tmpfs: File exists") as caught:
        pair.copy()

    assert caught.value.errno == errno.EEXIST


def test_depth_is_limited(pair: Pair) -> None:
    (pair.source / "/".join(["d"] * (copyup.MAX_DEPTH + 1))).mkdir(parents=True)

    with pytest.raises(OperationError, match="more than 64 directories deep"):
        pair.copy()


def test_number_is_limited(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copyup, "MAX_ENTRIES", 3)
    for name in "abcd":
        (pair.source / name).write_text("")

    with pytest.raises(OperationError, match="more than 3 files"):
        pair.copy()


def test_no_descriptor_stays_open(pair: Pair) -> None:
    (pair.source / "a/b").mkdir(parents=True)
    (pair.source / "a/file").write_text("x")
    before = len(os.listdir("/proc/self/fd"))

    pair.copy()

    assert len(os.listdir("/proc/self/fd")) == before
