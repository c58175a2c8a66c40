"""Every kind of mount as the operations that make it."""

from __future__ import annotations

from typing import Any

import pytest

from pyocirun.errors import SpecError
from pyocirun.linux.host import Hierarchy, Host
from pyocirun.linux.idmap import IDMapping
from pyocirun.linux.mounts import (
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_STRICTATIME,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SHARED,
    MS_SLAVE,
)
from pyocirun.plan.mounts import Context, clean, mountpoint_of, mounts
from pyocirun.plan.namespaces import stages
from pyocirun.plan.ops import (
    IN_PROC,
    PROC_FILES,
    PROC_ONLY,
    Attach,
    Attributes,
    Bind,
    HoldTree,
    Idmap,
    Mount,
    Node,
    Op,
    OpenSources,
    Plan,
    Relabel,
    Remount,
    Symlink,
    Sync,
    Terminal,
)
from pyocirun.record import replace
from pyocirun.spec.linux import Namespace
from pyocirun.spec.mounts import Mount as SpecMount
from tests.support import (
    CHARGED_PATHS,
    HOST_USER,
    HOST_V1_ROOT,
    build,
    every,
    minimal_process,
    minimal_request,
    minimal_spec,
    only,
    where,
)

MAP = (IDMapping(0, 100000, 65536),)
USER: dict[str, Any] = {"namespaces": ("user", "mount", "pid"), "uid_mappings": MAP, "gid_mappings": MAP}


def planned(*mounts: SpecMount, **fields: Any) -> list[Op]:
    """The operations of these mounts alone."""
    paths = fields.pop("cgroup_paths", ())
    plan = build(minimal_spec(mounts=mounts, **fields), cgroup_paths=paths)
    device_files = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
    own = [op for op in plan.ops if isinstance(op, (Mount, Bind, Attributes, Remount, Symlink))]
    return [
        op
        for op in own
        if not (isinstance(op, Symlink) and op.path.startswith("/dev/"))
        and not (isinstance(op, Bind) and op.target in device_files)
    ]


def bind(destination: str, *options: str, source: str | None = "/srv", type: str | None = None) -> SpecMount:
    return SpecMount(destination, source, type, ("bind", *options))


def refused(*mounts: SpecMount, **fields: Any) -> SpecError:
    with pytest.raises(SpecError) as caught:
        planned(*mounts, **fields)
    return caught.value


def test_file_system_with_flags_and_data() -> None:
    mount = SpecMount("/run", "tmpfs", "tmpfs", ("nosuid", "nodev", "mode=755", "size=64k"))

    ops = planned(mount)

    assert ops == [
        Mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=64k", origin="mounts[0]"),
    ]


def test_tmpfs_without_a_mode_takes_that_of_the_directory() -> None:
    (op,) = planned(SpecMount("/run", "tmpfs", "tmpfs", ("size=64k",)))

    assert isinstance(op, Mount)
    assert op.copy_mode


def test_other_file_systems_do_not_take_a_mode() -> None:
    (op,) = planned(SpecMount("/dev/mqueue", "mqueue", "mqueue"))

    assert isinstance(op, Mount)
    assert not op.copy_mode


@pytest.mark.parametrize(
    ("type", "target"), [("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/dev"), ("devpts", "/dev/pts")]
)
def test_proc_and_sysfs_and_dev_take_no_symbolic_links(type: str, target: str) -> None:
    (op,) = planned(SpecMount(target, type, type))

    assert isinstance(op, Mount)
    assert op.plain


def test_source_of_a_file_system_defaults_to_its_type() -> None:
    (op,) = planned(SpecMount("/run", None, "tmpfs"))

    assert isinstance(op, Mount)
    assert op.source == "tmpfs"


def test_propagation_of_a_file_system_follows_the_mount() -> None:
    (op,) = planned(SpecMount("/run", "tmpfs", "tmpfs", ("rprivate", "shared")))

    assert isinstance(op, Mount)
    assert op.propagation == (MS_PRIVATE | MS_REC, MS_SHARED)


