"""What the commands on an engine's hot path import: nothing that costs more than it gives, and nothing unnoticed."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyocirun

PACKAGE = Path(pyocirun.__file__).parent
START = PACKAGE / "cli" / "start_command.py"
ID = f"pyocirun-imports-{os.getpid()}"

BARE = set(sys.builtin_module_names) | {"__future__", "_collections_abc", "_stat", "abc", "genericpath", "os"}
BARE |= {"posixpath", "stat", "codecs", "io", "zipimport", "encodings", "encodings.aliases", "encodings.utf_8"}
BARE |= {"_frozen_importlib_external", "_cffi_backend", "_json", "_struct", "winreg"}
"""What a bare interpreter has imported anyway, and what is built in or written in C."""

EVERY = (
    "_native cli cli.elsewhere cli.main cli.options container container.container container.factory container.process "
    "container.state errors files native record spec spec.reader"
)
WANTED = {
    "create": (
        "cgroup cgroup.devices cgroup.fs cgroup.manager cgroup.path cgroup.tree cgroup.v1 container.answers "
        "container.creation container.making linux linux.capabilities linux.host linux.mounts linux.namespaces "
        "linux.rlimits plan plan.build plan.devices plan.encode plan.mounts plan.namespaces plan.ops plan.paths "
        "plan.process plan.request plan.rootfs spawn spawn.effects spawn.launch spawn.message spawn.probe "
        "spawn.sync spec.bundle spec.config spec.linux spec.mounts spec.process spec.resources"
    ),
    "state": "cli.output",
    "kill": "linux linux.signals",
    "start": "spawn spawn.gate spawn.message",
    "exec": (
        "cgroup cgroup.fs cgroup.manager cgroup.tree cli.foreground container.tenant linux linux.capabilities "
        "linux.host linux.mounts linux.namespaces linux.rlimits plan plan.encode plan.namespaces plan.ops plan.process "
        "plan.request plan.tenant spawn spawn.effects spawn.launch spawn.message spawn.probe spawn.sync spec.bundle "
        "spec.config spec.linux spec.mounts spec.process spec.resources"
    ),
    "delete": "cgroup cgroup.fs cgroup.manager cgroup.tree",
}
"""Modules of pyocirun by command. Each costs every call up to a millisecond: can a new one wait until it is used?"""

JEEPNEY = {"jeepney", *(f"jeepney.{name}" for name in ["auth", "bus", "bus_messages", "fds", "low_level", "wrappers"])}
ASKING = {
    "pyocirun.cgroup",
    *(f"pyocirun.cgroup.{name}" for name in ["bus", "devices", "gvariant", "properties", "v1", "v2"]),
}

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="makes a container: needs root"),
    pytest.mark.skipif(importlib.util.find_spec("pyocirun._native") is None, reason="the C parts are not built"),
    pytest.mark.skipif(not (PACKAGE / "bin" / "probe").is_file(), reason="the static program is not built"),
]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, set[str]]]:
    """By command, the names of all modules that it imported."""
    directory = tmp_path_factory.mktemp("imports")
    bundle = make_bundle(directory / "bundle")
    root = str(directory / "root")
    try:
        yield {
            "create": run(directory, root, "create", "--bundle", str(bundle), ID),
            "state": run(directory, root, "state", ID),
            "kill": run(directory, root, "kill", ID, "CONT"),
            "start": run(directory, root, "start", ID),
            "exec": run(directory, root, "exec", ID, "/probe", "exit", "0"),
            "delete": run(directory, root, "delete", "--force", ID),
        }
    finally:
        command = [sys.executable, "-I", "-S", str(START), "--root", root, "delete", "--force", ID]
        subprocess.run(command, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("command", WANTED)
def test_modules_of_the_package_are_the_ones_pinned(imported: dict[str, set[str]], command: str) -> None:
    wanted = {"pyocirun", *(f"pyocirun.{name}" for name in f"{EVERY} cli.{command} {WANTED[command]}".split())}

    ours = {name for name in imported[command] if name.partition(".")[0] == "pyocirun"}

    assert ours == wanted, f"new: {sorted(ours - wanted)}, gone: {sorted(wanted - ours)}"


def test_systemd_is_asked_with_the_messages_of_jeepney_alone() -> None:
    """With no more of it than that: the command keeps all of this in its snapshot, and goes without a snapshot too."""
    program = "import sys, pyocirun.cgroup.bus; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-S", "-c", f"import sys; sys.path[:] = {sys.path}; {program}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    found = set(done.stdout.split())

    assert {name for name in found if name.startswith("jeepney")} == JEEPNEY
    assert {name for name in found if name.startswith("pyocirun.cgroup")} == ASKING
    assert not found & {"asyncio", "subprocess", "threading", "json", "logging", "dataclasses", "inspect"}


@pytest.mark.parametrize("command", WANTED)
def test_nothing_else_is_imported_but_what_a_bare_interpreter_has(imported: dict[str, set[str]], command: str) -> None:
    others = {name for name in imported[command] if name.partition(".")[0] != "pyocirun"} - BARE

    assert not others, sorted(others)


@pytest.mark.parametrize("command", WANTED)
def test_nothing_of_it_starts_the_second_half_of_the_interpreter(imported: dict[str, set[str]], command: str) -> None:
    """The command starts without `open` and `print`, see pyocirun/cli/boot.py: calling one costs more than the rest."""
    found = []
    for name in imported[command]:
        spec = importlib.util.find_spec(name) if name.startswith("pyocirun.") else None
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            continue
        for node in ast.walk(ast.parse(Path(spec.origin).read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("open", "print"):
                found.append(f"{name}:{node.lineno}")

    assert not found


def run(directory: Path, root: str, *arguments: str) -> set[str]:
    """Run one command line, and return the modules it imported. Its own output goes to files: init keeps them open."""
    log = directory / f"imports-{arguments[0]}"
    command = [sys.executable, "-I", "-S", "-X", "importtime", str(START), "--root", root, *arguments]
    with log.open("w") as errors:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, timeout=60, check=False
        )
    lines = log.read_text().splitlines()
    assert done.returncode == 0, "\n".join(line for line in lines if not line.startswith("import time:"))
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")} - {"imported package"}


def make_bundle(bundle: Path) -> Path:
    rootfs = bundle / "rootfs"
    for name in ("proc", "dev", "sys"):
        (rootfs / name).mkdir(parents=True)
    shutil.copy(PACKAGE / "bin" / "probe", rootfs / "probe")
    subprocess.run([sys.executable, "-I", "-S", str(START), "spec", "--bundle", str(bundle)], timeout=60, check=True)
    config = json.loads((bundle / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": ["/probe", "sleep", "60"]}
    (bundle / "config.json").write_text(json.dumps(config))
    return bundle
