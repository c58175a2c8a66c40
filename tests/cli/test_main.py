from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pyocirun.cli import failure
from pyocirun.cli.main import DEFAULT_ROOT, Session, default_root, main
from pyocirun.errors import Error, SpecError, UsageError

# What create, start, state, kill and delete must not load: each costs milliseconds at every call of an engine.
SLOW = (
    "re",
    "json",
    "enum",
    "contextlib",
    "dataclasses",
    "typing",
    "pathlib",
    "subprocess",
    "socket",
    "argparse",
    "logging",
    "click",
    "signal",
    "prctl",
)
HOT = ["main", "options", "output", "start", "state", "kill", "delete", "create", "pidfile"]


def python(code: str, *prefix: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `code` in a bare interpreter that finds this pyocirun."""
    root = str(Path(__file__).resolve().parents[2])
    prologue = f"import sys; sys.path.insert(0, {root!r})\n"
    command = [*prefix, sys.executable, "-I", "-S", "-c", prologue + code]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)


def session(line: str) -> Session:
    made = Session()
    made.understand(line.split())
    return made


def test_version_has_the_lines_that_engines_parse(capfd: pytest.CaptureFixture[str]) -> None:
    status = main(["--version"])

    lines = capfd.readouterr().out.splitlines()
    assert status == 0
    assert lines[0].startswith("pyocirun version ")
    assert [line.split(": ")[0] for line in lines[1:3]] == ["commit", "spec"]
    assert lines[2] == "spec: 1.3.0"


def test_help_ends_well(capfd: pytest.CaptureFixture[str]) -> None:
    status = main(["create", "--help"])

    assert status == 0
    assert capfd.readouterr().out.startswith("NAME:\n  pyocirun create - ")


def test_wrong_count_prints_usage_on_stdout_and_one_line_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    status = main(["state"])

    out, err = capfd.readouterr()
    assert status == 1
    assert out.startswith("Incorrect Usage.\n\nNAME:\n  pyocirun state - ")
    assert 'level=error msg="pyocirun: \\"state\\" requires exactly 1 argument(s)"' in err
    assert len(err.splitlines()) == 1


def test_wrong_command_line_is_logged_where_the_caller_looks(tmp_path: Path) -> None:
    log = tmp_path / "log.json"

    status = main(["--log", str(log), "--log-format", "json", "start", "--zz"])

    assert status == 1
    assert json.loads(log.read_text())["msg"] == "flag provided but not defined: -zz"


def test_log_file_is_there_also_where_nothing_is_said(tmp_path: Path) -> None:
    status = main(["--root", str(tmp_path), "--log", str(tmp_path / "log"), "list"])

    assert status == 0
    assert (tmp_path / "log").read_text() == ""


@pytest.mark.parametrize("line", ["nope", "help nope", "nope --help"])
def test_command_that_does_not_exist_ends_with_a_status_of_its_own(
    line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    status = main(line.split())

    assert status == 3
    assert "No help topic for 'nope'" in capfd.readouterr().err


def test_unknown_log_format_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    status = main(["--log-format", "x", "list"])

    assert status == 1
    assert "invalid log-format: x" in capfd.readouterr().err


@pytest.mark.parametrize("root", ["/", "//", "/..", "/tmp/.."])
def test_root_may_not_be_the_host_s_root(root: str, capfd: pytest.CaptureFixture[str]) -> None:
    status = main(["--root", root, "list"])

    assert status == 1
    assert "Option --root argument should not be set to /" in capfd.readouterr().err


def test_root_may_not_be_empty(capfd: pytest.CaptureFixture[str]) -> None:
    status = main(["--root=", "list"])

    assert status == 1
    assert "Option --root is empty" in capfd.readouterr().err


def test_root_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert session("--root a/../b list").root() == str(tmp_path / "b")


def test_list_of_a_named_root_that_is_missing_fails(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status = main(["--root", str(tmp_path / "none"), "list"])

    assert status == 1
    assert "no such file or directory" in capfd.readouterr().err


@pytest.mark.parametrize("command", ["start", "state", "kill", "delete"])
def test_empty_id_is_refused(command: str) -> None:
    with pytest.raises(UsageError, match="container id cannot be empty"):
        session(f"{command} x").id("")


def test_exec_without_a_command_ends_with_255(capfd: pytest.CaptureFixture[str]) -> None:
    status = main(["exec", "c1"])

    assert status == 255
    assert "exec failed: exec args cannot be empty" in capfd.readouterr().err


@pytest.mark.parametrize("user", ["x", "1:", ":1", "-1", "4294967295", "1:x", "0x1", "1 ", "٣"])
def test_exec_user_that_is_no_number_is_refused(user: str, capfd: pytest.CaptureFixture[str]) -> None:
    status = main(["exec", "--user", user, "c1", "id"])

    assert status == 255
    assert "exec failed: bad " in capfd.readouterr().err


def test_detached_terminal_without_a_socket_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    status = main(["exec", "-t", "-d", "c1", "sh"])

    assert status == 255
    assert "cannot allocate tty if runc will detach without setting console socket" in capfd.readouterr().err


def test_socket_without_a_terminal_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    status = main(["exec", "-d", "--console-socket", "S", "c1", "sh"])

    assert status == 255
    assert "cannot use console socket if runc will not detach or allocate tty" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("line", "prefix", "status"),
    [
        ("create c1", "pyocirun create failed: ", 1),
        ("run c1", "pyocirun run failed: ", 1),
        ("exec c1 sh", "exec failed: ", 255),
        ("start c1", "", 1),
    ],
)
def test_failure_has_prefix_and_status_of_its_command(
    line: str, prefix: str, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    result = failure.report(Error("it broke"), session(line))

    assert result == status
    assert capfd.readouterr().err.rstrip().endswith(f'level=error msg="{prefix}it broke"')


def test_failure_keeps_errno_path_step_and_hint_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    error = Error("it broke", errno=2, path="/x", hint="try less", step="mount")

    failure.report(error, session(f"--log {log} --log-format json start c1"))

    entry = json.loads(log.read_text())
    assert (entry["errno"], entry["path"], entry["hint"], entry["step"]) == (2, "/x", "try less", "mount")


def test_each_of_several_faults_has_its_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    error = SpecError("config.json is wrong", faults=[("/process/cwd", "is missing"), ("", "is strange")])

    failure.report(error, session(f"--log {log} create c1"))

    first, *others = capfd.readouterr().err.splitlines()
    assert first == "pyocirun create failed: config.json is wrong"
    assert others == ["  /process/cwd: is missing", "  /: is strange"]
    assert len(log.read_text().splitlines()) == 1


def test_system_error_has_path_and_errno(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"

    status = failure.report(FileNotFoundError(2, "?", "/x"), session(f"--log {log} --log-format json start c1"))

    entry = json.loads(log.read_text())
    assert status == 1
    assert (entry["msg"], entry["errno"], entry["path"]) == ("/x: no such file or directory", 2, "/x")


def test_unexpected_error_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    status = failure.report(ValueError("a\nb"), session("start c1"))

    line, hint = capfd.readouterr().err.splitlines()
    assert status == 1
    assert 'msg="internal error: ValueError: a\\nb"' in line
    assert "--debug" in hint


def test_unexpected_error_has_its_traceback_with_debug(capfd: pytest.CaptureFixture[str]) -> None:
    failure.report(ValueError("oops"), session("--debug start c1"))

    lines = capfd.readouterr().err.splitlines()
    assert "level=debug" in lines[0]
    assert "ValueError: oops" in lines[0]
    assert "level=error" in lines[-1]


def test_interrupt_ends_with_130(capfd: pytest.CaptureFixture[str]) -> None:
    assert failure.report(KeyboardInterrupt(), session("start c1")) == 130


def test_criu_is_the_one_that_is_named(tmp_path: Path) -> None:
    named = session(f"--root {tmp_path} --criu /usr/sbin/criu state c1").factory()
    usual = session(f"--root {tmp_path} state c1").factory()

    assert (named.criu, usual.criu) == ("/usr/sbin/criu", "criu")


def test_unknown_rootless_value_is_refused() -> None:
    with pytest.raises(UsageError, match="rootless"):
        session("--rootless maybe list")._rootless()


def test_spec_writes_a_config_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    first = main(["spec"])
    written = (tmp_path / "config.json").read_text()
    second = main(["spec"])

    assert (first, second) == (0, 1)
    assert "File config.json exists. Remove it first" in capfd.readouterr().err
    assert (tmp_path / "config.json").read_text() == written
    assert json.loads(written)["process"]["args"] == ["sh"]
    assert written.startswith('{\n\t"ociVersion"')


def test_spec_writes_into_a_bundle_without_root(tmp_path: Path) -> None:
    status = main(["spec", "--rootless", "-b", str(tmp_path)])

    config = json.loads((tmp_path / "config.json").read_text())
    assert status == 0
    assert config["linux"]["uidMappings"] == [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]


@pytest.mark.skipif(os.geteuid() != 0, reason="asks what root gets")
def test_root_of_the_host_has_its_state_under_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("USER", raising=False)

    assert default_root(make=True) == DEFAULT_ROOT
    assert list(tmp_path.iterdir()) == []


def test_user_has_a_sticky_root_of_his_own(tmp_path: Path) -> None:
    code = "from pyocirun.cli.main import default_root; print(default_root(make=True))"
    result = python(code, "unshare", "--user", "--map-root-user", env={"XDG_RUNTIME_DIR": str(tmp_path)})
    if "unshare" in result.stderr:
        pytest.skip("no user namespaces here")

    assert result.stdout.strip() == str(tmp_path / "pyocirun")
    assert stat.S_IMODE((tmp_path / "pyocirun").stat().st_mode) == 0o1700


def test_asking_for_the_root_makes_nothing(tmp_path: Path) -> None:
    code = "from pyocirun.cli.main import default_root; print(default_root())"
    result = python(code, "unshare", "--user", "--map-root-user", env={"XDG_RUNTIME_DIR": str(tmp_path)})
    if "unshare" in result.stderr:
        pytest.skip("no user namespaces here")

    assert result.stdout.strip() == str(tmp_path / "pyocirun")
    assert list(tmp_path.iterdir()) == []


def test_hot_commands_load_nothing_slow() -> None:
    imports = "\n".join(f"import pyocirun.cli.{name}" for name in HOT)
    code = f"{imports}\nfrom pyocirun.cli.options import parse\nparse(['state', 'c1'])\nprint(*sys.modules)"

    result = python(code)

    assert result.returncode == 0, result.stderr
    loaded = {name.partition(".")[0] for name in result.stdout.split()}
    assert loaded.isdisjoint(SLOW)
    assert "pyocirun.log" not in result.stdout.split()


def test_module_is_the_command() -> None:
    code = "import runpy; sys.argv = ['x', '--version']; runpy.run_module('pyocirun', run_name='__main__')"

    result = python(code)

    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("pyocirun version ")
