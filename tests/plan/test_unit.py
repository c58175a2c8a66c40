"""When systemd makes the unit of a container, and who moves what into it."""

from __future__ import annotations

from typing import Any

from pyocirun.cgroup.unit import Unit
from pyocirun.linux.host import Hierarchy
from pyocirun.linux.namespaces import CLONE_NEWCGROUP
from pyocirun.plan import tenant
from pyocirun.plan.ops import (
    Clone,
    Fork,
    JoinCgroup,
    JoinUnit,
    LeaveCgroup,
    MakeCgroup,
    Plan,
    SaveState,
    StartUnit,
    Sync,
    Unshare,
    WriteCgroup,
)
from pyocirun.record import replace
from pyocirun.spec.config import Spec
from pyocirun.spec.process import Process
from pyocirun.spec.resources import DeviceRule, Memory, Resources
from tests.support import HOST_V1_ROOT, build, every, minimal_spec, only, where

BOX = "/sys/fs/cgroup/system.slice/runc-box.scope"
HOST = replace(HOST_V1_ROOT, hierarchies=(), unified=Hierarchy((), "/sys/fs/cgroup"), cgroup2_only=True)
UNIT = Unit("system.slice", "runc-box.scope", version=257)
PULLING = replace(UNIT, user=True, pulls=True)
LIMITED = Resources(memory=Memory(limit=1 << 20))


def plan_of(spec: Spec, unit: Unit = UNIT, path: str = BOX, **changes: object) -> Plan:
    return build(spec, replace(HOST, **changes), cgroup_paths=(("", path),), unit=unit)


def properties(plan: Plan) -> dict[str, Any]:
    return {each.name: each.value for each in only(plan, StartUnit).properties}


def test_the_unit_is_started_before_its_cgroup_is_written_to() -> None:
    plan = plan_of(minimal_spec(resources=LIMITED))

    assert where(plan, StartUnit) < where(plan, MakeCgroup) < where(plan, WriteCgroup) < where(plan, Clone)
    assert properties(plan)["MemoryMax"] == 1 << 20


def test_without_systemd_there_is_no_unit() -> None:
    assert not every(build(minimal_spec(), HOST, cgroup_paths=(("", BOX),)), StartUnit)


def test_the_process_comes_as_it_does_without_systemd() -> None:
    free, limited = plan_of(minimal_spec()), plan_of(minimal_spec(resources=LIMITED))

    assert only(free, Clone).cgroup == BOX
    assert only(limited, Clone).cgroup == ""
    assert only(limited, JoinCgroup).directories == (BOX,)
    assert where(limited, JoinCgroup) < where(limited, SaveState)


def test_who_may_not_move_it_asks_systemd_before_anything_else() -> None:
    spec = minimal_spec(namespaces=("pid", "mount", "cgroup"), resources=LIMITED)

    plan = plan_of(spec, PULLING)

    assert only(plan, Clone).cgroup == ""
    assert where(plan, JoinUnit) == where(plan, Clone) + 1
    assert plan.ops[where(plan, JoinUnit) + 1] == Sync("unit")
    assert where(plan, JoinUnit) < where(plan, Unshare(CLONE_NEWCGROUP))
    assert not every(plan, JoinCgroup)
    assert not every(plan, LeaveCgroup)


def test_a_delegated_cgroup_is_entered_last() -> None:
    spec = minimal_spec(namespaces=("pid", "mount", "cgroup"), resources=LIMITED)

    plan = plan_of(spec, replace(UNIT, subgroup="sub", delegated="mine"), f"{BOX}/sub")

    assert every(plan, JoinCgroup)[-1].directories == (f"{BOX}/sub/mine",)
    assert where(plan, every(plan, JoinCgroup)[-1]) > where(plan, Unshare(CLONE_NEWCGROUP))


def test_who_can_make_no_devices_has_no_rules_about_them() -> None:
    spec = minimal_spec(resources=Resources(devices=(DeviceRule(False),)))

    assert "DevicePolicy" in properties(plan_of(spec))
    assert "DevicePolicy" not in properties(plan_of(spec, euid=1000))


def test_cgroup_v1_has_its_own_properties() -> None:
    paths = (("memory", "/sys/fs/cgroup/memory/system.slice/runc-box.scope"),)

    plan = build(minimal_spec(resources=LIMITED), HOST_V1_ROOT, cgroup_paths=paths, unit=UNIT)

    assert properties(plan)["MemoryLimit"] == 1 << 20
    assert where(plan, StartUnit) < where(plan, MakeCgroup)


def test_exec_has_systemd_move_it_before_it_forks() -> None:
    plan = tenant.build(Process(args=("sh",), cwd="/"), "box", 0, unit=PULLING)

    assert where(plan, JoinUnit) < where(plan, Sync("unit")) < where(plan, Fork)


def test_an_operation_says_what_systemd_is_asked() -> None:
    text = only(plan_of(minimal_spec(resources=LIMITED)), StartUnit).describe()

    assert text.startswith("have systemd start runc-box.scope in system.slice: ")
    assert "MemoryMax=1048576" in text
    assert JoinUnit(PULLING, "sub").describe() == "have systemd move the process into runc-box.scope/sub"
