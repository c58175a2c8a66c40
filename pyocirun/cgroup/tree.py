"""Directories of cgroups: making, reading, emptying and removing them, the same on v1 and v2."""

from __future__ import annotations

import errno
import posix
import time

from pyocirun import files
from pyocirun.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator

GONE = (errno.ENOENT, errno.ENODEV)
BY_DESCRIPTOR = "/proc/self/fd/"
_LONG = 3500
"""Bytes of a path that may not take another cgroup's name, of up to 255, and a file's below it: see PATH_MAX."""


def mkdir(directory: str, made: list[str]) -> bool:
    """Make `directory` and what is missing above it, noting what was made; False if it was there."""
    for _ in range(5):
        made.append(directory)  # before it is there: a Ctrl-C may come in between
        try:
            posix.mkdir(directory, 0o755)
        except FileExistsError:
            made.pop()
            return False
        except FileNotFoundError:
            # Somebody may be removing the parent right now, so this is tried again.
            made.pop()
            for above in _missing_above(directory):
                mkdir(above, made)
        except OSError:
            made.pop()
            raise
        else:
            return True
    raise OSError(errno.ENOENT, posix.strerror(errno.ENOENT), directory)


def _missing_above(directory: str) -> list[str]:
    """The directories above that are not there, the highest first: more of them than a stack is deep, maybe."""
    missing: list[str] = []
    while not files.exists(directory := files.parent(directory)):
        missing.append(directory)
    return missing[::-1]


def move_process(path: str, data: bytes) -> None:
    """Move a process. EINVAL is what a task that is still being forked gets."""
    fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
    try:
        for left in (4, 3, 2, 1, 0):
            try:
                posix.write(fd, data)
                return
            except OSError as error:
                if error.errno != errno.EINVAL or not left:
                    raise OSError(error.errno, posix.strerror(error.errno or 0), path) from None
                time.sleep(0.03)
    finally:
        posix.close(fd)


def processes_in(directory: str, file: str = "cgroup.procs") -> set[int]:
    """0 is what a process of a foreign pid namespace shows as: kill(2) would take it for our own group."""
    try:
        return {pid for pid in map(int, read_file(f"{directory}/{file}").split()) if pid > 0}
    except OSError as error:
        if error.errno in GONE:
            return set()
        if error.errno == errno.EOPNOTSUPP and file == "cgroup.procs":  # a threaded cgroup of v2
            return processes_in(directory, "cgroup.threads")
        raise failed(error, "cannot read", f"{directory}/{file}", "") from error


def subtree(directory: str) -> Generator[str, None, None]:
    """`directory` and every cgroup below it, the deepest first; without those that vanish meanwhile.

    A container that may make cgroups can nest them deeper than a path, or a stack, is long. So a long path leads by a
    descriptor of what is above, and each path holds only until the next one is asked for. Raises CgroupError.
    """
    levels: list[_Level] = []
    _descend(levels, directory)
    try:
        while levels:
            level = levels[-1]
            if level.names:
                _descend(levels, f"{level.base}/{level.names.pop()}")
            else:
                levels.pop().close()
                yield level.path
    finally:
        for level in levels:
            level.close()


def rmdir(directory: str) -> bool:
    """Whether it is gone."""
    try:
        posix.rmdir(directory)
    except OSError as error:
        # A read-only mount answers EROFS even for what is not there.
        return error.errno in GONE or (error.errno == errno.EROFS and not files.exists(directory))
    return True


def remove_tree(directory: str) -> bool:
    """Whether all is gone, after trying to remove each once."""
    return not [below for below in subtree(directory) if not rmdir(below)]


def remove_trees(directories: list[str]) -> None:
    """Raises CgroupError that names the processes in the way, after about a second of trying."""
    left = directories
    delay = 0.001
    for _ in range(11):
        left = [directory for directory in left if not remove_tree(directory)]
        if not left:
            return
        time.sleep(delay)
        delay = min(delay * 2, 0.25)
    raise _still_there(left)


