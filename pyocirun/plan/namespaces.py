"""Which namespaces are made or joined, and in which process of the launch."""

from __future__ import annotations

from pyocirun.errors import SpecError
from pyocirun.linux.namespaces import CLONE_NEWCGROUP, CLONE_NEWNS, CLONE_NEWTIME, CLONE_NEWUSER, FLAGS
from pyocirun.plan import ops
from pyocirun.plan.process import keeps_groups
from pyocirun.plan.request import is_unified
from pyocirun.record import Record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.linux.host import Host
    from pyocirun.linux.idmap import IDMapping
    from pyocirun.plan.request import Request
    from pyocirun.spec.config import Spec
    from pyocirun.spec.process import Process

CHARGED = ("memory", "pids", "cpu")
"""Cgroup v1 controllers that are joined last: what the set-up uses is not charged to the container."""

COURTESY = ("", "name=systemd", "misc")
"""Hierarchies that limit nothing: they are joined so that others find the container there."""

PIDNS_OPTION = (6, 17)
"""The kernel whose procfs takes `pidns=`, so that a mount of it need not come from a member of the pid namespace."""


class Stages(Record):
    """What the processes of a launch do.

    first: CLONE_NEW* of the first process.  joined: (type, path) of the namespaces that it enters, in order.
    unshared: CLONE_NEWUSER and CLONE_NEWTIME, if it has to make these itself.  second: CLONE_NEW* of the process that
    it forks; None: it forks none.  late_pid: the pid namespace to enter after pivot_root, "" if none; not with a new
    user namespace, which has no power over it by then.
    own_mounts: the container gets a mount namespace that is made for it.
    """

    first: int
    joined: tuple[tuple[str, str], ...] = ()
    unshared: int = 0
    second: int | None = None
    late_pid: str = ""
    own_mounts: bool = True


def stages(spec: Spec, host: Host) -> Stages:
    """The fewest processes that do it: one, which is cloned into all new namespaces, or two.

    Two, if a namespace has to be joined before another one is made; for a pid or time namespace, which hold for
    children only; and for a user namespace: execve(2) of nsexec as an id that is not mapped yet would take its
    capabilities away.
    """
    new, joined = _wanted(spec)
    own_mounts = bool(new & CLONE_NEWNS)
    pid_path = joined.pop("pid", "")
    late = host.kernel >= PIDNS_OPTION and own_mounts and not new & CLONE_NEWUSER
    late_pid = pid_path if late else ""
    if pid_path and not late_pid:
        joined["pid"] = pid_path
    order = _join_order(joined, host)
    unshared = new & (CLONE_NEWUSER | CLONE_NEWTIME)
    if "pid" not in joined and "user" not in joined and not unshared:
        return Stages(new, order, 0, None, late_pid, own_mounts)
    return Stages(0, order, unshared, new & ~unshared, late_pid, own_mounts)


def enter(spec: Spec, host: Host, request: Request, stages: Stages) -> list[ops.Op]:
    """From the first process to the one that becomes the container's init, in all namespaces but the cgroup's own."""
    return [
        _clone(stages.first, spec, host, request),
        *_pull(request),
        *join_cgroups(request.cgroup_paths, spec.process, charged=False),
        ops.Affinity(optional=True),
        *(_one_process(spec, stages) if stages.second is None else _two(spec, host, stages)),
        *_own(spec, request),
    ]


def _one_process(spec: Spec, stages: Stages) -> list[ops.Op]:
    return [*_dumpable_part(spec), *_joins(stages)]


