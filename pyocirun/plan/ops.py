"""The operations that a plan is made of, one Record each, and the order in which nsexec numbers them.

An operation either runs in nsexec (`wire` is its name there) or in the parent (`wire` is ""). The parent runs its
own where they stand: those before `Clone` first, later ones while nsexec waits in the `Sync` that follows them.
"""

from __future__ import annotations

from pyocirun.linux.mounts import MS_REC, MS_SLAVE, PROPAGATION, flag_names
from pyocirun.linux.namespaces import FLAGS, type_names
from pyocirun.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import ClassVar

    from pyocirun.cgroup.properties import Property
    from pyocirun.cgroup.unit import Unit
    from pyocirun.cgroup.v1 import Write
    from pyocirun.plan.seccomp import Filter
    from pyocirun.spec.hooks import Hook

    Field = str | int | tuple[str, ...] | tuple[int, ...]

NO_SLOT = (1 << 64) - 1
LONGEST_MS = 1 << 40
TREES_AT_ONCE = 200
"""A message takes 253 descriptors, see unix(7)."""

# Bits that csrc/plan.h explains.
PLAIN_DIRECTORY = 1
RECURSIVE = 2
RECURSIVE_ATTRIBUTES = 4
OPTIONAL = 8
COPY_MODE = 16
PROC_ONLY = 32
IN_PROC = 64
LOCKED = 128
COPY_UP = 256
OR_ELSE = 512
INSTEAD = 1024
INSIDE = 2048
HELD = 4096
CWD_TOLERANT = 1
CWD_OF_HOST = 2
HOOK_IN_ROOT = 1
HOOK_HAS_PROCESS_ENV = 2
HOOK_UNDER_FILTER = 4
AFFINITY_OPTIONAL = 1
KEEP_IF_DENIED = 2
JOIN_ATTEMPT = 1 << 63

LANDLOCK = "org.pyocirun.landlock"
"""The annotation that has a Landlock ruleset: known here, so that what reads it is loaded only where it is there."""

PROC_FILES = frozenset(
    ("cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo")
    + ("sys/kernel/ns_last_pid", "sys/crypto/fips_enabled")
)
"""What a mount may cover in /proc (lxcfs does); anything else there could fake what security modules rely on."""

WIRE: tuple[tuple[str, str], ...] = (
    ("clone", "u"),
    ("sync", "u"),
    ("join", "uu"),
    ("unshare", "u"),
    ("fork", "u"),
    ("become_root", "u"),
    ("oom_score_adj", "s"),
    ("undumpable", ""),
    ("session", ""),
    ("keyring", "s"),
    ("join_cgroup", "nu"),
    ("loopback", ""),
    ("propagation", "su"),
    ("rootfs", "su"),
    ("mount", "sssusnuuu"),
    ("bind", "ssuuuuunu"),
    ("attributes", "suunu"),
    ("node", "suuuu"),
    ("symlink", "ssu"),
    ("sysctl", "ss"),
    ("pivot_root", ""),
    ("move_root", ""),
    ("chroot", "s"),
    ("enter_root", "u"),
    ("root_propagation", "u"),
    ("reopen_null", ""),
    ("mask_path", "s"),
    ("readonly_path", "s"),
    ("hostname", "s"),
    ("domainname", "s"),
    ("umask", "u"),
    ("home", ""),
    ("make_cwd", "s"),
    ("stdio_owner", "u"),
    ("no_new_privs", ""),
    ("bounding", "u"),
    ("user", "uunu"),
    ("capabilities", "uuu"),
    ("ambient", "u"),
    ("cwd", "su"),
    ("rlimit", "uuu"),
    ("resolve", "ss"),
    ("hook", "saauuuu"),
    ("exec", "aa"),
    ("finish", ""),
    ("affinity", "nu"),
    ("scheduler", "uuuuuuu"),
    ("io_priority", "u"),
    ("personality", "u"),
    ("memory_policy", "un"),
    ("private_proc", ""),
    ("attribute", "sss"),
    ("seccomp", "nu"),
    ("terminal", "uuu"),
    ("attach", "uuun"),
    ("remount", "sus"),
    ("relabel", "ss"),
    ("hold_tree", "su"),
    ("pass", "u"),
    ("ruleset", "uuu"),
    ("allow_path", "suu"),
    ("allow_port", "uu"),
    ("restrict", ""),
)
"""nsexec's operations, in the order of their codes, with the kinds of their fields; csrc/plan.h has the same table."""

SYNC_KINDS = {
    "created": 1,
    "start": 2,
    "exec": 3,
    "hooks": 4,
    "seccomp": 5,
    "copy-from": 6,
    "copy-up": 7,
    "net-devices": 8,
    "map-ids": 7,  # it sends the same: the mount that is attached nowhere yet
}


class Idmap(Record):
    """How a mount maps ids.

    uid_map, gid_map: lines of "inside outside count"; both "": as the container's user namespace does.
    recursive: the mounts below have it too.
    """

    uid_map: str = ""
    gid_map: str = ""
    recursive: bool = False

    def describe(self) -> str:
        return f"idmapped by uids {'; '.join(self.uid_map.splitlines())}" if self.uid_map else "idmapped"


