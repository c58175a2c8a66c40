"""Paths and small files by `posix` alone: what `os` adds to it costs more than a millisecond at every start.

Modules that a command loads on its usual way import `posix` and this one; `os` is for those that are seldom loaded.
"""

from __future__ import annotations

import posix

READ = posix.O_RDONLY | posix.O_CLOEXEC
WRITE = posix.O_WRONLY | posix.O_CLOEXEC
NEW = WRITE | posix.O_CREAT | posix.O_NOFOLLOW
"""Flags of open(2). With NEW goes O_EXCL or O_TRUNC."""

S_IFMT = 0o170000
S_IFDIR = 0o040000


def absolute(path: str) -> str:
    """`path` made absolute and without "", "." and ".." parts, as text: links are not looked at."""
    parts: list[str] = []
    for part in (path if path.startswith("/") else f"{posix.getcwd()}/{path}").split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def real(path: str) -> str:
    """What an absolute path names, all links resolved; `path` itself if there is nothing."""
    try:
        fd = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
    except OSError:
        return path
    try:
        return posix.readlink(f"/proc/self/fd/{fd}")
    finally:
        posix.close(fd)


def parent(path: str) -> str:
    """The directory that an absolute path lies in."""
    return path.rstrip("/").rpartition("/")[0] or "/"


def is_directory(path: str) -> bool:
    """Whether there is a directory, links followed."""
    try:
        return posix.stat(path).st_mode & S_IFMT == S_IFDIR
    except OSError:
        return False


def exists(path: str) -> bool:
    """Whether there is anything, links followed."""
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def make_directories(path: str, mode: int) -> None:
    """Make a directory and what is missing above it, all with this mode; one that is there is fine. Raises OSError."""
    if is_directory(path):
        return
    make_directories(parent(path), mode)
    try:
        posix.mkdir(path, mode)
    except FileExistsError:
        if not is_directory(path):
            raise


def has_directories(path: str) -> bool:
    """Whether there are directories in one whose link count tells, as it does for cgroups."""
    try:
        return posix.stat(path).st_nlink != 2
    except OSError:
        return False


def same(one: posix.stat_result, other: posix.stat_result) -> bool:
    """Whether both are of the same file."""
    return one.st_ino == other.st_ino and one.st_dev == other.st_dev


def read(path: str) -> bytes:
    """All bytes of a file whose size nobody knows before, as in /proc. Raises OSError."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        parts = []
        while part := posix.read(fd, 1 << 16):
            parts.append(part)
    finally:
        posix.close(fd)
    return b"".join(parts)


def read_text(path: str) -> str:
    """The same as text; bytes that are no UTF-8 are kept as surrogates. Raises OSError."""
    return read(path).decode("utf-8", "surrogateescape")


def encode(path: str) -> bytes:
    """The bytes of a path, as the kernel takes them."""
    return path.encode("utf-8", "surrogateescape")


def environment(name: str) -> str:
    """A variable of the environment, "" if it is not set."""
    return posix.environ.get(name.encode(), b"").decode("utf-8", "surrogateescape")
