"""resctrl groups: made, joined and removed. Loaded for containers that have one.

Kernel documentation: Documentation/filesystems/resctrl.rst
"""

from __future__ import annotations

import errno
import posix

from pyocirun import files
from pyocirun.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.plan.ops import MakeRdtGroup


def make(wanted: MakeRdtGroup) -> bool:
    """Make the group with its schemata, or compare the one there is. Whether it was made. Raises CgroupError."""
    made = False
    if not files.is_directory(wanted.path):
        if wanted.must_exist:
            text = f"the resctrl group {wanted.path} is not there, and no schemata are given to make it with"
            raise CgroupError(text, path=wanted.path, controller="resctrl", errno=errno.ENOENT)
        _mkdir(wanted.path)
        made = True
    try:
        if made:
            write_schemata(wanted.path, wanted.lines)
        else:
            _compare(wanted)
        if wanted.monitor:
            if not files.is_directory(files.parent(wanted.monitor)):
                _mkdir(files.parent(wanted.monitor))
            _mkdir(wanted.monitor)
    except BaseException:
        if made:
            remove(wanted.path)
        raise
    return made


def read_schemata(path: str) -> tuple[str, ...]:
    """The lines of the schemata of a group; none where there is no such file yet. Raises CgroupError."""
    try:
        with open(f"{path}/schemata", encoding="utf-8", errors="replace") as file:
            return tuple(line.strip() for line in file)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise _failed("read", f"{path}/schemata", error) from error


def write_schemata(path: str, lines: tuple[str, ...]) -> None:
    """Write to the schemata of a group, all lines at once; none: not at all. Raises CgroupError."""
    if lines:
        _write(f"{path}/schemata", "".join(f"{line}\n" for line in lines))


def join(path: str, monitor: str, pid: int) -> None:
    """Put a process into a group, and into its monitoring group if there is one. Raises CgroupError."""
    for directory in (path, monitor):
        if directory:
            _write(f"{directory}/tasks", str(pid))


def remove(path: str) -> None:
    """Remove a group; who is in it falls back to the group above. One that is gone is fine. Raises CgroupError."""
    try:
        _rmdir(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _failed("remove", path, error) from error


def _rmdir(path: str) -> None:
    """The kernel removes a group with all its files; in a directory that only looks like one they have to go first."""
    try:
        posix.rmdir(path)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        for name in posix.listdir(path):
            inside = f"{path}/{name}"
            if files.is_directory(inside):
                _rmdir(inside)
            else:
                posix.unlink(inside)
        posix.rmdir(path)


def _compare(wanted: MakeRdtGroup) -> None:
    from pyocirun.plan.rdt import differences

    if not wanted.lines:
        return
    try:
        with open(f"{wanted.path}/schemata", encoding="utf-8", errors="replace") as file:
            found = differences(wanted.lines, file.read())
    except OSError as error:
        raise _failed("read", f"{wanted.path}/schemata", error) from error
    if found:
        text = f"the resctrl group {wanted.path} is there with other schemata: {'; '.join(found)}"
        raise CgroupError(text, path=wanted.path, controller="resctrl", errno=errno.EEXIST)


def _mkdir(path: str) -> None:
    try:
        posix.mkdir(path, 0o755)
    except OSError as error:
        raise _failed("make", path, error) from error


def _write(path: str, text: str) -> None:
    """O_CREAT has no effect in resctrl, whose files are all there."""
    try:
        fd = posix.open(
            path, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC | posix.O_NOFOLLOW, 0o600
        )
        try:
            posix.write(fd, text.encode())
        finally:
            posix.close(fd)
    except OSError as error:
        raise _failed(f"write {text.strip()!r} to", path, error) from error


def _failed(verb: str, path: str, error: OSError) -> CgroupError:
    text = f"cannot {verb} {path}: {error.strerror}"
    hint = "all groups that the processor has are in use" if error.errno == errno.ENOSPC else _last_status(path)
    return CgroupError(text, path=path, controller="resctrl", errno=error.errno or 0, hint=hint)


def _last_status(path: str) -> str:
    """What the kernel says of the last failure in resctrl."""
    while len(path) > 1:
        path = files.parent(path)
        try:
            with open(f"{path}/info/last_cmd_status", encoding="utf-8", errors="replace") as file:
                return file.read().strip()
        except OSError:
            continue
    return ""
