"""The `mounts` of config.json, each as the operations that make it."""

from __future__ import annotations

from pyocirun.errors import SpecError
from pyocirun.linux.mounts import (
    ACCESS_TIME,
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SHARED,
    MS_SLAVE,
    PER_MOUNT,
    PROPAGATION,
    attributes,
    parse_options,
)
from pyocirun.plan import ops
from pyocirun.plan.namespaces import privileged
from pyocirun.record import Record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.linux.host import Hierarchy, Host
    from pyocirun.linux.mounts import MountOptions
    from pyocirun.plan.build import Request
    from pyocirun.plan.namespaces import Stages
    from pyocirun.spec.config import Spec
    from pyocirun.spec.mounts import Mount


class Context(Record):
    """What a mount depends on besides itself.

    in_userns: it is made in a user namespace, the host's or the container's.
    handed: sources are opened by the parent, for a user namespace.  shared: rootfsPropagation wants sharing.
    own_network, own_cgroup: there is a network, cgroup namespace.  pid_path: of the pid namespace entered later, or "".
    lenient: a cgroup that could not be made is not mounted.
    """

    bundle: str
    cgroup_paths: tuple[tuple[str, str], ...]
    hierarchies: tuple[Hierarchy, ...]
    handed: bool
    shared: bool
    own_network: bool
    own_cgroup: bool
    pid_path: str
    in_userns: bool
    lenient: bool

    @staticmethod
    def of(spec: Spec, host: Host, request: Request, stages: Stages) -> Context:
        """The context of one container."""
        propagation = spec.linux.rootfs_propagation
        user = spec.linux.namespace("user")
        return Context(
            request.bundle,
            request.cgroup_paths,
            host.hierarchies,
            user is not None and privileged(host),
            bool(propagation and PROPAGATION[propagation] & MS_SHARED),
            spec.linux.namespace("network") is not None,
            spec.linux.namespace("cgroup") is not None,
            stages.late_pid,
            host.in_userns or user is not None,
            not privileged(host),
        )


def mounts(spec: Spec, context: Context) -> list[ops.Op]:
    """All mounts, in the order of the list. Spec: config.md#mounts."""
    plan: list[ops.Op] = []
    for index, mount in enumerate(spec.mounts):
        plan += mount_ops(mount, f"mounts[{index}]", f"/mounts/{index}", context)
    return plan


def mount_ops(mount: Mount, origin: str, pointer: str, context: Context) -> list[ops.Op]:
    """One mount. origin: how errors name it."""
    options = parse_options(mount.options)
    target = clean(mount.destination)
    _refuse(mount, options, target, pointer)
    flags = options.flags
    if flags & MS_REMOUNT:
        plan = [_remount(options, target, origin)]
    elif mount.type == "bind" or flags & MS_BIND:
        plan = [_bind(mount, options, target, origin, pointer, context)]
    elif mount.type == "cgroup":
        plan = _cgroup(options, target, origin, context)
    elif mount.type == "sysfs" and context.in_userns and not context.own_network:
        plan = [_host_sysfs(options, target, origin, context)]
    else:
        plan = [_file_system(mount, options, target, origin, context)]
    if options.rec_set or options.rec_clear:
        plan.append(ops.Attributes(target, options.rec_set, options.rec_clear, True, origin))
    return plan


def clean(path: str) -> str:
    """`path` made absolute, without empty parts, "." and ".."; as text alone, links are nsexec's business."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def mountpoint_of(path: str, host: Host) -> str:
    """The mount that `path` lies in, by the host's mountpoints."""
    best = "/"
    for mountpoint in host.mountpoints:
        if (path == mountpoint or path.startswith(mountpoint.rstrip("/") + "/")) and len(mountpoint) > len(best):
            best = mountpoint
    return best


def _refuse(mount: Mount, options: MountOptions, target: str, pointer: str) -> None:
    if target == "/":
        raise SpecError(
            f"{pointer}/destination: {mount.destination!r} is the root of the container; it cannot be mounted over",
            pointer=f"{pointer}/destination",
        )
    if options.idmap or options.tmpcopyup or mount.uid_mappings or mount.gid_mappings:
        what = "tmpcopyup" if options.tmpcopyup else "an id-mapped mount"
        raise SpecError(f"{pointer}: {what} is not supported yet", pointer=pointer)
    if options.flags & MS_REMOUNT:
        return
    bind = mount.type == "bind" or options.flags & MS_BIND
    if bind and not mount.source:
        raise SpecError(f"{pointer}/source: a bind mount needs a source", pointer=f"{pointer}/source")
    if target == "/proc" and mount.type != "proc" and not bind:
        raise SpecError(f'{pointer}: "{target}" cannot be mounted because it is not of type proc', pointer=pointer)
    if target.startswith("/proc/") and not ops.may_cover_procfs(target):
        raise SpecError(f'{pointer}: "{target}" cannot be mounted because it is inside /proc', pointer=pointer)


