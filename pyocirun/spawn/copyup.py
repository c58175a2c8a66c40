"""tmpcopyup: a new tmpfs gets what it is going to cover, before anybody can see it.

What is copied is the image's, and may change meanwhile. So nothing here walks a path: every entry is opened in a
directory that is open already, never through a link, and looked at before it is read.
"""

from __future__ import annotations

import errno
import os
import stat

from pyocirun import native
from pyocirun.errors import OperationError
from pyocirun.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_DEPTH = 64
"""Directories below each other: two descriptors are open for each."""
MAX_ENTRIES = 1 << 16
CHUNK = 1 << 24
DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Copied(Record):
    """What a copy came to. owners: files whose owner the tmpfs, or the caller, may not give them."""

    entries: int = 0
    owners: int = 0


def copy_up(source: int, target: int, root: tuple[int | None, ...], warn: Callable[[str], None]) -> Copied:
    """Fill the tmpfs `target` from the directory `source`, both descriptors: owners, modes, times, links, xattrs.

    What is mounted below the directory is not part of it. Sockets are passed over. root: host ids of the container's
    root; a tmpfs that belongs to it takes the owner of what it covers, one with uid= or gid= keeps its own.
    Raises OperationError, for one if there is more than a hostile image should make us copy.
    """
    work = _Work()
    top = os.fstat(target)
    # A tmpfs of a user namespace takes no file of an id that is not mapped there; the ids of its root are.
    foreign = os.geteuid() == 0 and (top.st_uid or top.st_gid)
    if foreign:
        native.act_as(top.st_uid, top.st_gid)
    try:
        work.directory(source, target, 0)
        if (top.st_uid, top.st_gid) == root:
            work.give(target, ".", os.fstat(source))
    except OSError as error:
        hint = "give the tmpfs a larger size=" if error.errno == errno.ENOSPC else ""
        text = f"cannot copy {work.path or 'what it covers'} into the tmpfs: {error.strerror}"
        raise OperationError(text, errno=error.errno or 0, step="copy", hint=hint) from error
    finally:
        if foreign:
            native.act_as(0, os.getegid())
    if work.owners:
        warn(f"tmpcopyup: {work.owners} of {work.entries} files keep the container's root as their owner")
    return Copied(work.entries, work.owners)


class _Work:
    """One copy under way. path: what it is at, for an error."""

    def __init__(self) -> None:
        self.entries = 0
        self.owners = 0
        self.path = ""

    def directory(self, source: int, target: int, depth: int) -> None:
        """All entries of one directory."""
        if depth > MAX_DEPTH:
            text = f"cannot copy {self.path} into the tmpfs: more than {MAX_DEPTH} directories deep"
            raise OperationError(text, step="copy")
        reading = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=source)
        try:
            names = self.names(reading)
        finally:
            os.close(reading)
        device = os.fstat(source).st_dev
        above = self.path
        for name in names:
            self.path = f"{above}/{name}"
            self.entry(source, target, name, device, depth)
        self.path = above

    def names(self, reading: int) -> list[str]:
        """What is in a directory; a list of millions of names would itself be too long."""
        names: list[str] = []
        with os.scandir(reading) as entries:
            for entry in entries:
                names.append(entry.name)
                if self.entries + len(names) > MAX_ENTRIES:
                    text = f"cannot copy {self.path}/{entry.name} into the tmpfs: more than {MAX_ENTRIES} files"
                    raise OperationError(text, step="copy")
        self.entries += len(names)
        return names

    def entry(self, source: int, target: int, name: str, device: int, depth: int) -> None:
        """One entry: it is opened first, and what was opened is what counts."""
        try:
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
        except FileNotFoundError:
            return
        try:
            about = os.fstat(fd)
            if stat.S_ISDIR(about.st_mode):
                self.subdirectory(fd, target, name, about, about.st_dev == device, depth)
            elif stat.S_ISREG(about.st_mode):
                self.file(fd, target, name, about)
            elif stat.S_ISLNK(about.st_mode):
                os.symlink(os.readlink("", dir_fd=fd), name, dir_fd=target)
                self.give(target, name, about)
            elif not stat.S_ISSOCK(about.st_mode):
                os.mknod(name, about.st_mode, about.st_rdev, dir_fd=target)
                self.give(target, name, about)
                os.chmod(name, stat.S_IMODE(about.st_mode), dir_fd=target)
        finally:
            os.close(fd)

    def subdirectory(self, fd: int, target: int, name: str, about: os.stat_result, inside: bool, depth: int) -> None:
        os.mkdir(name, 0o700, dir_fd=target)
        made = os.open(name, DIRECTORY, dir_fd=target)
        try:
            if inside:
                self.directory(fd, made, depth + 1)
            self.give(target, name, about)
            copy_xattrs(fd, made)
            self.restore(made, about)
        finally:
            os.close(made)

    def file(self, fd: int, target: int, name: str, about: os.stat_result) -> None:
        reading = os.open(f"/proc/thread-self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            made = os.open(
                name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=target
            )
            try:
                copy_data(reading, made, about.st_size)
                self.give(target, name, about)
                copy_xattrs(fd, made)
                self.restore(made, about)
            finally:
                os.close(made)
        finally:
            os.close(reading)

    def give(self, target: int, name: str, about: os.stat_result) -> None:
        """The owner that it has in the image, where that can be had."""
        try:
            os.chown(name, about.st_uid, about.st_gid, dir_fd=target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOVERFLOW, errno.EINVAL):
                raise
            self.owners += 1

    def restore(self, made: int, about: os.stat_result) -> None:
        """Mode and times. After the owner, for chown(2) takes set-user-id bits away."""
        path = f"/proc/thread-self/fd/{made}"
        os.chmod(path, stat.S_IMODE(about.st_mode))
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def copy_data(reading: int, made: int, size: int) -> None:
    """The first `size` bytes of a file. Its holes stay holes: an image has terabytes of them for nothing."""
    offset = 0
    while offset < size:
        try:
            offset = os.lseek(reading, offset, os.SEEK_DATA)
            end = min(os.lseek(reading, offset, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole from here on
                break
            raise
        os.lseek(made, offset, os.SEEK_SET)
        while offset < end and (sent := os.sendfile(made, reading, offset, min(CHUNK, end - offset))):
            offset += sent
        if offset < end:  # it is shorter by now
            break
    os.ftruncate(made, size)


def copy_xattrs(source: int, target: int) -> None:
    """All that the tmpfs takes. Security labels of the image are not among them: they are the kernel's to give."""
    path, to = f"/proc/thread-self/fd/{source}", f"/proc/thread-self/fd/{target}"
    try:
        names = os.listxattr(path)
    except OSError:
        return
    for name in names:
        if name == "security.selinux":
            continue
        try:
            os.setxattr(to, name, os.getxattr(path, name))
        except OSError:
            continue
