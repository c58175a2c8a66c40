"""Logs of the system: the journal's protocol over a real socket, and what a log does when it has none."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyocirun.log import Log
from pyocirun.sinks import journal, open_sink


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "journal"))
        listener.settimeout(10)
        yield listener


def test_a_record_has_the_container_and_the_facts(listener: socket.socket, tmp_path: Path) -> None:
    send = journal("box", str(tmp_path / "journal"))

    send("error", "it failed", {"step": "mount", "errno": 1, "path": "/p", "hint": ""})

    assert listener.recv(4096).decode().splitlines() == [
        "MESSAGE=it failed",
        "PRIORITY=3",
        "SYSLOG_IDENTIFIER=pyocirun",
        "CONTAINER_ID=box",
        "PYOCIRUN_STEP=mount",
        "ERRNO=1",
        "PYOCIRUN_PATH=/p",
    ]


def test_a_message_of_several_lines_makes_no_field_of_its_own(listener: socket.socket, tmp_path: Path) -> None:
    send = journal("box", str(tmp_path / "journal"))

    send("info", "a\nPRIORITY=0", {})

    data = listener.recv(4096)
    assert data.startswith(b"MESSAGE\n" + (12).to_bytes(8, "little") + b"a\nPRIORITY=0\n")


@pytest.mark.parametrize("path", ["/var/log/x", "file", "journal:x", "a:b"])
def test_a_path_is_no_sink(path: str) -> None:
    assert open_sink(path) is None


def test_syslog_takes_what_it_gets() -> None:
    send = open_sink("syslog:test")

    assert send is not None
    send("error", "nul \0 and line\n", {"step": "x", "errno": 0})


def test_without_a_journal_the_log_goes_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    if Path("/run/systemd/journal/socket").exists():
        pytest.skip("there is a journal")
    log = Log("journald:box")

    log.fatal("it failed", hint="try this")

    err = capfd.readouterr().err
    assert "cannot open the log journald:box" in err
    assert "it failed" in err


@pytest.mark.parametrize(("level", "seen"), [("info", 3), ("warning", 2), ("error", 1)])
def test_a_level_leaves_out_what_is_less(level: str, seen: int, tmp_path: Path) -> None:
    log = Log(str(tmp_path / "log"), json=True, level=level)

    log.debug("a")
    log.info("b")
    log.warning("c")
    log.fatal("d")

    assert len((tmp_path / "log").read_text().splitlines()) == seen