def _bind(mount: Mount, options: MountOptions, target: str, origin: str, pointer: str, context: Context) -> ops.Op:
    if options.data:
        text = f"bind mounts cannot have any filesystem-specific options applied: {options.data}"
        raise SpecError(f"{pointer}/options: {text}", pointer=f"{pointer}/options")
    source = mount.source or ""
    if not source.startswith("/"):
        source = f"{context.bundle}/{source}"
    set, clear = _attributes(options)
    sharing = any(flags & MS_SHARED for flags in options.propagation) or context.shared
    return ops.Bind(
        source,
        target,
        recursive=bool(options.flags & MS_REC),
        set=set,
        clear=clear,
        propagation=options.propagation,
        handed=context.handed,
        slave=0 if sharing else MS_SLAVE | MS_REC,
        origin=origin,
    )


def _attributes(options: MountOptions) -> tuple[int, int]:
    """attr_set, attr_clr. What no option names stays as the source has it: a nosuid source stays nosuid."""
    clear = attributes(options.cleared & PER_MOUNT & ~ACCESS_TIME)
    if (options.flags | options.cleared) & ACCESS_TIME:
        clear |= MOUNT_ATTR__ATIME
    return attributes(options.flags & PER_MOUNT), clear


def _remount(options: MountOptions, target: str, origin: str) -> ops.Op:
    set, clear = _attributes(options)
    return ops.Attributes(target, set, clear, False, origin)


def _host_sysfs(options: MountOptions, target: str, origin: str, context: Context) -> ops.Op:
    """sysfs shows a network namespace; a user namespace may only mount that of one of its own.

    What the host has mounted below, such as its cgroups, becomes read-only with it (CVE-2023-25809).
    """
    return ops.Bind(
        "/sys",
        target,
        recursive=True,
        set=_attributes(options)[0] | MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
        recursive_attributes=True,
        handed=context.handed,
        slave=MS_SLAVE | MS_REC,
        origin=origin,
    )


def _file_system(mount: Mount, options: MountOptions, target: str, origin: str, context: Context) -> ops.Op:
    fstype = mount.type or ""
    data = options.data
    if fstype == "proc" and context.pid_path:
        data = f"{data},pidns={context.pid_path}" if data else f"pidns={context.pid_path}"
    has_mode = any(option.startswith("mode=") for option in data.split(","))
    return ops.Mount(
        mount.source or fstype or "none",
        target,
        fstype,
        options.flags,
        data,
        options.propagation,
        plain=fstype in ("proc", "sysfs") or target == "/dev" or target.startswith("/dev/"),
        copy_mode=fstype == "tmpfs" and not has_mode,
        origin=origin,
    )


def _cgroup(options: MountOptions, target: str, origin: str, context: Context) -> list[ops.Op]:
    """Cgroup v1: a tmpfs with a mount for each hierarchy, and links for controllers that share one."""
    flags = options.flags
    plan: list[ops.Op] = [
        ops.Mount("tmpfs", target, "tmpfs", flags & ~MS_RDONLY & ~MS_REC, "mode=755", origin=origin),
    ]
    directories = dict(context.cgroup_paths)
    for hierarchy in context.hierarchies:
        name = hierarchy.mountpoint.rpartition("/")[2]
        directory = directories.get(hierarchy.controllers[0])
        if directory is None:
            continue
        place = f"{target}/{name}"
        if context.own_cgroup:
            plan.append(ops.Mount("cgroup", place, "cgroup", flags & ~MS_REC, _v1_data(hierarchy), origin=origin))
        else:
            set, clear = _attributes(options)
            slave = MS_SLAVE | MS_REC
            bind = ops.Bind(directory, place, True, set, clear, handed=context.handed, slave=slave, origin=origin)
            plan.append(replace(bind, optional=context.lenient))
        plan += [
            ops.Symlink(name, f"{target}/{controller}")
            for controller in hierarchy.controllers
            if controller != name and not controller.startswith("name=")
        ]
    if flags & MS_RDONLY:
        plan.append(ops.Attributes(target, MOUNT_ATTR_RDONLY, origin=origin))
    return plan


def _v1_data(hierarchy: Hierarchy) -> str:
    names = ",".join(hierarchy.controllers)
    return f"none,{names}" if names.startswith("name=") else names
