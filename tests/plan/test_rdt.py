"""intelRdt: which group, what is written to it, and when another's group is the one that was asked for."""

from __future__ import annotations

import pytest

from pyocirun.errors import SpecError
from pyocirun.plan import ops, tenant
from pyocirun.plan.rdt import differences, lines, make
from pyocirun.record import replace
from pyocirun.spec.linux import IntelRdt
from tests.support import CHARGED_PATHS, HOST_V1_ROOT, build, every, minimal_process, minimal_spec, only, where

HOST = replace(HOST_V1_ROOT, resctrl="/resctrl")


def test_without_a_file_system_it_is_refused() -> None:
    with pytest.raises(SpecError, match="no resctrl file system is mounted") as caught:
        build(minimal_spec(intel_rdt=IntelRdt()), HOST_V1_ROOT)

    assert caught.value.pointer == "/linux/intelRdt"


def test_without_the_section_nothing_is_touched() -> None:
    plan = build(minimal_spec(), HOST)

    assert not every(plan, ops.MakeRdtGroup)
    assert not every(plan, ops.JoinRdtGroup)


@pytest.mark.parametrize(
    ("wanted", "group"),
    [
        (IntelRdt(), ops.MakeRdtGroup("/resctrl/box", own=True)),
        (IntelRdt("gold"), ops.MakeRdtGroup("/resctrl/gold", must_exist=True)),
        (IntelRdt("gold", "L3:0=f"), ops.MakeRdtGroup("/resctrl/gold", ("L3:0=f",))),
        (IntelRdt("/"), ops.MakeRdtGroup("/resctrl", must_exist=True)),
        (IntelRdt("/", None, "MB:0=50"), ops.MakeRdtGroup("/resctrl", ("MB:0=50",), must_exist=True)),
        (
            IntelRdt("gold", enable_monitoring=True),
            ops.MakeRdtGroup("/resctrl/gold", (), "/resctrl/gold/mon_groups/box", must_exist=True),
        ),
        (
            IntelRdt("/", enable_monitoring=True),
            ops.MakeRdtGroup("/resctrl", (), "/resctrl/mon_groups/box", must_exist=True),
        ),
    ],
)
def test_the_group(wanted: IntelRdt, group: ops.MakeRdtGroup) -> None:
    assert make(wanted, HOST, "box") == group


def test_schemata_come_last() -> None:
    assert lines(IntelRdt(None, "L3:0=f", "MB:0=50", ("L2:0=1", "L3:0=ff"))) == (
        "L3:0=f",
        "MB:0=50",
        "L2:0=1",
        "L3:0=ff",
    )


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (("L3:0=f;1=ff",), "    L3:0=0000f;1=000ff\n    MB:0=100;1=100\n"),
        (("L3:1=FF;0=0f",), "L3:0=f;1=ff\n"),
        (("MB:0=050",), "MB:0= 50\n"),
        (("L3:0=1", "L3:0=f"), "L3:0=f\n"),
        ((), "L3:0=f\n"),
    ],
)
def test_equal_schemata_may_be_written_in_many_ways(wanted: tuple[str, ...], found: str) -> None:
    assert differences(wanted, found) == []


@pytest.mark.parametrize(
    ("wanted", "found", "texts"),
    [
        (("L3:0=f;1=3",), "L3:0=f;1=1\n", ["L3:1 is 1, not 3"]),
        (("MB:0=50",), "L3:0=f\n", ["MB:0 is not there, not 50"]),
        (("L3:2=f",), "L3:0=f\n", ["L3:2 is not there, not f"]),
    ],
)
def test_schemata_that_differ(wanted: tuple[str, ...], found: str, texts: list[str]) -> None:
    assert differences(wanted, found) == texts


def test_the_group_stands_before_there_is_a_process_and_takes_it_last() -> None:
    plan = build(minimal_spec(intel_rdt=IntelRdt(None, "L3:0=f")), HOST, cgroup_paths=CHARGED_PATHS)

    assert where(plan, ops.MakeRdtGroup) < where(plan, ops.Clone)
    assert where(plan, ops.JoinRdtGroup) == where(plan, ops.SaveState) - 1


def test_exec_joins_the_group() -> None:
    plan = tenant.build(minimal_process(), "box", 0, rdt_group=("/resctrl/gold", "/resctrl/gold/mon_groups/box"))

    assert only(plan, ops.JoinRdtGroup) == ops.JoinRdtGroup("/resctrl/gold", "/resctrl/gold/mon_groups/box")
