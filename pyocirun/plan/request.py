"""What a plan is built from besides config.json and the machine."""

from __future__ import annotations

from pyocirun.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.cgroup.unit import Unit


class Request(Record):
    """What a caller asks for besides config.json.

    rootfs: absolute host path.  bundle: absolute, sources of binds are relative to it.
    cgroup_paths: (controller, directory), () for none.  joined: (type, inode) of namespaces that are joined by path.
    callables: (kind, how many) of hooks that are functions of the caller.  unit: of systemd, if it makes the cgroup.
    """

    id: str
    bundle: str
    rootfs: str
    cgroup_paths: tuple[tuple[str, str], ...] = ()
    preserve_fds: int = 0
    no_pivot: bool = False
    no_new_keyring: bool = False
    joined: tuple[tuple[str, int], ...] = ()
    callables: tuple[tuple[str, int], ...] = ()
    unit: Unit | None = None


def is_unified(paths: tuple[tuple[str, str], ...]) -> bool:
    """Whether these are the paths of a host with nothing but cgroup v2."""
    return len(paths) == 1 and not paths[0][0]