def signal_each(pids: Callable[[], list[int]], signal: int) -> None:
    """Round by round, until none is left that has not got it: a fork comes after its parent."""
    signalled: set[int] = set()
    for _ in range(100):
        new = set(pids()) - signalled
        if not new:
            return
        for pid in new:
            _send_signal(pid, signal)
        signalled |= new


def in_use(directory: str, found: Collection[int]) -> CgroupError:
    """For the pids that somebody else has in the cgroup that is to be a container's."""
    text = f"container's cgroup is not empty: {len(found)} process(es) found"
    return CgroupError(text, path=directory, hint="give every container a cgroupsPath of its own")


def survived(directory: str, left: list[int]) -> CgroupError:
    text = f"{len(left)} process(es) survived SIGKILL: {name_processes(left)}"
    hint = "a process in state D waits for the kernel; it will end when that wait does"
    return CgroupError(text, path=directory, hint=hint)


def name_processes(pids: list[int]) -> str:
    """ "12 (sleep), 14 (sh)", and no more than ten."""
    shown = []
    for pid in pids[:10]:
        try:
            shown.append(f"{pid} ({read_file(f'/proc/{pid}/comm').strip()})")
        except OSError:
            shown.append(str(pid))
    return ", ".join(shown) + (f" and {len(pids) - 10} more" if len(pids) > 10 else "")


def read_file(path: str) -> str:
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        data = posix.read(fd, 4096)
        if len(data) < 4096 - 256:  # less than a page: cgroup files never stop short of one before their end
            return data.decode()
        while more := posix.read(fd, 65536):
            data += more
        return data.decode()
    except OSError as error:
        raise OSError(error.errno, posix.strerror(error.errno or 0), path) from None
    finally:
        posix.close(fd)


def write_file(path: str, data: bytes) -> None:
    fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
    try:
        posix.write(fd, data)
    except OSError as error:
        raise OSError(error.errno, posix.strerror(error.errno or 0), path) from None
    finally:
        posix.close(fd)


def failed(error: OSError, what: str, path: str, controller: str, hint: str = "") -> CgroupError:
    if not hint and error.errno == errno.EROFS:
        hint = "the cgroup file system is mounted read-only here"
    return CgroupError(f"{what}: {error.strerror}", path=path, controller=controller, errno=error.errno or 0, hint=hint)


def _still_there(left: list[str]) -> CgroupError:
    found: set[int] = set()
    for directory in left:
        for below in subtree(directory):
            found |= processes_in(below)
    code = 0
    try:
        posix.rmdir(left[0])
    except OSError as error:
        code = error.errno or 0
    reason = f"in use by {name_processes(sorted(found))}" if found else posix.strerror(code)
    return CgroupError(f"cannot remove cgroup {', '.join(left)}: {reason}", path=left[0], errno=code)


def _send_signal(pid: int, signal: int) -> None:
    try:
        posix.kill(pid, signal)
    except ProcessLookupError:
        pass
    except OSError as error:
        raise failed(error, f"cannot send signal {signal} to process {pid}", "", "") from error


class _Level:
    """A cgroup on the way down. base: a path of it, short enough for one more name.  names: of what is below."""

    def __init__(self, path: str, names: list[str]) -> None:
        self.path = self.base = path
        self.names = names
        self._fd = -1
        if names and len(files.encode(path)) > _LONG:
            self._fd = posix.open(path, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
            self.base = f"{BY_DESCRIPTOR}{self._fd}"

    def close(self) -> None:
        if self._fd >= 0:
            posix.close(self._fd)
            self._fd = -1


def _descend(levels: list[_Level], path: str) -> None:
    try:
        # A cgroup's link count is 2 plus the cgroups in it, so most need no listing.
        levels.append(_Level(path, _below(path) if posix.stat(path).st_nlink != 2 else []))
    except OSError as error:
        if error.errno not in GONE:
            raise failed(error, "cannot read cgroup", path, "") from error


def _below(directory: str) -> list[str]:
    with posix.scandir(directory) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