def test_bind_is_a_slave_of_the_host() -> None:
    (op,) = planned(bind("/data"))

    assert op == Bind("/srv", "/data", slave=MS_SLAVE | MS_REC, origin="mounts[0]")


def test_rbind_takes_the_tree() -> None:
    (op,) = planned(SpecMount("/data", "/srv", "none", ("rbind",)))

    assert isinstance(op, Bind)
    assert op.recursive


def test_bind_flags_become_attributes() -> None:
    (op,) = planned(bind("/data", "ro", "nosuid", "noexec"))

    assert isinstance(op, Bind)
    assert op.set == MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC


def test_bind_with_an_option_takes_away_what_no_option_names() -> None:
    (op,) = planned(bind("/data", "ro", "noexec", "rw"))

    assert isinstance(op, Bind)
    others = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSYMFOLLOW
    assert (op.set, op.clear) == (MOUNT_ATTR_NOEXEC, others)


def test_bind_without_an_option_leaves_all_as_it_is() -> None:
    (op,) = planned(bind("/data", "rprivate"))

    assert isinstance(op, Bind)
    assert (op.set, op.clear) == (0, 0)


def test_bind_in_a_user_namespace_takes_away_what_an_option_names_and_nosymfollow() -> None:
    op = next(op for op in planned(bind("/data", "rw", "dev", "nosuid"), **USER) if isinstance(op, Bind))

    assert op.set == MOUNT_ATTR_NOSUID
    assert op.clear == MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSYMFOLLOW


@pytest.mark.parametrize(
    ("option", "bit"), [("noatime", MOUNT_ATTR_NOATIME), ("strictatime", MOUNT_ATTR_STRICTATIME), ("relatime", 0)]
)
def test_access_time_of_a_bind_clears_the_whole_field(option: str, bit: int) -> None:
    (op,) = planned(bind("/data", option))

    assert isinstance(op, Bind)
    assert op.set == bit
    assert op.clear & MOUNT_ATTR__ATIME == MOUNT_ATTR__ATIME
    assert op.clear & MOUNT_ATTR_NODIRATIME


def test_access_time_of_a_bind_stays_where_no_option_is_about_it() -> None:
    (op,) = planned(bind("/data", "ro"))

    assert isinstance(op, Bind)
    assert not op.clear & (MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME)


def test_bind_of_type_bind_without_the_option() -> None:
    (op,) = planned(SpecMount("/data", "/srv", "bind"))

    assert isinstance(op, Bind)
    assert op.source == "/srv"


def test_source_of_a_bind_is_relative_to_the_bundle() -> None:
    (op,) = planned(bind("/data", source="volumes/a"))

    assert isinstance(op, Bind)
    assert op.source == "/bundle/volumes/a"


@pytest.mark.parametrize("option", ["shared", "rshared"])
def test_shared_bind_stays_a_peer_of_the_host(option: str) -> None:
    (op,) = planned(bind("/data", option))

    assert isinstance(op, Bind)
    assert op.slave == 0


def test_shared_root_keeps_binds_peers_of_the_host() -> None:
    (op,) = planned(bind("/data"), rootfs_propagation="rshared")

    assert isinstance(op, Bind)
    assert op.slave == 0


def test_in_a_user_namespace_the_parent_opens_the_source() -> None:
    op = next(op for op in planned(bind("/data"), **USER) if isinstance(op, Bind))

    assert op.handed


def test_recursive_attributes_of_a_bind_are_set_before_it_is_attached() -> None:
    (op,) = planned(SpecMount("/data", "/srv", "none", ("rbind", "ro", "rrw", "rnosuid")))

    assert isinstance(op, Bind)
    assert (op.set, op.rec_set, op.rec_clear) == (MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY)


def test_recursive_attributes_of_a_file_system() -> None:
    (op,) = planned(SpecMount("/data", "tmpfs", "tmpfs", ("rro", "rdev")))

    assert isinstance(op, Mount)
    assert (op.rec_set, op.rec_clear) == (MOUNT_ATTR_RDONLY, MOUNT_ATTR_NODEV)


