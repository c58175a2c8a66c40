"""--log and --log-format: where errors go and how they are written."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from integration.harness import Bundle, Runtime


def test_an_error_stands_in_the_log_and_on_stderr(runtime: Runtime) -> None:
    result = runtime("state", runtime.new_id())

    assert "container does not exist" in result.error
    assert "container does not exist" in result.stderr


def test_a_json_line_has_level_msg_and_time(runtime: Runtime) -> None:
    line = runtime("state", runtime.new_id()).log[-1]

    assert line["level"] == "error"
    assert "container does not exist" in line["msg"]
    assert datetime.fromisoformat(line["time"]).tzinfo


def test_a_text_line_has_time_level_and_msg(runtime: Runtime) -> None:
    running = runtime.spawn("state", runtime.new_id(), log_format="text")
    running.wait()

    line = running.log.read_text().splitlines()[-1]

    assert line.startswith('time="')
    assert ' level=error msg="' in line


def test_without_a_log_file_errors_go_to_stderr(runtime: Runtime) -> None:
    result = runtime("state", runtime.new_id(), options=("--log", ""))

    last = json.loads([line for line in result.stderr.splitlines() if line.startswith("{")][-1])
    assert last["level"] == "error"


def test_the_log_is_appended_to(runtime: Runtime) -> None:
    log = runtime.base / "kept.log"
    log.write_text('{"level":"info","msg":"old","time":""}\n')

    runtime("state", runtime.new_id(), options=("--log", str(log)))

    assert len(log.read_text().splitlines()) == 2


def test_an_unknown_log_format_is_refused(runtime: Runtime) -> None:
    result = runtime("list", log_format="xml")

    assert result.status == 1
    assert "xml" in result.stderr


def test_debug_says_more(runtime: Runtime, bundle: Bundle) -> None:
    result = runtime.run(bundle.args("exit", "0"), options=("--debug",)).ok()

    assert any(line["level"] == "debug" for line in result.log)


@pytest.mark.parametrize("name", ["two\nlines", 'quo"te', "back\\slash", "\x1b[31m"])
def test_a_strange_name_stays_within_one_line_of_the_log(runtime: Runtime, bundle: Bundle, name: str) -> None:
    bundle.process["args"] = [f"/no/{name}"]

    result = runtime.create(bundle)

    result.fails()
    assert all(isinstance(line, dict) for line in result.log)


def test_the_last_line_of_the_log_is_the_error(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["args"] = ["/no/such/program"]

    result = runtime.create(bundle)

    assert result.log[-1]["level"] == "error"
    assert "no such file or directory" in result.log[-1]["msg"]
