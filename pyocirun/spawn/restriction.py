"""Why user namespaces may be refused here: what a distribution or an administrator has switched off."""

from __future__ import annotations

import posix

EPERM, EACCES, ENOSPC, EUSERS = 1, 13, 28, 87

APPARMOR = "kernel/apparmor_restrict_unprivileged_userns"
CLONE = "kernel/unprivileged_userns_clone"
MAXIMUM = "user/max_user_namespaces"


def user_namespace_hint(number: int, proc: str = "/proc/sys", uid: int | None = None) -> str:
    """What to do where the kernel refused a user namespace, or what is to be done in one, with this errno.

    "" if none of the known switches is the reason. proc: where the parameters lie.  uid: of the caller, None: this one.
    """
    if number in (ENOSPC, EUSERS) and _value(proc, MAXIMUM) == "0":
        return "user namespaces are switched off: sysctl user.max_user_namespaces is 0; root may raise it"
    if number in (ENOSPC, EUSERS):
        return "there are too many user namespaces, or they are too deep: see sysctl user.max_user_namespaces"
    if number not in (EPERM, EACCES) or (posix.geteuid() if uid is None else uid) == 0:
        return ""
    if _value(proc, CLONE) == "0":
        return "unprivileged user namespaces are switched off: sysctl kernel.unprivileged_userns_clone=1 allows them"
    if _value(proc, APPARMOR) == "1":
        return (
            "AppArmor restricts unprivileged user namespaces (sysctl kernel.apparmor_restrict_unprivileged_userns=1): "
            "load a profile with `userns,` for this program, or set it to 0"
        )
    return ""


def _value(proc: str, name: str) -> str:
    """A kernel parameter, "" if there is none."""
    try:
        fd = posix.open(f"{proc}/{name}", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return posix.read(fd, 64).decode().strip()
    finally:
        posix.close(fd)
