"""Command lines as engines write them, by both parsers."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyocirun.cli import usage
from pyocirun.cli.options import COMMANDS, Call, parse

SHIM = "--root /run/containerd/runc/NS --log /b/log.json --log-format json"
CONMON = "--log-format=json --log /b/oci-log"

# What containerd's shim writes, for ctr, docker and CRI; the global flags stand before each.
SHIM_LINES: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("create --bundle /b --pid-file /b/init.pid c1", "create", {"bundle": "/b", "pid-file": "/b/init.pid"}, ["c1"]),
    (
        "create --bundle /b --pid-file /b/init.pid --console-socket /tmp/pty1/pty.sock c1",
        "create",
        {"bundle": "/b", "pid-file": "/b/init.pid", "console-socket": "/tmp/pty1/pty.sock"},
        ["c1"],
    ),
    ("create --bundle /b --no-pivot --no-new-keyring c1", "create", {"no-pivot": True, "no-new-keyring": True}, ["c1"]),
    ("create --bundle /b --pidfd-socket /s --preserve-fds 2 c1", "create", {"pidfd-socket": "/s"}, ["c1"]),
    ("start c1", "start", {}, ["c1"]),
    (
        "exec --process /tmp/runc-process1 --detach --pid-file /b/e1.pid c1",
        "exec",
        {"process": "/tmp/runc-process1", "detach": True, "pid-file": "/b/e1.pid"},
        ["c1"],
    ),
    (
        "exec --process /p --console-socket /s --detach --pid-file /b/e1.pid c1",
        "exec",
        {"process": "/p", "console-socket": "/s", "detach": True},
        ["c1"],
    ),
    ("kill c1 15", "kill", {}, ["c1", "15"]),
    ("kill --all c1 9", "kill", {"all": True}, ["c1", "9"]),
    ("ps --format json c1", "ps", {"format": "json"}, ["c1"]),
    ("ps --format table c1", "ps", {"format": "table"}, ["c1"]),
    ("pause c1", "pause", {}, ["c1"]),
    ("resume c1", "resume", {}, ["c1"]),
    ("update --resources - c1", "update", {"resources": "-"}, ["c1"]),
    ("update --resources=- c1", "update", {"resources": "-"}, ["c1"]),
    (
        "checkpoint --image-path /i --work-path /w --file-locks --leave-running c1",
        "checkpoint",
        {"image-path": "/i", "work-path": "/w", "file-locks": True, "leave-running": True},
        ["c1"],
    ),
    (
        "checkpoint --tcp-established --ext-unix-sk --shell-job --empty-ns network --status-fd 3 --lazy-pages"
        " --page-server 127.0.0.1:27 --manage-cgroups-mode soft --parent-path ../p c1",
        "checkpoint",
        {"tcp-established": True, "ext-unix-sk": True, "shell-job": True, "lazy-pages": True, "parent-path": "../p"},
        ["c1"],
    ),
    (
        "restore --image-path /i --work-path /w --detach --pid-file /b/init.pid -no-subreaper --bundle /b c1",
        "restore",
        {"image-path": "/i", "detach": True, "no-subreaper": True, "bundle": "/b"},
        ["c1"],
    ),
    ("delete c1", "delete", {}, ["c1"]),
    ("delete --force c1", "delete", {"force": True}, ["c1"]),
    ("state c1", "state", {}, ["c1"]),
    ("list --format=json", "list", {"format": "json"}, []),
    ("events --stats c1", "events", {"stats": True}, ["c1"]),
    ("events --interval=5s c1", "events", {"interval": "5s"}, ["c1"]),
    ("run --bundle /b --detach --pid-file /p c1", "run", {"detach": True, "pid-file": "/p"}, ["c1"]),
]

# What conmon and podman write: these with the log flags and, where podman does not know the runtime, without them.
CONMON_LINES: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("create --bundle /b --pid-file /p --console-socket /s c1", "create", {"console-socket": "/s"}, ["c1"]),
    ("create --bundle /b --pid-file /p --preserve-fds 1 c1", "create", {"preserve-fds": 1}, ["c1"]),
    ("exec --pid-file /p --process /f --detach c1", "exec", {"process": "/f", "detach": True}, ["c1"]),
    ("exec --pid-file /p --process /f --detach --tty --console-socket /s c1", "exec", {"tty": True}, ["c1"]),
    (
        "restore --bundle /b --pid-file /p --detach --image-path /i --work-path /w c1",
        "restore",
        {"image-path": "/i", "work-path": "/w"},
        ["c1"],
    ),
]
PODMAN_LINES: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("start c1", "start", {}, ["c1"]),
    ("kill c1 15", "kill", {}, ["c1", "15"]),
    ("kill --all c1 9", "kill", {"all": True}, ["c1", "9"]),
    ("pause c1", "pause", {}, ["c1"]),
    ("resume c1", "resume", {}, ["c1"]),
    ("update --resources=/tmp/r c1", "update", {"resources": "/tmp/r"}, ["c1"]),
    ("delete --force c1", "delete", {"force": True}, ["c1"]),
    ("checkpoint --image-path /i --work-path /w c1", "checkpoint", {"image-path": "/i", "work-path": "/w"}, ["c1"]),
    ("state c1", "state", {}, ["c1"]),
    ("--cgroup-manager disabled create --bundle /b --pid-file /p c1", "create", {"bundle": "/b"}, ["c1"]),
    ("--systemd-cgroup --log /l create --bundle /b --pid-file /p c1", "create", {"bundle": "/b"}, ["c1"]),
    ("features", "features", {}, []),
    ("--version", "version", {}, []),
]

GLOBALS = [
    SHIM,
    f"{SHIM} --systemd-cgroup",
    f"{SHIM} --rootless=true",
    f"--debug {SHIM} --rootless=false",
]

ALL = [
    *((f"{before} {line}", *rest) for before in GLOBALS for line, *rest in SHIM_LINES),
    *((f"{before}{line}", *rest) for before in (f"{CONMON} ", "") for line, *rest in CONMON_LINES),
    *PODMAN_LINES,
]


def slow(argv: list[str]) -> tuple[Call | None, str]:
    """What click makes of it, and what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        return usage.understand(argv), printed.getvalue()


@pytest.mark.parametrize(("line", "command", "flags", "args"), ALL)
def test_both_parsers_understand_an_engine(line: str, command: str, flags: dict[str, Any], args: list[str]) -> None:
    quick = parse(line.split())

    assert quick is not None
    assert (quick.command, quick.args) == (command, args)
    assert {name: quick.flags[name] for name in flags} == flags
    assert slow(line.split())[0] == quick


def test_podman_asks_for_the_help_of_checkpoint() -> None:
    assert parse(["checkpoint", "--help"]) is None

    call, printed = slow(["checkpoint", "--help"])

    assert call is None
    assert "checkpoint" in printed


WORDS = st.sampled_from(
    [*COMMANDS, "c1", "-", "--", "-9", "x=y", "--root", "--log-format=json", "--debug", "-no-pivot"]
)
FLAGS = st.sampled_from(
    [f"{dash}{option[0]}" for *_, table in COMMANDS.values() for option in table for dash in ("-", "--")]
)


@given(st.lists(WORDS | FLAGS, max_size=8))
def test_what_the_quick_parser_understands_click_understands_alike(argv: list[str]) -> None:
    quick = parse(argv)

    if quick is not None:
        assert slow(argv)[0] == quick
