"""The driver of the OCI validation programs reads what they print, and compares it with what is expected."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

DRIVER = Path(__file__).resolve().parents[1] / "integration/conformance/run.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("conformance", DRIVER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


driver = load()


def outcome(text: str, status: int = 0) -> Any:
    return driver.read_tap(text, status)


def test_points_are_told_apart() -> None:
    found = outcome("TAP version 13\nok 1 - a\nnot ok 2 - b\nok 3 # SKIP no c\n1..3\n")

    assert (found.passed, found.failed, found.skipped) == ({1: "a"}, {2: "b"}, {3: ""})
    assert not found.clean


@pytest.mark.parametrize(
    ("text", "status", "clean"),
    [
        ("ok 1 - a\n1..1\n", 0, True),
        ("ok 1 - a\n1..1\n", 1, False),
        ("1..0\n", 0, True),
        ('  "error": "Hooks MUST be called"\n1..0\n', 0, False),
        ("", 1, False),
    ],
)
def test_a_program_is_clean_or_not(text: str, status: int, clean: bool) -> None:
    assert outcome(text, status).clean is clean


@pytest.mark.parametrize(
    ("text", "expected", "wanted"),
    [
        ("ok 1\n", None, True),
        ("not ok 1\n", None, False),
        ("not ok 1\n", {"fails": [1]}, True),
        ("not ok 1\nnot ok 2\n", {"fails": [1]}, False),
        ("ok 1\n", {"fails": [1]}, False),
        ("ok 1\n", {"fails": [1], "sometimes": True}, True),
    ],
)
def test_an_outcome_is_as_expected_or_a_surprise(text: str, expected: dict[str, Any] | None, wanted: bool) -> None:
    assert driver.as_expected(outcome(text), expected) is wanted


def test_every_expected_difference_has_a_reason() -> None:
    expected = tomllib.loads(DRIVER.with_name("expected.toml").read_text())

    assert expected
    assert all(entry["reason"].endswith(".") for entry in expected.values())
    assert all(set(entry) <= {"fails", "sometimes", "reason"} for entry in expected.values())
