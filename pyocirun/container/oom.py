"""What to say when the kernel killed a container's process for lack of memory before it could begin."""

from __future__ import annotations

from pyocirun import files
from pyocirun.errors import Error, OperationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyocirun.cgroup.manager import Manager
    from pyocirun.spec.config import Spec

LEAST = 32 << 10
"""Bytes without which execve(2) itself does not succeed, measured on cgroup v1 of Linux 6.18, x86_64."""
LEAST_STATIC = 128 << 10
"""Bytes with which a program that is linked statically against glibc runs."""


def oom_killed(manager: Manager, spec: Callable[[], Spec]) -> OperationError | None:
    """The error, with the figures, for a process that has ended; None if it was not for lack of memory.

    systemd removes a cgroup with its last process, and the count with it: what cannot run is known to be killed.
    spec: reads the configuration, which takes time, and mostly is not asked for.
    """
    try:
        if not manager.oom_kill_count() and not (_is_gone(manager) and 0 < _configured(spec()) < LEAST):
            return None
        usage = manager.stats({"memory"}).memory.usage
        limit = usage.limit or _configured(spec())
    except Error:
        return None
    text = f"container init was OOM-killed (memory limit too low?): the limit is {limit} bytes"
    text += f", the most that was used {usage.max}" if usage.max else ""
    hint = f"execve alone takes {LEAST} bytes, a small static program {LEAST_STATIC}"
    return OperationError(text, step="exec", hint=hint if limit < LEAST_STATIC else "raise memory.limit")


def _is_gone(manager: Manager) -> bool:
    return not any(files.is_directory(path) for path in manager.paths.values())


def _configured(spec: Spec) -> int:
    """The limit of memory in bytes, 0 for none."""
    resources = spec.linux.resources
    memory = resources.memory if resources is not None else None
    return memory.limit or 0 if memory is not None else 0
