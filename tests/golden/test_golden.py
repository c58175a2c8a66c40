"""Whole plans, line by line. After a change that is meant: python tests/golden/update.py, and read the diff."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyocirun.linux.host import Host
from tests.support import (
    GOLDEN,
    HOST_NESTED,
    HOST_NEW,
    HOST_V1_ROOT,
    golden_cases,
    golden_text,
    host_document,
    host_from,
)


@pytest.mark.parametrize("case", golden_cases(), ids=lambda case: case.name)
def test_plan_is_as_it_was(case: Path) -> None:
    plan = golden_text(case)

    assert plan == (case / "plan.txt").read_text()


def test_there_are_cases() -> None:
    assert [case.name for case in golden_cases()] == [
        "cgroupns",
        "containerd-ctr",
        "crio-cri",
        "docker-default",
        "hooks",
        "landlock",
        "podman-default",
        "podman-userns",
        "runc-default",
        "userns",
    ]


def test_plan_shows_no_values_of_variables() -> None:
    case = GOLDEN / "hooks"

    assert "very-secret" in (case / "config.json").read_text()
    assert "very-secret" not in golden_text(case)


@pytest.mark.parametrize("host", [Host(), HOST_V1_ROOT, HOST_NEW, HOST_NESTED])
def test_host_survives_json(host: Host) -> None:
    document = json.loads(json.dumps(host_document(host)))

    assert host_from(document) == host
