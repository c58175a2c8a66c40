"""The order of set-up, as security properties of the plan."""

from __future__ import annotations

from typing import Any

import pytest

from pyocirun.errors import SpecError
from pyocirun.linux.host import Host
from pyocirun.linux.idmap import IDMapping
from pyocirun.linux.mounts import MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE, MS_UNBINDABLE
from pyocirun.linux.namespaces import (
    CLONE_NEWCGROUP,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
)
from pyocirun.plan.ops import (
    Affinity,
    Attributes,
    BecomeRoot,
    Bind,
    Chroot,
    Clone,
    Cwd,
    Domainname,
    Exec,
    Fork,
    Home,
    Hostname,
    JoinCgroup,
    JoinNamespace,
    Keyring,
    LeaveCgroup,
    Loopback,
    MakeCgroup,
    MakeCwd,
    MaskPath,
    Mount,
    MoveNetDevices,
    MoveRoot,
    Node,
    OomScoreAdj,
    Op,
    OpenSources,
    OwnRlimit,
    PivotRoot,
    Plan,
    Propagation,
    ReadonlyPath,
    ReopenNull,
    Resolve,
    Rootfs,
    RootPropagation,
    RunHook,
    RunHooks,
    SaveState,
    Session,
    SetBounding,
    SetCapabilities,
    SetRlimit,
    SetUser,
    StdioOwner,
    Sync,
    Sysctl,
    Terminal,
    Undumpable,
    Unshare,
    WriteCgroup,
    WriteIdMaps,
    WriteTimeOffsets,
)
from pyocirun.record import replace
from pyocirun.spec.config import Root
from pyocirun.spec.hooks import Hook, Hooks
from pyocirun.spec.linux import (
    Namespace,
    NetDevice,
    TimeOffset,
)
from pyocirun.spec.mounts import Mount as SpecMount
from pyocirun.spec.process import Capabilities, ConsoleSize, Rlimit, Scheduler, User
from pyocirun.spec.resources import parse_resources
from pyocirun.spec.seccomp import Seccomp
from tests.support import (
    CHARGED_PATHS,
    HOST_NESTED,
    HOST_NEW,
    HOST_USER,
    HOST_V1_ROOT,
    build,
    every,
    minimal_process,
    minimal_spec,
    only,
    where,
)

UNCHARGED = JoinCgroup(("/sys/fs/cgroup/devices/box",))
CHARGED = JoinCgroup(
    ("/sys/fs/cgroup/cpu,cpuacct/box", "/sys/fs/cgroup/memory/box", "/sys/fs/cgroup/pids/box"),
)

OWN = (IDMapping(0, 1000, 1),)
MAP = (IDMapping(0, 100000, 65536),)
USER_NAMESPACE: dict[str, Any] = {"namespaces": ("user", "mount", "pid"), "uid_mappings": MAP, "gid_mappings": MAP}
OWN_ID: dict[str, Any] = {**USER_NAMESPACE, "uid_mappings": OWN, "gid_mappings": OWN}
NAMES_THE_HOST = (Propagation, Rootfs, Mount, Bind, Node, Sysctl, OpenSources)
"""Operations that walk paths of the host's view."""


def test_minimal_plan_in_order() -> None:
    plan = build(minimal_spec(process=minimal_process(env=("HOME=/", "PATH=/bin"))), no_new_keyring=True)

    order = [type(op) for op in plan.ops if type(op).__name__ not in ("Node", "Symlink")]
    assert order == [
        Clone,
        Affinity,
        Undumpable,
        Propagation,
        Rootfs,
        PivotRoot,
        ReopenNull,
        MakeCwd,
        *[type(op) for op in plan.ops[where(plan, MakeCwd) + 1 : plan.position("created") - 1]],
        SaveState,
        Sync,
        Sync,
        Sync,
        Exec,
    ]


def test_nothing_that_names_the_host_comes_after_pivot_root() -> None:
    mounts = [SpecMount("/proc", "proc", "proc"), SpecMount("/data", "/srv", "none", ("rbind",))]
    spec = minimal_spec(namespaces=("mount", "ipc", "user"), mounts=mounts, sysctl={"kernel.msgmax": "1"}, **_maps())

    plan = build(spec)

    behind = plan.ops[where(plan, PivotRoot) :]
    assert not [op for op in behind if isinstance(op, NAMES_THE_HOST)]


