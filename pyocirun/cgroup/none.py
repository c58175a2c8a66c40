"""A container without cgroups: as podman's --cgroups=disabled wants it, or as its user could not make them."""

from __future__ import annotations

from pyocirun.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Set

    from pyocirun.cgroup.events import Notices
    from pyocirun.cgroup.stats import Stats
    from pyocirun.cgroup.v1 import Write
    from pyocirun.spec.resources import Resources


class NullManager:
    """There is no cgroup, and a limit cannot be set: see `manager.Manager`.

    id: of a container that should have had cgroups, which its user could not make; "" where none were wanted.
    """

    def __init__(self, id: str = "") -> None:
        self._id = id

    @property
    def paths(self) -> dict[str, str]:
        return {}

    def path(self, controller: str) -> str:
        return ""

    def exists(self) -> bool:
        return False

    def refuse_in_use(self) -> None:
        return

    def create(self) -> list[str]:
        return []

    def write(self, writes: Iterable[Write]) -> None:
        """Raises CgroupError for any limit; device rules, which every configuration has, are passed over."""
        for write in writes:
            if write.controller != "devices":
                raise nothing(f"cannot set {write.controller} limit ({write.file})", self._id, write.controller)

    def set(self, resources: Resources) -> None:
        from pyocirun.cgroup.v1 import writes

        self.write(writes(resources, devices=False))

    def attach_devices(self, program: bytes) -> None:
        pass

    def delegate(self, uid: int) -> None:
        pass

    def join(self, pid: int, controllers: Set[str] | None = None) -> None:
        pass

    def apply(self, pid: int) -> None:
        pass

    def add_pid(self, subcgroup: str, pid: int, controllers: Set[str] | None = None) -> None:
        pass

    def pids(self) -> list[int]:
        return []

    def all_pids(self) -> list[int]:
        return []

    def freeze(self, state: str = "FROZEN") -> None:
        raise nothing("cannot toggle freezer", self._id, "freezer")

    def thaw(self) -> None:
        self.freeze("THAWED")

    def freezer_state(self) -> str:
        return "UNDEFINED"

    def kill(self, signal: int) -> None:
        pass

    def destroy(self) -> None:
        pass

    def oom_kill_count(self) -> int:
        return 0

    def stats(self, controllers: Set[str] | None = None) -> Stats:
        raise nothing("there are no statistics", self._id)

    def oom_notices(self) -> Notices:
        raise nothing("there are no notices", self._id, "memory")

    def pressure_notices(self, level: str) -> Notices:
        return self.oom_notices()


def nothing(what: str, id: str, controller: str = "") -> CgroupError:
    """The error for what takes a cgroup, where there is none. id: see NullManager. It names the one that is missed."""
    if not id:
        return CgroupError(f"{what}: the cgroup driver is none", controller=controller)
    from pyocirun.cgroup.path import cgroup_paths
    from pyocirun.spawn.probe import probe

    paths = cgroup_paths(None, id, probe(security=False, rdt=False, landlock=False))
    path = paths.get(controller or "pids") or next(iter(paths.values()), "")
    return CgroupError(
        f"{what}: cgroup not exist: the user of container {id!r} may not make {path}",
        path=path,
        controller=controller,
        hint="on cgroup v2 systemd delegates one to a user: see --systemd-cgroup",
    )