class Slot(Record):
    """A descriptor that nsexec needs: what it is of, and when it gets it.

    kind: "gate", "report", "stamps"; "output": path is a file that hooks print to; "pidfd", "root": of init; "cgroup":
    path is the file of a cgroup that takes processes; "passed": path says what it is of; "namespace": path is a
    namespace file; "tree": a detached copy of the mount tree at path, which serves one mount only: user says which.
    late: it comes with the GO of `Sync("sources")`, else at launch.  idmap: its files have owners by the maps of a user
    namespace; None: by none.
    """

    kind: str
    path: str = ""
    recursive: bool = False
    propagation: int = 0
    user: str = ""
    idmap: Idmap | None = None

    @property
    def late(self) -> bool:
        return self.kind == "tree"


class Op(Record):
    """One step. describe() says what it does, as an error would: "mount proc on /proc"."""

    wire: ClassVar[str] = ""

    def describe(self) -> str:
        raise NotImplementedError

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        """The fields in the order of the wire's signature."""
        raise NotImplementedError

    def slot(self) -> Slot | None:
        """The descriptor that it needs, if any."""
        return None

    def slots(self) -> tuple[Slot, ...]:
        """All descriptors that it needs."""
        slot = self.slot()
        return () if slot is None else (slot,)


class StartUnit(Op):
    """Have systemd start the container's unit, with a process that keeps it until the container's own is there."""

    unit: Unit
    properties: tuple[Property, ...]

    def describe(self) -> str:
        manager = "the user's systemd" if self.unit.user else "systemd"
        what = ", ".join(map(str, self.properties))
        return f"have {manager} start {self.unit.name} in {self.unit.slice}: {what}"


class JoinUnit(Op):
    """Have systemd move the process into the unit: the caller may not.  subgroup: below the unit's cgroup."""

    unit: Unit
    subgroup: str = ""

    def describe(self) -> str:
        return f"have systemd move the process into {self.unit.name}" + (f"/{self.subgroup}" if self.subgroup else "")


class MakeCgroup(Op):
    """Make the container's cgroup: paths are (controller, directory)."""

    paths: tuple[tuple[str, str], ...]

    def describe(self) -> str:
        return "make cgroups " + ", ".join(sorted({path for _, path in self.paths}))


class WriteCgroup(Op):
    """Put the limits of linux.resources in force."""

    writes: tuple[Write, ...]

    def describe(self) -> str:
        return "write " + ", ".join(f"{write.file}={write.value}" for write in self.writes)


class AttachDevices(Op):
    """Put device rules in force for the cgroup v2. program: see cgroup/ebpf.py.  optional: a refusal is a warning."""

    program: bytes
    optional: bool = False

    def describe(self) -> str:
        return f"attach a device program of {len(self.program) // 8} instructions"


class DelegateCgroup(Op):
    """Give the cgroup v2 to the container's root. uid: as the host sees it."""

    uid: int

    def describe(self) -> str:
        return f"give the cgroup to user {self.uid}"


class MakeRdtGroup(Op):
    """Make a resctrl group, or find it. lines: of its schemata.  monitor: its monitoring group, "" for none.

    must_exist: it is not made.  own: it is the container's alone, and ends with it.
    """

    path: str
    lines: tuple[str, ...] = ()
    monitor: str = ""
    must_exist: bool = False
    own: bool = False

    def describe(self) -> str:
        verb = "find" if self.must_exist else "make"
        monitor = f", monitored in {self.monitor}" if self.monitor else ""
        return f"{verb} resctrl group {self.path}{' with ' + ', '.join(self.lines) if self.lines else ''}{monitor}"


class JoinRdtGroup(Op):
    """Put the process into its resctrl group."""

    path: str
    monitor: str = ""

    def describe(self) -> str:
        return f"join resctrl group {self.monitor or self.path}"


class Clone(Op):
    """Start nsexec, in new namespaces where that can be done at once.

    flags: CLONE_NEW*.  cgroup: directory of the cgroup v2 that it starts in; "" for the caller's.
    required: a refusal of the cgroup is an error; else it is passed over.
    """

    wire = "clone"
    flags: int
    cgroup: str = ""
    required: bool = False

    def describe(self) -> str:
        new = type_names(self.flags)
        where = f", in cgroup {self.cgroup}" if self.cgroup else ""
        return (f"start nsexec in new {', '.join(new)} namespaces" if new else "start nsexec") + where

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.flags,)


class JoinCgroup(Op):
    """Move into cgroups. directories: of the cgroups.  optional: a refusal is no failure.  file: who is in them."""

    wire = "join_cgroup"
    directories: tuple[str, ...]
    optional: bool = False
    file: str = "tasks"

    def describe(self) -> str:
        return "join cgroup " + ", ".join(self.directories)

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (tuple([slots[slot] for slot in self.slots()]), int(self.optional))

    def slots(self) -> tuple[Slot, ...]:
        return tuple([Slot("cgroup", f"{directory}/{self.file}") for directory in self.directories])