def test_masks_and_readonly_paths_come_after_pivot_root() -> None:
    plan = build(minimal_spec(masked_paths=("/proc/kcore",), readonly_paths=("/proc/sys",)))

    assert where(plan, PivotRoot) < where(plan, ReadonlyPath("/proc/sys")) < where(plan, MaskPath("/proc/kcore"))


@pytest.mark.parametrize("path", ["/", "/.", "/a/.."])
def test_the_root_itself_is_made_read_only_and_not_covered(path: str) -> None:
    plan = build(minimal_spec(readonly_paths=(path,)))

    assert where(plan, PivotRoot) < where(plan, Attributes("/", 1)) < where(plan, SetUser)


def test_nothing_is_mounted_after_the_masks() -> None:
    mounts = [SpecMount("/proc", "proc", "proc"), SpecMount("/tmp", "tmpfs", "tmpfs")]
    plan = build(minimal_spec(mounts=mounts, masked_paths=("/proc/kcore",), root=Root("rootfs", True)))

    behind = plan.ops[where(plan, MaskPath) :]
    assert not [op for op in behind if isinstance(op, (Mount, Bind, Node, Attributes, Sysctl))]


def test_masks_come_before_the_user_is_set() -> None:
    plan = build(minimal_spec(masked_paths=("/proc/kcore",)))

    assert where(plan, MaskPath) < where(plan, SetUser)


def test_root_is_made_read_only_after_cwd_was_made_in_it() -> None:
    plan = build(minimal_spec(root=Root("rootfs", True)))

    assert where(plan, MakeCwd) < where(plan, Attributes("/", 1))


def test_writable_root_is_left_alone() -> None:
    plan = build(minimal_spec())

    assert Attributes("/", 1) not in plan.ops


def test_host_is_protected_from_mounts_before_the_first_one() -> None:
    plan = build(minimal_spec(mounts=[SpecMount("/proc", "proc", "proc")]))

    assert where(plan, Propagation("/", MS_SLAVE | MS_REC)) < where(plan, Rootfs) < where(plan, Mount)


def test_null_is_reopened_in_the_container() -> None:
    plan = build(minimal_spec())

    assert where(plan, PivotRoot) < where(plan, ReopenNull) < where(plan, SetUser)


def test_no_pivot_moves_the_root() -> None:
    plan = build(minimal_spec(), no_pivot=True)

    assert only(plan, MoveRoot)
    assert not every(plan, PivotRoot)


def test_without_a_mount_namespace_of_its_own_nothing_is_mounted() -> None:
    spec = minimal_spec(namespaces=(Namespace("mount", "/run/ns/mnt"),), mounts=[SpecMount("/proc", "proc", "proc")])

    plan = build(spec)

    assert Chroot("/bundle/rootfs") in plan.ops
    assert not [op for op in plan.ops if isinstance(op, (Mount, Bind, Node, Rootfs, PivotRoot))]


def test_preserved_descriptors_are_in_the_plan() -> None:
    plan = build(minimal_spec(), preserve_fds=3)

    assert plan.preserve_fds == 3


@pytest.mark.parametrize(
    ("wanted", "before", "after"),
    [
        (None, [MS_SLAVE | MS_REC], []),
        ("private", [MS_PRIVATE | MS_REC], []),
        ("slave", [MS_SLAVE | MS_REC], []),
        ("rslave", [MS_SLAVE | MS_REC], []),
        ("unbindable", [MS_SLAVE | MS_REC], [MS_UNBINDABLE]),
    ],
)
def test_rootfs_propagation(wanted: str | None, before: list[int], after: list[int]) -> None:
    plan = build(minimal_spec(rootfs_propagation=wanted))

    assert [op.flags for op in every(plan, Propagation)] == before
    assert [op.flags for op in every(plan, RootPropagation)] == after


def test_shared_root_does_not_bring_the_mount_of_the_rootfs_to_the_host() -> None:
    plan = build(minimal_spec(rootfs_propagation="shared"))

    private = where(plan, Propagation("/bundle", MS_PRIVATE))
    assert where(plan, Propagation("/", MS_SHARED)) < private < where(plan, Rootfs)
    assert where(plan, PivotRoot) < where(plan, RootPropagation(MS_SHARED))


