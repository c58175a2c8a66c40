"""What this build of the runtime can do, whatever the machine: the features document of the runtime specification."""

from __future__ import annotations

import posix

import pyocirun
from pyocirun.about import commit, libseccomp
from pyocirun.cgroup.manager import select
from pyocirun.cgroup.unit import Unit
from pyocirun.errors import Error
from pyocirun.linux.host import Hierarchy, Host
from pyocirun.plan import features as plan
from pyocirun.plan.seccomp import KILLABLE_KERNEL
from pyocirun.spawn.probe import kernel_version
from pyocirun.spec.seccomp import ARCHITECTURES, FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_UNIFIED = Host(
    kernel=(99, 0), unified=Hierarchy((), "/sys/fs/cgroup"), cgroup2_only=True, namespaces=plan.IDEAL.namespaces
)


def features() -> dict[str, Any]:
    """The features document, ready for JSON (features.md, features-linux.md)."""
    return plan.features(_annotations(), _cgroups(), _seccomp_flags(), _seccomp_architectures())


def _annotations() -> dict[str, str]:
    """About this build. The names are the ones that engines look for."""
    found = {
        "org.opencontainers.runc.version": pyocirun.__version__,
        "org.opencontainers.runc.commit": commit(),
        "org.opencontainers.runc.checkpoint.enabled": "true",
        "io.github.seccomp.libseccomp.version": libseccomp(),
        "org.pyocirun.landlock.enabled": "true" if plan.restricts() else "",
    }
    return {name: value for name, value in found.items() if value}


def _seccomp_architectures() -> list[str]:
    """Those that the libseccomp of this machine knows, [] if there is none."""
    try:
        from pyocirun.libseccomp import architecture
    except ImportError:
        return []
    return [name for name in ARCHITECTURES if architecture(name.removeprefix("SCMP_ARCH_").lower())]


def _seccomp_flags() -> list[str]:
    """Those that this kernel takes."""
    new = kernel_version(posix.uname().release) >= KILLABLE_KERNEL
    return [name for name in FLAGS if new or not name.endswith("WAIT_KILLABLE_RECV")]


def _cgroups() -> dict[str, bool]:
    systemd = _manages(_UNIFIED, "systemd", Unit("system.slice", "a.scope"))
    return {
        "v1": _manages(plan.IDEAL, "cgroupfs"),
        "v2": _manages(_UNIFIED, "cgroupfs"),
        "systemd": systemd,
        "systemdUser": systemd,
        "rdma": True,
    }


def _manages(host: Host, driver: str, unit: Unit | None = None) -> bool:
    try:
        select(host, driver, {"": "/sys/fs/cgroup/a"}, unit)
    except Error:
        return False
    return True