class LeaveCgroup(JoinCgroup):
    """Move out of the cgroup again, so that the set-up is not charged to it. directories: where to."""

    def describe(self) -> str:
        return "go back to cgroup " + ", ".join(self.directories)


class WriteIdMaps(Op):
    """Map the ids of the new user namespace, as user_namespaces(7) has it. Maps are lines of "inside outside count".

    uid_helper, gid_helper: by newuidmap(1), newgidmap(1), for ids that are not the caller's.
    """

    uid_map: str
    gid_map: str
    deny_setgroups: bool = False
    uid_helper: bool = False
    gid_helper: bool = False

    def describe(self) -> str:
        uids = "; ".join(self.uid_map.splitlines()) + (" by newuidmap" if self.uid_helper else "")
        gids = "; ".join(self.gid_map.splitlines()) + (" by newgidmap" if self.gid_helper else "")
        return f"map uids {uids}, gids {gids}" + (", deny setgroups" if self.deny_setgroups else "")


class WriteTimeOffsets(Op):
    """Shift the clocks of a new time namespace that nobody has entered yet.

    text: lines of "clock seconds nanoseconds", see time_namespaces(7).
    """

    text: str

    def describe(self) -> str:
        return f"shift clocks: {'; '.join(self.text.splitlines())}"


class MoveNetDevices(Op):
    """Move network devices of the host into the container: (name on the host, name in the container)."""

    devices: tuple[tuple[str, str], ...]

    def describe(self) -> str:
        shown = [name if name == wanted else f"{name} as {wanted}" for name, wanted in self.devices]
        return f"move network devices {', '.join(shown)}"


class SetRlimit(Op):
    """Set a resource limit of the container's process by prlimit(2). soft, hard: 2**64 - 1 is no limit."""

    type: str
    resource: int
    soft: int
    hard: int

    def describe(self) -> str:
        return f"set {self.type} soft {_limit(self.soft)} hard {_limit(self.hard)}"


class LowerRlimit(SetRlimit):
    """The same by nsexec itself, at the end: for a limit so low that the set-up would suffer."""

    wire = "rlimit"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.resource, self.soft, self.hard)


class OwnRlimit(LowerRlimit):
    """The same by nsexec itself, at once: where no user namespace is in between, it may do what the parent may."""


class RunHooks(Op):
    """Run the hooks of one kind in the runtime's namespaces."""

    kind: str
    count: int

    def describe(self) -> str:
        return f"run {self.count} {self.kind} hook{'' if self.count == 1 else 's'}"


class OpenSources(Op):
    """Open mount trees that the ids of the container's user namespace may not reach."""

    trees: tuple[Slot, ...]

    def describe(self) -> str:
        return "open " + ", ".join(tree.path for tree in self.trees)


class ConnectAgent(Op):
    """Connect to the agent that answers system calls. path: linux.seccomp.listenerPath."""

    path: str

    def describe(self) -> str:
        return f"connect to the seccomp agent at {self.path}"


class SaveState(Op):
    """Write the state of the created container to state.json."""

    def describe(self) -> str:
        return "save the state"


class Sync(Op):
    """nsexec waits here until the parent has done what stands before.

    point: "unit", "id-maps", "sources", "copy-from", "copy-up", "map-ids", "hooks:KIND", "rlimits", "seccomp",
    "net-devices", "time-offsets", "created", "start", "exec".
    """

    wire = "sync"
    point: str

    def describe(self) -> str:
        if self.point == "start":
            return "wait for start"
        if self.point == "exec":
            return "tell that everything is done"
        return f"wait for the parent: {self.point}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (SYNC_KINDS.get(self.point.partition(":")[0], 0),)


class JoinNamespace(Op):
    """Enter an existing namespace, named by a file.

    attempt: where that is not permitted, go on; the same join follows in the user namespace, unless this one worked.
    """

    wire = "join"
    type: str
    path: str
    attempt: bool = False

    def describe(self) -> str:
        return f"join the {self.type} namespace {self.path}{', if permitted by now' if self.attempt else ''}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (slots[self.slot()], FLAGS[self.type] | (JOIN_ATTEMPT if self.attempt else 0))

    def slot(self) -> Slot:
        return Slot("namespace", self.path)


class JoinContainer(Op):
    """Enter namespaces of the container's init, through its pidfd. flags: CLONE_NEW*."""

    wire = "join"
    flags: int

    def describe(self) -> str:
        return f"join the container's {', '.join(type_names(self.flags))} namespaces"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (slots[self.slot()], self.flags)

    def slot(self) -> Slot:
        return Slot("pidfd")


class Unshare(Op):
    """Enter new namespaces. flags: CLONE_NEW*."""

    wire = "unshare"
    flags: int

    def describe(self) -> str:
        return f"unshare {', '.join(type_names(self.flags))}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.flags,)


class Fork(Op):
    """Go on in a child (of the same parent) that is in these new namespaces, and in the pid namespace joined."""

    wire = "fork"
    flags: int = 0

    def describe(self) -> str:
        new = type_names(self.flags)
        return f"fork into new {', '.join(new)} namespaces" if new else "fork"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.flags,)