def test_unbindable_root_is_made_so_after_the_masks_that_bind() -> None:
    plan = build(minimal_spec(rootfs_propagation="unbindable", masked_paths=("/proc/kcore",)))

    assert where(plan, MaskPath) < where(plan, RootPropagation) < where(plan, SetUser)


# Hooks


def hook(name: str) -> Hook:
    return Hook(f"/bin/{name}", (name,), ("A=1",), 5)


ALL_HOOKS = Hooks(
    *[(hook(kind),) for kind in ("prestart", "create-runtime", "create-container", "start", "poststart", "poststop")]
)


def test_runtime_hooks_run_after_the_mounts_and_before_pivot_root() -> None:
    plan = build(minimal_spec(hooks=ALL_HOOKS, mounts=[SpecMount("/proc", "proc", "proc")]))

    prestart, runtime = where(plan, RunHooks("prestart", 1)), where(plan, RunHooks("createRuntime", 1))
    assert where(plan, Mount) < prestart < runtime < plan.position("hooks:createRuntime") < where(plan, PivotRoot)


def test_create_container_hooks_run_between_the_runtimes_and_pivot_root() -> None:
    plan = build(minimal_spec(hooks=ALL_HOOKS))

    wanted = RunHook("createContainer", 0, "/bin/create-container", ("create-container",), ("A=1",), 5)
    state = plan.position("hooks:createContainer")
    assert plan.position("hooks:createRuntime") < state < where(plan, wanted) < where(plan, PivotRoot)


def test_start_container_hooks_run_behind_the_gate() -> None:
    plan = build(minimal_spec(hooks=ALL_HOOKS))

    wanted = RunHook("startContainer", 0, "/bin/start", ("start",), ("A=1",), 5)
    assert plan.position("start") < where(plan, wanted) < plan.position("exec") < where(plan, Exec)


def test_hooks_of_one_kind_keep_their_order() -> None:
    hooks = Hooks(create_container=(hook("a"), hook("b")), start_container=(hook("c"), hook("d")))

    plan = build(minimal_spec(hooks=hooks))

    assert [(op.kind, op.index, op.path) for op in every(plan, RunHook)] == [
        ("createContainer", 0, "/bin/a"),
        ("createContainer", 1, "/bin/b"),
        ("startContainer", 0, "/bin/c"),
        ("startContainer", 1, "/bin/d"),
    ]


def test_hook_without_args_gets_its_path_as_first_one() -> None:
    plan = build(minimal_spec(hooks=Hooks(start_container=(Hook("/bin/a"),))))

    assert only(plan, RunHook).args == ("/bin/a",)


@pytest.mark.parametrize(("env", "wanted"), [(None, ("A=1", "HOME=/")), ((), ()), (("B=2",), ("B=2",))])
def test_start_container_hook_has_the_environment_of_the_process_unless_it_has_its_own(
    env: tuple[str, ...] | None, wanted: tuple[str, ...]
) -> None:
    hooks = Hooks(start_container=(Hook("/bin/a", env=env),))

    plan = build(minimal_spec(hooks=hooks, process=minimal_process(env=("A=1",))))

    assert only(plan, RunHook).env == wanted
    assert only(plan, RunHook).has_process_env == (env is None)


def test_start_container_hooks_alone_are_under_the_filter() -> None:
    plan = build(minimal_spec(hooks=ALL_HOOKS, seccomp=Seccomp("SCMP_ACT_ALLOW")))

    assert {op.kind: op.filtered for op in every(plan, RunHook)} == {"createContainer": False, "startContainer": True}


def test_other_hooks_have_no_environment_but_their_own() -> None:
    hooks = Hooks(create_container=(Hook("/bin/a"),))

    plan = build(minimal_spec(hooks=hooks, process=minimal_process(env=("A=1",))))

    assert only(plan, RunHook).env == ()


def test_sysctls_are_written_after_hooks_that_may_bring_devices() -> None:
    spec = minimal_spec(namespaces=("mount", "network"), hooks=ALL_HOOKS, sysctl={"net.ipv4.ip_forward": "1"})

    plan = build(spec)

    assert plan.position("hooks:createContainer") < where(plan, Sysctl) < where(plan, PivotRoot)


def test_behind_the_gate_are_only_hooks_and_exec() -> None:
    process = minimal_process(rlimits=(Rlimit("RLIMIT_CORE", 0, 0),), no_new_privileges=True)
    spec = minimal_spec(process=process, hooks=ALL_HOOKS, masked_paths=("/proc/kcore",), hostname="box")

    plan = build(spec, cgroup_paths=CHARGED_PATHS)

    behind = [type(op) for op in plan.ops[plan.position("start") + 1 :]]
    assert behind == [RunHook, Sync, Exec]


