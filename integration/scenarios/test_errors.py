"""The command line's own errors, exit codes and texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from integration.harness import Bundle, Runtime, only


@pytest.mark.parametrize("command", ["create", "run", "start", "state", "delete"])
def test_a_missing_argument_is_an_error(runtime: Runtime, command: str) -> None:
    result = runtime(command)

    assert result.status == 1
    assert f'"{command}" requires exactly 1 argument(s)' in result.stderr


def test_one_argument_too_many_is_an_error(runtime: Runtime) -> None:
    result = runtime("state", "a", "b")

    assert result.status == 1
    assert '"state" requires exactly 1 argument(s)' in result.stderr


def test_an_unknown_option_is_an_error(runtime: Runtime) -> None:
    result = runtime("state", "--frobnicate", "a")

    assert result.status == 1
    assert "flag provided but not defined: -frobnicate" in result.stderr


def test_long_options_may_have_one_dash(runtime: Runtime, bundle: Bundle) -> None:
    bundle.args("exit", "4").save()

    result = runtime("run", "-bundle", str(bundle.path), runtime.new_id())

    assert result.status == 4


def test_a_value_may_follow_an_equals_sign(runtime: Runtime, bundle: Bundle) -> None:
    bundle.args("exit", "4").save()

    result = runtime("run", f"--bundle={bundle.path}", runtime.new_id())

    assert result.status == 4


def test_the_root_directory_may_not_be_the_root_of_the_host(runtime: Runtime) -> None:
    result = runtime("list", root="/")

    assert result.status == 1
    assert "should not be set to /" in result.stderr


def test_version_names_the_program_and_the_spec(runtime: Runtime) -> None:
    lines = runtime("--version").ok().stdout.splitlines()

    assert lines[0].startswith(f"{runtime.name} version ")
    assert any(line.startswith("spec: 1.") for line in lines)
    assert any(line.startswith("commit: ") for line in lines)


def test_a_command_that_does_not_exist_is_an_error(runtime: Runtime) -> None:
    result = runtime("frobnicate", "a")

    assert result.status == 3
    assert "No help topic for 'frobnicate'" in result.stderr


def test_a_log_that_cannot_be_written_is_an_error(runtime: Runtime, place: Path) -> None:
    result = runtime("list", options=("--log", str(place / "none/log")))

    assert result.status == 1
    assert f"open {place}/none/log: no such file or directory" in result.stderr


@pytest.mark.parametrize("command", ["create", "run", "spec", "restore"])
def test_a_bundle_that_is_not_there_is_named(runtime: Runtime, place: Path, command: str) -> None:
    id = [] if command == "spec" else [runtime.new_id()]

    result = runtime(command, "--bundle", str(place / "none"), *id)

    assert result.status == 1
    assert f"{place}/none" in result.stderr
    assert "no such file or directory" in result.stderr


@pytest.mark.parametrize("args", [("--help",), ("create", "--help"), ("exec", "--help")])
def test_help_goes_to_the_output(runtime: Runtime, args: tuple[str, ...]) -> None:
    result = runtime(*args).ok()

    assert "USAGE" in result.stdout.upper()
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("no-such-program", "executable file not found in $PATH"),
        ("/no/such/program", "no such file or directory"),
        ("/etc/passwd", "permission denied"),
        ("/etc", ""),
    ],
)
def test_create_names_the_reason_why_a_program_cannot_run(
    runtime: Runtime, bundle: Bundle, program: str, text: str
) -> None:
    bundle.process["args"] = [program]

    result = runtime.create(bundle)

    result.fails(text, program)
    assert runtime.traces() == []


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("no-such-program", "executable file not found in $PATH"),
        ("/no/such/program", "no such file or directory"),
        ("/etc/passwd", "permission denied"),
    ],
)
def test_exec_ends_with_255_when_a_program_cannot_run(
    runtime: Runtime, bundle: Bundle, program: str, text: str
) -> None:
    id = runtime.running(bundle)

    result = runtime("exec", id, program)

    result.fails(text, program, status=255)
    assert runtime.status(id) == "running"


@only("pyocirun")
def test_a_failed_create_is_called_so(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["args"] = ["/no/such/program"]

    assert runtime.create(bundle).error.startswith("pyocirun create failed: ")


@only("pyocirun")
def test_a_failed_operation_is_told_with_its_fields(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/mnt", "no-such-filesystem")

    line = [line for line in runtime.create(bundle).log if line["level"] == "error"][-1]

    assert {"level", "msg", "time"} < set(line)
    assert "/mnt" in line["msg"]
    assert line["errno"] == 19


def test_the_internal_command_cannot_be_called(runtime: Runtime, place: Path) -> None:
    result = runtime("init")

    assert result.status != 0
