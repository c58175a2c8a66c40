"""list: the table, JSON, ids alone, and broken containers."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from integration.harness import Bundle, Runtime


def test_the_table_has_a_line_for_each_container(runtime: Runtime, bundle: Bundle, other_bundle: Bundle) -> None:
    first, second = runtime.created(bundle), runtime.running(other_bundle)

    lines = runtime.list().ok().stdout.splitlines()

    assert lines[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    state = runtime.state(first)
    assert lines[1].split() == [first, str(state["pid"]), "created", str(bundle.path), state["created"], "root"]
    assert [line.split()[0] for line in lines[1:]] == sorted([first, second])


def test_columns_are_at_least_12_wide_and_3_apart(runtime: Runtime) -> None:
    line = runtime.list().ok().stdout

    assert line == "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"


def test_a_wide_cell_widens_its_column(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.created(bundle)

    head, line = runtime.list().ok().stdout.splitlines()

    assert head.index("PID") == len(id) + 3 if len(id) > 9 else 12
    assert line[head.index("PID") :].split()[0] == str(runtime.pid(id))


def test_json_is_an_array_of_states(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    listed = json.loads(runtime.list("--format", "json").ok().stdout)

    assert [entry["id"] for entry in listed] == [id]
    assert listed[0]["status"] == "running"
    assert listed[0]["pid"] == runtime.pid(id)
    assert listed[0]["owner"] == "root"
    assert listed[0]["rootfs"] == str(bundle.rootfs)


def test_json_of_nothing_is_null(runtime: Runtime) -> None:
    assert runtime.list("--format", "json").ok().stdout.strip() == "null"


def test_quiet_lists_ids_alone(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.created(bundle)

    assert runtime.list("--quiet").ok().stdout == f"{id}\n"


def test_an_unknown_format_is_refused(runtime: Runtime) -> None:
    runtime.list("--format", "yaml").fails("invalid format option")


def test_an_explicit_root_that_is_missing_is_an_error(runtime: Runtime, place: Path) -> None:
    result = runtime.list(root=place / "nowhere")

    result.fails("no such file or directory")


def test_a_broken_container_is_told_and_skipped(runtime: Runtime, bundle: Bundle) -> None:
    id, broken = runtime.created(bundle), runtime.new_id()
    (runtime.root / broken).mkdir()
    (runtime.root / broken / "state.json").write_text("{")

    result = runtime.list("--quiet").ok()

    assert result.stdout == f"{id}\n"
    assert broken in result.stderr + str(result.log)
    shutil.rmtree(runtime.root / broken)


def test_a_container_that_stopped_has_pid_0(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    runtime.stop(id)

    line = runtime.list().ok().stdout.splitlines()[1]

    assert line.split()[:3] == [id, "0", "stopped"]


def test_an_owner_without_a_name_is_shown_by_number(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.created(bundle)
    os.chown(runtime.root / id, 54321, 0)

    listed = json.loads(runtime.list("--format", "json").ok().stdout)

    assert listed[0]["owner"] == "#54321"
