"""The exit status of a process that is no child of ours.

Linux 6.15 tells it to whoever has held a pidfd; and who has waited for a container can note it beside the state, for
those who come after its end.
"""

from __future__ import annotations

import posix

from pyocirun.container import state as states
from pyocirun.errors import StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.container.state import Directory

FILE = "exit_status"
PIDFD_GET_INFO = 0xC040FF0B
PIDFD_INFO_EXIT = 1 << 3
_STATUS_AT = 60
"""Request, bit of the mask and place of exit_code in struct pidfd_info, version 0 (64 bytes), of linux/pidfd.h."""


def told(pidfd: int, patience: float = 5.0) -> int | None:
    """Exit status, or -signal; None if the kernel does not tell. To be asked when the process has ended.

    It is told from when the parent has reaped the process. patience: seconds to wait for that.
    """
    import select

    poll = select.poll()
    poll.register(pidfd, 0)  # nothing but POLLHUP, which is there once it was reaped
    status = _ask(pidfd)
    if status is None and poll.poll(int(patience * 1000)):
        status = _ask(pidfd)
    return status


def note(directory: Directory, status: int) -> None:
    """Keep a status, as Process.wait has it, with the container. Raises StateError."""
    try:
        states.write_file(directory.fd, FILE, b"%d\n" % status)
    except OSError as error:
        path = f"{directory.path}/{FILE}"
        text = f"cannot note an exit status in {path}: {posix.strerror(error.errno or 0)}"
        raise StateError(text, errno=error.errno or 0, path=path, step="write") from None


def noted(path: str) -> int | None:
    """What was noted in the container's directory `path`; None if nothing was, or nothing that could be meant."""
    try:
        fd = posix.open(f"{path}/{FILE}", posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = int(posix.read(fd, 16))
    except (OSError, ValueError):
        return None
    finally:
        posix.close(fd)
    return status if -64 <= status <= 255 else None


def _ask(pidfd: int) -> int | None:
    import fcntl
    import struct

    info = bytearray(64)
    struct.pack_into("=Q", info, 0, PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, PIDFD_GET_INFO, info)
    except OSError:
        return None  # an older kernel
    if not struct.unpack_from("=Q", info)[0] & PIDFD_INFO_EXIT:
        return None
    return posix.waitstatus_to_exitcode(struct.unpack_from("=i", info, _STATUS_AT)[0])