class BecomeRoot(Op):
    """Take uid and gid 0 of the user namespace. keep_groups: setgroups(2) is denied there.

    joined: it is one of others, and setgroups(2) may turn out to be denied.
    """

    wire = "become_root"
    keep_groups: bool = False
    joined: bool = False

    def describe(self) -> str:
        return "become root of the user namespace"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (int(self.keep_groups) | (KEEP_IF_DENIED if self.joined else 0),)


class _Text(Op):
    """An operation whose one field is a text."""

    text: str

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.text,)


class _Plain(Op):
    """An operation without fields."""

    says: ClassVar[str] = ""

    def describe(self) -> str:
        return self.says

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return ()


class OomScoreAdj(_Text):
    """Write /proc/self/oom_score_adj."""

    wire = "oom_score_adj"

    def describe(self) -> str:
        return f"set oom_score_adj {self.text}"


class Undumpable(_Plain):
    """Close nsexec to ptrace(2) and to /proc/PID of others."""

    wire = "undumpable"
    says = "become undumpable"


class Session(_Plain):
    """setsid(2)"""

    wire = "session"
    says = "start a session"


class Keyring(_Text):
    """Join a session keyring of this name."""

    wire = "keyring"

    def describe(self) -> str:
        return f"join session keyring {self.text}"


class Loopback(_Plain):
    """Bring up the loopback device of the new network namespace."""

    wire = "loopback"
    says = "bring lo up"


class Propagation(Op):
    """Change the propagation of mounts at a path of the host's view. flags: MS_*."""

    wire = "propagation"
    path: str
    flags: int

    def describe(self) -> str:
        return f"make {self.path} {propagation_name(self.flags)}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.path, self.flags)


class Rootfs(Op):
    """Mount the root file system on itself. handed: the parent opens it, since a user namespace may not reach it."""

    wire = "rootfs"
    path: str
    handed: bool = False

    def describe(self) -> str:
        return f"mount the rootfs {self.path}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        slot = self.slot()
        return (self.path, slots[slot] if slot else NO_SLOT)

    def slot(self) -> Slot | None:
        return Slot("tree", self.path, True, MS_SLAVE | MS_REC, "rootfs") if self.handed else None


class Mount(Op):
    """Mount `source` on what `target` names inside the rootfs.

    flags: MS_* bits, see mount(2).  data: file-system options, joined by commas.  propagation: MS_* for afterwards.
    rec_set, rec_clear: MOUNT_ATTR_* bits for it and all below it.
    plain: no symbolic link may lie on the way (procfs, sysfs).  copy_mode: as the directory that it covers (tmpfs).
    copy_up: it is only made; it is filled and then attached by `Attach`.
    or_else: where the kernel does not permit it, the `Bind` that follows stands in.
    Spec: config.md#mounts.  Fails: EPERM the user namespace may not mount this type.
    """

    wire = "mount"
    source: str
    target: str
    fstype: str
    flags: int = 0
    data: str = ""
    propagation: tuple[int, ...] = ()
    plain: bool = False
    copy_mode: bool = False
    rec_set: int = 0
    rec_clear: int = 0
    copy_up: bool = False
    or_else: bool = False
    origin: str = ""

    def describe(self) -> str:
        tail = ", to be filled" if self.copy_up else ", if that is permitted" if self.or_else else ""
        return f"mount {self.fstype} on {self.target}{_options(self.flags, self.data)}{tail}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        bits = (PLAIN_DIRECTORY if self.plain else 0) | (COPY_MODE if self.copy_mode else 0)
        bits |= IN_PROC if may_cover_procfs(self.target) else 0
        bits |= (COPY_UP if self.copy_up else 0) | (OR_ELSE if self.or_else else 0)
        rest = (self.propagation, self.rec_set, self.rec_clear, bits)
        return (self.source, self.target, self.fstype, self.flags, self.data, *rest)


class Attach(Op):
    """Attach the mount that was to be filled. set: MOUNT_ATTR_*; the rest, and target: as of that Mount."""

    wire = "attach"
    target: str
    set: int = 0
    rec_set: int = 0
    rec_clear: int = 0
    propagation: tuple[int, ...] = ()
    origin: str = ""

    def describe(self) -> str:
        return f"attach it to {self.target}{' read-only' if self.set & 1 else ''}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.set, self.rec_set, self.rec_clear, self.propagation)


class Remount(Op):
    """Give the file system that is mounted at a path new options. flags: MS_*, all that are to hold."""

    wire = "remount"
    path: str
    flags: int
    data: str = ""
    origin: str = ""

    def describe(self) -> str:
        return f"remount {self.path}{_options(self.flags, self.data)}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.path, self.flags, self.data)


class Relabel(Op):
    """Give what is mounted at a path an SELinux label, where the file system takes none as an option."""

    wire = "relabel"
    path: str
    label: str
    origin: str = ""

    def describe(self) -> str:
        return f"label {self.path} {self.label}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.path, self.label)


