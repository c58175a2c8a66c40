"""Environment, PATH, capabilities and limits of the process; and the plan of one more."""

from __future__ import annotations

import pytest

from pyocirun.linux.idmap import IDMapping
from pyocirun.linux.namespaces import CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER
from pyocirun.plan import ops, tenant
from pyocirun.plan.process import environment, identity, rlimits, search_path, warnings
from pyocirun.record import replace
from pyocirun.spec.linux import Linux, Namespace, Personality
from pyocirun.spec.mounts import Mount
from pyocirun.spec.process import Capabilities, Rlimit, User
from pyocirun.spec.resources import DeviceRule, Resources
from tests.support import build, every, minimal_process, minimal_spec, only, where

ALL = 2**64 - 1


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ((), ()),
        (("A=1", "B=2"), ("A=1", "B=2")),
        (("A=1", "B=2", "A=3"), ("A=3", "B=2")),
        (("A=", "A=1"), ("A=1",)),
        (("A=1", "A="), ("A=",)),
        (("AB=1", "A=1"), ("AB=1", "A=1")),
        (("A=b=c",), ("A=b=c",)),
        (("HOME=/a", "HOME=/b"), ("HOME=/b",)),
    ],
)
def test_last_of_equal_names_counts(env: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    home = () if "HOME=/b" in wanted else ("HOME=/x",)

    assert environment(minimal_process(env=(*env, *home))) == (*wanted, *home)


@pytest.mark.parametrize("env", [(), ("HOME=",), ("HOME=/a", "HOME=")])
def test_home_that_is_missing_has_a_place(env: tuple[str, ...]) -> None:
    assert environment(minimal_process(env=env)) == ("HOME=/",)


@pytest.mark.parametrize(
    ("env", "wanted"), [((), ""), (("PATH=/bin",), "/bin"), (("PATH=/a", "PATH=/b"), "/b"), (("XPATH=/a",), "")]
)
def test_search_path_is_the_process_own(env: tuple[str, ...], wanted: str) -> None:
    assert search_path(minimal_process(env=env)) == wanted


def test_rlimits_are_numbers_of_the_kernel() -> None:
    process = minimal_process(rlimits=(Rlimit("RLIMIT_NOFILE", 64, 65), Rlimit("RLIMIT_CPU", ALL, ALL)))

    assert rlimits(process) == [ops.SetRlimit("RLIMIT_NOFILE", 7, 64, 65), ops.SetRlimit("RLIMIT_CPU", 0, ALL, ALL)]


def test_limit_that_would_hamper_the_set_up_is_lowered_at_its_end() -> None:
    steps = identity(minimal_process(rlimits=(Rlimit("RLIMIT_NOFILE", 3, 65),)), Linux())

    assert steps[-1] == ops.LowerRlimit("RLIMIT_NOFILE", 7, 3, 65)


def test_umask_defaults_to_0022() -> None:
    steps = identity(minimal_process(), Linux())

    assert only(steps, ops.Umask).mask == 0o022


def test_umask_zero_is_a_umask() -> None:
    steps = identity(minimal_process(user=User(umask=0)), Linux())

    assert only(steps, ops.Umask).mask == 0


def test_user_and_groups() -> None:
    steps = identity(minimal_process(user=User(1, 2, None, (3, 4))), Linux())

    assert only(steps, ops.SetUser) == ops.SetUser(1, 2, (3, 4))
    assert only(steps, ops.StdioOwner) == ops.StdioOwner(1)


def test_capabilities_become_masks() -> None:
    sets = Capabilities(
        ("CAP_CHOWN", "CAP_KILL"), ("CAP_CHOWN",), ("CAP_KILL",), ("CAP_CHOWN", "CAP_KILL"), ("CAP_KILL",)
    )

    steps = identity(minimal_process(capabilities=sets), Linux())

    assert only(steps, ops.SetBounding).mask == 0b100001
    assert only(steps, ops.SetCapabilities) == ops.SetCapabilities(0b000001, 0b100001, 0b100000)
    assert only(steps, ops.SetAmbient).mask == 0b100000


def test_capabilities_that_are_absent_are_left_as_they_are() -> None:
    steps = identity(minimal_process(capabilities=None), Linux())

    assert not [op for op in steps if isinstance(op, (ops.SetBounding, ops.SetCapabilities, ops.SetAmbient))]


def test_empty_capabilities_drop_all() -> None:
    steps = identity(minimal_process(capabilities=Capabilities()), Linux())

    assert only(steps, ops.SetBounding).mask == 0
    assert only(steps, ops.SetCapabilities) == ops.SetCapabilities(0, 0, 0)


def test_ambient_is_no_more_than_permitted_and_inheritable() -> None:
    sets = Capabilities(
        permitted=("CAP_KILL", "CAP_CHOWN"), inheritable=("CAP_KILL",), ambient=("CAP_KILL", "CAP_CHOWN")
    )

    steps = identity(minimal_process(capabilities=sets), Linux())

    assert only(steps, ops.SetAmbient).mask == 0b100000


def test_unknown_capabilities_are_named_once() -> None:
    sets = Capabilities(("CAP_KILL", "CAP_X"), ("CAP_X", "CAP_Y"))

    told = warnings(minimal_spec(process=minimal_process(capabilities=sets)))

    assert told == ["unknown capability CAP_X is ignored", "unknown capability CAP_Y is ignored"]


def test_ambient_capabilities_that_cannot_be_raised_are_named() -> None:
    sets = Capabilities(
        permitted=("CAP_KILL", "CAP_CHOWN"), inheritable=("CAP_KILL",), ambient=("CAP_KILL", "CAP_CHOWN")
    )

    told = warnings(minimal_spec(process=minimal_process(capabilities=sets)))

    assert told == ["can't raise ambient capability CAP_CHOWN: it must be permitted and inheritable"]


def test_capabilities_that_are_absent_are_worth_a_warning() -> None:
    assert any("capabilities is absent" in text for text in warnings(minimal_spec()))


def test_a_destination_that_is_not_absolute_is_worth_a_warning() -> None:
    mounts = [Mount("/a", "tmpfs"), Mount("b", "tmpfs")]

    (told,) = warnings(minimal_spec(process=None, mounts=mounts))

    assert told.startswith("/mounts/1/destination: 'b' is not absolute")


def test_mappings_of_a_user_namespace_that_is_joined_are_worth_a_warning() -> None:
    spec = minimal_spec(namespaces=(Namespace("user", "/n"),), process=None, gid_mappings=(IDMapping(0, 1000, 1),))

    assert warnings(spec) == [
        "/linux/gidMappings changes nothing: the user namespace that is joined by its path has this map"
    ]


def test_flags_of_a_personality_are_worth_a_warning() -> None:
    spec = minimal_spec(process=None, personality=Personality("LINUX", ("SHORT_INODE",)))

    assert warnings(spec) == ["personality flag SHORT_INODE is ignored: none is known"]


def test_letters_of_a_device_rule_that_mean_nothing_are_worth_a_warning() -> None:
    rules = (DeviceRule(False), DeviceRule(True, "c", 1, 3, "rwa"))
    spec = minimal_spec(process=None, resources=Resources(devices=rules))

    assert warnings(spec) == ['/linux/resources/devices/1/access: letters of "rwa" other than r, w and m are ignored']


def test_sections_for_other_platforms_are_worth_a_warning() -> None:
    spec = minimal_spec(process=None, foreign=("vm", "windows"))

    assert warnings(spec) == [
        "/vm is ignored: it is for another platform",
        "/windows is ignored: it is for another platform",
    ]


def test_another_major_version_of_the_specification_is_worth_a_warning() -> None:
    (told,) = warnings(replace(minimal_spec(process=None), oci_version="2.0.0"))

    assert "specification of version 1" in told


def test_an_annotation_keeps_the_groups_that_are_there() -> None:
    spec = minimal_spec(
        process=minimal_process(user=User(0, 0, None, (5,))), annotations={"run.oci.keep_original_groups": "1"}
    )

    assert only(build(spec), ops.SetUser).keep_groups
    assert any("additionalGids is ignored" in text for text in warnings(spec))


def test_groups_can_be_kept_in_a_user_namespace_too() -> None:
    maps = (IDMapping(0, 1000, 1),)
    spec = minimal_spec(
        namespaces=("user", "mount"),
        uid_mappings=maps,
        gid_mappings=maps,
        annotations={"run.oci.keep_original_groups": "1"},
    )

    assert only(build(spec), ops.BecomeRoot).keep_groups


def test_no_new_privileges_comes_before_the_user() -> None:
    steps = identity(minimal_process(no_new_privileges=True), Linux())

    kinds = [type(op) for op in steps]
    assert kinds.index(ops.NoNewPrivs) < kinds.index(ops.SetUser)


# exec


def test_tenant_in_order() -> None:
    plan = tenant.build(
        minimal_process(oom_score_adj=5),
        "box",
        CLONE_NEWNS | CLONE_NEWPID,
        cgroups=(("devices", "/d"), ("memory", "/m")),
    )

    assert [type(op).__name__ for op in plan.ops] == [
        *("Clone", "JoinCgroup", "Affinity", "OomScoreAdj", "Undumpable", "JoinContainer", "Fork", "Keyring"),
        *("Chroot", "ReopenNull", "Session", "Umask", "StdioOwner", "Cwd", "SetUser", "Cwd", "Resolve", "JoinCgroup"),
        *("Sync", "Sync", "Exec"),
    ]


def test_tenant_is_undumpable_before_it_joins() -> None:
    plan = tenant.build(minimal_process(), "box", CLONE_NEWNS)

    assert where(plan, ops.Undumpable) < where(plan, ops.JoinContainer(CLONE_NEWNS))


def test_tenant_of_a_user_namespace_becomes_its_root() -> None:
    plan = tenant.build(minimal_process(), "box", CLONE_NEWUSER | CLONE_NEWNS, keep_groups=True)

    assert where(plan, ops.Fork) < where(plan, ops.BecomeRoot(True)) < where(plan, ops.SetUser)
    assert only(plan, ops.SetUser).keep_groups


def test_tenant_without_foreign_namespaces_joins_none() -> None:
    plan = tenant.build(minimal_process(), "box", 0)

    assert not every(plan, ops.JoinContainer)


def test_tenant_joins_the_cgroup_at_the_end_of_the_set_up() -> None:
    plan = tenant.build(minimal_process(), "box", CLONE_NEWNS, cgroups=(("memory", "/m"),))

    assert where(plan, ops.Resolve) < where(plan, ops.JoinCgroup(("/m",))) < plan.position("exec")


def test_tenant_may_stay_out_of_the_cgroup() -> None:
    plan = tenant.build(minimal_process(), "box", CLONE_NEWNS)

    assert not every(plan, ops.JoinCgroup)


@pytest.mark.parametrize(("namespaces", "wanted"), [(CLONE_NEWNS, ops.Chroot("/")), (0, ops.EnterRoot())])
def test_tenant_takes_its_terminal_where_there_is_a_devpts(namespaces: int, wanted: ops.Op) -> None:
    plan = tenant.build(minimal_process(terminal=True), "box", namespaces)

    assert where(plan, ops.Chroot("/")) < where(plan, ops.Terminal)
    assert (where(plan, wanted) < where(plan, ops.Terminal)) == bool(namespaces)


def test_tenant_has_no_gate() -> None:
    plan = tenant.build(minimal_process(), "box", CLONE_NEWNS, no_new_keyring=True, preserve_fds=2)

    assert plan.position("start") == -1
    assert plan.preserve_fds == 2
    assert not every(plan, ops.Keyring)
