"""The quick parser and click's, fed with the same command lines."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyocirun.cli import usage
from pyocirun.cli.options import COMMANDS, GLOBAL, Call, parse
from pyocirun.errors import UsageError

# What engines and people write: the command, flags that differ from the defaults, and arguments.
GOOD: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("start c1", "start", {}, ["c1"]),
    ("state -- c1", "state", {}, ["c1"]),
    ("-- state c1", "state", {}, ["c1"]),
    ("state -- --c1", "state", {}, ["--c1"]),
    ("state -9", "state", {}, ["-9"]),
    ("state -", "state", {}, ["-"]),
    ("create --bundle B --pid-file B/init.pid c1", "create", {"bundle": "B", "pid-file": "B/init.pid"}, ["c1"]),
    ("create c1 --bundle B", "create", {"bundle": "B"}, ["c1"]),
    ("create -b B c1", "create", {"bundle": "B"}, ["c1"]),
    ("create -b=B c1", "create", {"bundle": "B"}, ["c1"]),
    ("create -bundle B c1", "create", {"bundle": "B"}, ["c1"]),
    ("create --b B c1", "create", {"bundle": "B"}, ["c1"]),
    ("create --bundle= c1", "create", {"bundle": ""}, ["c1"]),
    ("create --bundle=a=b c1", "create", {"bundle": "a=b"}, ["c1"]),
    ("create -b A -b B c1", "create", {"bundle": "B"}, ["c1"]),
    ("create --bundle --bundle c1", "create", {"bundle": "--bundle"}, ["c1"]),
    ("create --bundle -- c1", "create", {"bundle": "--"}, ["c1"]),
    ("create --preserve-fds 3 c1", "create", {"preserve-fds": 3}, ["c1"]),
    ("create --preserve-fds=-1 c1", "create", {"preserve-fds": -1}, ["c1"]),
    ("create --no-pivot --no-new-keyring c1", "create", {"no-pivot": True, "no-new-keyring": True}, ["c1"]),
    ("exec --no-new-privs c1 a", "exec", {"no-new-privs": True}, ["c1", "a"]),
    ("exec --no-new-privs=false c1 a", "exec", {}, ["c1", "a"]),
    ("exec -g 1 --additional-gids=-2 c1 a", "exec", {"additional-gids": [1, -2]}, ["c1", "a"]),
    ("create --no-pivot=false c1", "create", {}, ["c1"]),
    ("create --no-pivot --no-pivot=F c1", "create", {}, ["c1"]),
    ("create --no-pivot= c1", "create", {"no-pivot": True}, ["c1"]),
    ("create --no-subreaper c1", "create", {"no-subreaper": True}, ["c1"]),
    ("run -no-subreaper --detach --keep c1", "run", {"no-subreaper": True, "detach": True, "keep": True}, ["c1"]),
    ("run c1 -d=1 --bundle B", "run", {"detach": True, "bundle": "B"}, ["c1"]),
    ("delete --force c1", "delete", {"force": True}, ["c1"]),
    ("checkpoint --image-path I --work-path W c1", "checkpoint", {"image-path": "I", "work-path": "W"}, ["c1"]),
    (
        "checkpoint --image-path I --file-locks --leave-running --status-fd 3 c1",
        "checkpoint",
        {"image-path": "I", "file-locks": True, "leave-running": True, "status-fd": 3},
        ["c1"],
    ),
    (
        "restore --image-path I --detach --pid-file P -no-subreaper --bundle B c1",
        "restore",
        {"image-path": "I", "detach": True, "pid-file": "P", "no-subreaper": True, "bundle": "B"},
        ["c1"],
    ),
    ("delete c1 -f", "delete", {"force": True}, ["c1"]),
    ("kill c1 9", "kill", {}, ["c1", "9"]),
    ("kill --all c1 9", "kill", {"all": True}, ["c1", "9"]),
    ("kill c1 -9", "kill", {}, ["c1", "-9"]),
    ("kill c1 --all", "kill", {}, ["c1", "--all"]),
    ("exec --process P --detach --pid-file F c1", "exec", {"process": "P", "detach": True, "pid-file": "F"}, ["c1"]),
    ("exec c1 sh -c --force -e", "exec", {}, ["c1", "sh", "-c", "--force", "-e"]),
    ("exec c1 -- sh -- -x", "exec", {}, ["c1", "sh", "--", "-x"]),
    ("exec -e A=1,2 --env B= c1 env", "exec", {"env": ["A=1,2", "B="]}, ["c1", "env"]),
    ("exec -g 1 -g 2 --cap CAP_KILL c1 id", "exec", {"additional-gids": [1, 2], "cap": ["CAP_KILL"]}, ["c1", "id"]),
    ("exec --cgroup cpu,cpuacct:x c1 id", "exec", {"cgroup": ["cpu,cpuacct:x"]}, ["c1", "id"]),
    ("list", "list", {}, []),
    ("list --format=json", "list", {"format": "json"}, []),
    ("list -q -f table", "list", {"quiet": True}, []),
    ("spec --rootless -b D", "spec", {"rootless": True, "bundle": "D"}, []),
    ("explain", "explain", {}, []),
    ("explain B --format json --id x", "explain", {"format": "json", "id": "x"}, ["B"]),
    ("--version", "version", {}, []),
    ("-v state", "version", {}, []),
]

BAD = [
    ("state", 'pyocirun: "state" requires exactly 1 argument(s)'),
    ("state a b", 'pyocirun: "state" requires exactly 1 argument(s)'),
    ("list a", 'pyocirun: "list" requires exactly 0 argument(s)'),
    ("exec", 'pyocirun: "exec" requires a minimum of 1 argument(s)'),
    ("kill", 'pyocirun: "kill" requires a minimum of 1 argument(s)'),
    ("kill a b c", 'pyocirun: "kill" requires a maximum of 2 argument(s)'),
    ("state --zz c1", "flag provided but not defined: -zz"),
    ("state -zz c1", "flag provided but not defined: -zz"),
    ("exec -td c1 sh", "flag provided but not defined: -td"),
    ("--nope state c1", "flag provided but not defined: -nope"),
    ("list --root x", "flag provided but not defined: -root"),
    ("list --format", "flag needs an argument: -format"),
    ("create --preserve-fds x c1", 'invalid value "x" for flag -preserve-fds: not a whole number'),
    ("create --preserve-fds ٣ c1", 'invalid value "٣" for flag -preserve-fds: not a whole number'),
    ("exec -g x c1 id", 'invalid value "x" for flag -g: not a whole number'),
    ("delete --force=maybe c1", 'invalid boolean value "maybe" for flag -force'),
    ("nope", "No help topic for 'nope'"),
    ("nope -h", "No help topic for 'nope'"),
    ("init", "No help topic for 'init'"),
    ("help nope", "No help topic for 'nope'"),
]

HELP = ["", "help", "h", "--help", "-h", "help create", "create --help", "exec -h", "state c1 --help", "--debug --help"]


def slow(argv: list[str]) -> tuple[Call | None, str]:
    """What click makes of it, and what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        return usage.understand(argv), printed.getvalue()


