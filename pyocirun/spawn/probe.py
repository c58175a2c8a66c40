"""What the machine is like, as a Host: the one place where the plan's knowledge of it is gathered."""

from __future__ import annotations

import posix

from pyocirun import files, native
from pyocirun.errors import Error
from pyocirun.linux.host import Hierarchy, Host
from pyocirun.linux.namespaces import FILES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

OLDEST_KERNEL = (5, 12)
"""It has mount_setattr(2)."""
RESCTRL = "/sys/fs/resctrl"
NAMED = "name=systemd"
NS_GET_USERNS = 0xB701
"""A request of ioctl(2): a descriptor, close-on-exec, of the user namespace that owns another namespace."""

_last: tuple[tuple[bytes, bytes, bytes, int, int], Host] | None = None
"""What was read of the machine the last time, and the Host that it gave: what reads the same is not parsed again."""


def probe(*, whole: bool = True, security: bool = True, rdt: bool = True, landlock: bool = True) -> Host:
    """The host as the calling thread sees it now. Raises Error on a kernel that is too old.

    whole: with the namespaces and all mountpoints, which few plans need; without, they are empty.
    security: with the security modules that take labels.  rdt: with the place of the resctrl file system.
    landlock: with the kernel's version of Landlock.
    """
    global _last
    seen = files.read("/proc/self/mountinfo"), files.read("/proc/self/cgroup"), files.read("/proc/self/uid_map")
    key = (*seen, posix.geteuid(), posix.getegid())
    plain = not (whole or security or rdt or landlock)
    if _last is not None and _last[0] == key and plain:
        return _last[1]
    host = _host(*map(_text, seen), whole=whole, security=security, rdt=rdt, landlock=landlock)
    if plain and not host.in_userns:
        _last = key, host
    return host


def _host(mountinfo: str, cgroup: str, uid_map: str, *, whole: bool, security: bool, rdt: bool, landlock: bool) -> Host:
    kernel = kernel_version(posix.uname().release)
    if kernel < OLDEST_KERNEL:
        found, wanted = [".".join(map(str, version)) for version in (kernel, OLDEST_KERNEL)]
        raise Error(f"Linux {found} is too old: pyocirun needs {wanted} or newer", step="uname")
    lines = mountinfo.splitlines()
    mounts = [_mount(line) for line in lines if whole or " - cgroup" in line or (rdt and " - resctrl" in line)]
    own = own_cgroups(cgroup)
    unified = next(iter(_unified(mounts, own)), None)
    in_userns = uid_map.split() != ["0", "0", "4294967295"]
    return Host(
        euid=posix.geteuid(),
        egid=posix.getegid(),
        in_userns=in_userns,
        groups_denied=in_userns and files.read_text("/proc/self/setgroups").strip() == "deny",
        kernel=kernel,
        arch=posix.uname().machine,
        last_cap=int(files.read_text("/proc/sys/kernel/cap_last_cap")),
        hierarchies=tuple(_hierarchies(mounts, own)),
        unified=unified,
        cgroup2_only=unified is not None and unified.mountpoint == "/sys/fs/cgroup",
        namespaces=tuple((type, namespace_inode(f"/proc/thread-self/ns/{FILES[type]}")) for type in FILES if whole),
        mountpoints=tuple(mountpoint for mountpoint, _, _, _ in mounts if whole),
        security_modules=security_modules() if security else (),
        resctrl=_resctrl(mounts) if rdt else "",
        landlock=native.landlock_abi() if landlock else 0,
        owns_mounts=in_userns and _owns_mounts(),
    )


def _owns_mounts() -> bool:
    """Whether the mount namespace belongs to the user namespace, and not to one around it. ioctl_nsfs(2)"""
    import fcntl

    fd = posix.open("/proc/thread-self/ns/mnt", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        owner = fcntl.ioctl(fd, NS_GET_USERNS)
    except PermissionError:
        return False  # it is out of sight
    finally:
        posix.close(fd)
    try:
        return posix.fstat(owner).st_ino == namespace_inode("/proc/thread-self/ns/user")
    finally:
        posix.close(owner)


def _resctrl(mounts: Iterable[tuple[str, str, str, str]]) -> str:
    """Where resctrl is: by its type, or in its usual place, as far as what is there looks like it."""
    for mountpoint, _, fstype, _ in mounts:
        if fstype == "resctrl":
            return mountpoint
    try:
        posix.stat(f"{RESCTRL}/schemata")
    except OSError:
        return ""
    return RESCTRL


def security_modules() -> tuple[str, ...]:
    """The security modules that take labels and are on: "apparmor", "selinux"."""
    found = []
    try:
        if files.read_text("/sys/module/apparmor/parameters/enabled").startswith("Y"):
            found.append("apparmor")
    except OSError:
        pass  # not part of this kernel
    try:
        posix.stat("/sys/fs/selinux/enforce")
        found.append("selinux")
    except OSError:
        pass  # off, or its file system is hidden from us: then the libraries call it off too
    return tuple(found)


def namespace_inode(path: str) -> int:
    """The inode number of a namespace file: equal numbers are the same namespace. 0: there is no such file."""
    try:
        return posix.stat(path).st_ino
    except FileNotFoundError:
        return 0


def own_cgroups(text: str) -> dict[str, str]:
    """Controller -> cgroup of /proc/PID/cgroup; "" for cgroup v2. See cgroups(7)."""
    own: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            own[controller] = path
    return own


def kernel_version(release: str) -> tuple[int, int]:
    """(6, 1) of "6.1.0-13-amd64"."""
    major, minor = release.split(".")[:2]
    digits = ""
    for character in minor:
        if not character.isdigit():
            break
        digits += character
    return int(major), int(digits or "0")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _mount(line: str) -> tuple[str, str, str, str]:
    """(mountpoint, root, file system type, its options) of a line of proc_pid_mountinfo(5)."""
    fields = line.split(" ")
    behind = fields.index("-")
    return _plain(fields[4]), _plain(fields[3]), fields[behind + 1], fields[behind + 3]


def _plain(path: str) -> str:
    if "\\" not in path:
        return path
    for escaped, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(escaped, character)
    return path


def _hierarchies(mounts: Iterable[tuple[str, str, str, str]], own: dict[str, str]) -> Iterable[Hierarchy]:
    """Those of cgroup v1, each once, in whatever places it is mounted besides."""
    found: dict[tuple[str, ...], Hierarchy] = {}
    for mountpoint, root, fstype, options in _topmost(mounts):
        if fstype == "cgroup":
            controllers = tuple(option for option in options.split(",") if option in own and option)
            if controllers:
                found.setdefault(controllers, Hierarchy(controllers, mountpoint, root, own[controllers[0]]))
    return found.values()


def _unified(mounts: Iterable[tuple[str, str, str, str]], own: dict[str, str]) -> Iterable[Hierarchy]:
    for mountpoint, root, fstype, _ in _topmost(mounts):
        if fstype == "cgroup2" and "" in own:
            yield Hierarchy((), mountpoint, root, own[""])


def _topmost(mounts: Iterable[tuple[str, str, str, str]]) -> Iterable[tuple[str, str, str, str]]:
    """Cgroup mounts without those that a later one covers, as where a cgroup namespace has made its own."""
    return {mount[0]: mount for mount in mounts if mount[2] in ("cgroup", "cgroup2")}.values()
