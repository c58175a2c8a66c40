"""newuidmap and newgidmap: where they are, and what is said if they are not or refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyocirun.errors import OperationError
from pyocirun.plan.ops import WriteIdMaps
from pyocirun.spawn.idmap import find, write_maps

RANGE = "0 1000 1\n1 100000 65536\n"


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_a_helper_is_looked_up_in_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "newuidmap", "")
    monkeypatch.setenv("PATH", f"/no/such:relative:{tmp_path}")

    assert find("newuidmap") == f"{tmp_path}/newuidmap"


def test_without_path_the_usual_directories_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATH")

    assert find("sh") in ("/bin/sh", "/usr/bin/sh")


def test_a_path_is_taken_as_it_is() -> None:
    assert find("/opt/newuidmap") == "/opt/newuidmap"


def test_what_is_no_program_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "newuidmap").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(OperationError, match="newuidmap is not in PATH") as caught:
        find("newuidmap")

    assert "uidmap" in caught.value.hint


def test_a_helper_gets_pid_and_numbers_and_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    out = tmp_path / "out"
    helper = program(tmp_path / "map", f'echo "$@" $SECRET >> {out}')

    write_maps(WriteIdMaps(RANGE, RANGE, False, True, True), 77, str(helper), str(helper))

    assert out.read_text() == "77 0 1000 1 1 100000 65536\n" * 2


def test_what_a_helper_says_is_told(tmp_path: Path) -> None:
    helper = program(tmp_path / "newuidmap", "echo range not allowed >&2; exit 1")

    with pytest.raises(OperationError) as caught:
        write_maps(WriteIdMaps(RANGE, RANGE, False, True, True), 77, str(helper), str(helper))

    assert "cannot map '0 1000 1; 1 100000 65536'" in caught.value.message
    assert "range not allowed" in caught.value.message
    assert "/etc/subuid" in caught.value.hint
    assert caught.value.path == str(helper)


def test_the_file_of_groups_is_named_for_groups(tmp_path: Path) -> None:
    good = program(tmp_path / "newuidmap", "")
    bad = program(tmp_path / "newgidmap", "exit 1")

    with pytest.raises(OperationError) as caught:
        write_maps(WriteIdMaps(RANGE, RANGE, False, True, True), 77, str(good), str(bad))

    assert "/etc/subgid" in caught.value.hint