def _two(spec: Spec, host: Host, stages: Stages) -> list[ops.Op]:
    """Namespaces of others are joined before the user namespace, while there is the privilege to.

    Without privilege it is the other way round: the user namespace gives it, and its maps are written while dumpable.
    Root of a user namespace has power over some and not over others, so those that it may not join come afterwards.
    """
    user = spec.linux.namespace("user")
    closed, joins = _dumpable_part(spec), _joins(stages)
    if user is None:
        plan = [*closed, *joins, *_unshared(spec, host, stages)]
    elif host.privileged:
        plan = [*closed, *joins, *_unshared(spec, host, stages), _become_root(spec, host)]
    elif host.euid == 0:
        early = [replace(join, attempt=True) for join in joins if join.type != "user"]
        plan = [*closed, *early, *_unshared(spec, host, stages), *joins, _become_root(spec, host)]
    elif any(join.type == "user" for join in joins):
        # The first join gives power over the others, and over the ids.
        first, *others = joins
        plan = [*closed, first, _become_root(spec, host), *_unshared(spec, host, stages), *others]
    else:
        plan = [*_unshared(spec, host, stages), _become_root(spec, host), *closed, *joins]
    return [*plan, ops.Fork(stages.second or 0)]


def _unshared(spec: Spec, host: Host, stages: Stages) -> list[ops.Op]:
    """The namespaces that the first process makes, and what the parent writes of them before anybody is inside."""
    if not stages.unshared:
        return []
    plan: list[ops.Op] = [ops.Unshare(stages.unshared)]
    offsets = time_offsets(spec)
    if stages.unshared & CLONE_NEWUSER:
        return [*plan, *offsets, *map_ids(spec, host)]
    return [*plan, *offsets, ops.Sync("time-offsets")] if offsets else plan


def time_offsets(spec: Spec) -> list[ops.Op]:
    """The clocks of a new time namespace. Spec: config-linux.md#offset-for-time-namespace"""
    offsets = spec.linux.time_offsets
    lines = [f"{clock} {offset.secs} {offset.nanosecs}\n" for clock, offset in offsets.items()]
    return [ops.WriteTimeOffsets("".join(lines))] if lines else []


def _become_root(spec: Spec, host: Host) -> ops.Op:
    user = spec.linux.namespace("user")
    keep_groups = setgroups_denied(spec, host) or keeps_groups(spec.annotations)
    return ops.BecomeRoot(keep_groups, joined=user is not None and user.path is not None)


def join_cgroups(paths: tuple[tuple[str, str], ...], process: Process | None, *, charged: bool) -> list[ops.Op]:
    """Into the cgroups v1 of these (controller, directory): CHARGED ones, or those that it costs nothing to be in.

    Hooks of the prestart kind look for the devices cgroup. Hierarchies without a controller are joined if they let us.
    A process with a scheduler of its own has to be in its cpu cgroup first, which may have no time for it.
    """
    plan: list[ops.Op] = []
    late = [name for name in CHARGED if name != "cpu" or process is None or process.scheduler is None]
    charging = dict.fromkeys(path for name, path in paths if name in late)
    others = dict.fromkeys(path for name, path in paths if name not in COURTESY and path not in charging)
    needed = charging if charged else others
    if needed:
        plan.append(ops.JoinCgroup(tuple(needed)))
    courtesy = dict.fromkeys(path for name, path in paths if name and name in COURTESY and not charged)
    if courtesy:
        plan.append(ops.JoinCgroup(tuple(courtesy), optional=True))
    return plan


def _pull(request: Request) -> list[ops.Op]:
    if request.unit is None:
        return []
    from pyocirun.plan import unit

    return unit.pull(request.unit)


def _clone(flags: int, spec: Spec, host: Host, request: Request) -> ops.Clone:
    if is_unified(request.cgroup_paths):
        from pyocirun.plan import unified

        return unified.clone(flags, spec, host, request)
    return ops.Clone(flags, dict(request.cgroup_paths).get("", ""))


def _own(spec: Spec, request: Request) -> list[ops.Op]:
    """What belongs to the new process and its new network namespace."""
    network = spec.linux.namespace("network")
    plan: list[ops.Op] = [] if request.no_new_keyring else [ops.Keyring(f"_ses.{request.id}")]
    process = spec.process
    if process is not None and (process.apparmor_profile or process.selinux_label):
        from pyocirun.plan.lsm import keyring

        plan = [ops.PrivateProc(), *[step for op in plan for step in keyring(process, op)]]
    return [*plan, ops.Loopback()] if network is not None and network.path is None else plan


