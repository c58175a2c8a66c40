"""What goes into the archives that others install from."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
LEFT_OUT = (".ci", ".clang-format", ".gitignore")
"""Of what is kept in git: only for work on the project."""

pytestmark = pytest.mark.skipif(
    shutil.which("git") is None or not (CHECKOUT / ".git").exists(), reason="only a checkout knows what belongs to it"
)


def test_source_archive_has_every_file(tmp_path: Path) -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout
    names = [name for name in tracked.splitlines() if (CHECKOUT / name).is_file()]
    for name in names:
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, tmp_path / "source" / name)
    script = f"from setuptools.build_meta import build_sdist; build_sdist({str(tmp_path)!r})"

    subprocess.run([sys.executable, "-c", script], cwd=tmp_path / "source", check=True, capture_output=True)

    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert [name for name in names if name not in packed and not name.startswith(LEFT_OUT)] == []