def test_recursive_attributes_of_a_remount_come_last() -> None:
    ops = planned(SpecMount("/data", None, "none", ("remount", "nosuid", "rro")))

    assert ops == [
        Attributes("/data", MOUNT_ATTR_NOSUID, origin="mounts[0]"),
        Attributes("/data", MOUNT_ATTR_RDONLY, recursive=True, origin="mounts[0]"),
    ]


def test_remount_with_options_of_the_file_system_gives_it_all_of_them() -> None:
    (op,) = planned(SpecMount("/tmp", None, "none", ("remount", "nosuid", "size=1m")))

    assert op == Remount("/tmp", MS_REMOUNT | MS_NOSUID, "size=1m", "mounts[0]")


def test_propagation_of_a_remount() -> None:
    (op,) = planned(SpecMount("/data", None, "none", ("remount", "ro", "private")))

    assert op == Attributes("/data", MOUNT_ATTR_RDONLY, propagation=(MS_PRIVATE,), origin="mounts[0]")


def test_remount_changes_attributes_of_what_is_there() -> None:
    (op,) = planned(SpecMount("/sys", None, "none", ("remount", "ro")))

    assert op == Attributes("/sys", MOUNT_ATTR_RDONLY, origin="mounts[0]")


def test_bind_remount_binds_nothing() -> None:
    (op,) = planned(bind("/data", "remount", "ro", source=None))

    assert op == Attributes("/data", MOUNT_ATTR_RDONLY, origin="mounts[0]")


def test_bind_without_a_source_is_refused() -> None:
    error = refused(SpecMount("/data", None, "bind"))

    assert error.pointer == "/mounts/0/source"


@pytest.mark.parametrize(
    ("destination", "target"),
    [
        ("data", "/data"),
        ("/data/", "/data"),
        ("//data//x", "/data/x"),
        ("/data/./x", "/data/x"),
        ("/data/../x", "/x"),
        ("../../x", "/x"),
        ("/..data", "/..data"),
    ],
)
def test_destination_is_made_absolute_and_plain(destination: str, target: str) -> None:
    (op,) = planned(SpecMount(destination, "tmpfs", "tmpfs"))

    assert isinstance(op, Mount)
    assert op.target == target


def test_clean_is_idempotent() -> None:
    assert clean(clean("a//../b/./c/")) == clean("a//../b/./c/") == "/b/c"


@pytest.mark.parametrize("destination", ["/x/..", "/.", "a/../.."])
def test_root_cannot_be_mounted_over(destination: str) -> None:
    error = refused(SpecMount("/run", "tmpfs", "tmpfs"), SpecMount(destination, "tmpfs", "tmpfs"))

    assert error.pointer == "/mounts/1/destination"
    assert "is the root of the container" in str(error)


@pytest.mark.parametrize("type", ["tmpfs", "sysfs", "overlay"])
def test_only_proc_is_mounted_on_proc(type: str) -> None:
    error = refused(SpecMount("/proc", type, type))

    assert '"/proc" cannot be mounted because it is not of type proc' in str(error)
    assert error.pointer == "/mounts/0"


def test_bind_on_proc_is_checked_to_be_a_procfs() -> None:
    (op,) = planned(bind("/proc", source="/proc"))

    assert bits(op) & PROC_ONLY


def test_only_what_may_cover_procfs_is_marked_so() -> None:
    ops = planned(
        bind("/proc/meminfo"), bind("/data"), SpecMount("/proc", "proc", "proc"), SpecMount("/sys", "s", "sysfs")
    )

    assert [bool(bits(op) & IN_PROC) for op in ops] == [True, False, True, False]


def bits(op: Op) -> int:
    """The last field of a mount."""
    field = op.fields({})[-1]
    assert isinstance(field, int)
    return field


@pytest.mark.parametrize("inside", ["1", "self/attr/current", "sys", "sys/kernel/core_pattern", "../proc/1", "./kcore"])
def test_bind_inside_proc_is_refused(inside: str) -> None:
    error = refused(bind(f"/proc/{inside}"))

    assert "cannot be mounted because it is inside /proc" in str(error)
    assert error.pointer == "/mounts/0"


