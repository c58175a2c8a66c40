from __future__ import annotations

import fcntl
import json
import os
import pty
import re
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyocirun.log import Log, json_line, printable, text_line

NASTY = 'a "b" \\ c\nd\te\x1b[31m\x00é\udc80'


def test_nothing_is_opened_when_nothing_is_logged(tmp_path: Path) -> None:
    file = tmp_path / "log"

    Log(str(file), json=True).debug("only with debug")

    assert not file.exists()


def test_json_line_is_one_object_with_level_message_and_an_rfc3339_time() -> None:
    line = json_line("error", NASTY)

    entry = json.loads(line)
    assert list(entry) == ["level", "msg", "time"]
    assert (entry["level"], entry["msg"]) == ("error", NASTY)
    assert "\n" not in line
    datetime.strptime(entry["time"], "%Y-%m-%dT%H:%M:%SZ")


def test_every_failure_has_its_facts_in_json(tmp_path: Path) -> None:
    file = tmp_path / "log"

    Log(str(file), json=True).fatal("it broke", step="mount", errno=1, path="/proc", hint="try less")

    entry = json.loads(file.read_text())
    del entry["time"]
    facts = {"step": "mount", "errno": 1, "path": "/proc", "hint": "try less"}
    assert entry == {"level": "error", "msg": "it broke", **facts}


def test_line_is_on_the_disk_when_it_has_been_written(tmp_path: Path) -> None:
    file = tmp_path / "log"
    log = Log(str(file))

    log.warning("a line")

    (descriptor,) = [fd for fd in os.listdir("/proc/self/fd") if os.path.realpath(f"/proc/self/fd/{fd}") == str(file)]
    assert fcntl.fcntl(int(descriptor), fcntl.F_GETFL) & os.O_SYNC == os.O_SYNC
    os.close(int(descriptor))


def test_log_file_is_appended_to_and_readable_by_all(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("earlier\n")
    other = tmp_path / "new"
    mask = os.umask(0o022)

    Log(str(file)).warning("later")
    Log(str(other)).warning("first")
    os.umask(mask)

    assert file.read_text().splitlines()[0] == "earlier"
    assert len(file.read_text().splitlines()) == 2
    assert other.stat().st_mode & 0o777 == 0o644


def test_second_fatal_leaves_the_first_as_the_last_error_line(tmp_path: Path) -> None:
    file = tmp_path / "log"
    log = Log(str(file), json=True)

    log.fatal("the cause")
    log.fatal("and then the clean-up failed too")

    entries = [json.loads(line) for line in file.read_text().splitlines()]
    assert [entry["msg"] for entry in entries if entry["level"] == "error"] == ["the cause"]


def test_failure_with_a_log_file_is_told_on_stderr_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = Log(str(tmp_path / "log"), json=True)

    log.fatal("it broke\nbadly", hint="try less", details=("/a: x", "/b: y"))

    assert capfd.readouterr().err == "it broke\\nbadly\n  /a: x\n  /b: y\n  hint: try less\n"


def test_text_on_stderr_has_the_hint_on_a_line_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    Log().fatal('say "no"', step="mount", hint="try less")

    line, hint = capfd.readouterr().err.splitlines()
    assert re.fullmatch(r'time="[-0-9]+T[:0-9]+Z" level=error msg="say \\"no\\""', line)
    assert hint == "  hint: try less"


def test_json_on_stderr_is_json_alone(capfd: pytest.CaptureFixture[str]) -> None:
    Log(json=True).fatal("it broke", hint="try less", details=("/a: x",))

    entries = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [entry["hint"] for entry in entries] == ["try less"]


def test_text_file_has_the_facts_behind_the_message() -> None:
    line = text_line("error", NASTY, {"step": "mount", "errno": 1, "path": "", "hint": "try\nless"})

    assert line.isprintable()
    assert line.endswith('\\udc80" step="mount" errno=1 hint="try\\nless"')


def test_terminal_form_has_a_short_tag_and_seconds() -> None:
    master, slave = pty.openpty()
    saved = os.dup(2)
    os.dup2(slave, 2)

    try:
        Log().fatal("it broke")
    finally:
        os.dup2(saved, 2)
        os.close(saved)

    shown = os.read(master, 4096).decode()
    os.close(slave)
    os.close(master)
    assert re.fullmatch(r"ERRO\[\d{4}\] it broke\r\n", shown)


def test_warning_is_told_on_stderr_without_a_log_file(capfd: pytest.CaptureFixture[str]) -> None:
    Log().warning("careful")

    assert re.fullmatch(r'time="\S+" level=warning msg="careful"\n', capfd.readouterr().err)


def test_warning_with_a_log_file_is_there_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "log"

    Log(str(file)).warning("careful")

    assert 'msg="careful"' in file.read_text()
    assert capfd.readouterr().err == ""


def test_log_that_cannot_be_opened_goes_to_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Log(str(tmp_path / "none" / "log")).fatal("it broke")

    first, second = capfd.readouterr().err.splitlines()
    assert "cannot open the log" in first
    assert 'level=error msg="it broke"' in second


@given(st.text())
def test_any_message_is_one_line_and_one_json_object(text: str) -> None:
    assert len(printable(text).splitlines()) <= 1
    assert json.loads(json_line("error", text))["msg"] == text
    assert json.loads(json_line("error", text, {"path": text}))["path"] == text
