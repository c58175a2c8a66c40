"""Every kind of mount as the operations that make it."""

from __future__ import annotations

from typing import Any

import pytest

from pyocirun.errors import SpecError
from pyocirun.linux.host import Host
from pyocirun.linux.idmap import IDMapping
from pyocirun.linux.mounts import (
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
)
from pyocirun.plan.mounts import clean, mountpoint_of
from pyocirun.plan.ops import IN_PROC, PROC_FILES, PROC_ONLY, Attributes, Bind, Mount, Op, Symlink
from pyocirun.spec.mounts import Mount as SpecMount
from tests.support import CHARGED_PATHS, HOST_V1_ROOT, build, every, minimal_spec, only

MAP = (IDMapping(0, 100000, 65536),)
USER: dict[str, Any] = {"namespaces": ("user", "mount", "pid"), "uid_mappings": MAP, "gid_mappings": MAP}


def planned(*mounts: SpecMount, **fields: Any) -> list[Op]:
    """The operations of these mounts alone."""
    paths = fields.pop("cgroup_paths", ())
    plan = build(minimal_spec(mounts=mounts, **fields), cgroup_paths=paths)
    device_files = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
    own = [op for op in plan.ops if isinstance(op, (Mount, Bind, Attributes, Symlink))]
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
    assert op.clear == 0


def test_bind_clears_only_what_an_option_names() -> None:
    (op,) = planned(bind("/data", "rw", "dev"))

    assert isinstance(op, Bind)
    assert (op.set, op.clear) == (0, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV)


def test_access_time_of_a_bind_clears_the_whole_field() -> None:
    (op,) = planned(bind("/data", "noatime"))

    assert isinstance(op, Bind)
    assert (op.set, op.clear) == (MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME)


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


def test_recursive_attributes_come_after_the_mount() -> None:
    ops = planned(SpecMount("/data", "/srv", "none", ("rbind", "rro", "rnosuid")))

    wanted = Attributes("/data", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, 0, True, "mounts[0]")
    assert isinstance(ops[0], Bind)
    assert ops[1:] == [wanted]


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


@pytest.mark.parametrize(
    ("mount", "what"),
    [
        (SpecMount("/tmp", "tmpfs", "tmpfs", ("tmpcopyup",)), "tmpcopyup"),
        (bind("/data", "idmap"), "an id-mapped mount"),
        (bind("/data", "ridmap"), "an id-mapped mount"),
        (SpecMount("/data", "/srv", None, ("bind",), MAP, MAP), "an id-mapped mount"),
    ],
)
def test_what_is_not_supported_is_refused(mount: SpecMount, what: str) -> None:
    error = refused(mount)

    assert str(error) == f"/mounts/0: {what} is not supported yet"


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


# sysfs


def test_sysfs_of_the_hosts_network_is_bound_read_only_in_a_user_namespace() -> None:
    op = next(op for op in planned(SpecMount("/sys", "sysfs", "sysfs", ("nosuid",)), **USER) if isinstance(op, Bind))

    assert (op.source, op.target, op.recursive, op.handed) == ("/sys", "/sys", True, True)
    assert op.set == MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
    assert op.recursive_attributes


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
