"""The public names and signatures are the ones that stand in golden/api.txt."""

from __future__ import annotations

from tests.api import FILE, api_text


def test_the_library_is_what_programs_rely_on() -> None:
    found = api_text()

    assert found == FILE.read_text(), "make golden, read the difference, and write it into CHANGELOG.md"