@pytest.mark.parametrize("inside", sorted(PROC_FILES))
def test_bind_of_what_lxcfs_provides_is_allowed(inside: str) -> None:
    (op,) = planned(bind(f"/proc/{inside}"))

    assert isinstance(op, Bind)


def test_file_system_inside_proc_is_refused() -> None:
    error = refused(SpecMount("/proc/sys", "tmpfs", "tmpfs"))

    assert "cannot be mounted because it is inside /proc" in str(error)


def test_bind_with_data_is_refused() -> None:
    error = refused(bind("/data", "size=1"))

    assert error.pointer == "/mounts/0/options"
    assert "bind mounts cannot have any filesystem-specific options applied" in str(error)


# idmap


def test_idmap_has_the_maps_of_the_mount() -> None:
    (op,) = planned(SpecMount("/data", "/srv", None, ("bind", "idmap"), MAP, (IDMapping(1, 2, 3), IDMapping(5, 6, 7))))

    assert isinstance(op, Bind)
    assert op.idmap == Idmap("0 100000 65536\n", "1 2 3\n5 6 7\n")


def test_idmap_without_maps_has_those_of_the_container() -> None:
    op = next(op for op in planned(bind("/data", "idmap"), **USER) if isinstance(op, Bind))

    assert op.idmap == Idmap()


def test_ridmap_maps_the_tree() -> None:
    (op,) = planned(SpecMount("/data", "/srv", None, ("rbind", "ridmap"), MAP, MAP))

    assert isinstance(op, Bind)
    assert op.idmap is not None
    assert op.idmap.recursive


def test_maps_alone_mean_idmap() -> None:
    (op,) = planned(SpecMount("/data", "/srv", "bind", (), MAP, MAP))

    assert isinstance(op, Bind)
    assert op.idmap == Idmap("0 100000 65536\n", "0 100000 65536\n")


def test_parent_maps_the_ids_before_the_tree_is_handed_over() -> None:
    plan = build(minimal_spec(mounts=[SpecMount("/data", "/srv", None, ("bind", "idmap"), MAP, MAP)]))

    opened = only(plan, OpenSources)
    assert [(tree.path, tree.idmap is not None) for tree in opened.trees] == [("/srv", True)]
    assert where(plan, opened) < where(plan, Sync("sources")) < where(plan, Bind)


def test_ids_of_the_container_are_mapped_before_sources_are_opened() -> None:
    plan = build(minimal_spec(mounts=[bind("/data", "idmap")], **USER))

    assert where(plan, Sync("id-maps")) < where(plan, OpenSources)


@pytest.mark.parametrize("option", ["idmap", "ridmap"])
def test_idmap_without_maps_and_user_namespace_is_refused(option: str) -> None:
    error = refused(bind("/data", option))

    assert (
        str(error) == f"/mounts/0/options: {option} needs uidMappings and gidMappings of the mount, or a user namespace"
    )


def test_idmap_of_a_file_system_is_refused() -> None:
    error = refused(SpecMount("/data", "tmpfs", "tmpfs", ("idmap",), MAP, MAP))

    assert "id-mapped mounts are only supported for bind-mounts" in str(error)


def test_idmap_without_root_is_refused() -> None:
    with pytest.raises(SpecError, match="not supported for rootless containers"):
        build(minimal_spec(mounts=[bind("/data", "idmap")], **USER), HOST_USER)


# tmpcopyup


def test_tmpcopyup_fills_the_tmpfs_before_it_is_attached() -> None:
    plan = build(minimal_spec(mounts=[SpecMount("/tmp", "tmpfs", "tmpfs", ("tmpcopyup", "ro", "size=1m", "private"))]))

    made = only(plan, Mount)
    start = where(plan, made)
    assert made == Mount(
        "tmpfs", "/tmp", "tmpfs", 0, "size=1m", made.propagation, copy_mode=True, copy_up=True, origin="mounts[0]"
    )
    assert plan.ops[start + 1 : start + 4] == (
        Sync("copy-from"),
        Sync("copy-up"),
        Attach("/tmp", MOUNT_ATTR_RDONLY, propagation=(MS_PRIVATE,), origin="mounts[0]"),
    )