def after_pivot(stages: Stages) -> list[ops.Op]:
    """An existing pid namespace is entered only when its members find nothing of the host in us any more."""
    if not stages.late_pid:
        return []
    return [ops.JoinNamespace("pid", stages.late_pid), ops.Fork()]


def map_ids(spec: Spec, host: Host) -> list[ops.Op]:
    """The parent maps the ids of the new user namespace while nsexec waits.

    A caller without privilege may map one id, its own; more needs the help of a program that has it.
    """
    from pyocirun.linux.idmap import format_map

    uids, gids = spec.linux.uid_mappings, spec.linux.gid_mappings
    helped = [host.euid != 0 and not _only(maps, id) for maps, id in ((uids, host.euid), (gids, host.egid))]
    return [
        ops.WriteIdMaps(format_map(uids), format_map(gids), setgroups_denied(spec, host), *helped),
        ops.Sync("id-maps"),
    ]


def _only(maps: tuple[IDMapping, ...], id: int) -> bool:
    """Whether nothing is mapped but this one id of the host."""
    return len(maps) == 1 and maps[0].host_id == id and maps[0].size == 1


def refuse_unmapped(spec: Spec, host: Host) -> None:
    """Raises SpecError for ids of the process that the new user namespace lacks, or that cannot be set there."""
    if spec.process is None:
        return
    ids = spec.process.user
    if ids.additional_gids and setgroups_denied(spec, host) and not keeps_groups(spec.annotations):
        pointer = "/process/user/additionalGids"
        text = "cannot set any additional groups in a rootless container"
        raise SpecError(f"{pointer}: {text}", pointer=pointer)
    user = spec.linux.namespace("user")
    if user is None or user.path is not None:
        return
    from pyocirun.linux.idmap import to_host

    for kind, id, maps in (("uid", ids.uid, spec.linux.uid_mappings), ("gid", ids.gid, spec.linux.gid_mappings)):
        if to_host(maps, id) is None:
            pointer = f"/process/user/{kind}"
            text = f"cannot set{kind} to unmapped {kind} {id} in user namespace"
            raise SpecError(f"{pointer}: {text}", pointer=pointer, hint=f"map it in linux.{kind}Mappings")


def setgroups_denied(spec: Spec, host: Host) -> bool:
    """Whether groups cannot be set: where it is denied already, and where an ordinary user maps its own gid alone.

    newgidmap(1) does not deny it for a range of /etc/subgid. A namespace that is joined says so when we are there.
    """
    user = spec.linux.namespace("user")
    if user is not None and user.path is not None:
        return False
    return host.groups_denied or (user is not None and host.euid != 0 and _only(spec.linux.gid_mappings, host.egid))


def _wanted(spec: Spec) -> tuple[int, dict[str, str]]:
    """(CLONE_NEW* of what is made, type -> path of what is joined). A new cgroup namespace is made later."""
    new = 0
    joined: dict[str, str] = {}
    for namespace in spec.linux.namespaces:
        if namespace.path is not None:
            joined[namespace.type] = namespace.path
        else:
            new |= FLAGS[namespace.type]
    return new & ~CLONE_NEWCGROUP, joined


def _join_order(joined: dict[str, str], host: Host) -> tuple[tuple[str, str], ...]:
    """mount comes late: it takes the paths away. The user namespace comes last for the privileged, else first."""
    order = ["ipc", "uts", "network", "cgroup", "pid", "time", "mount"]
    order.insert(len(order) if host.privileged else 0, "user")
    return tuple((type, joined[type]) for type in order if type in joined)


def _joins(stages: Stages) -> list[ops.JoinNamespace]:
    return [ops.JoinNamespace(type, path) for type, path in stages.joined]


def _dumpable_part(spec: Spec) -> list[ops.Op]:
    """oom_score_adj is written while dumpable (else its file is root's), foreign namespaces are entered when not."""
    plan: list[ops.Op] = []
    if spec.process is not None and spec.process.oom_score_adj is not None:
        plan.append(ops.OomScoreAdj(str(spec.process.oom_score_adj)))
    return [*plan, ops.Undumpable()]
