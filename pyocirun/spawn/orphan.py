"""What nsexec left when it was killed while it forked: a child of ours whose pid nobody has told us."""

from __future__ import annotations

import posix

from pyocirun import native

PATIENCE_MS = 1000


def reap_forked(pid: int) -> None:
    """Reap what `pid`, a dead nsexec that is not reaped yet, forked with CLONE_PARENT and did not announce.

    Our end of the socket is closed by now, so it ends by itself; nothing is killed, as it might be another's after all.
    It is a younger child of the calling thread, which has started nothing since, and has the name of who forked it.
    A kernel without /proc/PID/task/TID/children hides it: then the zombie stays until this process ends.
    """
    try:
        name, start = _about(pid)
        children = [int(child) for child in _read("/proc/thread-self/children").split()]
    except OSError:
        return
    younger = children[children.index(pid) + 1 :] if pid in children else []  # they are listed by age
    for child in younger:
        try:
            child_name, child_start = _about(child)
            if child_name == name and child_start >= start:
                _reap(child)
        except OSError:
            continue  # it is gone


def _reap(pid: int) -> None:
    pidfd = posix.pidfd_open(pid)
    try:
        if native.poll(pidfd, timeout_ms=PATIENCE_MS):
            native.wait(pidfd)
    finally:
        posix.close(pidfd)


def _about(pid: int) -> tuple[str, int]:
    """Name, and time of start in ticks, by proc_pid_stat(5)."""
    head, _, tail = _read(f"/proc/{pid}/stat").rpartition(")")
    return head.partition("(")[2], int(tail.split()[19])


def _read(path: str) -> str:
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(fd, 1 << 16).decode("utf-8", "replace")
    finally:
        posix.close(fd)
