"""What to say when the kernel killed a container's process for lack of memory before it could begin."""

from __future__ import annotations

from pyocirun.errors import Error, OperationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.cgroup.manager import Manager

LEAST = 32 << 10
"""Bytes without which execve(2) itself does not succeed, measured on cgroup v1 of Linux 6.18, x86_64."""
LEAST_STATIC = 128 << 10
"""Bytes with which a program that is linked statically against glibc runs."""


def oom_killed(manager: Manager) -> OperationError | None:
    """The error, with the figures; None if nothing was killed in this cgroup for lack of memory."""
    try:
        if not manager.oom_kill_count():
            return None
        usage = manager.stats().memory.usage
    except Error:
        return None
    text = (
        "container init was OOM-killed (memory limit too low?): "
        f"the limit is {usage.limit} bytes, the most that was used {usage.max}"
    )
    hint = f"execve alone takes {LEAST} bytes, a small static program {LEAST_STATIC}"
    return OperationError(text, step="exec", hint=hint if usage.limit < LEAST_STATIC else "raise memory.limit")
