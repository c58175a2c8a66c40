"""The `mounts` of config.json, each as the operations that make it."""

from __future__ import annotations

from pyocirun.errors import SpecError
from pyocirun.linux.mounts import (
    ACCESS_TIME,
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_NODIRATIME,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SHARED,
    MS_SILENT,
    MS_SLAVE,
    PER_MOUNT,
    PROPAGATION,
    attributes,
    parse_options,
)
from pyocirun.plan import ops
from pyocirun.record import Record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.linux.host import Hierarchy, Host
    from pyocirun.linux.mounts import MountOptions
    from pyocirun.plan.namespaces import Stages
    from pyocirun.plan.request import Request
    from pyocirun.spec.config import Spec
    from pyocirun.spec.mounts import Mount


UNLABELLED = ("proc", "sysfs", "mqueue", "cgroup")
"""SELinux knows these, or they are labelled afterwards: they take no context= option."""


LABEL_ANNOTATION = "run.oci.mount_context_type"
LABEL_OPTIONS = ("context", "fscontext", "defcontext", "rootcontext")


class Context(Record):
    """What a mount depends on besides itself.

    in_userns: it is made in a user namespace, the host's or the container's.
    handed: sources are opened by the parent, for a user namespace.  shared: rootfsPropagation wants sharing.
    own: types of the namespaces that there are, new or joined; joined: those of others.
    pid_path: of the pid namespace entered later, or "".  lenient: a cgroup that could not be made is not mounted.
    unified: the host has cgroup v2 alone.  label: linux.mountLabel, or "".
    label_option: the mount option that it is given by.
    """

    bundle: str
    rootfs: str
    cgroup_paths: tuple[tuple[str, str], ...]
    hierarchies: tuple[Hierarchy, ...]
    handed: bool
    shared: bool
    own: tuple[str, ...]
    joined: tuple[str, ...]
    pid_path: str
    in_userns: bool
    lenient: bool
    unified: bool
    label: str
    label_option: str

    @staticmethod
    def of(spec: Spec, host: Host, request: Request, stages: Stages) -> Context:
        """The context of one container."""
        propagation = spec.linux.rootfs_propagation
        user = spec.linux.namespace("user")
        return Context(
            request.bundle,
            request.rootfs,
            request.cgroup_paths,
            host.hierarchies,
            user is not None and host.hands_over,
            bool(propagation and PROPAGATION[propagation] & MS_SHARED),
            tuple([namespace.type for namespace in spec.linux.namespaces]),
            tuple([namespace.type for namespace in spec.linux.namespaces if namespace.path is not None]),
            stages.late_pid,
            host.in_userns or user is not None,
            not host.privileged,
            host.cgroup2_only,
            _checked_label(spec, host),
            _label_option(spec.annotations),
        )


def mounts(spec: Spec, context: Context) -> list[ops.Op]:
    """All mounts, in the order of the list. Spec: config.md#mounts."""
    plan: list[ops.Op] = []
    late = dict(late_readonly(spec, context.rootfs, context.unified))
    for index, mount in enumerate(spec.mounts):
        if index in late and mount.type == "tmpfs":
            mount = replace(mount, options=tuple([option for option in mount.options if option != "ro"]))
        made = mount_ops(mount, f"mounts[{index}]", f"/mounts/{index}", context)
        # The last step of a read-only cgroup mount is what makes it so.
        plan += made[:-1] if index in late and mount.type == "cgroup" else made
    return plan


def late_readonly(spec: Spec, rootfs: str, unified: bool) -> list[tuple[int, str]]:
    """Each tmpfs that is to be read-only, but only when what lies inside has been made: (its index, its target).

    unified: the host has cgroup v2 alone; else a mount of cgroups is such a tmpfs, too.
    """
    found: list[tuple[int, str]] = []
    for index, mount in enumerate(spec.mounts):
        if (
            mount.type not in (("tmpfs",) if unified else ("tmpfs", "cgroup"))
            or "ro" not in mount.options
            or not parse_options(mount.options).flags & MS_RDONLY
        ):
            continue
        target = target_of(mount, rootfs)
        later = [target_of(other, rootfs) for other in spec.mounts[index + 1 :]]
        inside = [*later, *[clean(device.path) for device in spec.linux.devices]]
        if target not in later and (target == "/dev" or any(path.startswith(f"{target}/") for path in inside)):
            found.append((index, target))
    return found


def target_of(mount: Mount, rootfs: str) -> str:
    """Where a mount goes, as the container sees it. A destination that begins with the rootfs, as the host sees it,
    means what follows: runc has it so, and there are callers that rely on it.
    """
    return beneath(mount.destination, rootfs) or clean(mount.destination)