class Bind(Op):
    """Bind `source` of the host's view on what `target` names inside the rootfs.

    set, clear: MOUNT_ATTR_* bits of mount_setattr(2).  rec_set, rec_clear: for the whole tree, after those.
    optional: a source that is missing is no failure.  handed: the parent opens the source.  slave: with that
    propagation, before it crosses.  idmap: the parent maps its ids, before it crosses.
    locked: what the source's mount forbids may not be allowed again.  instead: only if the mount before it was refused.
    inside: source is a path in the container's root.  held: it is what `HoldTree` opened.
    plain: no link of the image may be on the way to the target.
    Spec: config.md#mounts.  Fails: ENOENT no source, EPERM a flag that the user namespace may not clear.
    """

    wire = "bind"
    source: str
    target: str
    recursive: bool = False
    set: int = 0
    clear: int = 0
    propagation: tuple[int, ...] = ()
    rec_set: int = 0
    rec_clear: int = 0
    optional: bool = False
    handed: bool = False
    slave: int = 0
    idmap: Idmap | None = None
    locked: bool = False
    instead: bool = False
    inside: bool = False
    held: bool = False
    plain: bool = False
    origin: str = ""

    def describe(self) -> str:
        kind = "bind the tree" if self.recursive else "bind"
        how = " read-only" if (self.set | self.rec_set) & 1 else ""
        how += f", {self.idmap.describe()}" if self.idmap else ""
        own = " of the container" if self.inside or self.held else ""
        return f"{kind} {self.source}{own} on {self.target}{how}{' instead' if self.instead else ''}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        slot = self.slot()
        bits = (RECURSIVE if self.recursive else 0) | (OPTIONAL if self.optional else 0)
        bits |= PLAIN_DIRECTORY if self.plain else 0
        bits |= PROC_ONLY if self.target == "/proc" else 0
        bits |= IN_PROC if may_cover_procfs(self.target) else 0
        bits |= (LOCKED if self.locked else 0) | (INSTEAD if self.instead else 0)
        bits |= (INSIDE if self.inside else 0) | (HELD if self.held else 0)
        rest = (self.set, self.clear, self.rec_set, self.rec_clear, self.propagation, bits)
        return (self.source, self.target, slots[slot] if slot else NO_SLOT, *rest)

    def slot(self) -> Slot | None:
        if not self.handed:
            return None
        user = f"{self.origin} {self.target}"
        return Slot("tree", self.source, self.recursive, self.slave, user, self.idmap)


class HoldTree(Op):
    """Open a mount tree in the container's root, for the parent to map its ids, and for the `Bind` that follows."""

    wire = "hold_tree"
    source: str
    recursive: bool
    idmap: Idmap
    origin: str = ""

    def describe(self) -> str:
        return f"open {self.source} of the container, to be {self.idmap.describe()}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.source, RECURSIVE if self.recursive else 0)


class Attributes(Op):
    """Change the attributes of the mount at a path inside the rootfs. set, clear: MOUNT_ATTR_* bits."""

    wire = "attributes"
    path: str
    set: int
    clear: int = 0
    recursive: bool = False
    propagation: tuple[int, ...] = ()
    origin: str = ""

    def describe(self) -> str:
        if self.set == 1 and not self.clear:
            return f"make {self.path} read-only"
        return f"change the attributes of {self.path}: set {self.set:#x} clear {self.clear:#x}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        bits = RECURSIVE_ATTRIBUTES if self.recursive else 0
        return (self.path, self.set, self.clear, self.propagation, bits)


class Node(Op):
    """Make a device node or FIFO. mode: with its type, see mknod(2).  device: as the kernel's new_encode_dev."""

    wire = "node"
    path: str
    mode: int
    device: int
    uid: int = 0
    gid: int = 0
    origin: str = ""

    def describe(self) -> str:
        return f"make node {self.path} mode {self.mode:o}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.path, self.mode, self.device, self.uid, self.gid)


class Symlink(Op):
    """Make a symbolic link. replace: whatever is there goes."""

    wire = "symlink"
    text: str
    path: str
    replace: bool = False

    def describe(self) -> str:
        return f"link {self.path} to {self.text}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.text, self.path, int(self.replace))


class Sysctl(Op):
    """Write a kernel parameter. key: as in config.json.  path: beneath /proc."""

    wire = "sysctl"
    key: str
    path: str
    value: str

    def describe(self) -> str:
        return f"set sysctl {self.key} = {self.value}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.path, self.value)


class PivotRoot(_Plain):
    """pivot_root(2), and the old root is taken off."""

    wire = "pivot_root"
    says = "pivot to the rootfs"


class MoveRoot(_Plain):
    """Move the rootfs to / and chroot(2), where pivot_root(2) cannot be had."""

    wire = "move_root"
    says = "move the rootfs to /"


class Chroot(_Text):
    """chroot(2); "/" only notes where the root is."""

    wire = "chroot"

    def describe(self) -> str:
        return f"chroot to {self.text}" if self.text != "/" else "open the root"


class EnterRoot(_Plain):
    """chroot(2) to where init has its root: it shares our mount namespace."""

    wire = "enter_root"
    says = "enter the container's root"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (slots[self.slot()],)

    def slot(self) -> Slot:
        return Slot("root")


