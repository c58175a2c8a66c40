"""What this runtime can do, as engines ask for it (features.md, features-linux.md of the runtime specification).

Names come from the tables that the reader uses. Whether a feature is there is tried: a configuration that asks for it
is planned for a machine that has everything. So nothing can be claimed that would be refused.
"""

from __future__ import annotations

from pyocirun.about import OLDEST_SPEC_VERSION, SPEC_VERSION
from pyocirun.errors import Error
from pyocirun.linux import capabilities, mounts, namespaces, sched
from pyocirun.linux.host import Hierarchy, Host
from pyocirun.linux.landlock import NEWEST
from pyocirun.plan.build import build
from pyocirun.plan.ops import LANDLOCK
from pyocirun.plan.request import Request
from pyocirun.spec import hooks, seccomp
from pyocirun.spec.config import parse_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

UNSAFE_ANNOTATIONS = ("bundle", "org.criu.config", "org.pyocirun.", "org.systemd.property.", "run.oci.")
"""Annotations that change what is done; one that ends with a dot stands for all that begin so."""

IDEAL = Host(
    kernel=(99, 0),
    last_cap=63,
    hierarchies=tuple(
        Hierarchy((name,), f"/sys/fs/cgroup/{name}")
        for name in (
            *("cpu", "cpuacct", "cpuset", "memory", "devices", "pids", "freezer"),
            *("blkio", "hugetlb", "rdma", "net_cls", "net_prio", "name=systemd"),
        )
    ),
    namespaces=tuple((type, number) for number, type in enumerate(namespaces.FILES, 1)),
    security_modules=("apparmor", "selinux"),
    resctrl="/sys/fs/resctrl",
    landlock=NEWEST,
)
"""A machine that has everything: what cannot be planned for it cannot be done anywhere."""

_REQUEST = Request("features", "/bundle", "/bundle/rootfs")


def features(
    annotations: dict[str, str], cgroups: dict[str, bool], flags: list[str], architectures: list[str]
) -> dict[str, Any]:
    """The features document. annotations: about this build.  cgroups: which managers there are, by name.

    flags: the seccomp flags that this kernel takes.  architectures: those that libseccomp knows, [] if there is none.
    """
    return {
        "ociVersionMin": OLDEST_SPEC_VERSION,
        "ociVersionMax": SPEC_VERSION,
        "hooks": list(hooks.KINDS),
        "mountOptions": _mount_options(),
        "linux": _linux(cgroups, _seccomp(flags, architectures)),
        "annotations": annotations,
        "potentiallyUnsafeConfigAnnotations": list(UNSAFE_ANNOTATIONS),
    }


def restricts() -> bool:
    """Whether a Landlock ruleset is obeyed where the kernel has Landlock."""
    return _planned({"annotations": {LANDLOCK: '{"scoped": ["signal"]}'}}, {}, ["mount"])


def _mount_options() -> list[str]:
    names = [*mounts.SET, *mounts.CLEAR, *mounts.PROPAGATION, *mounts.RECURSIVE_SET, *mounts.RECURSIVE_CLEAR]
    names += [name for name in ("idmap", "ridmap") if _idmap(name)]
    copy = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}
    return sorted([*names, "tmpcopyup"] if _can_mount(copy) else names)


def _linux(cgroups: dict[str, bool], filters: dict[str, Any]) -> dict[str, Any]:
    return {
        "namespaces": sorted(type for type in namespaces.FLAGS if _has_namespace(type)),
        "capabilities": list(capabilities.CAPABILITIES),
        "cgroup": cgroups,
        "seccomp": filters,
        "apparmor": {"enabled": _can_run({"apparmorProfile": "unconfined"})},
        "selinux": {"enabled": _can_run({"selinuxLabel": "system_u:system_r:container_t:s0"})},
        "intelRdt": {
            "enabled": _can({"intelRdt": {"closID": "group"}}),
            "schemata": _can({"intelRdt": {"schemata": ["L3:0=f"]}}),
            "monitoring": _can({"intelRdt": {"enableMonitoring": True}}),
        },
        "memoryPolicy": {
            "modes": list(sched.MEMORY_MODES) if _can({"memoryPolicy": {"mode": "MPOL_LOCAL"}}) else [],
            "flags": list(sched.MEMORY_FLAGS),
        },
        "mountExtensions": {"idmap": {"enabled": _idmap("idmap")}},
        "netDevices": {"enabled": _can({"netDevices": {"eth0": {}}}, ["network"])},
    }


def _seccomp(flags: list[str], architectures: list[str]) -> dict[str, Any]:
    if not architectures or not _can({"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}):
        return {"enabled": False}
    return {
        "enabled": True,
        "actions": sorted(seccomp.ACTIONS),
        "operators": sorted(seccomp.OPERATORS),
        "archs": sorted(architectures),
        "knownFlags": list(seccomp.FLAGS),
        "supportedFlags": flags,
    }


def _has_namespace(type: str) -> bool:
    maps = [{"containerID": 0, "hostID": 1000, "size": 10}]
    return _can({"uidMappings": maps, "gidMappings": maps} if type == "user" else {}, [type])


def _idmap(option: str) -> bool:
    maps = [{"containerID": 0, "hostID": 1000, "size": 10}]
    bind = {"destination": "/data", "source": "/srv", "options": ["rbind", option]}
    return _can_mount(bind | {"uidMappings": maps, "gidMappings": maps})


def _can_mount(mount: dict[str, Any]) -> bool:
    return _planned({"mounts": [mount]}, {}, ["mount"])


def _can_run(process: dict[str, Any]) -> bool:
    return _planned({"process": {"cwd": "/", "args": ["true"], "user": {"uid": 0, "gid": 0}} | process}, {}, ["mount"])


def _can(linux: dict[str, Any], types: list[str] | None = None) -> bool:
    return _planned({}, linux, types or ["mount"])


def _planned(config: dict[str, Any], linux: dict[str, Any], types: list[str]) -> bool:
    """Whether a container with this configuration, and new namespaces of these types, could be planned."""
    document = {"ociVersion": SPEC_VERSION, "root": {"path": "rootfs"}} | config
    linux = linux | {"namespaces": [{"type": type} for type in types]}
    try:
        build(parse_config(document | {"linux": linux}), IDEAL, _REQUEST)
    except Error:
        return False
    return True
