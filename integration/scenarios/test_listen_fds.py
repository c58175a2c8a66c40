"""Descriptors from a service manager (LISTEN_FDS), before those of --preserve-fds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from integration.harness import Bundle, Runtime, only

SCRIPT = (
    'exec 3<"$0" 4<"$1" 5<"$2"; shift 2; LISTEN_FDS=2 LISTEN_PID=${PID:-$$}; export LISTEN_FDS LISTEN_PID; exec "$@"'
)


@pytest.fixture
def files(place: Path) -> list[Path]:
    """Three files, which become descriptors 3, 4 and 5."""
    made = [place / name for name in ("three", "four", "five")]
    for path in made:
        path.write_text(path.name)
    return made


def listening(runtime: Runtime, files: list[Path]) -> Runtime:
    """The runtime, called as a service manager would: with the descriptors, and itself as who they are for."""
    runtime.command = ["/bin/sh", "-c", SCRIPT, *map(str, files), *runtime.command]
    return runtime


def with_(**variables: str) -> dict[str, str]:
    return {**os.environ, **variables}


def test_the_descriptors_and_the_variables_arrive(runtime: Runtime, bundle: Bundle, files: list[Path]) -> None:
    report = listening(runtime, files).run(bundle.args("report")).report

    assert {"LISTEN_FDS=2", "LISTEN_PID=1"} <= set(report["env"])
    assert set(report["descriptors"]) == {"0", "1", "2", "3", "4"}


@only("pyocirun")
def test_their_names_arrive(runtime: Runtime, bundle: Bundle, files: list[Path]) -> None:
    report = listening(runtime, files).run(bundle.args("report"), env=with_(LISTEN_FDNAMES="a:b")).report

    assert "LISTEN_FDNAMES=a:b" in report["env"]


@pytest.mark.parametrize(("descriptor", "text"), [("3", "three"), ("4", "four")])
def test_a_descriptor_is_the_one_that_was_passed(
    runtime: Runtime, bundle: Bundle, files: list[Path], descriptor: str, text: str
) -> None:
    result = listening(runtime, files).run(bundle.args("cat", f"/proc/self/fd/{descriptor}")).ok()

    assert result.stdout == text


def test_preserved_ones_come_behind_them(runtime: Runtime, bundle: Bundle, files: list[Path]) -> None:
    result = listening(runtime, files).run(bundle.args("cat", "/proc/self/fd/5"), "--preserve-fds", "1").ok()

    assert result.stdout == "five"


def test_those_for_another_process_are_left_alone(runtime: Runtime, bundle: Bundle, files: list[Path]) -> None:
    report = listening(runtime, files).run(bundle.args("report"), env=with_(PID="1")).report

    assert not [entry for entry in report["env"] if entry.startswith("LISTEN_")]
    assert set(report["descriptors"]) == {"0", "1", "2"}


def test_create_takes_them_too(runtime: Runtime, bundle: Bundle, files: list[Path]) -> None:
    listening(runtime, files)
    id = runtime.created(bundle.args("sleep", "60"))
    runtime.command = runtime.command[6:]

    runtime.start(id).ok()

    pid = runtime.pid(id)
    assert os.readlink(f"/proc/{pid}/fd/3") == str(files[0])
    assert b"LISTEN_FDS=2" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


@only("pyocirun")
def test_exec_later_has_nothing_of_it(runtime: Runtime, bundle: Bundle, files: list[Path]) -> None:
    listening(runtime, files)
    id = runtime.created(bundle.args("sleep", "60"))
    runtime.command = runtime.command[6:]
    runtime.start(id).ok()

    report = runtime.exec(id, "report").report

    assert not [entry for entry in report["env"] if entry.startswith("LISTEN_")]


@only("pyocirun")
def test_a_number_that_is_none_is_refused(runtime: Runtime, bundle: Bundle, files: list[Path]) -> None:
    runtime.command = ["/bin/sh", "-c", 'LISTEN_FDS=x LISTEN_PID=$$ exec "$0" "$@"', *runtime.command]

    result = runtime.run(bundle.args("exit", "0"))

    result.fails("LISTEN_FDS=x is no number of descriptors")