def test_the_state_is_saved_before_create_ends() -> None:
    plan = build(minimal_spec())

    assert where(plan, SaveState) < plan.position("created") < plan.position("start")


def test_without_a_process_the_container_waits_for_ever() -> None:
    plan = build(minimal_spec(process=None))

    assert plan.ops[-1] == Sync("start")
    assert not [op for op in plan.ops if isinstance(op, (SetUser, Exec, Resolve))]


# Dumpable, joins, stages


def test_undumpable_comes_before_any_join() -> None:
    spaces = tuple(Namespace(type, f"/run/ns/{type}") for type in ("ipc", "uts", "network", "cgroup", "pid", "user"))

    plan = build(minimal_spec(namespaces=("mount", *spaces)), HOST_NEW)

    joins = [index for index, op in enumerate(plan.ops) if isinstance(op, JoinNamespace)]
    assert len(joins) == 6
    assert where(plan, Undumpable) < min(joins)


def test_oom_score_is_written_while_dumpable() -> None:
    plan = build(minimal_spec(process=minimal_process(oom_score_adj=-5)))

    assert where(plan, Clone) < where(plan, OomScoreAdj("-5")) < where(plan, Undumpable)


def test_oom_score_that_is_absent_is_not_written() -> None:
    plan = build(minimal_spec())

    assert not every(plan, OomScoreAdj)


def test_pid_namespace_is_joined_after_pivot_root_where_proc_takes_pidns() -> None:
    spec = minimal_spec(namespaces=("mount", Namespace("pid", "/run/ns/pid")), mounts=[SpecMount("/proc", "p", "proc")])

    plan = build(spec, HOST_NEW)

    join = where(plan, JoinNamespace("pid", "/run/ns/pid"))
    assert where(plan, PivotRoot) < join
    assert plan.ops[join + 1] == Fork(0)
    assert only(plan, Mount).data == "pidns=/run/ns/pid"


def test_pid_namespace_is_joined_first_where_proc_shows_the_mounters() -> None:
    spec = minimal_spec(namespaces=("mount", Namespace("pid", "/run/ns/pid")), mounts=[SpecMount("/proc", "p", "proc")])

    plan = build(spec, replace(HOST_V1_ROOT, kernel=(6, 16)))

    assert where(plan, JoinNamespace) < where(plan, Fork(CLONE_NEWNS)) < where(plan, Mount)
    assert only(plan, Mount).data == ""


def test_masks_follow_the_late_join_of_the_pid_namespace() -> None:
    spec = minimal_spec(namespaces=("mount", Namespace("pid", "/run/ns/pid")), masked_paths=("/proc/kcore",))

    plan = build(spec, HOST_NEW)

    assert where(plan, JoinNamespace) < where(plan, MaskPath)


def _maps() -> dict[str, Any]:
    return {"uid_mappings": MAP, "gid_mappings": MAP}


def test_user_namespace_takes_two_stages() -> None:
    plan = build(minimal_spec(**USER_NAMESPACE))

    assert only(plan, Clone).flags == 0
    assert only(plan, Unshare).flags == CLONE_NEWUSER
    assert only(plan, Fork).flags == CLONE_NEWNS | CLONE_NEWPID
    assert where(plan, Clone) < where(plan, Unshare) < where(plan, Fork)


def test_ids_are_mapped_before_root_is_taken_and_before_the_other_namespaces() -> None:
    plan = build(minimal_spec(**USER_NAMESPACE))

    maps = where(plan, WriteIdMaps("0 100000 65536\n", "0 100000 65536\n"))
    assert where(plan, Unshare) < maps < plan.position("id-maps") < where(plan, BecomeRoot) < where(plan, Fork)


def test_id_maps_come_before_the_sources_are_opened() -> None:
    spec = minimal_spec(**USER_NAMESPACE, mounts=[SpecMount("/data", "/srv", "none", ("bind",))])

    plan = build(spec)

    assert plan.position("id-maps") < where(plan, OpenSources) < plan.position("sources") < where(plan, Rootfs)


