"""Host: all that the pure middle must know of the machine, as one value."""

from __future__ import annotations

from pyocirun.record import Record


class Hierarchy(Record):
    """A mounted cgroup hierarchy.

    controllers: v1 controllers that it carries, or ("name=systemd",); () for cgroup v2.
    mountpoint: where it is mounted.  root: which cgroup is visible there (field 4 of mountinfo).
    own: the caller's cgroup in it, from /proc/self/cgroup.
    """

    controllers: tuple[str, ...]
    mountpoint: str
    root: str = "/"
    own: str = "/"


class Host(Record):
    """What `spawn/probe.py` found out about the machine and the caller.

    euid, egid: of the caller, in its own user namespace.  in_userns: the caller is not in the initial user namespace.
    groups_denied: setgroups(2) is denied there, and in all user namespaces below.
    last_cap: number of the last capability that the kernel knows.
    hierarchies: cgroup v1 hierarchies, in mount order.  unified: the v2 hierarchy, None if none is mounted.
    cgroup2_only: /sys/fs/cgroup itself is cgroup v2.  namespaces: (type, inode number) of each of the
    caller's namespaces.  mountpoints: all of the caller's, in mount order.
    resctrl: where the resctrl file system is mounted, "" for nowhere, or where nobody asked.
    security_modules: "apparmor", "selinux", where they are on; () too where nobody asked.
    landlock: the kernel's ABI of it; 0: it has none, or nobody asked.
    owns_mounts: in a user namespace, the caller's mount namespace belongs to it, so it may copy what is mounted.
    """

    euid: int = 0
    egid: int = 0
    in_userns: bool = False
    kernel: tuple[int, int] = (5, 10)
    arch: str = "x86_64"
    last_cap: int = 40
    hierarchies: tuple[Hierarchy, ...] = ()
    unified: Hierarchy | None = None
    cgroup2_only: bool = False
    namespaces: tuple[tuple[str, int], ...] = ()
    mountpoints: tuple[str, ...] = ()
    security_modules: tuple[str, ...] = ()
    resctrl: str = ""
    groups_denied: bool = False
    landlock: int = 0
    owns_mounts: bool = False

    @property
    def privileged(self) -> bool:
        """Whether the caller is root of the whole machine, and not of a user namespace."""
        return self.euid == 0 and not self.in_userns

    @property
    def hands_over(self) -> bool:
        """Whether the caller may open the sources of mounts for a user namespace that is not able to reach them."""
        return self.euid == 0 and (not self.in_userns or self.owns_mounts)
