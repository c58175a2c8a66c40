"""Containers that are made while somebody swaps the directories of a shared volume or of the image for links.

CVE-2021-30465, CVE-2019-19921, CVE-2024-45310: whatever is won or lost, nothing outside the rootfs is touched.
"""

from __future__ import annotations

import ctypes
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.harness import Bundle, Runtime, mounts, only

pytestmark = only("pyocirun")  # for others it is a matter of luck

SECONDS = float(os.environ.get("PYOCIRUN_RACE_SECONDS", "3"))
SEED = 20210519
AT_FDCWD = -100
RENAME_EXCHANGE = 2

_libc = ctypes.CDLL(None)


@pytest.fixture
def outside(place: Path) -> Path:
    """A directory of the host that no container is given, with the names in it that a swapped path leads to."""
    outside = place / "outside"
    (outside / "b/c").mkdir(parents=True)
    (outside / "b/file").write_text("host")
    return outside


@pytest.fixture
def swapping(outside: Path) -> Iterator[Callable[[Path], None]]:
    """Begin to swap a directory, again and again, for a link to the host's directory `outside`."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def begin(directory: Path) -> None:
        link = directory.with_name(f"{directory.name}-link")
        way = random.Random(SEED).choice([str(outside), f"{'../' * 40}{str(outside)[1:]}"])
        os.symlink(way, link)
        pair = AT_FDCWD, str(directory).encode(), AT_FDCWD, str(link).encode(), RENAME_EXCHANGE

        def swap() -> None:
            while not stop.is_set():
                _libc.renameat2(*pair)

        threads.append(threading.Thread(target=swap, daemon=True))
        threads[-1].start()

    yield begin
    stop.set()
    for thread in threads:
        thread.join()


def contents(path: Path) -> list[tuple[str, int, int, int]]:
    """Everything below a directory, with mode, owner and size."""
    return sorted((str(file), (st := file.lstat()).st_mode, st.st_uid, st.st_size) for file in path.rglob("*"))


def race(runtime: Runtime, bundle: Bundle, outside: Path) -> dict[str, int]:
    """Make containers for a while, four at least; how many were created and refused. Checks the host after each."""
    before, table = contents(outside), mounts()
    counts = {"created": 0, "refused": 0}
    end = time.monotonic() + SECONDS
    while time.monotonic() < end or sum(counts.values()) < 4:
        result = runtime.run(bundle)
        assert "Traceback" not in result.stderr
        counts["created" if result.status == 0 else "refused"] += 1
        if result.status:
            assert result.error
        assert contents(outside) == before
        assert mounts() == table
    return counts


def test_a_swapped_directory_of_a_volume(
    runtime: Runtime, bundle: Bundle, place: Path, outside: Path, swapping: Callable[[Path], None]
) -> None:
    volume = place / "volume"
    (volume / "a/b/c").mkdir(parents=True)
    (volume / "a/b/file").write_text("")
    (place / "note").write_text("from the config")
    bundle.bind(volume, "/volume")
    bundle.mount("/volume/a/b/c", "tmpfs", "tmpfs", ("tmpcopyup",))
    bundle.mount("/volume/a/b/made/by/us", "tmpfs", "tmpfs", ("private",))
    bundle.bind(place / "note", "/volume/a/b/file")
    bundle.bind(place / "note", "/volume/a/b/new")
    swapping(volume / "a")

    counts = race(runtime, bundle.args("exit", "0"), outside)

    assert sum(counts.values()) > 3


def test_a_swapped_directory_of_the_image(
    runtime: Runtime, bundle: Bundle, outside: Path, swapping: Callable[[Path], None]
) -> None:
    (bundle.rootfs / "a/b/c").mkdir(parents=True)
    (bundle.rootfs / "a/b/file").write_text("")
    bundle.mount("/a/b/c", "tmpfs")
    bundle.linux["maskedPaths"] = ["/a/b/file", "/a/b"]
    bundle.linux["readonlyPaths"] = ["/a/b/c"]
    bundle.linux["devices"] = [
        {"path": "/a/b/node", "type": "p", "fileMode": 0o600, "uid": 5, "gid": 5},
    ]
    bundle.process["cwd"] = "/a/b/work"
    bundle.config["root"]["readonly"] = False
    swapping(bundle.rootfs / "a")

    counts = race(runtime, bundle.args("exit", "0"), outside)

    assert sum(counts.values()) > 3


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_a_swapped_system_directory_of_the_image(
    runtime: Runtime, bundle: Bundle, outside: Path, swapping: Callable[[Path], None], name: str
) -> None:
    (outside / "pts").mkdir()
    (outside / "shm").mkdir()
    (outside / "null").write_text("no device")
    swapping(bundle.rootfs / name)

    counts = race(runtime, bundle.args("exit", "0"), outside)

    assert sum(counts.values()) > 3
