"""The documents agree with the code."""

from __future__ import annotations

from pathlib import Path

import pytest

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
