"""Device nodes, and the links that every /dev has."""

from __future__ import annotations

from pyocirun.linux.mounts import MS_BIND, MS_REC, MS_SLAVE, parse_options
from pyocirun.plan import ops
from pyocirun.plan.mounts import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.plan.mounts import Context
    from pyocirun.spec.config import Spec
    from pyocirun.spec.linux import Device

S_IFCHR = 0o020000
S_IFBLK = 0o060000
S_IFIFO = 0o010000
KINDS = {"c": S_IFCHR, "u": S_IFCHR, "b": S_IFBLK, "p": S_IFIFO}

DEFAULT_DEVICES = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
"""Spec: config-linux.md#default-devices"""

DEFAULT_LINKS = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
)
"""Spec: runtime-linux.md#dev-symbolic-links"""


def devices(spec: Spec, context: Context) -> list[ops.Op]:
    """linux.devices, the default devices and links; nothing, if /dev is the host's or another bind."""
    if any(mount.destination.rstrip("/") == "/dev" and _is_bind(mount.type, mount.options) for mount in spec.mounts):
        return []
    own = {clean(device.path) for device in spec.linux.devices}
    plan = [_device(device, f"linux.devices[{index}]", context) for index, device in enumerate(spec.linux.devices)]
    plan += [
        _node(path, S_IFCHR | 0o666, major, minor, 0, 0, "", context)
        for path, major, minor in DEFAULT_DEVICES
        if path not in own
    ]
    plan += [ops.Symlink(text, path) for text, path in DEFAULT_LINKS]
    # A node /dev/ptmx would be the host's; this one belongs to the container's own devpts.
    plan.append(ops.Symlink("pts/ptmx", "/dev/ptmx", replace=True))
    return plan


def device_number(major: int, minor: int) -> int:
    """The number as mknod(2) takes it: the kernel's new_encode_dev()."""
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def _is_bind(type: str | None, options: tuple[str, ...]) -> bool:
    return type == "bind" or bool(parse_options(options).flags & MS_BIND)


def _device(device: Device, origin: str, context: Context) -> ops.Op:
    mode = 0o666 if device.file_mode is None else device.file_mode & 0o7777
    uid, gid = device.uid or 0, device.gid or 0
    path = clean(device.path)
    return _node(path, KINDS[device.type] | mode, device.major or 0, device.minor or 0, uid, gid, origin, context)


def _node(path: str, mode: int, major: int, minor: int, uid: int, gid: int, origin: str, context: Context) -> ops.Op:
    """mknod(2) of a device is refused in a user namespace, whoever asks: there the host's own node is bound.

    An image's /dev that is a link would have either made elsewhere, say in a volume (CVE-2026-41579).
    """
    if context.in_userns and mode & 0o170000 != S_IFIFO:
        plain = path.startswith("/dev/")
        return ops.Bind(path, path, handed=context.handed, slave=MS_SLAVE | MS_REC, plain=plain, origin=origin)
    return ops.Node(path, mode, device_number(major, minor), uid, gid, origin)
