"""The unit of a container that is being created.

systemd starts a scope with a process in it, and ends it with the last one. The container's own process comes to be when
there are limits already, and goes in and out of the cgroup; so another one keeps the unit meanwhile: nsexec with a plan
in which it does nothing but wait. It ends with the connection to it, so also if this process is killed.
"""

from __future__ import annotations

import posix

from pyocirun import native
from pyocirun.errors import CgroupError
from pyocirun.plan.encode import encode
from pyocirun.plan.ops import Clone, Plan, Sync
from pyocirun.spawn.launch import launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.cgroup.manager import Manager
    from pyocirun.plan.ops import Slot, StartUnit
    from pyocirun.spawn.launch import Launched

_WAITING = Plan((Clone(0), Sync("unit")))


class Scope:
    """A unit and the process that keeps it. root: a directory where a copy of nsexec may lie."""

    def __init__(self, manager: Manager, root: str) -> None:
        from pyocirun.cgroup.systemd import SystemdV1, SystemdV2

        if not isinstance(manager, (SystemdV1, SystemdV2)):
            raise CgroupError("a unit is made by the systemd cgroup driver only")
        self._manager = manager
        self._root = root
        self._keeper: Launched | None = None

    def start(self, op: StartUnit) -> None:
        """Start the unit. Raises CgroupError; nothing is left then."""
        if not op.unit.is_scope:
            self._manager.start_unit(op.properties, ())
            return
        self._keeper = _waiting(self._root)
        try:
            self._manager.start_unit(op.properties, (self._keeper.pid,), held=True)
        except BaseException:
            self.close()
            raise

    def release(self) -> None:
        """The container's own process is in the unit now. Raises CgroupError."""
        self.close()
        self._manager.settle()

    def close(self) -> None:
        """End the process that keeps the unit. What has no other process ends then."""
        if self._keeper is None:
            return
        keeper, self._keeper = self._keeper, None
        keeper.close()
        try:
            native.wait(keeper.pidfd)
        except ChildProcessError:
            pass  # where SIGCHLD is ignored, the kernel has reaped it
        posix.close(keeper.pidfd)


def _waiting(root: str) -> Launched:
    null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    try:
        return launch(_WAITING, encode(_WAITING), _no_descriptor, (null, null, null), places=(root,))
    finally:
        posix.close(null)


def _no_descriptor(slot: Slot) -> int:
    raise CgroupError(f"a waiting process needs no {slot.kind}")