# mountLabel

LABEL = "system_u:object_r:container_file_t:s0:c1,c2"
HOST_SELINUX = replace(HOST_V1_ROOT, security_modules=("selinux",))


def labelled(*mounts: SpecMount, **request: Any) -> Plan:
    return build(minimal_spec(mounts=mounts, mount_label=LABEL), HOST_SELINUX, **request)


def test_label_is_an_option_in_quotes() -> None:
    plan = labelled(SpecMount("/tmp", "tmpfs", "tmpfs", ("size=1m",)), SpecMount("/dev/pts", "devpts", "devpts"))

    assert [op.data for op in every(plan, Mount)] == [f'size=1m,context="{LABEL}"', f'context="{LABEL}"']


def test_an_annotation_names_the_option_of_the_label() -> None:
    annotations = {"run.oci.mount_context_type": "rootcontext"}
    spec = minimal_spec(mounts=[SpecMount("/tmp", "tmpfs", "tmpfs")], mount_label=LABEL, annotations=annotations)

    assert only(build(spec, HOST_SELINUX), Mount).data.endswith(f'rootcontext="{LABEL}"')


def test_another_option_for_the_label_is_refused() -> None:
    spec = minimal_spec(mount_label=LABEL, annotations={"run.oci.mount_context_type": "gid"})

    with pytest.raises(SpecError, match="invalid mount context type `gid`"):
        build(spec, HOST_SELINUX)


def test_label_of_the_mount_itself_stays() -> None:
    plan = labelled(SpecMount("/tmp", "tmpfs", "tmpfs", ("size=1m", "context=other")))

    assert only(plan, Mount).data == "size=1m,context=other"


@pytest.mark.parametrize("type", ["proc", "sysfs"])
def test_proc_and_sysfs_get_no_label(type: str) -> None:
    plan = labelled(SpecMount(f"/{type[:3]}x", type, type))

    assert "context=" not in only(plan, Mount).data


def test_mqueue_is_labelled_afterwards() -> None:
    plan = labelled(SpecMount("/dev/mqueue", "mqueue", "mqueue"))

    assert only(plan, Mount).data == ""
    assert where(plan, Relabel("/dev/mqueue", LABEL, "mounts[0]")) == where(plan, Mount) + 1


def test_bind_gets_no_label() -> None:
    plan = labelled(bind("/data"))

    assert not every(plan, Relabel)


def test_label_on_a_host_without_selinux_is_refused() -> None:
    error = refused(mount_label=LABEL)

    assert error.pointer == "/linux/mountLabel"
    assert "selinux label is specified in config, but selinux is disabled or not supported" in str(error)


def test_label_with_a_quote_is_refused() -> None:
    with pytest.raises(SpecError, match="no quotes"):
        build(minimal_spec(mount_label='a",b'), HOST_SELINUX)


def test_pointer_names_the_mount() -> None:
    error = refused(SpecMount("/run", "tmpfs", "tmpfs"), bind("/proc/1"))

    assert error.pointer == "/mounts/1"


# Cgroup v1

CGROUP = SpecMount("/sys/fs/cgroup", "cgroup", "cgroup", ("nosuid", "noexec", "nodev", "ro"))
FLAGS = MS_NOSUID | MS_NOEXEC | MS_NODEV


def test_cgroup_mount_without_namespace_binds_the_containers_own() -> None:
    ops = planned(CGROUP, cgroup_paths=CHARGED_PATHS)

    assert ops[0] == Mount("tmpfs", "/sys/fs/cgroup", "tmpfs", FLAGS, "mode=755", origin="mounts[0]")
    binds = every(ops, Bind)
    assert [(op.source, op.target) for op in binds] == [
        ("/sys/fs/cgroup/cpu,cpuacct/box", "/sys/fs/cgroup/cpu,cpuacct"),
        ("/sys/fs/cgroup/memory/box", "/sys/fs/cgroup/memory"),
        ("/sys/fs/cgroup/devices/box", "/sys/fs/cgroup/devices"),
        ("/sys/fs/cgroup/pids/box", "/sys/fs/cgroup/pids"),
    ]
    assert all(op.set & MOUNT_ATTR_RDONLY for op in binds)


