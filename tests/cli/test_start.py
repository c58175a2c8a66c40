"""The installed command: how it finds its package and its interpreter, and what it lets in from outside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

import pyocirun
from pyocirun.cli.boot import Finder

COMMAND = Path(sys.executable).parent / "pyocirun"


def has_static_library() -> bool:
    library = Path(str(sysconfig.get_config_var("LIBPL"))) / str(sysconfig.get_config_var("LIBRARY"))
    is_whole = "\\ " not in str(sysconfig.get_config_var("MODLIBS"))
    return library.is_file() and is_whole and "libpython" not in Path("/proc/self/maps").read_text()


installed = pytest.mark.skipif(not COMMAND.is_file(), reason="the command is not installed beside this interpreter")


snapshot = pytest.mark.skipif(
    not (COMMAND.is_file() and has_static_library() and sys.version_info < (3, 14)),
    reason="the command has no snapshot with this interpreter",
)
SNAPSHOT_AREA = "2000000000-"
"""Where the memory of a snapshot lies, as /proc/PID/maps has it."""

LIBRARY = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


@pytest.fixture
def finder(tmp_path: Path) -> Finder:
    """One that looks into `tmp_path`, where a package pyocirun with the module `part` lies, compiled."""
    part = tmp_path / "pyocirun" / "part.py"
    part.parent.mkdir()
    part.write_text("answer = 41\n")
    compile_file(part)
    return Finder(str(tmp_path), "/stdlib", "/dynload", magic(), lambda: None)


@installed
@pytest.mark.parametrize("environment", [{}, {"PYTHONPATH": "EVIL", "PYTHONHOME": "/nonexistent"}, {"LC_ALL": "C"}])
def test_environment_does_not_reach_the_interpreter(tmp_path: Path, environment: dict[str, str]) -> None:
    for name in ("os", "json", "pyocirun"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken in')\n")
    environment = {name: value.replace("EVIL", str(tmp_path)) for name, value in environment.items()}

    done = call("--version", env=environment, cwd=tmp_path)

    assert done.returncode == 0
    assert done.stdout.startswith(f"pyocirun version {pyocirun.__version__}".encode())


@installed
def test_command_works_through_a_symbolic_link(tmp_path: Path) -> None:
    link = tmp_path / "another-name"
    link.symlink_to(COMMAND)

    done = subprocess.run([link, "--version"], env={}, capture_output=True, check=False)

    assert done.returncode == 0


@installed
def test_bytes_that_are_no_utf_8_pass_through_arguments(tmp_path: Path) -> None:
    log = os.fsencode(tmp_path) + b"/\xff.log"

    call("--root", tmp_path, "--log", log, "state", "absent", env={})

    assert os.path.exists(log)


@installed
def test_whole_interpreter_is_there_when_wanted() -> None:
    done = call("--help", env={})

    assert done.returncode == 0
    assert b"USAGE" in done.stdout


@installed
def test_closed_standard_streams_do_no_harm(tmp_path: Path) -> None:
    script = f'exec "$0" --root {tmp_path} state absent <&- >&- 2>&-'

    done = subprocess.run(["/bin/sh", "-c", script, COMMAND], capture_output=True, check=False)

    assert done.returncode == 1


@installed
def test_interrupting_twice_ends_a_command_that_is_stuck(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    arguments = [str(COMMAND), "--root", str(tmp_path), "--log", str(tmp_path / "log"), "state", "absent"]
    with subprocess.Popen(arguments, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)) as process:
        for _ in range(2):
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)

        process.wait(timeout=10)

    assert process.returncode in (-signal.SIGINT, 130)


@installed
@pytest.mark.skipif(not has_static_library(), reason="this interpreter has no static library")
def test_interpreter_is_inside_where_it_can_be() -> None:
    content = COMMAND.read_bytes()

    assert b"_pyocirun_boot" in content, "the trial in setup.py failed: see what the build printed"


@snapshot
def test_modules_are_there_from_the_start(tmp_path: Path) -> None:
    assert has_mapped(COMMAND, SNAPSHOT_AREA, tmp_path)


@snapshot
def test_snapshot_serves_wherever_the_package_lies(tmp_path: Path) -> None:
    command = copy_installation(tmp_path / "elsewhere")

    assert has_mapped(command, SNAPSHOT_AREA, tmp_path)


@snapshot
def test_edit_of_an_installed_module_takes_effect_at_once(tmp_path: Path) -> None:
    command = copy_installation(tmp_path / "elsewhere")
    source = command.parent.parent / LIBRARY / "pyocirun" / "cli" / "version.py"
    source.write_text(source.read_text() + "\nraise SystemExit(42)\n")

    assert subprocess.run([command, "--version"], env={}, check=False).returncode == 42


@snapshot
def test_what_speaks_to_systemd_is_there_from_the_start(tmp_path: Path) -> None:
    command, spoiled = copy_with_spoiled_library(tmp_path)
    os.utime(spoiled, (1, 1))

    done = ask_systemd(command, tmp_path)

    assert done.returncode == 1
    assert b"config.json" in done.stderr


@snapshot
def test_another_version_of_the_library_is_used_at_once(tmp_path: Path) -> None:
    command, _ = copy_with_spoiled_library(tmp_path)

    assert ask_systemd(command, tmp_path).returncode == 42


@snapshot
def test_edit_that_keeps_the_size_takes_effect_too(tmp_path: Path) -> None:
    command = copy_installation(tmp_path / "elsewhere")
    source = command.parent.parent / LIBRARY / "pyocirun" / "cli" / "options.py"
    source.write_text(source.read_text().replace('"root"', '"ROOT"'))

    assert subprocess.run([command, "--root", "/", "--version"], env={}, check=False).returncode != 0


@snapshot
@pytest.mark.skipif(shutil.which("strip") is None, reason="no strip")
def test_snapshot_survives_strip(tmp_path: Path) -> None:
    command = copy_installation(tmp_path / "elsewhere")
    subprocess.run(["strip", command], check=True)

    assert has_mapped(command, SNAPSHOT_AREA, tmp_path)


@snapshot
def test_info_says_that_it_started_from_the_snapshot() -> None:
    assert how_it_started(COMMAND) == "from a snapshot"


@snapshot
def test_info_says_why_it_did_not(tmp_path: Path) -> None:
    command = copy_installation(tmp_path / "elsewhere")
    link_dependencies(command.parent.parent / LIBRARY)
    (command.parent.parent / LIBRARY / "pyocirun" / "cli" / "version.py").touch()

    assert how_it_started(command) == "without a snapshot: a module was changed after the installation"


@installed
@pytest.mark.skipif(has_static_library(), reason="this interpreter has a static library")
def test_info_says_why_no_interpreter_is_inside() -> None:
    assert "libpython" in how_it_started(COMMAND)


@installed
def test_environment_is_that_of_the_caller() -> None:
    done = call(env={"_PYOCIRUN_COMPLETE": "bash_source"})

    assert b"_pyocirun_completion" in done.stdout


@installed
def test_what_the_whole_interpreter_imports_lies_where_the_package_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"ociVersion": 1}')

    done = call("--root", tmp_path / "root", "create", "--bundle", tmp_path, "x", env={})

    assert b"/ociVersion" in done.stderr


def test_compiled_module_is_loaded(finder: Finder) -> None:
    module = load(finder, "pyocirun.part")

    assert module.answer == 41


def test_changed_source_is_left_to_the_usual_import(finder: Finder, tmp_path: Path) -> None:
    source = tmp_path / "pyocirun" / "part.py"
    source.write_text("answer = 4200\n")

    assert finder.find_spec("pyocirun.part") is None
    assert finder.is_complete


def test_source_of_another_time_is_left_to_the_usual_import(finder: Finder, tmp_path: Path) -> None:
    os.utime(tmp_path / "pyocirun" / "part.py", (1, 1))

    assert finder.find_spec("pyocirun.part") is None


def test_built_in_module_needs_nothing(finder: Finder) -> None:
    assert finder.find_spec("time") is None
    assert not finder.is_complete


@pytest.mark.parametrize("name", ["json", "_signal", "pyocirun.absent"])
def test_anything_else_asks_for_the_whole_interpreter(finder: Finder, name: str) -> None:
    assert finder.find_spec(name) is None
    assert finder.is_complete


def test_module_says_where_its_source_is(finder: Finder, tmp_path: Path) -> None:
    spec = finder.find_spec("pyocirun.part")

    assert spec is not None
    assert spec.origin == str(tmp_path / "pyocirun" / "part.py")


def load(finder: Finder, name: str) -> ModuleType:
    spec = finder.find_spec(name)
    assert isinstance(spec, ModuleSpec)
    module = ModuleType(name)
    finder.exec_module(module)
    return module


def has_mapped(command: Path, area: str, directory: Path) -> bool:
    """Whether /proc/PID/maps of a command that waits for its log has `area` within some seconds."""
    os.mkfifo(directory / "log")
    arguments = [str(command), "--root", str(directory), "--log", str(directory / "log"), "state", "absent"]
    with subprocess.Popen(arguments) as process:
        maps = Path(f"/proc/{process.pid}/maps")
        tries = 200
        while not (found := area in maps.read_text()) and tries:
            tries -= 1
            time.sleep(0.05)
        process.kill()
    return found


def copy_installation(prefix: Path) -> Path:
    """A copy of the installed package and command, the command last. Its path."""
    shutil.copytree(Path(pyocirun.__file__).parent, prefix / LIBRARY / "pyocirun")
    (prefix / "bin").mkdir()
    return Path(shutil.copy2(COMMAND, prefix / "bin" / "pyocirun"))


def link_dependencies(site: Path) -> Path:
    """What the package needs, below `site`: links, but for jeepney, of which each file is one. Where that is."""
    for found in Path(pyocirun.__file__).parent.parent.iterdir():
        if found.name not in ("pyocirun", "jeepney"):
            (site / found.name).symlink_to(found)
    jeepney = Path(pyocirun.__file__).parent.parent / "jeepney"
    for path in jeepney.glob("*.py"):
        copy = site / path.relative_to(jeepney.parent)
        copy.parent.mkdir(exist_ok=True)
        copy.symlink_to(path)
    return site / "jeepney"


def copy_with_spoiled_library(tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the installation, and in it a module of jeepney that ends the command with status 42.

    It has the size of the module whose place it takes.
    """
    command = copy_installation(tmp_path / "elsewhere")
    module = link_dependencies(command.parent.parent / LIBRARY) / "low_level.py"
    text = "raise SystemExit(42)\n"
    text += "#" * (module.stat().st_size - len(text))
    module.unlink()
    module.write_text(text)
    return command, module


def ask_systemd(command: Path, directory: Path) -> subprocess.CompletedProcess[bytes]:
    """A `create` that fails for want of a configuration, but not before it has loaded what speaks to systemd."""
    arguments = ["--root", str(directory / "root"), "--systemd-cgroup", "create", "--bundle", str(directory), "absent"]
    return subprocess.run([command, *arguments], env={}, capture_output=True, timeout=60, check=False)


def how_it_started(command: Path) -> str:
    done = subprocess.run([command, "info", "--format", "json"], env={}, capture_output=True, timeout=60, check=True)
    return str(json.loads(done.stdout)["runtime"]["start"])


def call(
    *arguments: str | bytes | Path, env: dict[str, str], cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([COMMAND, *arguments], env=env, cwd=cwd, capture_output=True, timeout=60, check=False)


def compile_file(path: Path) -> None:
    import py_compile

    py_compile.compile(str(path), doraise=True)


def magic() -> int:
    from importlib.util import MAGIC_NUMBER

    return int.from_bytes(MAGIC_NUMBER, "little")
