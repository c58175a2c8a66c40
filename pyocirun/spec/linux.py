"""linux: what only Linux has (config-linux.md); resources and seccomp have modules of their own."""

from __future__ import annotations

from pyocirun import files
from pyocirun.linux.namespaces import FLAGS
from pyocirun.record import Record
from pyocirun.spec import reader
from pyocirun.spec.reader import INT64, UINT32, child, fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyocirun.linux.idmap import IDMapping
    from pyocirun.spec.resources import Resources
    from pyocirun.spec.seccomp import Seccomp


class Namespace(Record):
    """A namespace to make, or with a path, to join. type: a key of `linux.namespaces.FLAGS`.  path: absolute."""

    type: str
    path: str | None = None


class Device(Record):
    """A device node to make. type: "c", "b", "u" or "p".  major, minor: None only for "p".  file_mode: permission bits.

    file_mode None is 0666, uid and gid None are the container's root.
    """

    type: str
    path: str
    major: int | None = None
    minor: int | None = None
    file_mode: int | None = None
    uid: int | None = None
    gid: int | None = None


class TimeOffset(Record):
    """What to add to a clock. nanosecs: 0..999999999."""

    secs: int = 0
    nanosecs: int = 0


class NetDevice(Record):
    """A network device to move into the container. name: its name there, None if it keeps it."""

    name: str | None = None


class IntelRdt(Record):
    """resctrl. clos_id: None is the container's id.  l3_cache_schema, mem_bw_schema, schemata: lines to write."""

    clos_id: str | None = None
    l3_cache_schema: str | None = None
    mem_bw_schema: str | None = None
    schemata: tuple[str, ...] = ()
    enable_monitoring: bool = False


class MemoryPolicy(Record):
    """set_mempolicy(2). mode, flags: keys of `linux.sched.MEMORY_MODES` and MEMORY_FLAGS.  nodes: "0-3,7"."""

    mode: str
    nodes: str | None = None
    flags: tuple[str, ...] = ()


class Personality(Record):
    """personality(2). domain: "LINUX" or "LINUX32".  flags: none is known, they are ignored."""

    domain: str
    flags: tuple[str, ...] = ()


class Linux(Record):
    """The linux section; that of a config without one is Linux().

    masked_paths, readonly_paths: None if absent.  rootfs_propagation: a key of `linux.mounts.PROPAGATION`, or None.
    cgroups_path: as written, None if absent.
    """

    namespaces: tuple[Namespace, ...] = ()
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()
    devices: tuple[Device, ...] = ()
    cgroups_path: str | None = None
    resources: Resources | None = None
    seccomp: Seccomp | None = None
    rootfs_propagation: str | None = None
    masked_paths: tuple[str, ...] | None = None
    readonly_paths: tuple[str, ...] | None = None
    mount_label: str | None = None
    sysctl: dict[str, str] = {}
    time_offsets: dict[str, TimeOffset] = {}
    net_devices: dict[str, NetDevice] = {}
    intel_rdt: IntelRdt | None = None
    memory_policy: MemoryPolicy | None = None
    personality: Personality | None = None

    def namespace(self, type: str) -> Namespace | None:
        """The namespace of this type, None if the container stays in the runtime's."""
        for namespace in self.namespaces:
            if namespace.type == type:
                return namespace
        return None


PERSONALITY_DOMAINS = ("LINUX", "LINUX32")
PROPAGATIONS = ("shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable")


def parse_linux(fields: dict[str, Any], at: str = "/linux", annotations: dict[str, str] | None = None) -> Linux:
    """The linux section in an object. annotations: of the container; some concern seccomp.  Raises SpecError."""
    linux = Linux(
        namespaces=reader.records(fields, "namespaces", at, _namespace) or (),
        uid_mappings=parse_id_mappings(fields, "uidMappings", at),
        gid_mappings=parse_id_mappings(fields, "gidMappings", at),
        devices=reader.records(fields, "devices", at, _device) or (),
        cgroups_path=reader.optional_string(fields, "cgroupsPath", at),
        resources=_resources(fields, at),
        seccomp=_seccomp(fields, at, annotations or {}),
        rootfs_propagation=_rootfs_propagation(fields, at),
        masked_paths=reader.paths(fields, "maskedPaths", at),
        readonly_paths=reader.paths(fields, "readonlyPaths", at),
        mount_label=reader.optional_string(fields, "mountLabel", at),
        sysctl=reader.string_map(fields, "sysctl", at),
        time_offsets=_time_offsets(fields, at),
        net_devices=_net_devices(fields, at),
        intel_rdt=_intel_rdt(fields, at),
        memory_policy=_memory_policy(fields, at),
        personality=_personality(fields, at),
    )
    _check_namespaces(linux, at)
    return linux


