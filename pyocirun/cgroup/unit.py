"""Which systemd unit is the container's, and which directories are its cgroup. Pure.

See systemd.unit(5), systemd.slice(5), systemd.scope(5).
"""

from __future__ import annotations

from pyocirun.cgroup.path import JOINED
from pyocirun.errors import SpecError
from pyocirun.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.linux.host import Hierarchy, Host

SUBGROUP = "run.oci.systemd.subgroup"
DELEGATED = "run.oci.delegate-cgroup"

_POINTER = "/linux/cgroupsPath"
_VALID = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_-.\\@")
_MOST = 255


class Unit(Record):
    """A scope or a slice.

    slice: that it lies in, "-.slice" is the topmost.  name: with its ending.  subgroup: a cgroup below its own where
    the container is, "" for none.  delegated: one below that again for its processes, without limits of its own.
    user: it is a unit of the caller's own manager, not of the machine's.  version: of systemd.
    pulls: the manager must move processes in, since the caller may not.
    """

    slice: str
    name: str
    subgroup: str = ""
    delegated: str = ""
    user: bool = False
    version: int = 0
    pulls: bool = False

    @property
    def is_scope(self) -> bool:
        """Whether it is made for processes that are there; a slice is not, and needs none."""
        return self.name.endswith(".scope")


def parse_unit(cgroups_path: str | None, id: str, annotations: dict[str, str], *, user: bool = False) -> Unit:
    """The unit that `slice:prefix:name` stands for: prefix-name.scope, or name itself if it is a slice.

    None or "" is the same as `:runc:ID`, by which tools look for a container that did not ask for a place. Without a
    slice it is system.slice, or user.slice for a user's own manager. What a name of a unit cannot have is escaped.
    Spec: config-linux.md#cgroups-path, as all runtimes read it for systemd. Raises SpecError.
    """
    wanted = cgroups_path or f":runc:{id}"
    parts = wanted.split(":")
    if len(parts) != 3:
        text = f'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got {wanted!r} instead'
        raise SpecError(text, pointer=_POINTER, hint="for a path without systemd leave out --systemd-cgroup")
    slice, prefix, name = parts
    if not name:
        raise SpecError(f"cgroupsPath {wanted!r} has no name after the last colon", pointer=_POINTER)
    if slice:
        expand(slice)
    if name.endswith(".slice"):
        unit = Unit(_parent(name), name, user=user)
        if slice and slice != unit.slice:
            text = f"cgroupsPath {wanted!r}: {name} lies in {unit.slice} by its name, and not in {slice}"
            raise SpecError(text, pointer=_POINTER)
    else:
        full = f"{prefix}-{name}" if prefix else name
        unit = Unit(slice or ("user.slice" if user else "system.slice"), f"{escape(full)}.scope", user=user)
    if len(unit.name) > _MOST:
        raise SpecError(f"the name of the unit {unit.name} has more than {_MOST} characters", pointer=_POINTER)
    return Unit(unit.slice, unit.name, _below(annotations, SUBGROUP), _below(annotations, DELEGATED), user)


def directories(unit: Unit, host: Host, base: str = "") -> dict[str, str]:
    """Controller -> directory, as path.cgroup_paths has it. base: the cgroup of the manager itself, "" for the top."""
    below = f"{expand(unit.slice)}/{unit.name}".lstrip("/")
    below += f"/{unit.subgroup}" if unit.subgroup else ""
    paths: dict[str, str] = {}
    for hierarchy in host.hierarchies:
        for controller in hierarchy.controllers:
            if controller in JOINED:
                paths.setdefault(controller, f"{_top(hierarchy, base)}/{below}")
    if host.unified is not None:
        paths[""] = f"{_top(host.unified, base)}/{below}"
    return paths


def expand(slice: str) -> str:
    """The path of a slice below the topmost: each dash in the name leads one slice further down. Raises SpecError."""
    name = slice.removesuffix(".slice")
    if name == "-" and slice != name:
        return ""
    parts = name.split("-")
    if slice == name or "/" in name or "" in parts or not _VALID.issuperset(name):
        hint = "a name such as machine.slice, or a-b.slice for the slice b in the slice a"
        raise SpecError(f"invalid slice name {slice!r}", pointer=_POINTER, hint=hint)
    return "/".join("-".join(parts[: depth + 1]) + ".slice" for depth in range(len(parts)))


def escape(name: str) -> str:
    r"""`name` with \xNN for each byte that the name of a unit cannot have."""
    if _VALID.issuperset(name):
        return name
    return "".join([c if c in _VALID else "".join([f"\\x{byte:02x}" for byte in c.encode()]) for c in name])


def is_below(path: str, directory: str) -> bool:
    """Whether a cgroup is another one, or lies below it."""
    return f"{path.rstrip('/')}/".startswith(f"{directory.rstrip('/')}/")


def _parent(slice: str) -> str:
    above = expand(slice).rpartition("/")[0]
    return above.rpartition("/")[2] or "-.slice"


def _below(annotations: dict[str, str], annotation: str) -> str:
    """The name of a cgroup that an annotation gives, "" for none."""
    name = annotations.get(annotation, "")
    if "/" in name or name in (".", "..") or "\0" in name or name.startswith("cgroup."):
        pointer = f"/annotations/{annotation}"
        raise SpecError(f"{pointer}: {name!r} is not the name of a cgroup", pointer=pointer)
    return name


def _top(hierarchy: Hierarchy, base: str) -> str:
    """The directory of the manager's own cgroup. A mount may show no more than the part from `root` on."""
    root = hierarchy.root.rstrip("/")
    if root and is_below(base, root):
        base = base.removeprefix(root)
    return f"{hierarchy.mountpoint.rstrip('/')}/{base.strip('/')}".rstrip("/")