def test_cgroups_are_closed_behind_what_lies_inside() -> None:
    inside = SpecMount("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/systemd", "bind", ("bind",))

    ops = planned(CGROUP, inside, cgroup_paths=CHARGED_PATHS)

    closed = Attributes("/sys/fs/cgroup", MOUNT_ATTR_RDONLY, origin="mounts[0]")
    last = next(op for op in ops if isinstance(op, Bind) and op.target == "/sys/fs/cgroup/systemd")
    assert ops.count(closed) == 1
    assert ops.index(closed) > ops.index(last)


def test_cgroup_mount_in_a_namespace_mounts_the_hierarchies() -> None:
    ops = planned(CGROUP, namespaces=("mount", "cgroup"), cgroup_paths=CHARGED_PATHS)

    hierarchies = [op for op in every(ops, Mount) if op.fstype == "cgroup"]
    assert [(op.target, op.data) for op in hierarchies] == [
        ("/sys/fs/cgroup/cpu,cpuacct", "cpu,cpuacct"),
        ("/sys/fs/cgroup/memory", "memory"),
        ("/sys/fs/cgroup/devices", "devices"),
        ("/sys/fs/cgroup/pids", "pids"),
    ]
    assert all(op.flags == FLAGS | MS_RDONLY for op in hierarchies)


def test_named_hierarchy_is_mounted_by_its_name() -> None:
    ops = planned(CGROUP, namespaces=("mount", "cgroup"), cgroup_paths=(("name=systemd", "/x"),))

    assert [op.data for op in every(ops, Mount)] == ["mode=755", "none,name=systemd"]


def test_controllers_that_share_a_hierarchy_get_links() -> None:
    ops = planned(CGROUP, cgroup_paths=CHARGED_PATHS)

    assert every(ops, Symlink) == [
        Symlink("cpu,cpuacct", "/sys/fs/cgroup/cpu"),
        Symlink("cpu,cpuacct", "/sys/fs/cgroup/cpuacct"),
    ]


def test_read_only_cgroup_mount_is_closed_after_it_was_filled() -> None:
    ops = planned(CGROUP, cgroup_paths=CHARGED_PATHS)

    assert ops[-1] == Attributes("/sys/fs/cgroup", MOUNT_ATTR_RDONLY, origin="mounts[0]")


def test_writable_cgroup_mount_stays_open() -> None:
    ops = planned(SpecMount("/sys/fs/cgroup", "cgroup", "cgroup", ("nosuid",)), cgroup_paths=CHARGED_PATHS)

    assert not every(ops, Attributes)


def test_cgroup_mount_without_cgroups_is_an_empty_tmpfs() -> None:
    ops = planned(CGROUP)

    assert [type(op) for op in ops] == [Mount, Attributes]


# Cgroup v2

HOST_V2 = Host(
    kernel=(6, 1), unified=Hierarchy((), "/sys/fs/cgroup"), cgroup2_only=True, mountpoints=("/", "/sys/fs/cgroup")
)
V2_PATHS = (("", "/sys/fs/cgroup/box"),)


def planned_v2(*namespaces: str, host: Host = HOST_V2, **request: Any) -> list[Op]:
    spec = minimal_spec(namespaces=("mount", *namespaces), mounts=[CGROUP])
    context = Context.of(spec, host, minimal_request(cgroup_paths=V2_PATHS, **request), stages(spec, host))
    return mounts(spec, context)


def test_cgroup2_in_a_namespace_is_mounted_or_else_bound() -> None:
    tried, instead = planned_v2("cgroup")

    assert isinstance(tried, Mount)
    assert (tried.fstype, tried.target, tried.flags, tried.or_else) == (
        "cgroup2",
        "/sys/fs/cgroup",
        FLAGS | MS_RDONLY,
        True,
    )
    assert isinstance(instead, Bind)
    assert (instead.source, instead.target, instead.instead) == ("/sys/fs/cgroup/box", "/sys/fs/cgroup", True)
    assert instead.set & MOUNT_ATTR_RDONLY


