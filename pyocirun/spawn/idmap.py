"""Writing the id maps of a new user namespace into the files of /proc, user_namespaces(7)."""

from __future__ import annotations

import posix

from pyocirun.errors import OperationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.plan.ops import WriteIdMaps


def write_maps(op: WriteIdMaps, pid: int) -> None:
    """Map the ids of the user namespace of `pid`. setgroups is denied first where it must be, user_namespaces(7).

    Raises OperationError with the file and errno.
    """
    if op.deny_setgroups:
        _write(f"/proc/{pid}/setgroups", "deny")
    _write(f"/proc/{pid}/uid_map", op.uid_map)
    _write(f"/proc/{pid}/gid_map", op.gid_map)


def _write(path: str, text: str) -> None:
    try:
        fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
        try:
            posix.write(fd, text.encode())
        finally:
            posix.close(fd)
    except OSError as error:
        name = path.rpartition("/")[2]
        shown = "; ".join(text.splitlines())
        raise OperationError(
            f"cannot write {shown!r} to {name}: {error.strerror}",
            errno=error.errno or 0,
            path=path,
            step="write",
            hint="may the caller map these ids? do ranges overlap?",
        ) from error