def test_in_a_user_namespace_the_parent_opens_rootfs_and_binds() -> None:
    spec = minimal_spec(**USER_NAMESPACE, mounts=[SpecMount("/data", "/srv", "none", ("rbind",))])

    plan = build(spec)

    paths = [tree.path for tree in only(plan, OpenSources).trees]
    assert paths[:2] == ["/bundle/rootfs", "/srv"]
    assert only(plan, Rootfs).handed
    assert all(tree.propagation == MS_SLAVE | MS_REC for tree in only(plan, OpenSources).trees)


def test_a_source_that_is_bound_twice_is_opened_for_each_bind() -> None:
    mounts = [SpecMount("/a", "/srv", "none", ("bind",)), SpecMount("/b", "/srv", "none", ("bind",))]

    plan = build(minimal_spec(**USER_NAMESPACE, mounts=mounts))

    first, second = (op for op in every(plan, Bind) if op.source == "/srv")
    assert first.slot() != second.slot()


def test_setgroups_is_denied_for_a_caller_without_privileges() -> None:
    plan = build(minimal_spec(**OWN_ID), HOST_USER)

    assert only(plan, WriteIdMaps).deny_setgroups
    assert only(plan, BecomeRoot).keep_groups
    assert only(plan, SetUser).keep_groups


def test_namespaces_of_others_are_joined_before_the_user_namespace_by_root() -> None:
    namespaces = ("user", "mount", Namespace("network", "/run/ns/net"))

    plan = build(minimal_spec(namespaces=namespaces, **_maps()))

    assert where(plan, JoinNamespace) < where(plan, Unshare)


def test_namespaces_of_others_are_joined_after_the_user_namespace_without_privileges() -> None:
    namespaces = ("user", "mount", Namespace("network", "/run/ns/net"))

    plan = build(minimal_spec(namespaces=namespaces, **_maps()), HOST_USER)

    assert where(plan, BecomeRoot) < where(plan, Undumpable) < where(plan, JoinNamespace)


def test_user_takes_the_ids_of_a_user_namespace_once_it_has_been_joined() -> None:
    user, ipc = Namespace("user", "/u"), Namespace("ipc", "/i")

    plan = build(minimal_spec(namespaces=("mount", ipc, user)), HOST_USER)

    joined, other = JoinNamespace("user", "/u"), JoinNamespace("ipc", "/i")
    assert where(plan, Undumpable) < where(plan, joined) < where(plan, BecomeRoot) < where(plan, other)


def test_root_of_a_user_namespace_joins_what_it_may_first_and_the_rest_afterwards() -> None:
    namespaces = ("user", "mount", Namespace("network", "/run/ns/net"))
    early, late = JoinNamespace("network", "/run/ns/net", True), JoinNamespace("network", "/run/ns/net")

    plan = build(minimal_spec(namespaces=namespaces, **_maps()), HOST_NESTED)

    assert where(plan, early) < where(plan, Unshare) < where(plan, late) < where(plan, BecomeRoot)


def test_a_user_namespace_that_is_joined_may_deny_setgroups() -> None:
    plan = build(minimal_spec(namespaces=("mount", Namespace("user", "/run/ns/user"))))

    assert only(plan, BecomeRoot).joined


def test_joined_pid_namespace_is_entered_before_a_new_user_namespace_takes_the_privilege() -> None:
    namespaces = ("user", "mount", Namespace("pid", "/run/ns/pid"))

    plan = build(minimal_spec(namespaces=namespaces, **_maps()), HOST_NEW)

    assert where(plan, JoinNamespace("pid", "/run/ns/pid")) < where(plan, Unshare)


def test_loopback_is_brought_up_in_a_new_network_namespace_alone() -> None:
    new = build(minimal_spec(namespaces=("mount", "network")))
    joined = build(minimal_spec(namespaces=("mount", Namespace("network", "/run/ns/net"))))

    assert only(new, Loopback)
    assert not every(joined, Loopback)


def test_keyring_bears_the_id() -> None:
    plan = build(minimal_spec(), id="box")

    assert only(plan, Keyring) == Keyring("_ses.box")


def test_no_keyring_is_made_if_none_is_wanted() -> None:
    plan = build(minimal_spec(), no_new_keyring=True)

    assert not every(plan, Keyring)


def test_unmapped_user_is_refused() -> None:
    process = minimal_process(user=User(uid=70000))

    with pytest.raises(SpecError, match="cannot setuid to unmapped uid 70000 in user namespace") as caught:
        build(minimal_spec(**USER_NAMESPACE, process=process))

    assert caught.value.pointer == "/process/user/uid"


