"""Which directory of the host is the container's cgroup, in each hierarchy. Pure.

Cgroup v2 has the key "": alone on a host with nothing else, and beside v1 controllers on a hybrid one.
"""

from __future__ import annotations

from pyocirun.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.linux.host import Hierarchy, Host

# Other named hierarchies (elogind, openrc) belong to whoever mounted them.
JOINED = frozenset(
    ("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "misc", "net_cls", "net_prio")
    + ("perf_event", "pids", "rdma", "name=systemd")
)


def cgroup_paths(cgroups_path: str | None, id: str, host: Host) -> dict[str, str]:
    """Controller name -> absolute directory, for every v1 controller mounted, and "" for the v2 part of a hybrid host.

    An absolute `cgroups_path` counts from the hierarchy's mountpoint, a relative one from the caller's own cgroup in
    that hierarchy; None or "" stands for the relative path `id`. `..` never leads above either. Controllers that are
    mounted together share their directory. A hierarchy mounted several times is used where it was mounted first.

    The hybrid v2 hierarchy always counts from its mountpoint, as runc has it: it does no more there than be joined.
    Where there is nothing but v2, a relative path counts from the parent of the caller's own cgroup: that one has
    processes, and so cannot pass controllers on.

    Spec: config-linux.md#cgroups-path. Raises SpecError for a NUL and for a path that names no cgroup of its own.
    """
    wanted = cgroups_path or id
    inner = _inside(wanted)
    absolute = wanted.startswith("/")
    if host.cgroup2_only and host.unified is not None:
        base = host.unified.mountpoint if absolute else _parent_of_own(host.unified)
        return {"": _join(base, inner)}
    paths: dict[str, str] = {}
    for hierarchy in host.hierarchies:
        base = hierarchy.mountpoint if absolute else own_directory(hierarchy)
        for controller in hierarchy.controllers:
            if controller in JOINED:
                paths.setdefault(controller, _join(base, inner))
    if host.unified is not None:
        paths[""] = _join(host.unified.mountpoint, inner)
    return paths


def own_directory(hierarchy: Hierarchy) -> str:
    """The directory of the caller's own cgroup; the mountpoint, if the mount does not show that cgroup.

    Inside a container without a cgroup namespace the mount shows a subtree (`root`) while /proc/self/cgroup counts from
    the top; in a cgroup namespace either may begin with "/..", see cgroup_namespaces(7).
    """
    root = _names(hierarchy.root)
    own = _names(hierarchy.own)
    below = own[len(root) :]
    if own[: len(root)] != root or ".." in below:
        return hierarchy.mountpoint
    return _join(hierarchy.mountpoint, "/".join(below))


def _parent_of_own(hierarchy: Hierarchy) -> str:
    own = own_directory(hierarchy)
    return own.rpartition("/")[0] if own != hierarchy.mountpoint else own


def _inside(path: str) -> str:
    """`path` without leading slash, empty names, `.` and `..`; a `..` too many is dropped, as at the root directory."""
    if "\0" in path:
        raise SpecError("cgroupsPath must not contain a NUL character", pointer="/linux/cgroupsPath")
    names: list[str] = []
    for name in _names(path):
        if name != "..":
            names.append(name)
        elif names:
            names.pop()
    if not names:
        raise SpecError(
            f"cgroupsPath {path!r} names no cgroup of the container's own",
            pointer="/linux/cgroupsPath",
            hint="give a path with a name at its end, such as /containers/web",
        )
    return "/".join(names)


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _join(base: str, inner: str) -> str:
    return f"{base.rstrip('/')}/{inner}" if inner else base