def parse_id_mappings(fields: dict[str, Any], key: str, at: str) -> tuple[IDMapping, ...]:
    """An array of id mappings that the kernel can take; () if absent."""
    if fields.get(key) is None:
        return ()
    from pyocirun.linux import idmap

    mappings = reader.records(fields, key, at, _id_mapping) or ()
    wrong = idmap.fault(mappings)
    if wrong is not None:
        index, text = wrong
        raise fault(child(child(at, key), index) if index >= 0 else child(at, key), text)
    return mappings


def _id_mapping(value: Any, at: str) -> IDMapping:
    from pyocirun.linux.idmap import IDMapping

    fields = reader.fields(value, at)
    return IDMapping(*[reader.integer(fields, key, at, 0, UINT32) for key in ("containerID", "hostID", "size")])


def _namespace(value: Any, at: str) -> Namespace:
    fields = reader.fields(value, at)
    type = reader.string(fields, "type", at)
    if type not in FLAGS:
        raise fault(child(at, "type"), f'namespace "{type}" does not exist')
    path = reader.optional_string(fields, "path", at)
    if path is not None and not path.startswith("/"):
        raise fault(child(at, "path"), "the path of a namespace must be absolute")
    return Namespace(type, path)


def _check_namespaces(linux: Linux, at: str) -> None:
    """What namespaces there are against what needs them."""
    types: dict[str, Namespace] = {}
    for index, namespace in enumerate(linux.namespaces):
        if namespace.type in types:
            text = f'malformed spec file: duplicated ns "{namespace.type}"'
            raise fault(child(child(at, "namespaces"), index), text)
        types[namespace.type] = namespace
    _check_user_namespace(linux, types.get("user"), at)
    time = types.get("time")
    if linux.time_offsets and time is None:
        text = "time namespace offsets specified, but time namespace isn't enabled in the config"
        raise fault(child(at, "timeOffsets"), text)
    if linux.time_offsets and time is not None and time.path is not None:
        text = "time namespace enabled, but both namespace path and time offsets specified -- you may only provide one"
        raise fault(child(at, "timeOffsets"), text)
    for key, paths in (("maskedPaths", linux.masked_paths), ("readonlyPaths", linux.readonly_paths)):
        if paths and "mount" not in types:
            raise fault(child(at, key), "unable to restrict sys entries without a private MNT namespace")
    for index, path in enumerate(linux.masked_paths or ()):
        if files.absolute(path) == "/":
            raise fault(child(child(at, "maskedPaths"), index), "the root of the container cannot be masked")
    if linux.net_devices and "network" not in types:
        raise fault(child(at, "netDevices"), "unable to move network devices without a NET namespace")


def _check_user_namespace(linux: Linux, user: Namespace | None, at: str) -> None:
    has_mappings = bool(linux.uid_mappings or linux.gid_mappings)
    if user is None and has_mappings:
        text = "user namespace mappings specified, but user namespace isn't enabled in the config"
        raise fault(child(at, "uidMappings" if linux.uid_mappings else "gidMappings"), text)
    if user is not None and user.path is None and not has_mappings:
        text = "user namespaces enabled, but no namespace path to join nor mappings to apply specified"
        raise fault(child(at, "namespaces"), text)


def _device(value: Any, at: str) -> Device:
    from pyocirun.spec.process import MAX_ID

    fields = reader.fields(value, at)
    type = reader.choice(fields, "type", at, ("c", "b", "u", "p"), "invalid device type")
    number = reader.optional_integer if type == "p" else reader.integer
    device = Device(
        type,
        reader.string(fields, "path", at),
        # Linux has 12 bits for the major and 20 for the minor number.
        number(fields, "major", at, 0, (1 << 12) - 1),
        number(fields, "minor", at, 0, (1 << 20) - 1),
        reader.optional_integer(fields, "fileMode", at, 0, UINT32),
        reader.optional_integer(fields, "uid", at, 0, MAX_ID),
        reader.optional_integer(fields, "gid", at, 0, MAX_ID),
    )
    if not device.path.startswith("/"):
        raise fault(child(at, "path"), "the path of a device must be absolute")
    return device


def _resources(fields: dict[str, Any], at: str) -> Resources | None:
    section = reader.section(fields, "resources", at)
    if section is None:
        return None
    from pyocirun.spec.resources import parse_resources

    return parse_resources(section, child(at, "resources"))


def _seccomp(fields: dict[str, Any], at: str, annotations: dict[str, str]) -> Seccomp | None:
    section = reader.section(fields, "seccomp", at)
    if section is None:
        return None
    from pyocirun.spec.seccomp import parse_seccomp

    return parse_seccomp(section, child(at, "seccomp"), annotations)