def beneath(path: str, rootfs: str) -> str:
    """What of `path`, an absolute one of the host, is left below the rootfs; "" if it does not lie there."""
    path = clean(path)
    if path == rootfs:
        return "/"
    return path[len(rootfs) :] if path.startswith(f"{rootfs}/") else ""


def mount_ops(mount: Mount, origin: str, pointer: str, context: Context) -> list[ops.Op]:
    """One mount. origin: how errors name it."""
    options = parse_options(mount.options)
    target = target_of(mount, context.rootfs)
    _refuse(mount, options, target, pointer)
    flags = options.flags
    if flags & MS_REMOUNT:
        return _remount(options, target, origin)
    if _is_bind(mount, options):
        return _bind(mount, options, target, origin, pointer, context)
    if mount.type == "cgroup":
        return (_cgroup2 if context.unified else _cgroup)(options, target, origin, context)
    if context.in_userns and mount.type == "sysfs" and ("network" not in context.own or "network" in context.joined):
        # Of a network namespace that was joined, it may be the owner: the kernel knows.
        tried = _file_system(mount, options, target, origin, context) if "network" in context.own else []
        return [
            *(replace(op, or_else=True) for op in tried),
            _host_sysfs(options, target, origin, context, bool(tried)),
        ]
    if context.in_userns and mount.type == "mqueue" and "ipc" not in context.own:
        return [_host_bind("/dev/mqueue", options, target, origin, context)]
    if options.tmpcopyup:
        return _copied_up(mount, options, target, origin, context)
    return [*_file_system(mount, options, target, origin, context)]


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
    if options.flags & MS_REMOUNT:
        return
    bind = _is_bind(mount, options)
    if bind and not mount.source:
        raise SpecError(f"{pointer}/source: a bind mount needs a source", pointer=f"{pointer}/source")
    if (options.idmap or mount.uid_mappings) and not bind:
        raise SpecError(f"{pointer}: id-mapped mounts are only supported for bind-mounts", pointer=pointer)
    if target == "/proc" and mount.type != "proc" and not bind:
        raise SpecError(f'{pointer}: "{target}" cannot be mounted because it is not of type proc', pointer=pointer)
    if target.startswith("/proc/") and not ops.may_cover_procfs(target):
        raise SpecError(f'{pointer}: "{target}" cannot be mounted because it is inside /proc', pointer=pointer)


def _is_bind(mount: Mount, options: MountOptions) -> bool:
    return mount.type == "bind" or bool(options.flags & MS_BIND)


def _checked_label(spec: Spec, host: Host) -> str:
    label = spec.linux.mount_label
    if not label:
        return ""
    if "selinux" not in host.security_modules:
        text = "selinux label is specified in config, but selinux is disabled or not supported"
        raise SpecError(f"/linux/mountLabel: {text}", pointer="/linux/mountLabel", hint="leave it out on this host")
    if '"' in label:
        raise SpecError("/linux/mountLabel: a label has no quotes in it", pointer="/linux/mountLabel")
    return label


def _label_option(annotations: dict[str, str]) -> str:
    """As crun has it; mount(8) says what each does."""
    option = annotations.get(LABEL_ANNOTATION, "context")
    if option not in LABEL_OPTIONS:
        pointer = f"/annotations/{LABEL_ANNOTATION}"
        text = f"invalid mount context type `{option}` (must be one of: {', '.join(LABEL_OPTIONS)})"
        raise SpecError(f"{pointer}: {text}", pointer=pointer)
    return option


def _labelled(data: str, context: Context) -> str:
    """The options with the SELinux context, in quotes for its commas; one that is there already stays."""
    option = f"{context.label_option}="
    if not context.label or data.startswith(option) or f",{option}" in data:
        return data
    label = f'{option}"{context.label}"'
    return f"{data},{label}" if data else label


def _bind(
    mount: Mount, options: MountOptions, target: str, origin: str, pointer: str, context: Context
) -> list[ops.Op]:
    if options.data:
        text = f"bind mounts cannot have any filesystem-specific options applied: {options.data}"
        raise SpecError(f"{pointer}/options: {text}", pointer=f"{pointer}/options")
    source = mount.source or ""
    if not source.startswith("/"):
        source = f"{context.bundle}/{source}"
    set, clear = _bind_attributes(options, context)
    sharing = any(flags & MS_SHARED for flags in options.propagation) or context.shared
    idmap = _idmap(mount, options, pointer, context) if options.idmap or mount.uid_mappings else None
    bind = ops.Bind(
        source,
        target,
        recursive=bool(options.flags & MS_REC),
        set=set,
        clear=clear,
        propagation=options.propagation,
        rec_set=options.rec_set | _hosts_sys(source, options, context),
        rec_clear=options.rec_clear,
        handed=context.handed or idmap is not None,
        slave=0 if sharing else MS_SLAVE | MS_REC,
        idmap=idmap,
        locked=context.handed,
        origin=origin,
    )
    inside = beneath(source, context.rootfs)
    return _inner_bind(bind, inside) if inside else [bind]


