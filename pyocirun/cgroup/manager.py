"""The interface that every cgroup manager has, and which manager serves a host."""

from __future__ import annotations

from pyocirun.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Set
    from typing import Any, Protocol

    from pyocirun.cgroup.events import Notices
    from pyocirun.cgroup.stats import Stats
    from pyocirun.cgroup.unit import Unit
    from pyocirun.cgroup.v1 import Write
    from pyocirun.linux.host import Host
    from pyocirun.spec.resources import Resources

    class Manager(Protocol):
        """One container's cgroup, in all hierarchies. The names are libcontainer's where it has the method.

        Methods raise CgroupError. A manager keeps nothing but its paths, so it can be made anew from saved ones.
        """

        @property
        def paths(self) -> dict[str, str]:
            """Controller -> directory, "" for cgroup v2: what to keep to make this manager again."""

        def path(self, controller: str) -> str:
            """The directory of `controller`, "" if there is none."""

        def exists(self) -> bool:
            """Whether the container's cgroup is there."""

        def refuse_in_use(self) -> None:
            """Raises CgroupError if the cgroup is there, and has processes or is frozen."""

        def create(self) -> list[str]:
            """Make the directories; the ones that were not there before come back, parents first.

            A cgroup that was there before must be neither in use nor frozen. On an error nothing that was made stays.
            """

        def write(self, writes: Iterable[Write]) -> None:
            """Write to the cgroup's files."""

        def set(self, resources: Resources) -> None:
            """Change the limits of a cgroup that is in use; what `resources` does not name stays.

            If one cannot be written, all have their old values back.
            """

        def attach_devices(self, program: bytes) -> None:
            """Put a device program in force in the place of the one there is; only cgroup v2 has them."""

        def delegate(self, uid: int) -> None:
            """Give the cgroup to a user, who may make cgroups below it and move processes among them; only on v2."""

        def join(self, pid: int, controllers: Set[str] | None = None) -> None:
            """Move a process into the cgroup, in the hierarchies of these controllers; None: in all."""

        def apply(self, pid: int) -> None:
            """Create, and join with every controller; pid -1 only creates."""

        def add_pid(self, subcgroup: str, pid: int, controllers: Set[str] | None = None) -> None:
            """Move a process into an existing cgroup below this one; "" is this one."""

        def pids(self) -> list[int]:
            """The processes in the cgroup, ascending. (libcontainer: GetPids)"""

        def all_pids(self) -> list[int]:
            """The processes in the cgroup and all cgroups below, ascending. (libcontainer: GetAllPids)"""

        def freeze(self, state: str = "FROZEN") -> None:
            """Bring the freezer to "FROZEN" or "THAWED", and return when it is there."""

        def thaw(self) -> None:
            """The same as freeze("THAWED")."""

        def freezer_state(self) -> str:
            """ "FROZEN", "THAWED", or "UNDEFINED" without a freezer. What only an ancestor freezes is THAWED."""

        def kill(self, signal: int) -> None:
            """Send a signal to every process, forks in progress included; after SIGKILL none is left."""

        def destroy(self) -> None:
            """Remove the cgroup and all below. It must have no processes; a cgroup that is gone is fine."""

        def oom_kill_count(self) -> int:
            """How many processes the kernel killed here for lack of memory."""

        def stats(self, controllers: Set[str] | None = None) -> Stats:
            """What the processes in the cgroup use, and have used. (libcontainer: GetStats, Stats)

            controllers: read no more than these, by their names on cgroup v2; None: all.
            """

        def oom_notices(self) -> Notices:
            """Notices of processes that the kernel kills for lack of memory, from now on."""

        def pressure_notices(self, level: str) -> Notices:
            """Notices of memory pressure at "low", "medium" or "critical", from now on."""


_LIMITS = {
    "memory": "memory",
    "cpu": "cpu",
    "pids": "pids",
    "block_io": "blockIO",
    "hugepage_limits": "hugepageLimits",
    "network": "network",
    "rdma": "rdma",
    "unified": "unified",
}
"""All of Resources but devices, which are for the host's sake: fields, and their names in the configuration."""


def ignored(resources: Resources | None, paths: dict[str, str]) -> list[str]:
    """One line for each setting that is not obeyed in a cgroup of these paths, as Manager has them."""
    if resources is None:
        return []
    if set(paths) == {""}:
        from pyocirun.cgroup.v2 import warnings
    elif paths:
        from pyocirun.cgroup.v1 import warnings
    else:
        wanted = [name for field, name in _LIMITS.items() if getattr(resources, field)]
        return [f"linux.resources.{name} is ignored: the container has no cgroup" for name in wanted]
    return warnings(resources)


def cautions(resources: Resources, manager: Manager) -> list[str]:
    """One line for each change of limits that the kernel will carry out, though it takes more than a limit."""
    memory = resources.memory
    if set(manager.paths) != {""} or memory is None or not memory.limit or memory.limit < 0:
        return []
    from pyocirun.cgroup.stats import least_memory

    stats = manager.stats({"memory"})
    least = least_memory(stats)
    if memory.limit >= least:
        return []
    used = f"{least} bytes are in use and cannot be freed (current usage: {stats.memory.usage.usage})"
    return [f"memory limit {memory.limit}: {used}; what finds no swap is killed by the kernel"]


def load(
    paths: dict[str, str], unit: dict[str, Any] | None = None, *, lenient: bool = False, without: str = ""
) -> Manager:
    """The manager of a container whose paths were saved, and the fields of its unit, if it has one of systemd.

    without: the id of one that has no paths although it was to have some.
    """
    if unit:
        from pyocirun.cgroup.unit import Unit

        return _of_unit(paths, Unit(**unit), lenient=lenient)
    if set(paths) == {""}:
        from pyocirun.cgroup.fs2 import V2Manager

        return V2Manager(paths[""], lenient=lenient)
    if not paths:
        from pyocirun.cgroup.none import NullManager

        return NullManager(without)
    from pyocirun.cgroup.fs import V1Manager

    return V1Manager(paths, lenient=lenient)


def select(
    host: Host, driver: str, paths: dict[str, str], unit: Unit | None = None, *, lenient: bool = False
) -> Manager:
    """The manager of `paths` by driver "cgroupfs", "systemd" or "none". unit: which "systemd" needs.

    lenient: pass over hierarchies where the caller may not make cgroups, as a rootless one that asked for no
    particular path. Raises CgroupError for a driver that this host, or this version, does not have.
    """
    if driver == "cgroupfs" and host.cgroup2_only:
        from pyocirun.cgroup.fs2 import V2Manager

        top = host.unified.mountpoint if host.unified is not None else "/sys/fs/cgroup"
        return V2Manager(paths.get("", ""), top, lenient=lenient)

    if driver == "none":
        from pyocirun.cgroup.none import NullManager

        return NullManager()
    if driver == "systemd" and unit is not None:
        return _of_unit(paths, unit, lenient=lenient)
    if driver != "cgroupfs":
        raise CgroupError(f"unknown cgroup driver {driver!r}", hint="use cgroupfs, systemd or none")
    from pyocirun.cgroup.fs import V1Manager

    return V1Manager(paths, lenient=lenient)


def _of_unit(paths: dict[str, str], unit: Unit, *, lenient: bool) -> Manager:
    from pyocirun.cgroup.systemd import SystemdV1, SystemdV2

    if set(paths) == {""}:
        return SystemdV2(paths[""], unit, lenient=lenient)
    return SystemdV1(paths, unit, lenient=lenient)