def _rootfs_propagation(fields: dict[str, Any], at: str) -> str | None:
    propagation = reader.optional_string(fields, "rootfsPropagation", at)
    if propagation is not None and propagation not in PROPAGATIONS:
        raise fault(child(at, "rootfsPropagation"), f"rootfsPropagation={propagation} is not supported")
    return propagation


def _time_offsets(fields: dict[str, Any], at: str) -> dict[str, TimeOffset]:
    offsets = reader.record_map(fields, "timeOffsets", at, _time_offset)
    for clock in offsets:
        if clock not in ("monotonic", "boottime"):
            raise fault(child(child(at, "timeOffsets"), clock), "the clock must be monotonic or boottime")
    return offsets


def _time_offset(value: Any, at: str) -> TimeOffset:
    fields = reader.fields(value, at)
    return TimeOffset(
        reader.optional_integer(fields, "secs", at, -INT64 - 1, INT64) or 0,
        reader.optional_integer(fields, "nanosecs", at, 0, 999_999_999) or 0,
    )


def _net_devices(fields: dict[str, Any], at: str) -> dict[str, NetDevice]:
    devices = reader.record_map(fields, "netDevices", at, _net_device)
    for name in devices:
        _check_device_name(name, child(child(at, "netDevices"), name))
    return devices


def _net_device(value: Any, at: str) -> NetDevice:
    name = reader.optional_string(reader.fields(value, at), "name", at)
    if name is not None:
        _check_device_name(name, child(at, "name"))
    return NetDevice(name)


def _check_device_name(name: str, pointer: str) -> None:
    """What the kernel takes for an interface (dev_valid_name): 15 bytes, no slash, colon or white space."""
    if len(name.encode()) > 15 or name in (".", "..") or "/" in name or ":" in name or name.split() != [name]:
        raise fault(pointer, f'invalid network device name "{name}"')


def _intel_rdt(fields: dict[str, Any], at: str) -> IntelRdt | None:
    section = reader.section(fields, "intelRdt", at)
    if section is None:
        return None
    at = child(at, "intelRdt")
    rdt = IntelRdt(
        reader.optional_string(section, "closID", at),
        reader.optional_string(section, "l3CacheSchema", at),
        reader.optional_string(section, "memBwSchema", at),
        reader.strings(section, "schemata", at) or (),
        reader.boolean(section, "enableMonitoring", at),
    )
    if rdt.clos_id in (".", "..") or (rdt.clos_id != "/" and "/" in (rdt.clos_id or "")):
        raise fault(child(at, "closID"), f'invalid intelRdt.ClosID "{rdt.clos_id}"')
    for index, line in enumerate(rdt.schemata):
        if "\n" in line:
            raise fault(child(child(at, "schemata"), index), "must not contain a newline")
    if rdt.mem_bw_schema is not None and (not rdt.mem_bw_schema.startswith("MB:") or "\n" in rdt.mem_bw_schema):
        raise fault(child(at, "memBwSchema"), "must start with MB: and must not contain a newline")
    return rdt


def _memory_policy(fields: dict[str, Any], at: str) -> MemoryPolicy | None:
    section = reader.section(fields, "memoryPolicy", at)
    if section is None:
        return None
    from pyocirun.linux.sched import MEMORY_FLAGS, MEMORY_MODES, parse_list

    at = child(at, "memoryPolicy")
    policy = MemoryPolicy(
        reader.choice(section, "mode", at, MEMORY_MODES, "invalid memory policy mode"),
        reader.optional_string(section, "nodes", at),
        reader.strings(section, "flags", at) or (),
    )
    for index, flag in enumerate(policy.flags):
        if flag not in MEMORY_FLAGS:
            raise fault(child(child(at, "flags"), index), f'invalid memory policy flag "{flag}"')
    try:
        count = len(parse_list(policy.nodes or ""))
    except ValueError as error:
        raise fault(child(at, "nodes"), f'invalid memory policy nodes "{policy.nodes}": {error}') from None
    if policy.mode in ("MPOL_DEFAULT", "MPOL_LOCAL"):
        if count:
            raise fault(child(at, "nodes"), f"memory policy mode requires 0 nodes but got {count}")
    elif not count and policy.mode != "MPOL_PREFERRED":
        raise fault(child(at, "nodes"), "memory policy mode requires at least one node but got 0")
    return policy


def _personality(fields: dict[str, Any], at: str) -> Personality | None:
    section = reader.section(fields, "personality", at)
    if section is None:
        return None
    at = child(at, "personality")
    domain = reader.string(section, "domain", at)
    if domain not in PERSONALITY_DOMAINS:
        raise fault(child(at, "domain"), f"invalid personality domain {domain}")
    return Personality(domain, reader.strings(section, "flags", at) or ())