def _inner_bind(bind: ops.Bind, inside: str) -> list[ops.Op]:
    """A bind of something in the container's own root: as it is when its turn has come, with what is mounted there.

    Links of the image count from the container's root, so this never leads out of it.
    """
    inner = replace(bind, source=inside, handed=False, slave=0, idmap=None)
    if bind.idmap is None:
        return [replace(inner, inside=True)]
    return [
        ops.HoldTree(inside, bind.recursive, bind.idmap, bind.origin),
        ops.Sync("map-ids"),
        replace(inner, held=True),
    ]


def _hosts_sys(source: str, options: MountOptions, context: Context) -> int:
    """Where no sysfs may be mounted, the host's is bound; read-only then means the host's cgroups below it as well."""
    bound = clean(source) == "/sys" and options.flags & MS_REC and options.flags & MS_RDONLY
    return MOUNT_ATTR_RDONLY if bound and context.in_userns else 0


def _idmap(mount: Mount, options: MountOptions, pointer: str, context: Context) -> ops.Idmap:
    """The mount's own mappings, else the container's. Without the option, mappings mean `idmap`."""
    recursive = options.idmap == "ridmap"
    if context.lenient:
        text = "id-mapped mounts are not supported for rootless containers"
        raise SpecError(f"{pointer}: {text}", pointer=pointer, hint="the kernel wants root of the whole machine")
    if mount.uid_mappings:
        from pyocirun.linux.idmap import format_map

        return ops.Idmap(format_map(mount.uid_mappings), format_map(mount.gid_mappings), recursive)
    if "user" not in context.own:
        text = f"{options.idmap} needs uidMappings and gidMappings of the mount, or a user namespace"
        raise SpecError(f"{pointer}/options: {text}", pointer=f"{pointer}/options")
    return ops.Idmap(recursive=recursive)


def _bind_attributes(options: MountOptions, context: Context) -> tuple[int, int]:
    """attr_set, attr_clr. As runc and crun have it: with any option, what is not named is taken away.

    So a remount by mount(2) does, and keeps the access time unless an option is about it. Without an option all stays
    as the source has it. In a user namespace so does what no option names, but nosymfollow: the rest is locked there.
    """
    set, clear = _attributes(options)
    if not (options.flags | options.cleared) & ~(MS_BIND | MS_REC):
        return set, clear
    if context.in_userns:
        return set, (clear | MOUNT_ATTR_NOSYMFOLLOW) & (~set | MOUNT_ATTR__ATIME)
    clear |= attributes(PER_MOUNT & ~(ACCESS_TIME | MS_NODIRATIME))
    if options.flags & (ACCESS_TIME | MS_NODIRATIME):
        clear |= MOUNT_ATTR__ATIME | attributes(MS_NODIRATIME)
    return set, clear & (~set | MOUNT_ATTR__ATIME)


def _attributes(options: MountOptions) -> tuple[int, int]:
    """attr_set, attr_clr of what options name, and no more."""
    clear = attributes(options.cleared & PER_MOUNT & ~ACCESS_TIME)
    if (options.flags | options.cleared) & ACCESS_TIME:
        clear |= MOUNT_ATTR__ATIME
    return attributes(options.flags & PER_MOUNT), clear


def _remount(options: MountOptions, target: str, origin: str) -> list[ops.Op]:
    """What the options name of the mount changes, and all of the file system's, where there are any of those."""
    plan: list[ops.Op] = []
    if options.data or options.flags & ~(PER_MOUNT | MS_REMOUNT | MS_BIND | MS_REC | MS_SILENT):
        return [ops.Remount(target, options.flags, options.data, origin)]
    set, clear = _attributes(options)
    plan.append(ops.Attributes(target, set, clear, False, options.propagation, origin))
    if options.rec_set or options.rec_clear:
        plan.append(ops.Attributes(target, options.rec_set, options.rec_clear, True, origin=origin))
    return plan


def _host_sysfs(options: MountOptions, target: str, origin: str, context: Context, instead: bool) -> ops.Op:
    """sysfs shows a network namespace; a user namespace may only mount that of one of its own.

    What the host has mounted below, such as its cgroups, becomes read-only with it (CVE-2023-25809).
    """
    bind = _host_bind("/sys", options, target, origin, context)
    forced = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
    return replace(bind, recursive=True, set=0, clear=0, rec_set=bind.set | forced, instead=instead)


