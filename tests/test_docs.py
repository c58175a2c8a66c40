"""The documents agree with the code."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pyocirun
from pyocirun.cli.options import COMMANDS
from pyocirun.linux.landlock import FILES, PORTS, SCOPES
from pyocirun.plan.features import UNSAFE_ANNOTATIONS
from pyocirun.plan.ops import WIRE
from pyocirun.spec.landlock import parse_landlock

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


def test_the_ruleset_in_the_documents_is_one() -> None:
    (text,) = snippets("docs/annotations.md", "json")

    assert parse_landlock(text).scopes == ("abstract_unix_socket", "signal")


def test_every_word_of_a_ruleset_is_documented() -> None:
    text = (ROOT / "docs/annotations.md").read_text()

    assert not [name for name in (*FILES, *PORTS, *SCOPES) if f"`{name}`" not in text]


def test_every_annotation_in_the_documents_is_known_to_be_unsafe() -> None:
    names = re.findall(r"^\| `([a-z.]+\.[A-Za-z_.-]+)`", (ROOT / "docs/annotations.md").read_text(), re.MULTILINE)

    assert len(names) > 9
    assert all(name.startswith(UNSAFE_ANNOTATIONS) for name in names)


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


def rows(document: str) -> list[list[str]]:
    """The cells of all rows of the tables in a document, without their heads."""
    lines = (ROOT / document).read_text().splitlines()
    tables = [line for before, line in zip(["", *lines], lines, strict=False) if line.startswith("| ") and before]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in tables]


@pytest.mark.parametrize("cells", rows("docs/DIFFERENCES.md"), ids=lambda cells: cells[0])
def test_a_difference_is_told_with_its_reason_and_held_by_a_test(cells: list[str]) -> None:
    references = re.findall(r"`(.+?)::(.+?)`", cells[-1])

    texts = [(ROOT / (f if f.startswith("tests/") else f"integration/{f}")).read_text() for f, _ in references]

    assert len(cells) == 5
    assert all(cells)
    assert references
    assert all(f"def test_{name}(" in text for text, (_, name) in zip(texts, references, strict=True))


def conformance() -> list[tuple[str, list[str], list[str]]]:
    """(section, properties, tests) of the rows of docs/CONFORMANCE.md."""
    lines = (ROOT / "docs/CONFORMANCE.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return [
        (section, re.findall(r"`(.+?)`", names), re.findall(r"`(.+?)`", tests)) for section, names, tests in rows[1:]
    ]


def attacks() -> list[tuple[str, list[str]]]:
    """(attack, tests) of the table of attacks in SECURITY.md."""
    lines = (ROOT / "SECURITY.md").read_text().partition("\n| Attack | Tests |\n")[2].partition("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]
    return [(attack, re.findall(r"`(.+?)`", tests)) for attack, tests in rows]


def test_every_attack_has_a_test() -> None:
    assert len(attacks()) > 25
    assert not [attack for attack, tests in attacks() if not attack or not tests]


@pytest.mark.parametrize(
    "reference",
    sorted(
        {test for *_, tests in conformance() for test in tests} | {test for _, tests in attacks() for test in tests}
    ),
)
def test_a_test_that_a_table_names_is_there(reference: str) -> None:
    name, _, tests = reference.partition("::")
    file = ROOT / (name if name.startswith("tests/") else f"integration/{name}")

    text = file.read_text()

    assert all(f"def test_{test}(" in text for test in tests.split(",") if test)


def properties(schema: Any, whole: Any, at: str = "") -> Iterator[str]:
    """The properties of config.json: "root.path"; those of lists and maps are told by their elements."""
    while "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].rpartition("/")[2]]
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            yield from properties(schema[keyword], whole, at)
            return
    if not schema.get("properties"):
        yield at
    for name, member in schema.get("properties", {}).items():
        yield from properties(member, whole, f"{at}.{name}" if at else name)


def test_every_property_of_the_configuration_is_in_the_conformance_table() -> None:
    schema = json.loads((Path(pyocirun.__file__).parent / "spec/schema/config.json").read_text())
    listed = {name for _, names, _ in conformance() for name in names}

    missing = {name for name in properties(schema, schema) if not any(f"{name}.".startswith(f"{at}.") for at in listed)}

    assert not missing
