"""HOME by the container's /etc/passwd, which is the image's to write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyocirun.errors import OperationError
from pyocirun.plan.ops import SetRlimit, WriteIdMaps
from pyocirun.spawn.effects import HOME_BYTES, PASSWD_BYTES, PASSWD_LINE, home, set_rlimit
from pyocirun.spawn.idmap import write_maps
from pyocirun.spawn.launch import Launched

ROOT = b"root:x:0:0:root:/root:/bin/sh\n"
MAX_MESSAGE = 4096


def looked_up(tmp_path: Path, content: bytes, uid: int = 1000) -> bytes:
    path = tmp_path / "passwd"
    path.write_bytes(content)
    fd = os.open(path, os.O_RDONLY)
    try:
        return home(fd, uid).payload
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (ROOT + b"me:x:1000:1000::/home/me:/bin/sh\n", b"/home/me"),
        (ROOT + b"me:x:1000:1000::/home/me:/bin/sh", b"/home/me"),
        (b"me:x:1000:1000::/home/me", b"/home/me"),
        (b"me:x:1000:1000::/a:\nyou:x:1000:1000::/b:\n", b"/a"),
        (ROOT, b"/"),
        (b"", b"/"),
        (b"me:x:1000:1000:\n", b"/"),
        (b"me:x:1000\n", b"/"),
        (b"me:x:1000:1000:::\n", b"/"),
        (b"me:x:1000:1000::relative:\n", b"/"),
        (b"me:x:1000:1000::/a\0b:\n", b"/"),
        (b"me:x:01000:1000::/a:\n", b"/"),
        (b"me:x: 1000:1000::/a:\n", b"/"),
        (b"me:x:10000:1000::/a:\n", b"/"),
        (b"\n\n:::\n\xff\xfe\nme:x:1000:1000::/\xff:\n", b"/\xff"),
    ],
)
def test_home_of_a_user(tmp_path: Path, content: bytes, wanted: bytes) -> None:
    assert looked_up(tmp_path, content) == b"HOME=" + wanted


def test_missing_file_gives_the_root() -> None:
    assert home(-1, 0).payload == b"HOME=/"


def test_line_that_is_too_long_does_not_count(tmp_path: Path) -> None:
    long = b"me:x:1000:1000:" + b"x" * PASSWD_LINE + b":/a:\n"

    assert looked_up(tmp_path, long + b"me:x:1000:1000::/b:\n") == b"HOME=/b"


def test_directory_that_is_too_long_does_not_count(tmp_path: Path) -> None:
    assert looked_up(tmp_path, b"me:x:1000:1000::/" + b"a" * HOME_BYTES + b":\n") == b"HOME=/"


def test_longest_home_fits_into_a_message(tmp_path: Path) -> None:
    payload = looked_up(tmp_path, b"me:x:1000:1000::/" + b"a" * (HOME_BYTES - 1) + b":\n")

    assert HOME_BYTES < len(payload) < MAX_MESSAGE


def test_of_a_huge_file_only_the_beginning_counts(tmp_path: Path) -> None:
    padding = b"x" * 99 + b"\n"
    before = padding * (PASSWD_BYTES // len(padding) + 1)

    assert looked_up(tmp_path, before + b"me:x:1000:1000::/a:\n") == b"HOME=/"
    assert looked_up(tmp_path, b"me:x:1000:1000::/a:\n" + before) == b"HOME=/a"


def test_sparse_file_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    path.touch()
    os.truncate(path, 1 << 40)
    fd = os.open(path, os.O_RDONLY)

    assert home(fd, 0).payload == b"HOME=/"
    assert os.lseek(fd, 0, os.SEEK_CUR) == PASSWD_BYTES
    os.close(fd)


def test_rlimit_of_this_process_can_be_set_to_what_it_is() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    unsigned = (1 << 64) - 1

    set_rlimit(SetRlimit("RLIMIT_CORE", 4, soft & unsigned, hard & unsigned), Launched(os.getpid(), -1, -1))

    assert resource.getrlimit(resource.RLIMIT_CORE) == (soft, hard)


def test_rlimit_that_is_refused_says_which() -> None:
    with pytest.raises(
        OperationError, match="cannot set RLIMIT_CORE soft 2 hard 1: prlimit: Invalid argument"
    ) as caught:
        set_rlimit(SetRlimit("RLIMIT_CORE", 4, 2, 1), Launched(os.getpid(), -1, -1))

    assert (caught.value.step, caught.value.errno) == ("prlimit", 22)


def test_id_map_that_is_refused_says_which() -> None:
    with pytest.raises(OperationError, match="cannot write '0 0 1; 1 1 1' to uid_map: ") as caught:
        write_maps(WriteIdMaps("0 0 1\n1 1 1\n", "0 0 1\n"), os.getpid())

    assert caught.value.path.endswith("/uid_map")