def test_unmapped_group_is_refused() -> None:
    process = minimal_process(user=User(gid=70000))

    with pytest.raises(SpecError, match="cannot setgid to unmapped gid 70000 in user namespace") as caught:
        build(minimal_spec(**USER_NAMESPACE, process=process))

    assert caught.value.pointer == "/process/user/gid"


def test_additional_groups_that_cannot_be_set_are_refused() -> None:
    process = minimal_process(user=User(additional_gids=(5,)))

    with pytest.raises(SpecError, match="cannot set any additional groups in a rootless container"):
        build(minimal_spec(**OWN_ID, process=process), HOST_USER)


def test_additional_groups_are_refused_where_setgroups_is_denied_already() -> None:
    process = minimal_process(user=User(additional_gids=(5,)))

    with pytest.raises(SpecError, match="cannot set any additional groups in a rootless container"):
        build(minimal_spec(process=process), replace(HOST_NESTED, groups_denied=True))


def test_groups_are_kept_where_setgroups_is_denied_already() -> None:
    plan = build(minimal_spec(), replace(HOST_NESTED, groups_denied=True))

    assert only(plan, SetUser).keep_groups


def test_a_user_maps_its_own_id_by_itself() -> None:
    op = only(build(minimal_spec(**OWN_ID), HOST_USER), WriteIdMaps)

    assert (op.uid_helper, op.gid_helper) == (False, False)


def test_a_user_maps_other_ids_by_the_helpers() -> None:
    op = only(build(minimal_spec(**USER_NAMESPACE), HOST_USER), WriteIdMaps)

    assert (op.uid_helper, op.gid_helper, op.deny_setgroups) == (True, True, False)


@pytest.mark.parametrize("host", [HOST_V1_ROOT, HOST_NESTED])
def test_root_needs_no_helpers(host: Host) -> None:
    op = only(build(minimal_spec(**USER_NAMESPACE), host), WriteIdMaps)

    assert (op.uid_helper, op.gid_helper, op.deny_setgroups) == (False, False, False)


def test_each_map_has_its_own_helper() -> None:
    fields = {**OWN_ID, "gid_mappings": MAP}

    op = only(build(minimal_spec(**fields), HOST_USER), WriteIdMaps)

    assert (op.uid_helper, op.gid_helper) == (False, True)


# Network devices


DEVICES = {"eth0": NetDevice(), "eth1": NetDevice("data%d")}


def test_network_devices_are_there_for_hooks_and_sysctls() -> None:
    spec = minimal_spec(
        namespaces=("mount", "network"),
        net_devices=DEVICES,
        sysctl={"net.ipv4.conf.eth0.rp_filter": "1"},
        hooks=Hooks(create_runtime=(Hook("/h"),)),
    )

    plan = build(spec)

    moved = where(plan, MoveNetDevices)
    assert plan.ops[moved] == MoveNetDevices((("eth0", "eth0"), ("eth1", "data%d")))
    assert where(plan, Loopback) < moved < plan.position("net-devices") < where(plan, RunHooks) < where(plan, Sysctl)


def test_network_devices_are_refused_without_root() -> None:
    namespaces = ("user", "mount", "network")
    maps = {"uid_mappings": OWN, "gid_mappings": OWN}

    with pytest.raises(SpecError, match="not supported for rootless containers") as caught:
        build(minimal_spec(namespaces=namespaces, net_devices=DEVICES, **maps), HOST_USER)

    assert caught.value.pointer == "/linux/netDevices"


def test_network_devices_do_not_move_to_where_they_are() -> None:
    spec = minimal_spec(namespaces=("mount", Namespace("network", "/n")), net_devices=DEVICES)
    own = dict(HOST_V1_ROOT.namespaces)["network"]

    with pytest.raises(SpecError, match="other than the runtime's own"):
        build(spec, joined=(("network", own),))


# Time


SHIFT = {"monotonic": TimeOffset(-5, 7), "boottime": TimeOffset(1)}


def test_clocks_are_shifted_before_anybody_is_in_the_time_namespace() -> None:
    plan = build(minimal_spec(namespaces=("mount", "time"), time_offsets=SHIFT))

    assert only(plan, WriteTimeOffsets).text == "monotonic -5 7\nboottime 1 0\n"
    assert where(plan, Unshare) < where(plan, WriteTimeOffsets) < plan.position("time-offsets") < where(plan, Fork)