@pytest.mark.parametrize(("line", "command", "flags", "args"), GOOD)
def test_well_formed_line_means_what_it_says(line: str, command: str, flags: dict[str, Any], args: list[str]) -> None:
    call = parse(line.split())

    assert call is not None
    defaults = parse([command, "x"]) or parse([command]) or parse(["--version"])
    assert defaults is not None
    assert call.command == command
    assert call.flags == {**defaults.flags, **flags}
    assert call.args == args


@pytest.mark.parametrize("line", [line for line, *_ in GOOD])
def test_both_parsers_agree_on_a_well_formed_line(line: str) -> None:
    call, _ = slow(line.split())

    assert call == parse(line.split())


@pytest.mark.parametrize(("line", "message"), BAD)
def test_wrong_line_is_left_to_the_words_of_the_slow_parser(line: str, message: str) -> None:
    assert parse(line.split()) is None

    with pytest.raises(UsageError) as caught:
        slow(line.split())

    assert caught.value.message == message


@pytest.mark.parametrize("line", HELP)
def test_help_is_printed_and_is_no_call(line: str) -> None:
    assert parse(line.split()) is None

    call, printed = slow(line.split())

    assert call is None
    assert printed.startswith("NAME:\n  pyocirun")
    assert "\nUSAGE:\n  pyocirun" in printed


def test_global_flags_come_before_the_command() -> None:
    line = "--root R --log=L -log-format json --systemd-cgroup --cgroup-manager disabled --rootless=true"
    line += " --debug --criu c state c1"

    call = parse(line.split())

    assert call is not None
    assert call.global_flags == {
        "debug": True,
        "log": "L",
        "log-format": "json",
        "log-level": "info",
        "root": "R",
        "timings": None,
        "systemd-cgroup": True,
        "cgroup-manager": "disabled",
        "rootless": "true",
        "criu": "c",
        "version": False,
    }
    assert slow(line.split())[0] == call


def test_lists_are_not_shared_between_calls() -> None:
    first = parse(["exec", "-e", "A=1", "c1", "env"])

    second = parse(["exec", "c1", "env"])

    assert first is not None
    assert second is not None
    assert second.flags["env"] == []


def test_hidden_options_are_not_shown_in_help() -> None:
    _, printed = slow(["create", "--help"])

    assert "--bundle" in printed
    assert "--no-subreaper" not in printed


def test_every_command_has_help() -> None:
    for name, (_, summary, *_) in COMMANDS.items():
        _, printed = slow([name, "--help"])

        assert summary[1:] in " ".join(printed.split())


def _names() -> list[str]:
    tables = [GLOBAL, *(command[-1] for command in COMMANDS.values())]
    return sorted({name for table in tables for option in table for name in option[:2] if name})


TOKENS = st.one_of(
    st.sampled_from(["--", "-", "-9", "", "c1", "9", "--help", "-x", "--=", "-=", "---", "-é", " --all", *COMMANDS]),
    st.builds(
        lambda dashes, name, value: dashes + name + value,
        st.sampled_from(["-", "--", "---"]),
        st.sampled_from(_names()),
        st.sampled_from(["", "", "", "=", "=true", "=false", "=3", "=a=b"]),
    ),
    st.text(max_size=4),
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(COMMANDS)), st.lists(TOKENS, max_size=3), st.lists(TOKENS, max_size=6))
@example("exec", [], ["c1", "--", "--"])
def test_both_parsers_agree_on_any_line(command: str, before: list[str], after: list[str]) -> None:
    argv = [*before, command, *after]
    quick = parse(argv)

    try:
        careful, _ = slow(argv)
    except UsageError:
        careful = None

    assert quick == careful
