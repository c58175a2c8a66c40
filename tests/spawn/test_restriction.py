"""What is said where user namespaces are switched off."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pyocirun.spawn.restriction import user_namespace_hint


@pytest.fixture
def parameters(tmp_path: Path) -> Path:
    """A tree of kernel parameters that forbid nothing."""
    for name, value in {
        "user/max_user_namespaces": "1000",
        "kernel/unprivileged_userns_clone": "1",
        "kernel/apparmor_restrict_unprivileged_userns": "0",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{value}\n")
    return tmp_path


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EUSERS])
def test_a_maximum_of_none(parameters: Path, number: int) -> None:
    (parameters / "user/max_user_namespaces").write_text("0\n")

    assert "user.max_user_namespaces is 0" in user_namespace_hint(number, str(parameters))


def test_too_many(parameters: Path) -> None:
    assert "too many" in user_namespace_hint(errno.ENOSPC, str(parameters))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "AppArmor restricts"),
    ],
)
@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
def test_the_switches_of_distributions(parameters: Path, name: str, value: str, said: str, number: int) -> None:
    (parameters / name).write_text(f"{value}\n")

    assert said in user_namespace_hint(number, str(parameters), uid=1000)


def test_root_is_not_restricted_by_them(parameters: Path) -> None:
    (parameters / "kernel/unprivileged_userns_clone").write_text("0\n")

    assert user_namespace_hint(errno.EPERM, str(parameters), uid=0) == ""


def test_nothing_is_said_where_nothing_is_switched_off(parameters: Path) -> None:
    assert user_namespace_hint(errno.EPERM, str(parameters), uid=1000) == ""


def test_a_kernel_without_the_switches(tmp_path: Path) -> None:
    assert user_namespace_hint(errno.EPERM, str(tmp_path), uid=1000) == ""
