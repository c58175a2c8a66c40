"""docs/library.md is true: each of its programs runs, and prints what stands below it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from integration.harness import PATIENCE, only, requires

pytestmark = [requires("root", "busybox"), only("pyocirun")]

GUIDE = Path(__file__).parents[2] / "docs" / "library.md"
BLOCK = re.compile(r"^## (?P<section>[^\n]*)$|^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
APPLETS = ("sh", "sleep", "echo")


def programs() -> list[tuple[str, str, str | None]]:
    """(section, program, what it prints or None) for each block of Python, the one that the others need first."""
    found: list[tuple[str, str, str | None]] = []
    section = "beginning"
    for block in BLOCK.finditer(GUIDE.read_text()):
        if block["section"]:
            section = block["section"]
        elif block["language"] == "python":
            found.append((section, block["text"], None))
        else:
            found[-1] = (*found[-1][:2], block["text"])
    return found


BEGINNING, *PROGRAMS = programs()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the bundle of the README lies."""
    binaries = tmp_path / "bundle" / "rootfs" / "bin"
    binaries.mkdir(parents=True)
    shutil.copy("/bin/busybox", binaries)
    for name in APPLETS:
        (binaries / name).symlink_to("busybox")
    return tmp_path


@pytest.mark.parametrize(("section", "program", "printed"), PROGRAMS, ids=[section for section, _, _ in PROGRAMS])
def test_a_program_of_the_guide_does_what_stands_there(
    directory: Path, section: str, program: str, printed: str | None
) -> None:
    text = of_its_own(f"{BEGINNING[1]}\n{program}", directory)
    command = [sys.executable, "-I", "-c", text]
    if "pytest" in program:
        (directory / "test_guide.py").write_text(text)
        command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_guide.py"]

    run = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60 * PATIENCE, check=False)

    assert run.returncode == 0, run.stdout + run.stderr
    assert printed is None or run.stdout == printed
    assert not (directory / "root").exists() or not list((directory / "root").iterdir())


def of_its_own(text: str, directory: Path) -> str:
    """With names that no other container on this machine has."""
    text = text.replace("/run/example", f"{directory}/root").replace("/run/my-tests", f"{directory}/root")
    return re.sub(r'"(box|job|work|test)\b', rf'"\1-guide{os.getpid()}', text)
