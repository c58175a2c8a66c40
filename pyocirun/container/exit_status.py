"""The exit status of a process that is no child of ours: Linux 6.15 tells it to whoever has held a pidfd."""

from __future__ import annotations

import fcntl
import os
import select
import struct

PIDFD_GET_INFO = 0xC040FF0B
PIDFD_INFO_EXIT = 1 << 3
_STATUS_AT = 60
"""Request, bit of the mask and place of exit_code in struct pidfd_info, version 0 (64 bytes), of linux/pidfd.h."""


def told(pidfd: int, patience: float = 5.0) -> int | None:
    """Exit status, or -signal; None if the kernel does not tell. To be asked when the process has ended.

    It is told from when the parent has reaped the process. patience: seconds to wait for that.
    """
    poll = select.poll()
    poll.register(pidfd, 0)  # nothing but POLLHUP, which is there once it was reaped
    status = _ask(pidfd)
    if status is None and poll.poll(int(patience * 1000)):
        status = _ask(pidfd)
    return status


def _ask(pidfd: int) -> int | None:
    info = bytearray(64)
    struct.pack_into("=Q", info, 0, PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, PIDFD_GET_INFO, info)
    except OSError:
        return None  # an older kernel
    if not struct.unpack_from("=Q", info)[0] & PIDFD_INFO_EXIT:
        return None
    return os.waitstatus_to_exitcode(struct.unpack_from("=i", info, _STATUS_AT)[0])