class RootPropagation(Op):
    """linux.rootfsPropagation. flags: MS_*."""

    wire = "root_propagation"
    flags: int

    def describe(self) -> str:
        return f"make / {propagation_name(self.flags)}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.flags,)


class ReopenNull(_Plain):
    """Replace the host's /dev/null among the standard descriptors by the container's."""

    wire = "reopen_null"
    says = "reopen /dev/null"


class MaskPath(_Text):
    """Cover a path: a file by /dev/null, a directory by an empty read-only one."""

    wire = "mask_path"

    def describe(self) -> str:
        return f"mask {self.text}"


class ReadonlyPath(_Text):
    """Make what lies at a path read-only."""

    wire = "readonly_path"

    def describe(self) -> str:
        return f"make {self.text} read-only"


class Hostname(_Text):
    """sethostname(2)"""

    wire = "hostname"

    def describe(self) -> str:
        return f"set hostname {self.text}"


class Domainname(_Text):
    """setdomainname(2)"""

    wire = "domainname"

    def describe(self) -> str:
        return f"set domainname {self.text}"


class Umask(Op):
    """umask(2)"""

    wire = "umask"
    mask: int

    def describe(self) -> str:
        return f"set umask {self.mask:04o}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.mask,)


class Home(Op):
    """Look HOME up in the container's /etc/passwd. The parent reads the file: nsexec hands it a descriptor.

    nsexec does not wait: it takes the answer when it waits for the next one, or before it executes the program.
    """

    wire = "home"
    uid: int

    def describe(self) -> str:
        return f"look up HOME of uid {self.uid}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return ()


class MakeCwd(_Text):
    """Make process.cwd if it is missing."""

    wire = "make_cwd"

    def describe(self) -> str:
        return f"make sure that {self.text} exists"


class StdioOwner(Op):
    """Give the standard descriptors to the process's user."""

    wire = "stdio_owner"
    uid: int

    def describe(self) -> str:
        return f"give stdin, stdout and stderr to uid {self.uid}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.uid,)


class NoNewPrivs(_Plain):
    """PR_SET_NO_NEW_PRIVS"""

    wire = "no_new_privs"
    says = "set no_new_privs"


class SetBounding(Op):
    """Drop all but these capabilities from the bounding set. mask: bit N is capability N."""

    wire = "bounding"
    mask: int

    def describe(self) -> str:
        return f"set bounding capabilities {self.mask:#x}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.mask,)


class SetUser(Op):
    """setgroups(2), setresgid(2), setresuid(2). keep_groups: setgroups is denied, leave them."""

    wire = "user"
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    keep_groups: bool = False

    def describe(self) -> str:
        groups = f" groups {','.join(map(str, self.groups))}" if self.groups else ""
        return f"set uid {self.uid} gid {self.gid}{groups}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.uid, self.gid, self.groups, int(self.keep_groups))


class SetCapabilities(Op):
    """capset(2). kept: permitted and effective besides, until execve(2) computes both anew."""

    wire = "capabilities"
    effective: int
    permitted: int
    inheritable: int
    kept: int = 0

    def describe(self) -> str:
        sets = f"effective {self.effective:#x} permitted {self.permitted:#x} inheritable {self.inheritable:#x}"
        return f"set capabilities {sets}" + (f", until exec also {self.kept:#x}" if self.kept else "")

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.effective | self.kept, self.permitted | self.kept, self.inheritable)


class SetAmbient(Op):
    """PR_CAP_AMBIENT"""

    wire = "ambient"
    mask: int

    def describe(self) -> str:
        return f"set ambient capabilities {self.mask:#x}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.mask,)


class Cwd(Op):
    """chdir(2), and make sure that it led to a place inside the root. tolerant: a refusal is no failure yet.

    of_host: for hooks of the host, who stay where the caller is if the directory is gone.
    """

    wire = "cwd"
    path: str
    tolerant: bool = False
    of_host: bool = False

    def describe(self) -> str:
        return f"change to directory {self.path}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.path, CWD_TOLERANT * self.tolerant | CWD_OF_HOST * self.of_host)


class Resolve(Op):
    """Find the program, as execvp(3) would. search: PATH of the process."""

    wire = "resolve"
    name: str
    search: str

    def describe(self) -> str:
        return f"find {self.name}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.name, self.search)


class RunHook(Op):
    """Run one hook from nsexec. timeout: in seconds, None is none.  args: with args[0].

    stdout, stderr: files of the host that its output is appended to, "" for none: then an error tells its end.
    has_process_env: env is that of the process, with the HOME that is looked up.  filtered: it is under the filter of
    LoadSeccomp, which comes later in the plan.
    """

    wire = "hook"
    kind: str
    index: int
    path: str
    args: tuple[str, ...]
    env: tuple[str, ...]
    timeout: int | None = None
    stdout: str = ""
    stderr: str = ""
    has_process_env: bool = False
    filtered: bool = False

    def describe(self) -> str:
        under = " under the seccomp filter" if self.filtered else ""
        return f"run {self.kind} hook #{self.index} {self.path}{under}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        bits = HOOK_IN_ROOT if self.kind == "createContainer" else 0
        bits |= HOOK_HAS_PROCESS_ENV if self.has_process_env else 0
        bits |= HOOK_UNDER_FILTER if self.filtered else 0
        outputs = [slots[Slot("output", path)] if path else NO_SLOT for path in (self.stdout, self.stderr)]
        return (self.path, self.args, self.env, min((self.timeout or 0) * 1000, LONGEST_MS), bits, *outputs)

    def slots(self) -> tuple[Slot, ...]:
        return tuple([Slot("output", path) for path in (self.stdout, self.stderr) if path])


