"""Where the command looks for what pip did not put beside it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pyocirun.cli.elsewhere import directories, look_elsewhere

pytest.importorskip("pyocirun._build_info", reason="written by the build")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path / "lib" / "python3" / "site-packages"


def test_closed_environment_has_no_other_directories(tmp_path: Path, site: Path) -> None:
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")

    assert directories(str(site)) == []


@pytest.mark.parametrize("text", ["include-system-site-packages = true\n", None])
def test_what_is_open_to_the_system_has_its_directories(tmp_path: Path, site: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "pyvenv.cfg").write_text(text)

    found = directories(str(site))

    assert found
    assert all(place.startswith("/") and place.endswith("-packages") for place in found)


def test_the_directory_of_the_package_itself_is_not_among_them(site: Path) -> None:
    own = directories(str(site))[0]

    assert own not in directories(own)


def test_sys_path_changes_when_a_module_is_missing(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    before = [*sys.path]
    look_elsewhere(str(site))
    untouched = [*sys.path]

    with pytest.raises(ImportError):
        __import__("a_module_that_nobody_has")

    assert untouched == before
    assert sys.path == before + directories(str(site))