def test_cgroup2_without_a_namespace_is_the_containers_own_cgroup() -> None:
    (op,) = planned_v2()

    assert isinstance(op, Bind)
    assert (op.source, op.target, op.instead) == ("/sys/fs/cgroup/box", "/sys/fs/cgroup", False)


def test_cgroup2_without_root_and_namespace_is_read_only_whatever_the_options() -> None:
    spec = minimal_spec(namespaces=("mount",), mounts=[SpecMount("/sys/fs/cgroup", "cgroup", "cgroup", ("rw",))])
    host = replace(HOST_V2, euid=1000)

    (op,) = mounts(spec, Context.of(spec, host, minimal_request(cgroup_paths=V2_PATHS), stages(spec, host)))

    assert isinstance(op, Bind)
    assert op.set & MOUNT_ATTR_RDONLY
    assert op.optional


# sysfs


def test_sysfs_of_the_hosts_network_is_bound_read_only_in_a_user_namespace() -> None:
    op = next(op for op in planned(SpecMount("/sys", "sysfs", "sysfs", ("nosuid",)), **USER) if isinstance(op, Bind))

    assert (op.source, op.target, op.recursive, op.handed) == ("/sys", "/sys", True, True)
    assert op.rec_set == MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC


def test_sysfs_of_a_joined_network_is_tried_in_a_user_namespace() -> None:
    namespaces = ("user", "mount", Namespace("network", "/run/netns/web"))

    ops = planned(SpecMount("/sys", "sysfs", "sysfs", ("ro",)), **{**USER, "namespaces": namespaces})

    tried, instead = [op for op in ops if isinstance(op, (Mount, Bind)) and op.target == "/sys"]
    assert isinstance(tried, Mount)
    assert tried.or_else
    assert isinstance(instead, Bind)
    assert (instead.source, instead.instead) == ("/sys", True)


def test_mqueue_of_the_host_is_bound_in_a_user_namespace() -> None:
    op = next(op for op in planned(SpecMount("/dev/mqueue", "mqueue", "mqueue"), **USER) if isinstance(op, Bind))

    assert (op.source, op.target) == ("/dev/mqueue", "/dev/mqueue")


def test_sysfs_of_an_own_network_namespace_is_mounted_in_a_user_namespace() -> None:
    fields = {**USER, "namespaces": ("user", "mount", "network")}

    ops = planned(SpecMount("/sys", "sysfs", "sysfs"), **fields)

    assert only(ops, Mount).fstype == "sysfs"


def test_mountpoint_is_the_longest_that_contains_the_path() -> None:
    host = Host(mountpoints=("/", "/var", "/var/lib", "/var/libx"))

    found = [mountpoint_of(path, host) for path in ("/var/lib/a", "/var/liby", "/etc", "/var/lib")]

    assert found == ["/var/lib", "/var", "/", "/var/lib"]


def test_mounts_keep_the_order_of_the_list() -> None:
    plan = build(minimal_spec(mounts=[bind("/b"), SpecMount("/a", "tmpfs", "tmpfs"), bind("/a/c")]), HOST_V1_ROOT)

    assert [op.origin for op in plan.ops if isinstance(op, (Bind, Mount))] == ["mounts[0]", "mounts[1]", "mounts[2]"]


SYS = SpecMount("/sys", "/sys", "none", ("rbind", "ro"))
IN_USER_NAMESPACE: dict[str, Any] = {
    "namespaces": ("user", "mount"),
    "uid_mappings": (IDMapping(0, 1000, 1),),
    "gid_mappings": (IDMapping(0, 1000, 1),),
}


def test_the_hosts_sys_is_read_only_with_all_below_it_in_a_user_namespace() -> None:
    inside = build(minimal_spec(**IN_USER_NAMESPACE, mounts=[SYS]), HOST_USER)
    outside = build(minimal_spec(mounts=[SYS]))

    assert next(op for op in every(inside, Bind) if op.target == "/sys").rec_set == MOUNT_ATTR_RDONLY
    assert next(op for op in every(outside, Bind) if op.target == "/sys").rec_set == 0


