"""Completion of command lines, for shells."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from pyocirun.cli.options import COMMANDS, COMPLETION
from pyocirun.cli.usage import completion_script, group
from pyocirun.errors import UsageError


def completions(*words: str) -> list[str]:
    """What is offered for the last of the words."""
    *args, incomplete = words
    program: click.Command = group()
    return [item.value for item in ShellComplete(program, {}, "pyocirun", COMPLETION).get_completions(args, incomplete)]


@pytest.fixture
def root(tmp_path: Path) -> str:
    for name in ("apple", "avocado", "banana", "@seccomp"):
        (tmp_path / name).mkdir()
    return str(tmp_path)


def test_commands_are_completed() -> None:
    assert set(completions("")) >= set(COMMANDS)


def test_options_are_completed() -> None:
    assert completions("run", "--pid") == ["--pidfd-socket", "--pid-file"]


def test_ids_are_completed_from_the_root_directory(root: str) -> None:
    assert completions("--root", root, "kill", "a") == ["apple", "avocado"]
    assert completions("--root", root, "state", "") == ["apple", "avocado", "banana"]


def test_only_the_first_argument_is_an_id(root: str) -> None:
    assert completions("--root", root, "kill", "apple", "") == []


@pytest.mark.parametrize("command", ["create", "run"])
def test_the_id_of_a_new_container_is_not_completed(root: str, command: str) -> None:
    assert completions("--root", root, command, "a") == []


def test_a_root_that_is_missing_completes_nothing(tmp_path: Path) -> None:
    assert completions("--root", str(tmp_path / "none"), "kill", "") == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_there_is_a_script_for_a_shell(shell: str) -> None:
    assert "pyocirun" in completion_script(shell)


def test_an_unknown_shell_is_refused() -> None:
    with pytest.raises(UsageError, match='no completion for the shell "ksh"'):
        completion_script("ksh")
