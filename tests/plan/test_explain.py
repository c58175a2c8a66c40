"""A plan as text and as JSON."""

from __future__ import annotations

import json

from pyocirun.plan import ops
from pyocirun.plan.explain import as_json, text
from pyocirun.plan.ops import AttachDevices, Clone, Exec, MaskPath, Plan, RunHook, SetRlimit, Sync, WriteCgroup
from tests.support import CHARGED_PATHS, HOST_V1_ROOT, build, minimal_process, minimal_spec

SECRET = Plan(
    (Clone(0), RunHook("startContainer", 0, "/h", ("h",), ("KEY=hush",)), Exec(("a", "b"), ("TOKEN=hush", "E=")))
)


def test_text_has_a_line_for_each_operation() -> None:
    plan = Plan((Clone(0), MaskPath("/proc/kcore"), Sync("start")))

    shown = text(plan)

    assert shown == "  0  parent  start nsexec\n  1  nsexec  mask /proc/kcore\n  2  nsexec  wait for start\n"


def test_text_hides_the_values_of_variables() -> None:
    shown = text(SECRET)

    assert "hush" not in shown
    assert "             TOKEN=...\n" in shown


def test_text_shows_the_values_of_variables_on_request() -> None:
    shown = text(SECRET, show_env=True)

    assert "             KEY=hush\n" in shown
    assert "             TOKEN=hush\n             E=\n" in shown


def test_json_has_an_object_for_each_operation() -> None:
    (shown,) = json.loads(as_json(Plan((MaskPath("/proc/kcore"),))))

    wanted = {"index": 0, "side": "nsexec", "op": "MaskPath", "does": "mask /proc/kcore", "text": "/proc/kcore"}
    assert shown == wanted


def test_json_has_a_program_in_hexadecimal() -> None:
    (shown,) = json.loads(as_json(Plan((AttachDevices(b"\xb7\0\0\0\1\0\0\0"),))))

    assert shown["program"] == "b700000001000000"


def test_json_hides_the_values_of_variables() -> None:
    shown = as_json(SECRET)

    assert "hush" not in shown
    assert json.loads(shown)[2]["env"] == ["TOKEN=...", "E=..."]


def test_json_shows_the_values_of_variables_on_request() -> None:
    shown = json.loads(as_json(SECRET, show_env=True))

    assert shown[1]["env"] == ["KEY=hush"]


def test_text_of_the_config_cannot_drive_a_terminal() -> None:
    plan = Plan((Clone(0), Exec(("sh", "-c", "a\nb\x1b[2J"), ()), ops.Hostname("a\nb")))

    shown = text(plan)

    assert len(shown.splitlines()) == 3
    assert shown.replace("\n", "").isprintable()


def test_json_hides_the_value_of_path() -> None:
    spec = minimal_spec(process=minimal_process(env=("PATH=/some/place",)))

    shown = as_json(build(spec))

    assert "/some/place" not in shown


def test_whole_plan_is_json() -> None:
    spec = minimal_spec(process=minimal_process(env=("A=1",)), masked_paths=("/proc/kcore",))

    shown = json.loads(as_json(build(spec, HOST_V1_ROOT, cgroup_paths=CHARGED_PATHS)))

    assert [entry["index"] for entry in shown] == list(range(len(shown)))
    assert all(entry["does"] for entry in shown)


def test_parent_and_nsexec_share_the_work() -> None:
    shown = text(build(minimal_spec(), cgroup_paths=CHARGED_PATHS)).splitlines()

    sides = {line[5:11].strip() for line in shown if line[:3].strip()}
    assert sides == {"parent", "nsexec"}


def test_unlimited_is_a_word() -> None:
    assert SetRlimit("RLIMIT_CPU", 0, 5, 2**64 - 1).describe() == "set RLIMIT_CPU soft 5 hard unlimited"


def test_limits_are_shown_as_they_are_written() -> None:
    from pyocirun.cgroup.v1 import Write

    op = WriteCgroup((Write("memory", "memory.limit_in_bytes", "1048576"),))

    assert op.describe() == "write memory.limit_in_bytes=1048576"


def test_propagation_has_the_names_of_the_spec() -> None:
    assert [ops.propagation_name(flags) for flags in (1 << 18, 1 << 19 | 16384)] == ["private", "rslave"]
