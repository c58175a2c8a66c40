"""This runtime and this machine on one page: what a person wants to see, and to send along with a question."""

from __future__ import annotations

import os
import sys

import pyocirun
from pyocirun import about
from pyocirun.cgroup.systemd import BOOTED
from pyocirun.container.features import features
from pyocirun.errors import Error
from pyocirun.linux.capabilities import names
from pyocirun.linux.namespaces import FILES
from pyocirun.spawn.probe import probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyocirun.container.factory import Factory
    from pyocirun.linux.host import Host


def info(factory: Factory) -> dict[str, dict[str, Any]]:
    """Section -> name -> value, all of them ready for JSON. What cannot be found out is missing.

    Raises Error on a machine whose kernel is too old to run anything.
    """
    host = probe()
    return {
        "runtime": _runtime(factory),
        "machine": _machine(host),
        "cgroups": _cgroups(host),
        "namespaces": _namespaces(),
        "caller": _caller(host),
        "features": _features(),
    }


def _runtime(factory: Factory) -> dict[str, Any]:
    found: dict[str, Any] = {
        "version": pyocirun.__version__,
        "commit": about.commit(),
        "spec": about.SPEC_VERSION,
        "python": sys.version.split()[0],
        "start": _start(),
        "package": os.path.dirname(pyocirun.__file__ or ""),
        "root": factory.root,
        "cgroup driver": factory.cgroup_manager,
    }
    try:
        found["containers"] = len(factory.list())
    except Error:
        found["containers"] = 0
    return {name: value for name, value in found.items() if value != ""}


def _start() -> str:
    """How the command came to run this, and why not in the quickest way; "" in a program that uses the library."""
    boot = sys.modules.get("_pyocirun_boot")
    if boot is not None:
        why = boot.no_snapshot
        if why is not None:
            return f"without a snapshot: {about.no_snapshot() or why}"
        lacks = boot.lacks()
        return f"from a snapshot without D-Bus: {lacks}" if lacks else "from a snapshot"
    main = getattr(sys.modules.get("__main__"), "__file__", "") or ""
    if not main.endswith("/pyocirun/cli/start_command.py"):
        return ""
    why = about.no_interpreter() or "that which was built in has been replaced since"
    return f"by {sys.executable}: {why}"


def _machine(host: Host) -> dict[str, Any]:
    uname = os.uname()
    found = {
        "kernel": uname.release,
        "architecture": uname.machine,
        "processors": os.cpu_count() or 0,
        "distribution": _distribution(),
        "security modules": _read("/sys/kernel/security/lsm").replace(",", " "),
        "landlock": f"version {host.landlock}" if host.landlock else "",
        "seccomp actions": _read("/proc/sys/kernel/seccomp/actions_avail"),
        "init": _read("/proc/1/comm"),
    }
    return {name: value for name, value in found.items() if value}


def _distribution() -> str:
    lines = dict(line.partition("=")[::2] for line in _read("/etc/os-release").splitlines())
    return lines.get("PRETTY_NAME", "").strip('"')


def _cgroups(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = {"layout": "v2" if host.cgroup2_only else "hybrid" if host.unified else "v1"}
    if not host.hierarchies and host.unified is None:
        found["layout"] = "none"
    if host.hierarchies:
        found["v1"] = sorted({name for hierarchy in host.hierarchies for name in hierarchy.controllers})
    if host.unified is not None:
        found["v2"] = _read(f"{host.unified.mountpoint}/cgroup.controllers").split()
        found["own"] = host.unified.own
    found["systemd"] = os.path.isdir(BOOTED)
    return found


def _namespaces() -> dict[str, Any]:
    """Of the types that the kernel has, how many of each a user may make; True where that is not limited so."""
    limits = {"network": "net", "mount": "mnt"}
    found: dict[str, Any] = {}
    for type, file in FILES.items():
        if os.path.exists(f"/proc/self/ns/{file}"):
            most = _read(f"/proc/sys/user/max_{limits.get(type, type)}_namespaces")
            found[type] = int(most) if most.isdigit() else True
    return found


def _caller(host: Host) -> dict[str, Any]:
    return {
        "uid": host.euid,
        "gid": host.egid,
        "in a user namespace": host.in_userns,
        "capabilities": names(_effective()),
        **dict(_restrictions()),
    }


def _effective() -> int:
    for line in _read("/proc/self/status").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _restrictions() -> Iterator[tuple[str, bool]]:
    """What keeps users without privileges from user namespaces, on distributions that have a switch for it."""
    restricted = _read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    allowed = _read("/proc/sys/kernel/unprivileged_userns_clone")
    if restricted or allowed:
        yield "users may make user namespaces", restricted in ("", "0") and allowed in ("", "1")


def _features() -> dict[str, Any]:
    linux = features()["linux"]
    enabled = {name: part["enabled"] for name, part in linux.items() if isinstance(part, dict) and "enabled" in part}
    return (
        enabled
        | {"idmap": linux["mountExtensions"]["idmap"]["enabled"]}
        | {f"cgroup {name}": there for name, there in linux["cgroup"].items()}
    )


def _read(path: str) -> str:
    """The text of a small file, "" if there is none or it may not be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
