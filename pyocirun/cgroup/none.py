"""The driver "none": a container without cgroups, as podman's --cgroups=disabled wants it."""

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
    """There is no cgroup, and a limit cannot be set: see `manager.Manager`."""

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
                raise CgroupError(
                    f"cannot set {write.controller} limit: the cgroup driver is none ({write.file})",
                    controller=write.controller,
                )

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
        raise CgroupError("cannot toggle freezer: the cgroup driver is none", controller="freezer")

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

    def stats(self) -> Stats:
        raise CgroupError("there are no statistics: the cgroup driver is none")

    def oom_notices(self) -> Notices:
        raise CgroupError("there are no notices: the cgroup driver is none", controller="memory")

    def pressure_notices(self, level: str) -> Notices:
        return self.oom_notices()
