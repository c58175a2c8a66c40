"""What the parent does at its operations of a plan, and what it sends along with GO."""

from __future__ import annotations

import posix

from pyocirun import native
from pyocirun.errors import CgroupError, OperationError
from pyocirun.plan.ops import JoinRdtGroup, JoinUnit, SetRlimit, WriteTimeOffsets
from pyocirun.spawn.sync import Answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.plan.ops import Op
    from pyocirun.spawn.launch import Launched

PASSWD_BYTES = 1 << 20
PASSWD_LINE = 4096
HOME_BYTES = 2048
SIGKILL = 9
ERANGE = 34


def set_rlimit(op: Op, launched: Launched) -> None:
    """prlimit(2) on the container's process. Raises OperationError."""
    assert type(op) is SetRlimit
    try:
        native.prlimit(launched.pid, op.resource, op.soft, op.hard)
    except OSError as error:
        raise OperationError(
            f"cannot {op.describe()}: prlimit: {error.strerror}",
            op=op.describe(),
            step="prlimit",
            errno=error.errno or 0,
            hint="raising a hard limit needs CAP_SYS_RESOURCE" if error.errno == 1 else "",
        ) from error


def open_namespace(path: str, type: str) -> int:
    """A descriptor of the namespace file at `path`. Raises OperationError if it is none of this type."""
    from pyocirun.linux.namespaces import FLAGS

    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    except OSError as error:
        text = f"cannot open the {type} namespace {path}: {error.strerror}"
        raise OperationError(text, errno=error.errno or 0, path=path, step="open") from error
    try:
        found = native.namespace_type(fd)
    except OSError:
        found = 0
    if found != FLAGS[type]:
        posix.close(fd)
        raise OperationError(
            f"cannot join the {type} namespace {path}: it is no {type} namespace", path=path, step="verify"
        )
    return fd


def join_unit(op: Op, launched: Launched) -> None:
    """Have systemd put the process into the container's unit. Raises CgroupError."""
    assert type(op) is JoinUnit
    from pyocirun.cgroup.bus import attach

    attach(op.unit, op.subgroup, launched.pid)


def join_rdt_group(op: Op, launched: Launched) -> None:
    """Put the process into its resctrl group. Raises CgroupError."""
    assert type(op) is JoinRdtGroup
    from pyocirun.cgroup import rdt

    rdt.join(op.path, op.monitor, launched.pid)


def write_time_offsets(op: Op, launched: Launched) -> None:
    """Write /proc/PID/timens_offsets. Raises OperationError."""
    assert type(op) is WriteTimeOffsets
    path = f"/proc/{launched.pid}/timens_offsets"
    try:
        fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
        try:
            posix.write(fd, op.text.encode())
        finally:
            posix.close(fd)
    except OSError as error:
        raise OperationError(
            f"cannot {op.describe()}: {error.strerror}",
            op=op.describe(),
            step="write",
            errno=error.errno or 0,
            path=path,
            hint="a clock may not run before 0, nor past 146 years" if error.errno == ERANGE else "",
        ) from error


def open_tasks(path: str, *, lenient: bool = False) -> int:
    """A descriptor of a cgroup's file that takes processes, "tasks" on v1. Raises CgroupError.

    lenient: where it may not be had, one that swallows what is written.
    """
    try:
        return posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
    except OSError as error:
        if lenient:
            return posix.open("/dev/null", posix.O_WRONLY | posix.O_CLOEXEC)
        directory, _, file = path.rpartition("/")
        text = f"cannot join cgroup {directory}: error adding pid to {file}: {error.strerror}"
        raise CgroupError(text, path=path, errno=error.errno or 0) from error


def open_output(path: str) -> int:
    """A descriptor of a file that hooks print to, made if it is missing. Raises OperationError."""
    flags = posix.O_RDWR | posix.O_APPEND | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOCTTY
    try:
        return posix.open(path, flags, 0o600)
    except OSError as error:
        text = f"cannot open {path} for the output of hooks: {error.strerror}"
        raise OperationError(text, errno=error.errno or 0, path=path, step="open") from error


def home(fd: int, uid: int) -> Answer:
    """HOME of `uid` by the container's /etc/passwd, "/" if it does not say. fd: the file, -1 if there is none.

    The file is the image's: of one that is too long only the beginning counts, and long lines do not.
    """
    directory = b"/"
    if fd >= 0:
        wanted = str(uid).encode()
        for line in _read_bounded(fd).splitlines():
            fields = line.split(b":")
            if len(line) <= PASSWD_LINE and len(fields) >= 6 and fields[2] == wanted:
                directory = fields[5]
                break
    if not directory.startswith(b"/") or len(directory) > HOME_BYTES or b"\0" in directory:
        directory = b"/"
    return Answer(b"HOME=" + directory)


def kill(launched: Launched) -> None:
    """End what was launched, and reap it."""
    try:
        native.send_signal(launched.pidfd, SIGKILL)
    except ProcessLookupError:
        pass
    try:
        native.wait(launched.pidfd)
    except ChildProcessError:
        native.poll(launched.pidfd)
    posix.close(launched.pidfd)
    launched.pidfd = -1


def _read_bounded(fd: int) -> bytes:
    parts: list[bytes] = []
    left = PASSWD_BYTES
    try:
        while left and (part := posix.read(fd, min(left, 1 << 16))):
            parts.append(part)
            left -= len(part)
    except OSError:
        pass  # what could be read is what there is
    return b"".join(parts)