def _host_bind(source: str, options: MountOptions, target: str, origin: str, context: Context) -> ops.Bind:
    """What the host has mounted, in the place of a file system that may not be mounted anew."""
    set, clear = _attributes(options)
    slave = MS_SLAVE | MS_REC
    return ops.Bind(
        source, target, False, set, clear, options.propagation, handed=context.handed, slave=slave, origin=origin
    )


def _file_system(
    mount: Mount, options: MountOptions, target: str, origin: str, context: Context
) -> list[ops.Mount | ops.Relabel]:
    fstype = mount.type or ""
    data = options.data
    if fstype == "proc" and context.pid_path:
        data = f"{data},pidns={context.pid_path}" if data else f"pidns={context.pid_path}"
    if fstype not in UNLABELLED:
        data = _labelled(data, context)
    has_mode = any(option.startswith("mode=") for option in data.split(","))
    made = ops.Mount(
        mount.source or fstype or "none",
        target,
        fstype,
        options.flags,
        data,
        options.propagation,
        plain=fstype in ("proc", "sysfs") or target == "/dev" or target.startswith("/dev/"),
        copy_mode=fstype == "tmpfs" and not has_mode,
        rec_set=options.rec_set,
        rec_clear=options.rec_clear,
        origin=origin,
    )
    if fstype == "mqueue" and context.label:
        return [made, ops.Relabel(target, context.label, origin)]
    return [made]


def _copied_up(mount: Mount, options: MountOptions, target: str, origin: str, context: Context) -> list[ops.Op]:
    """A tmpfs with what it covers. The parent fills it before anybody can see it, so it is closed only afterwards."""
    made = _file_system(mount, options, target, origin, context)[0]
    assert type(made) is ops.Mount
    readonly = MOUNT_ATTR_RDONLY if options.flags & MS_RDONLY else 0
    return [
        replace(made, flags=made.flags & ~MS_RDONLY, copy_up=True),
        ops.Sync("copy-from"),
        ops.Sync("copy-up"),
        ops.Attach(target, readonly, options.rec_set, options.rec_clear, options.propagation, origin),
    ]


def _cgroup2(options: MountOptions, target: str, origin: str, context: Context) -> list[ops.Op]:
    """Cgroup v2: the file system itself begins at the root of a cgroup namespace. Without one, or where it is another
    user namespace's, the container's own cgroup is bound; nothing above it is ever seen (CVE-2023-25809).
    """
    plan: list[ops.Op] = []
    if "cgroup" in context.own:
        data = _labelled(options.data, context)
        flags = options.flags & ~MS_REC
        plan.append(
            ops.Mount("cgroup", target, "cgroup2", flags, data, options.propagation, or_else=True, origin=origin)
        )
    directory = dict(context.cgroup_paths).get("")
    if directory is None:
        return [replace(op, or_else=False) for op in plan]
    return [*plan, _own_cgroup(directory, options, target, origin, context, instead=bool(plan))]


def _own_cgroup(
    directory: str, options: MountOptions, target: str, origin: str, context: Context, *, instead: bool = False
) -> ops.Op:
    """The container's own cgroup; read-only in any case if it is not root's and there is no namespace around it."""
    # Where it may be missing, nsexec looks for it: everybody reaches cgroups.
    reachable = replace(context, handed=context.handed and not context.lenient)
    bind = _host_bind(directory, options, target, origin, reachable)
    closed = MOUNT_ATTR_RDONLY if context.lenient and "cgroup" not in context.own else 0
    return replace(bind, recursive=True, set=bind.set | closed, optional=context.lenient, instead=instead)


def _cgroup(options: MountOptions, target: str, origin: str, context: Context) -> list[ops.Op]:
    """Cgroup v1: a tmpfs with a mount for each hierarchy, and links for controllers that share one."""
    flags = options.flags
    data = _labelled("mode=755", context)
    plan: list[ops.Op] = [
        ops.Mount("tmpfs", target, "tmpfs", flags & ~MS_RDONLY & ~MS_REC, data, options.propagation, origin=origin),
    ]
    directories = dict(context.cgroup_paths)
    for hierarchy in context.hierarchies:
        name = hierarchy.mountpoint.rpartition("/")[2]
        directory = directories.get(hierarchy.controllers[0])
        if directory is None:
            continue
        place = f"{target}/{name}"
        if "cgroup" in context.own:
            plan.append(ops.Mount("cgroup", place, "cgroup", flags & ~MS_REC, _v1_data(hierarchy), origin=origin))
        else:
            plan.append(_own_cgroup(directory, replace(options, propagation=()), place, origin, context))
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