HOOK_OUTPUTS = ("run.oci.hooks.stdout", "run.oci.hooks.stderr")
"""Annotations that name files of the host which the output of all hooks is appended to."""


def run_hooks(
    kind: str,
    hooks: Sequence[Hook],
    annotations: dict[str, str],
    process_env: tuple[str, ...] | None = None,
    *,
    filtered: bool = False,
) -> list[RunHook]:
    """The operations that run hooks of one kind. Without args a hook gets its path as args[0].

    process_env: what a hook has whose environment is absent; None: an empty one.  filtered: see RunHook.
    """
    stdout, stderr = (annotations.get(name, "") for name in HOOK_OUTPUTS)
    plan = []
    for index, hook in enumerate(hooks):
        inherits = hook.env is None and process_env is not None
        env = (process_env if inherits else hook.env) or ()
        args = hook.args or (hook.path,)
        plan.append(RunHook(kind, index, hook.path, args, env, hook.timeout, stdout, stderr, inherits, filtered))
    return plan


class LoadSeccomp(Op):
    """Put the process under a filter; nothing but execve(2) comes after it.

    program: the compiled filter, struct sock_filter after struct sock_filter as numbers; () before it is compiled.
    Fails: EACCES without no_new_privs and CAP_SYS_ADMIN, EBUSY if an outer filter has an agent already.
    """

    wire = "seccomp"
    filter: Filter
    program: tuple[int, ...] = ()

    def describe(self) -> str:
        return f"load the seccomp filter: {self.filter.describe()}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.program, self.filter.flags)


class LandlockRuleset(Op):
    """Begin a Landlock ruleset, landlock_create_ruleset(2). files, ports, scopes: bits of what it denies."""

    wire = "ruleset"
    files: int
    ports: int = 0
    scopes: int = 0

    def describe(self) -> str:
        from pyocirun.linux.landlock import FILES, PORTS, SCOPES, names

        denied = [*names(FILES, self.files), *names(PORTS, self.ports), *names(SCOPES, self.scopes)]
        return f"make a Landlock ruleset that denies {', '.join(denied)}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.files, self.ports, self.scopes)


class LandlockPath(Op):
    """Allow something beneath a path of the container. access: bits.  optional: nothing is done if it is not there."""

    wire = "allow_path"
    path: str
    access: int
    optional: bool = False

    def describe(self) -> str:
        from pyocirun.linux.landlock import FILES, names

        return f"allow {', '.join(names(FILES, self.access))} beneath {self.path}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.path, self.access, int(self.optional))


class LandlockPort(Op):
    """Allow something with a TCP port. access: bits."""

    wire = "allow_port"
    port: int
    access: int

    def describe(self) -> str:
        from pyocirun.linux.landlock import PORTS, names

        return f"allow {', '.join(names(PORTS, self.access))} with port {self.port}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.port, self.access)


class LandlockRestrict(Op):
    """Put the process under the ruleset, landlock_restrict_self(2).

    Fails: EPERM without no_new_privs and CAP_SYS_ADMIN, E2BIG under 16 rulesets already.
    """

    wire = "restrict"

    def describe(self) -> str:
        return "restrict the process by the Landlock ruleset"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return ()


class Exec(Op):
    """execve(2) of the program that `Resolve` found."""

    wire = "exec"
    args: tuple[str, ...]
    env: tuple[str, ...]

    def describe(self) -> str:
        return "exec " + " ".join(self.args)

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.args, self.env)


class Affinity(Op):
    """sched_setaffinity(2). cpus: numbers, () for each that the cpuset allows.  optional: a refusal is a warning."""

    wire = "affinity"
    cpus: tuple[int, ...] = ()
    optional: bool = False

    def describe(self) -> str:
        return f"run on CPUs {','.join(map(str, self.cpus))}" if self.cpus else "run on every CPU of the cpuset"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (_bit_words(self.cpus), AFFINITY_OPTIONAL if self.optional else 0)


class SetScheduler(Op):
    """sched_setattr(2). policy, flags: its numbers, text their names.  runtime, deadline, period: nanoseconds."""

    wire = "scheduler"
    text: str
    policy: int
    flags: int = 0
    nice: int = 0
    priority: int = 0
    runtime: int = 0
    deadline: int = 0
    period: int = 0

    def describe(self) -> str:
        return f"set scheduler {self.text}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        times = (self.runtime, self.deadline, self.period)
        return (self.policy, self.flags, self.nice & NO_SLOT, self.priority & NO_SLOT, *times)


