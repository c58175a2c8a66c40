"""When a container is in its cgroup v2."""

from __future__ import annotations

from pyocirun.linux.host import Hierarchy
from pyocirun.linux.idmap import IDMapping
from pyocirun.linux.namespaces import CLONE_NEWCGROUP
from pyocirun.plan.ops import (
    AttachDevices,
    Clone,
    DelegateCgroup,
    JoinCgroup,
    LeaveCgroup,
    MakeCgroup,
    Plan,
    RunHooks,
    SaveState,
    Unshare,
    WriteCgroup,
)
from pyocirun.record import replace
from pyocirun.spec.config import Spec
from pyocirun.spec.hooks import Hook, Hooks
from pyocirun.spec.mounts import Mount as SpecMount
from pyocirun.spec.resources import CPU, DeviceRule, Memory, Pids, Resources
from tests.support import HOST_V1_ROOT, build, every, minimal_spec, only, where

BOX = "/sys/fs/cgroup/system.slice/box"
OWN = "/sys/fs/cgroup/system.slice/me.service"
HOST = replace(
    HOST_V1_ROOT,
    hierarchies=(),
    unified=Hierarchy((), "/sys/fs/cgroup", "/", "/system.slice/me.service"),
    cgroup2_only=True,
)
JOIN = JoinCgroup((BOX,), file="cgroup.procs")
LEAVE = LeaveCgroup((OWN,), True, "cgroup.procs")
LIMITED = Resources(memory=Memory(limit=1 << 20))
HOOKS = Hooks(prestart=(Hook("/bin/true"),))
MAP = (IDMapping(0, 100000, 65536),)


def plan_of(spec: Spec, **changes: object) -> Plan:
    return build(spec, replace(HOST, **changes), cgroup_paths=(("", BOX),))


def joins(plan: Plan) -> list[JoinCgroup]:
    return every(plan, JoinCgroup)


def test_without_scarce_limits_it_starts_in_the_cgroup() -> None:
    plan = plan_of(minimal_spec(resources=Resources(cpu=CPU(shares=10))))

    assert only(plan, Clone).cgroup == BOX
    assert not joins(plan)


def test_with_a_memory_limit_it_comes_last() -> None:
    plan = plan_of(minimal_spec(resources=LIMITED))

    assert only(plan, Clone).cgroup == ""
    assert joins(plan) == [JOIN]
    assert plan.ops[where(plan, JOIN) + 1] == SaveState()


def test_a_limit_of_pids_counts_and_none_does_not() -> None:
    assert joins(plan_of(minimal_spec(resources=Resources(pids=Pids(0))))) == [JOIN]
    assert joins(plan_of(minimal_spec(resources=Resources(pids=Pids(-1))))) == []


def test_limits_given_as_unified_count_too() -> None:
    assert joins(plan_of(minimal_spec(resources=Resources(unified={"memory.high": "1"})))) == [JOIN]


def test_a_cgroup_namespace_is_made_inside_and_the_limited_go_out_again() -> None:
    plan = plan_of(minimal_spec(namespaces=("mount", "cgroup"), resources=LIMITED))

    made = where(plan, Unshare(CLONE_NEWCGROUP))
    assert only(plan, Clone).cgroup == BOX
    assert plan.ops[made + 1] == LEAVE
    assert joins(plan) == [LEAVE, JOIN]


def test_a_cgroup_namespace_without_limits_moves_nobody() -> None:
    plan = plan_of(minimal_spec(namespaces=("mount", "cgroup")))

    assert only(plan, Clone).cgroup == BOX
    assert not joins(plan)


def test_prestart_hooks_find_the_process_in_its_cgroup() -> None:
    plan = plan_of(minimal_spec(resources=LIMITED, hooks=HOOKS))

    assert joins(plan) == [JOIN]
    assert where(plan, JOIN) == where(plan, RunHooks("prestart", 1)) - 1


def test_the_cgroup_stands_with_limits_and_rules_before_there_is_a_process() -> None:
    plan = plan_of(minimal_spec(resources=LIMITED))

    order = [where(plan, type) for type in (MakeCgroup, WriteCgroup, AttachDevices, Clone)]
    assert order == sorted(order)


def test_rules_that_allow_everything_need_no_program() -> None:
    assert not every(plan_of(minimal_spec(resources=Resources(devices=(DeviceRule(True),)))), AttachDevices)


def test_rules_may_fail_in_a_user_namespace_only() -> None:
    mapped = minimal_spec(namespaces=("user", "mount", "pid"), uid_mappings=MAP, gid_mappings=MAP)

    assert not only(plan_of(minimal_spec()), AttachDevices).optional
    assert only(plan_of(mapped), AttachDevices).optional


def test_without_privileges_and_limits_a_refused_cgroup_is_passed_over() -> None:
    assert not only(plan_of(minimal_spec(), in_userns=True), Clone).required
    assert only(plan_of(minimal_spec(resources=Resources(cpu=CPU(shares=9))), in_userns=True), Clone).required
    assert only(plan_of(minimal_spec()), Clone).required


def delegated(*options: str, type: str = "cgroup") -> list[DelegateCgroup]:
    spec = minimal_spec(
        namespaces=("user", "mount", "pid", "cgroup"),
        uid_mappings=MAP,
        gid_mappings=MAP,
        mounts=[SpecMount("/sys/fs/cgroup", type, type, options)],
    )
    return every(plan_of(spec), DelegateCgroup)


def test_a_cgroup_that_can_be_written_belongs_to_the_containers_root() -> None:
    assert delegated() == [DelegateCgroup(100000)]
    assert delegated(type="cgroup2") == [DelegateCgroup(100000)]
    assert delegated("ro") == []


def test_the_hosts_root_is_given_nothing() -> None:
    mount = SpecMount("/sys/fs/cgroup", "cgroup", "cgroup")

    assert not every(plan_of(minimal_spec(namespaces=("mount", "cgroup"), mounts=[mount])), DelegateCgroup)
