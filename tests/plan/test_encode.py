"""Plan -> bytes, read back by a decoder that shares nothing with the encoder; any spec gives a plan or a SpecError."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyocirun import native
from pyocirun.errors import SpecError
from pyocirun.linux.host import Host
from pyocirun.linux.idmap import IDMapping
from pyocirun.linux.mounts import CLEAR, PROPAGATION, RECURSIVE_CLEAR, RECURSIVE_SET, SET
from pyocirun.linux.namespaces import CLONE_NEWNS, FLAGS
from pyocirun.linux.rlimits import RLIMITS
from pyocirun.plan import ops, tenant
from pyocirun.plan.encode import MAX_OPS, Encoded, encode
from pyocirun.plan.ops import Attributes, Bind, Clone, Exec, Finish, MaskPath, Mount, Node, Plan, Slot, Sync
from pyocirun.record import replace
from pyocirun.spec.config import Root, Spec
from pyocirun.spec.hooks import Hook, Hooks
from pyocirun.spec.linux import Device, Linux, Namespace
from pyocirun.spec.mounts import Mount as SpecMount
from pyocirun.spec.process import Capabilities, Process, Rlimit, User
from tests.support import (
    CHARGED_PATHS,
    HOST_NESTED,
    HOST_NEW,
    HOST_USER,
    HOST_V1_ROOT,
    build,
    decode,
    expected_fields,
    minimal_process,
    minimal_request,
    minimal_spec,
)

NONE = 2**32 - 1


def expected_ops(plan: Plan, encoded: Encoded) -> tuple[tuple[int, str, tuple[Any, ...]], ...]:
    slots = {slot: number for number, slot in enumerate(encoded.launch + encoded.late)}
    return tuple((index, op.wire, expected_fields(op, slots)) for index, op in enumerate(plan.ops) if op.wire)


def test_operations_of_the_parent_are_left_out_and_counted() -> None:
    plan = Plan((ops.SaveState(), Clone(5), ops.SaveState(), MaskPath("/x"), Finish()))

    decoded = decode(encode(plan).data)

    assert decoded.ops == ((1, "clone", (5,)), (3, "mask_path", (b"/x",)), (4, "finish", ()))


def test_strings_are_kept_once() -> None:
    one = encode(Plan((Clone(0), MaskPath("/a-long-path"), Finish())))
    two = encode(Plan((Clone(0), MaskPath("/a-long-path"), MaskPath("/a-long-path"), Finish())))

    assert two.data.count(b"/a-long-path") == 1
    assert len(two.data) == len(one.data) + 16


def test_empty_lists_and_strings() -> None:
    plan = Plan((Clone(0), Exec((), ()), ops.SetUser(0, 0), ops.Keyring("")))

    decoded = decode(encode(plan).data)

    assert [fields for _, _, fields in decoded.ops] == [(0,), ((), ()), (0, 0, (), 0), (b"",)]


def test_bytes_that_are_no_utf8_travel() -> None:
    plan = Plan((Clone(0), MaskPath("/\udcff\xe9")))

    decoded = decode(encode(plan).data)

    assert decoded.ops[1][2] == (b"/\xff\xc3\xa9",)


def test_header_without_gate() -> None:
    decoded = decode(encode(Plan((Clone(0), Finish()), 3)).data)

    assert (decoded.fd_count, decoded.preserve_fds) == (0, 3)
    assert (decoded.gate, decoded.report, decoded.stamps) == (NONE, NONE, NONE)


def test_gate_and_stamps_have_slots() -> None:
    encoded = encode(build(minimal_spec()), stamps=True)

    decoded = decode(encoded.data)
    assert (decoded.gate, decoded.report) == (0, 1)
    assert encoded.launch[decoded.stamps] == Slot("stamps")
    assert decoded.fd_count == len(encoded.launch) == 3


def test_namespace_files_are_handed_over_at_launch() -> None:
    encoded = encode(build(minimal_spec(namespaces=("mount", Namespace("network", "/n")))))

    assert encoded.launch == (Slot("gate"), Slot("report"), Slot("namespace", "/n"))
    assert encoded.late == ()


def test_trees_come_later_and_are_counted_on() -> None:
    maps = (IDMapping(0, 1, 1),)
    mounts = [SpecMount("/data", "/srv", None, ("bind",))]
    spec = minimal_spec(namespaces=("user", "mount"), uid_mappings=maps, gid_mappings=maps, mounts=mounts)

    plan = build(spec)
    encoded = encode(plan)

    bind = next(fields for _, name, fields in decode(encoded.data).ops if name == "bind")
    assert bind[2] == len(encoded.launch) + 1
    assert [slot.path for slot in encoded.late][:2] == ["/bundle/rootfs", "/srv"]
    assert opened_trees(plan) == encoded.late


def opened_trees(plan: Plan) -> tuple[Slot, ...]:
    """What the parent opens, in the order in which nsexec gets it."""
    return tuple(tree for op in plan.ops if isinstance(op, ops.OpenSources) for tree in op.trees)


def test_many_trees_are_handed_over_in_several_messages() -> None:
    maps = (IDMapping(0, 1, 1),)
    mounts = [SpecMount(f"/data/{number}", "/srv", None, ("bind",)) for number in range(300)]
    spec = minimal_spec(namespaces=("user", "mount"), uid_mappings=maps, gid_mappings=maps, mounts=mounts)

    plan = build(spec)

    counts = [len(op.trees) for op in plan.ops if isinstance(op, ops.OpenSources)]
    assert max(counts) <= 250
    assert sum(counts) == 307
    assert opened_trees(plan) == encode(plan).late


def test_cgroup_that_is_mounted_twice_gets_the_trees_that_were_opened() -> None:
    maps = (IDMapping(0, 1, 1),)
    mounts = [SpecMount("/cg", "cgroup", "cgroup"), SpecMount("/cg", "cgroup", "cgroup")]
    spec = minimal_spec(namespaces=("user", "mount"), uid_mappings=maps, gid_mappings=maps, mounts=mounts)

    plan = build(spec, cgroup_paths=CHARGED_PATHS)

    assert opened_trees(plan) == encode(plan).late


def test_nul_is_refused() -> None:
    with pytest.raises(SpecError, match="NUL"):
        encode(Plan((Clone(0), MaskPath("/a\0b"))))


def test_too_many_operations_are_refused() -> None:
    with pytest.raises(SpecError, match="at most 4096 are possible"):
        encode(Plan((Clone(0), *[MaskPath("/a")] * MAX_OPS)))


def test_as_many_operations_as_allowed_are_accepted_by_nsexec() -> None:
    encoded = encode(Plan((Clone(0), *[MaskPath("/a")] * (MAX_OPS - 1))))

    assert native.plan_check(encoded.data)


def test_too_large_a_plan_is_refused() -> None:
    with pytest.raises(SpecError, match="at most 8388608 are possible"):
        encode(Plan((Clone(0), Exec(tuple(str(number) * 100 for number in range(40000)), ()))))


def test_longest_timeout_of_a_hook_can_be_encoded() -> None:
    hooks = Hooks(start_container=(Hook("/h", timeout=2**63 - 1),))

    encoded = encode(build(minimal_spec(hooks=hooks)))

    assert native.plan_check(encoded.data)


def test_tenant_is_accepted_by_nsexec() -> None:
    encoded = encode(tenant.build(minimal_process(), "box", CLONE_NEWNS))

    assert encoded.launch == (Slot("pidfd"),)
    assert native.plan_check(encoded.data)


@pytest.mark.parametrize("change", [b"", b"\0", b"x" * 40, b"\0" * 100])
def test_nsexec_refuses_what_is_no_plan(change: bytes) -> None:
    assert not native.plan_check(change)


def test_nsexec_refuses_a_plan_that_was_cut() -> None:
    data = encode(build(minimal_spec())).data

    assert not native.plan_check(data[:-1])
    assert not native.plan_check(data + b"\0")


# Any spec

text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
path = st.one_of(
    st.sampled_from(
        ["/proc", "/sys", "/dev", "/tmp/a", "/proc/meminfo", "/proc/1", "a/../b", "/../../etc", "/a//b/.", "x"]
    ),
    st.lists(st.sampled_from(["..", ".", "", "a", "proc", "dev"]), max_size=5).map("/".join).filter(bool),
    text.filter(bool),
)
absolute = path.map(lambda value: "/" + value)
option = st.one_of(st.sampled_from([*SET, *CLEAR, *PROPAGATION, *RECURSIVE_SET, *RECURSIVE_CLEAR, "mode=755"]), text)
mount = st.builds(
    SpecMount,
    path,
    st.none() | path,
    st.none() | st.sampled_from(["proc", "sysfs", "tmpfs", "cgroup", "mqueue", "devpts", "bind", "none", "ext4"]),
    st.lists(option, max_size=4).map(tuple),
)
id_number = st.integers(0, 2**32 - 2)
namespaces = st.lists(
    st.builds(Namespace, st.sampled_from([type for type in FLAGS if type != "time"]), st.none() | absolute),
    unique_by=lambda namespace: namespace.type,
    max_size=7,
).map(tuple)
device = st.builds(
    Device,
    st.sampled_from("cbup"),
    absolute,
    st.integers(0, 4095),
    st.integers(0, 2**20 - 1),
    st.none() | st.integers(0, 2**32 - 1),
    st.none() | id_number,
    st.none() | id_number,
)
maps = st.sampled_from([(), (IDMapping(0, 100000, 65536),), (IDMapping(0, 0, 2**32 - 1),)])
linux = st.builds(
    Linux,
    namespaces=namespaces,
    uid_mappings=maps,
    gid_mappings=maps,
    devices=st.lists(device, max_size=3).map(tuple),
    rootfs_propagation=st.none() | st.sampled_from(list(PROPAGATION)),
    masked_paths=st.none() | st.lists(absolute, max_size=3).map(tuple),
    readonly_paths=st.none() | st.lists(absolute, max_size=3).map(tuple),
    sysctl=st.dictionaries(
        st.sampled_from(["net.ipv4.ip_forward", "kernel.sem", "vm.x", "net/a.b/c"]), text, max_size=2
    ),
)
capability_names = st.none() | st.lists(st.sampled_from(["CAP_KILL", "CAP_SYS_ADMIN", "CAP_NOTHING"]), max_size=3).map(
    tuple
)
process = st.builds(
    Process,
    absolute,
    st.lists(text, min_size=1, max_size=3).map(tuple),
    st.lists(st.builds("{}={}".format, text.filter(lambda name: name and "=" not in name), text), max_size=3).map(
        tuple
    ),
    st.builds(
        User, id_number, id_number, st.none() | st.integers(0, 2**32 - 1), st.lists(id_number, max_size=3).map(tuple)
    ),
    capabilities=st.none() | st.builds(Capabilities, *[capability_names] * 5),
    rlimits=st.none()
    | st.lists(
        st.builds(Rlimit, st.sampled_from(list(RLIMITS)), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)),
        max_size=2,
    ).map(tuple),
    no_new_privileges=st.booleans(),
    oom_score_adj=st.none() | st.integers(-1000, 1000),
)
hook = st.builds(
    Hook,
    absolute,
    st.lists(text, max_size=2).map(tuple),
    st.lists(text, max_size=2).map(tuple),
    st.none() | st.integers(1, 2**53),
)
hooks = st.none() | st.builds(Hooks, *[st.lists(hook, max_size=2).map(tuple)] * 6)
specs = st.builds(
    Spec,
    st.just("1.2.0"),
    st.builds(Root, path, st.booleans()),
    st.none() | process,
    st.none() | text,
    st.none() | text,
    st.lists(mount, max_size=4).map(tuple),
    hooks,
    st.just({}),
    linux,
)
hosts = st.sampled_from([HOST_V1_ROOT, HOST_NEW, HOST_USER, HOST_NESTED])
requests = st.builds(
    minimal_request,
    cgroup_paths=st.sampled_from([(), CHARGED_PATHS]),
    preserve_fds=st.integers(0, 5),
    no_pivot=st.booleans(),
    no_new_keyring=st.booleans(),
)


def plan_or_none(spec: Spec, host: Host, request: Any) -> Plan | None:
    """The plan; None for a SpecError, which is the only other outcome that there may be."""
    from pyocirun.plan import build as builder

    try:
        return builder.build(spec, host, request)
    except SpecError as error:
        assert error.pointer.startswith("/")
        return None


@settings(max_examples=300, deadline=None)
@given(specs, hosts, requests, st.booleans())
def test_any_plan_survives_encoding_and_is_accepted(spec: Spec, host: Host, request: Any, stamps: bool) -> None:
    plan = plan_or_none(spec, host, request)
    if plan is None:
        return

    encoded = encode(plan, stamps=stamps)

    decoded = decode(encoded.data)
    assert decoded.ops == expected_ops(plan, encoded)
    assert decoded.fd_count == len(encoded.launch)
    assert opened_trees(plan) == encoded.late
    assert decoded.preserve_fds == request.preserve_fds
    assert native.plan_check(encoded.data)


@settings(max_examples=300, deadline=None)
@given(specs, hosts, requests)
def test_no_target_of_a_mount_has_dots_left(spec: Spec, host: Host, request: Any) -> None:
    plan = plan_or_none(replace(spec, linux=replace(spec.linux, devices=())), host, request)

    for op in plan.ops if plan else ():
        target = op.target if isinstance(op, (Mount, Bind)) else op.path if isinstance(op, Attributes) else "/"
        assert target.startswith("/")
        assert not {"..", "."} & set(target.split("/"))


@settings(max_examples=200, deadline=None)
@given(specs, hosts, requests)
def test_any_plan_keeps_the_order_that_security_rests_on(spec: Spec, host: Host, request: Any) -> None:
    plan = plan_or_none(spec, host, request)
    if plan is None:
        return

    kinds = [type(op) for op in plan.ops]
    joins = [index for index, kind in enumerate(kinds) if kind is ops.JoinNamespace]
    assert all(kinds.index(ops.Undumpable) < index for index in joins)
    change = next((kinds.index(kind) for kind in (ops.PivotRoot, ops.MoveRoot) if kind in kinds), None)
    if change is not None:
        assert not {Mount, Bind, Node, ops.Sysctl, ops.Rootfs, ops.Symlink} & set(kinds[change:])
        assert not {MaskPath, ops.ReadonlyPath} & set(kinds[:change])
    start = plan.position("start")
    assert set(kinds[start + 1 :]) <= {ops.RunHook, Sync, Exec}