class SetIOPriority(Op):
    """ioprio_set(2). value: class and level."""

    wire = "io_priority"
    text: str
    value: int

    def describe(self) -> str:
        return f"set I/O priority {self.text}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.value,)


class SetPersonality(Op):
    """personality(2)"""

    wire = "personality"
    domain: str
    value: int

    def describe(self) -> str:
        return f"set personality {self.domain}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.value,)


class SetMemoryPolicy(Op):
    """set_mempolicy(2). mode: with the flags.  nodes: numbers."""

    wire = "memory_policy"
    text: str
    mode: int
    nodes: tuple[int, ...] = ()

    def describe(self) -> str:
        return f"set memory policy {self.text}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.mode, _bit_words(self.nodes))


class PrivateProc(_Plain):
    """Get a procfs that nobody else sees, for the operations that write to it."""

    wire = "private_proc"
    says = "open a procfs of our own"


class Attribute(Op):
    """Write to a file in /proc: path beneath it, older: where kernels have it that lack path, "" if they do not."""

    wire = "attribute"
    path: str
    older: str
    value: str

    def describe(self) -> str:
        return f"write {self.value!r} to /proc/{self.path}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (self.path, self.older, self.value)


class AppArmorProfile(_Text):
    """The AppArmor profile that execve(2) changes to."""

    wire = "attribute"

    def describe(self) -> str:
        return f"apply apparmor profile {self.text}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return ("thread-self/attr/apparmor/exec", "thread-self/attr/exec", f"exec {self.text}")


class SelinuxLabel(_Text):
    """The SELinux label that execve(2) gives."""

    wire = "attribute"

    def describe(self) -> str:
        return f"apply selinux label {self.text}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return ("thread-self/attr/exec", "", self.text)


class KeyringLabel(_Text):
    """The SELinux label of keyrings made from now on; "" for the usual one."""

    wire = "attribute"

    def describe(self) -> str:
        return (
            f"give keyrings the selinux label {self.text}" if self.text else "give keyrings their usual selinux label"
        )

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return ("thread-self/attr/keycreate", "", self.text or "\n")


class Pass(Op):
    """Leave a descriptor open for the program that is executed; `passed_number` is what it finds it under. what: it is.

    For a program of the host's, such as criu: a container's process gets nothing that it was not promised.
    """

    wire = "pass"
    what: str

    def describe(self) -> str:
        return f"pass {self.what} on"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return (slots[self.slot()],)

    def slot(self) -> Slot:
        return Slot("passed", self.what)


def passed_number(index: int) -> int:
    """The number of the descriptor that the Pass with this index among a plan's leaves open; no other slot goes first.

    0, 1 and 2 are the standard ones; nsexec's socket and plan follow.
    """
    return 5 + index


class Finish(_Plain):
    """The end of a plan that starts no process."""

    wire = "finish"
    says = "end"


class Terminal(Op):
    """Give the process a pseudo terminal of the container's devpts; the parent gets its master.

    rows, columns: its size, 0 for none.  console: it is /dev/console too.
    """

    wire = "terminal"
    rows: int = 0
    columns: int = 0
    console: bool = False

    def describe(self) -> str:
        size = f" of {self.columns}x{self.rows}" if self.rows or self.columns else ""
        return f"make a terminal{size}{' and bind it on /dev/console' if self.console else ''}"

    def fields(self, slots: dict[Slot, int]) -> tuple[Field, ...]:
        return self.rows, self.columns, int(self.console)


class Plan(Record):
    """What is going to be done, in order. preserve_fds: how many descriptors from 3 on the process keeps."""

    ops: tuple[Op, ...]
    preserve_fds: int = 0

    def position(self, point: str) -> int:
        """The index of Sync(point), -1 if there is none."""
        for index, op in enumerate(self.ops):
            if type(op) is Sync and op.point == point:
                return index
        return -1

    def position_of_clone(self) -> int:
        """The index of Clone: what stands before it is done before there is a process."""
        return next(index for index, op in enumerate(self.ops) if type(op) is Clone)


def may_cover_procfs(target: str) -> bool:
    """Whether a mount may go to this place in procfs; /proc itself may hold one procfs over another."""
    return target == "/proc" or (target.startswith("/proc/") and target[6:] in PROC_FILES)


def propagation_name(flags: int) -> str:
    """The spec's name of a propagation type: "rslave"."""
    for name, value in PROPAGATION.items():
        if value == flags:
            return name
    return f"{flags & ~MS_REC:#x}"


def _options(flags: int, data: str) -> str:
    shown = ",".join([*flag_names(flags), data] if data else flag_names(flags))
    return f" ({shown})" if shown else ""


def _bit_words(numbers: tuple[int, ...]) -> tuple[int, ...]:
    """A mask with these bits, as 64-bit words from the lowest up."""
    words = [0] * (max(numbers) // 64 + 1 if numbers else 0)
    for number in numbers:
        words[number // 64] |= 1 << number % 64
    return tuple(words)


def _limit(value: int) -> str:
    return "unlimited" if value >= NO_SLOT else str(value)