# ---- sources in the container's own root ---------------------------------------------------------


@pytest.mark.parametrize("source", ["/bundle/rootfs/data", "rootfs/data", "/bundle//rootfs/./data"])
def test_source_in_the_own_root_is_opened_inside(source: str) -> None:
    plan = build(minimal_spec(mounts=(SpecMount("/mnt", source, "bind", ("rbind",)),)))

    assert only(plan, Bind).source == "/data"
    assert only(plan, Bind).inside


@pytest.mark.parametrize("source", ["/bundle/rootfs-2/data", "/bundle", "/data"])
def test_source_beside_the_own_root_is_the_hosts(source: str) -> None:
    plan = build(minimal_spec(mounts=(SpecMount("/mnt", source, "bind", ("rbind",)),)))

    assert only(plan, Bind).source == source
    assert not only(plan, Bind).inside


def test_source_in_the_own_root_is_nothing_that_the_parent_opens() -> None:
    plan = build(minimal_spec(mounts=(SpecMount("/mnt", "/bundle/rootfs/data", "bind", ("rbind",)),), **USER))

    bind = next(op for op in every(plan, Bind) if op.target == "/mnt")
    assert (bind.inside, bind.handed, bind.locked) == (True, False, True)


def test_source_in_the_own_root_is_held_for_the_parent_to_map_its_ids() -> None:
    mount = SpecMount("/mnt", "/bundle/rootfs/data", "bind", ("rbind",), MAP, MAP)

    plan = build(minimal_spec(mounts=(mount,)))

    held = only(plan, HoldTree)
    line = "0 100000 65536\n"
    assert held == HoldTree("/data", True, Idmap(line, line), "mounts[0]")
    bind = where(plan, Bind)
    assert (where(plan, held), plan.position("map-ids")) == (bind - 2, bind - 1)
    assert only(plan, Bind).held


@pytest.mark.parametrize(
    ("destination", "target"),
    [("/bundle/rootfs/mnt", "/mnt"), ("/bundle/rootfs-2/mnt", "/bundle/rootfs-2/mnt"), ("/bundle/mnt", "/bundle/mnt")],
)
def test_destination_may_begin_with_the_rootfs(destination: str, target: str) -> None:
    [op] = planned(SpecMount(destination, None, "tmpfs"))

    assert isinstance(op, Mount)
    assert op.target == target


def test_destination_may_not_be_the_rootfs_itself() -> None:
    with pytest.raises(SpecError, match="is the root of the container"):
        planned(SpecMount("/bundle/rootfs", None, "tmpfs"))


# ---- a read-only tmpfs with something inside -----------------------------------------------------


def test_tmpfs_is_closed_once_what_lies_inside_has_been_made() -> None:
    first, second, closed = planned(SpecMount("/a", None, "tmpfs", ("ro", "nosuid")), SpecMount("/a/b", None, "tmpfs"))

    assert isinstance(first, Mount)
    assert isinstance(second, Mount)
    assert (first.flags, second.target) == (MS_NOSUID, "/a/b")
    assert closed == Attributes("/a", MOUNT_ATTR_RDONLY, origin="mounts[0]")


def test_readonly_dev_is_closed_behind_its_devices_and_the_terminal() -> None:
    mounts = (SpecMount("/dev", None, "tmpfs", ("ro",)),)

    plan = build(minimal_spec(mounts=mounts, process=minimal_process(terminal=True)))

    assert (
        where(plan, every(plan, Node)[-1])
        < where(plan, Terminal)
        < where(plan, Attributes("/dev", 1, origin="mounts[0]"))
    )


@pytest.mark.parametrize("later", ["/ab", "/a"])
def test_tmpfs_with_nothing_inside_is_closed_at_once(later: str) -> None:
    first, second = planned(SpecMount("/a", None, "tmpfs", ("ro",)), SpecMount(later, None, "tmpfs"))

    assert isinstance(first, Mount)
    assert isinstance(second, Mount)
    assert (first.flags, second.flags) == (MS_RDONLY, 0)