def test_clocks_are_shifted_with_the_ids_of_the_caller() -> None:
    namespaces = ("user", "mount", "time")

    plan = build(minimal_spec(namespaces=namespaces, **_maps(), time_offsets=SHIFT))

    assert where(plan, Unshare) < where(plan, WriteTimeOffsets) < plan.position("id-maps") < where(plan, BecomeRoot)


def test_clocks_that_are_not_shifted_need_no_waiting() -> None:
    plan = build(minimal_spec(namespaces=("mount", "time")))

    assert plan.position("time-offsets") == -1
    assert only(plan, Unshare).flags == CLONE_NEWTIME


# Cgroups


def test_cgroup_stands_with_its_limits_before_there_is_a_process() -> None:
    resources = parse_resources({"memory": {"limit": 1 << 20}}, "/linux/resources")

    plan = build(minimal_spec(resources=resources), cgroup_paths=CHARGED_PATHS)

    assert where(plan, MakeCgroup(CHARGED_PATHS)) < where(plan, WriteCgroup) < where(plan, Clone)


def test_cgroups_that_charge_are_joined_last_and_the_others_first() -> None:
    plan = build(minimal_spec(), cgroup_paths=CHARGED_PATHS)

    first, last = every(plan, JoinCgroup)
    assert first == UNCHARGED
    assert where(plan, first) == where(plan, Clone) + 1
    assert last == CHARGED
    assert plan.ops[where(plan, last) + 1] == SaveState()


def test_a_scheduler_is_set_in_the_cpu_cgroup() -> None:
    spec = minimal_spec(process=minimal_process(scheduler=Scheduler("SCHED_FIFO", priority=1)))

    plan = build(spec, cgroup_paths=CHARGED_PATHS)

    first, last = every(plan, JoinCgroup)
    assert first.directories == ("/sys/fs/cgroup/cpu,cpuacct/box", "/sys/fs/cgroup/devices/box")
    assert last.directories == ("/sys/fs/cgroup/memory/box", "/sys/fs/cgroup/pids/box")


def test_devices_cgroup_holds_for_hooks() -> None:
    plan = build(minimal_spec(hooks=ALL_HOOKS), cgroup_paths=CHARGED_PATHS)

    assert where(plan, UNCHARGED) < where(plan, RunHooks("prestart", 1))


def test_cgroup_namespace_is_made_inside_of_all_cgroups() -> None:
    plan = build(minimal_spec(namespaces=("mount", "cgroup")), cgroup_paths=CHARGED_PATHS)

    made = where(plan, Unshare(CLONE_NEWCGROUP))
    back = LeaveCgroup(("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids"))
    assert plan.ops[made - 1 : made + 2] == (CHARGED, Unshare(CLONE_NEWCGROUP), back)
    assert every(plan, JoinCgroup)[-1] == CHARGED


def test_cgroup_namespace_without_charged_cgroups_needs_no_leaving() -> None:
    plan = build(minimal_spec(namespaces=("mount", "cgroup")), cgroup_paths=(("devices", "/d"),))

    assert where(plan, JoinCgroup(("/d",))) < where(plan, Unshare(CLONE_NEWCGROUP))
    assert not every(plan, LeaveCgroup)


def test_cgroup_namespace_of_another_is_joined_and_none_is_made() -> None:
    plan = build(minimal_spec(namespaces=("mount", Namespace("cgroup", "/run/ns/cg"))), cgroup_paths=CHARGED_PATHS)

    assert only(plan, JoinNamespace).type == "cgroup"
    assert not every(plan, Unshare)


def test_cgroup_namespace_comes_before_the_cgroup_mount() -> None:
    spec = minimal_spec(namespaces=("mount", "cgroup"), mounts=[SpecMount("/sys/fs/cgroup", "cgroup", "cgroup")])

    plan = build(spec, cgroup_paths=CHARGED_PATHS)

    first = next(index for index, op in enumerate(plan.ops) if isinstance(op, Mount))
    assert where(plan, Unshare(CLONE_NEWCGROUP)) < first


def test_without_cgroups_none_is_joined() -> None:
    plan = build(minimal_spec())

    assert not [op for op in plan.ops if isinstance(op, (MakeCgroup, JoinCgroup))]


