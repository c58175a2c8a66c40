"""The families of errors: what each tells, wherever it is raised."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import pyocirun
from pyocirun import errors

PACKAGE = Path(pyocirun.__file__).parent
FAMILIES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.Error)]
OWN_STEP = [
    errors.CgroupError,
    errors.ContainerNotExist,
    errors.CriuError,
    errors.IDInUse,
    errors.InvalidID,
    errors.NoSuchCommand,
    errors.SpecError,
    errors.StateError,
    errors.UsageError,
]


@pytest.mark.parametrize("family", OWN_STEP)
def test_a_family_has_a_step_of_its_own(family: type[errors.Error]) -> None:
    assert family("wrong").step == family.family_step != ""


def test_a_more_exact_step_is_kept() -> None:
    assert errors.StateError("wrong", step="open").step == "open"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_an_error_of_no_such_family_says_its_step(path: Path) -> None:
    names = {family.__name__ for family in FAMILIES if family not in OWN_STEP and family is not errors.HookError}

    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    found = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in names]

    assert [call.lineno for call in found if not any(keyword.arg == "step" for keyword in call.keywords)] == []
