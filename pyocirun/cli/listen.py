"""LISTEN_FDS: descriptors that a service manager passes on to who listens on them. sd_listen_fds(3)"""

from __future__ import annotations

import posix

from pyocirun import files
from pyocirun.errors import UsageError

MOST = 4096


def passed() -> tuple[int, tuple[str, ...]]:
    """How many descriptors from 3 on came for this process, and the variables that tell the container of them.

    Those that are for another process (LISTEN_PID) are no concern of ours. Raises UsageError.
    """
    count = files.environment("LISTEN_FDS")
    if files.environment("LISTEN_PID") != str(posix.getpid()) or count in ("", "0"):
        return 0, ()
    if not (count.isascii() and count.isdigit()) or int(count) > MOST:
        raise UsageError(f"LISTEN_FDS={count} is no number of descriptors")
    variables = [f"LISTEN_FDS={int(count)}", "LISTEN_PID=1"]
    if names := files.environment("LISTEN_FDNAMES"):
        variables.append(f"LISTEN_FDNAMES={names}")
    return int(count), tuple(variables)