# Identity


def identity_of(plan: Plan) -> list[type[Op]]:
    return [
        type(op) for op in plan.ops if type(op) in (SetRlimit, Home, SetBounding, SetUser, SetCapabilities, Resolve)
    ]


def test_rlimits_in_a_user_namespace_are_set_by_the_parent_and_nsexec_waits_for_them() -> None:
    process = minimal_process(env=(), rlimits=(Rlimit("RLIMIT_CORE", 0, 1),))
    plan = build(minimal_spec(process=process, **USER_NAMESPACE))

    assert where(plan, SetRlimit("RLIMIT_CORE", 4, 0, 1)) < plan.position("rlimits") < where(plan, Home)


def test_rlimits_without_a_user_namespace_are_set_by_nsexec_before_the_user() -> None:
    plan = build(minimal_spec(process=minimal_process(rlimits=(Rlimit("RLIMIT_CORE", 0, 1),))))

    assert where(plan, OwnRlimit("RLIMIT_CORE", 4, 0, 1)) < where(plan, SetUser)
    assert plan.position("rlimits") == -1


@pytest.mark.parametrize(
    ("env", "looked_up"),
    [((), True), (("HOME=",), True), (("HOME=/x", "HOME="), True), (("HOME=/x",), False), (("HOMES=/x",), True)],
)
def test_home_is_looked_up_if_it_is_missing_or_empty(env: tuple[str, ...], looked_up: bool) -> None:
    plan = build(minimal_spec(process=minimal_process(env=env)))

    assert bool(every(plan, Home)) == looked_up


def test_bounding_set_is_dropped_before_the_user_changes_and_the_rest_after() -> None:
    capabilities = Capabilities(("CAP_KILL",), ("CAP_KILL",), (), ("CAP_KILL",), ())

    plan = build(minimal_spec(process=minimal_process(capabilities=capabilities)))

    assert identity_of(plan) == [SetBounding, SetUser, SetCapabilities, Resolve]


def test_cwd_is_tried_before_and_verified_after_the_user() -> None:
    plan = build(minimal_spec(process=minimal_process(cwd="/srv")))

    assert where(plan, Cwd("/srv", True)) < where(plan, SetUser) < where(plan, Cwd("/srv"))


def test_program_is_found_before_the_gate() -> None:
    plan = build(minimal_spec(process=minimal_process(env=("HOME=/", "PATH=/bin"))))

    assert where(plan, Cwd("/")) < where(plan, Resolve("true", "/bin")) < plan.position("created")


def test_names_are_set_in_their_namespace() -> None:
    plan = build(minimal_spec(namespaces=("mount", "uts"), hostname="box", domainname="example.org"))

    assert only(plan, Clone).flags & CLONE_NEWUTS
    assert where(plan, Hostname("box")) < where(plan, Domainname("example.org"))


def test_terminal_is_made_in_the_containers_own_root_before_anything_is_read_only() -> None:
    spec = minimal_spec(
        process=minimal_process(terminal=True, console_size=ConsoleSize(24, 80)),
        root=Root("r", True),
        masked_paths=("/proc/keys",),
    )

    plan = build(spec)

    assert only(plan, Terminal) == Terminal(24, 80, console=True)
    assert where(plan, PivotRoot) < where(plan, ReopenNull) < where(plan, Terminal) < where(plan, Attributes)
    assert where(plan, Terminal) < where(plan, MaskPath)


def test_terminal_comes_with_a_session_and_goes_to_the_user_with_stdio() -> None:
    plan = build(minimal_spec(process=minimal_process(terminal=True)))

    assert len(every(plan, Session)) == 1
    assert where(plan, Session) == where(plan, Terminal) - 1
    assert where(plan, Terminal) < where(plan, StdioOwner) < where(plan, SetUser)


def test_terminal_is_bound_on_nothing_of_the_hosts() -> None:
    spec = minimal_spec(process=minimal_process(terminal=True), namespaces=("pid",))

    plan = build(spec)

    assert only(plan, Terminal) == Terminal()
    assert [op.text for op in every(plan, Chroot)] == ["/", "/bundle/rootfs"]
    assert where(plan, Chroot("/")) < where(plan, Terminal) < where(plan, Chroot("/bundle/rootfs"))


def test_without_a_terminal_there_is_none() -> None:
    assert not every(build(minimal_spec()), Terminal)
