"""The documents agree with the code."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from pyocirun.cli.options import COMMANDS
from pyocirun.plan.ops import WIRE

ROOT = Path(__file__).resolve().parent.parent


def snippets(document: str, language: str) -> list[str]:
    """The fenced blocks of one language in a Markdown file."""
    blocks = (ROOT / document).read_text().split("```")[1::2]
    return [block.partition("\n")[2] for block in blocks if block.partition("\n")[0] == language]


def test_python_of_the_readme_compiles() -> None:
    found = snippets("README.md", "python")

    codes = [compile(text, "README.md", "exec") for text in found]

    assert codes


@pytest.mark.parametrize("code", range(len(WIRE)), ids=[name for name, _ in WIRE])
def test_an_operation_stands_in_the_protocol_with_its_code_and_fields(code: int) -> None:
    name, signature = WIRE[code]

    text = (ROOT / "docs/PROTOCOL.md").read_text()

    assert f"\n| {code} | `{name}` | `{signature or '-'}` | " in text


def man_pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs/man/pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("path", "text"), man_pages().pages().items(), ids=lambda value: getattr(value, "name", ""))
def test_a_man_page_has_the_options_of_the_table_and_a_description(path: Path, text: str) -> None:
    found = path.read_text()

    assert found == text, "run: make man"
    assert "## DESCRIPTION\n" in found


def test_the_man_pages_are_roff_that_has_every_section(tmp_path: Path) -> None:
    pages = man_pages().write_roff(tmp_path)

    titles = [line for line in (tmp_path / "pyocirun-run.8").read_text().splitlines() if line.startswith(".SH")]

    assert len(pages) == len(COMMANDS) + 1
    assert titles[:3] == ['.SH "NAME"', '.SH "SYNOPSIS"', '.SH "DESCRIPTION"']
