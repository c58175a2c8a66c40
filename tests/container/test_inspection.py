"""What `Factory.validate` says of a configuration, without doing anything."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from pyocirun.container.factory import Factory
from pyocirun.container.inspection import Inspection
from pyocirun.spec import example


def config(**sections: Any) -> dict[str, Any]:
    document = copy.deepcopy(example.default_config(False))
    document["process"]["terminal"] = False
    return document | sections


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "rootfs").mkdir()
    return tmp_path


def validate(bundle: Path, document: dict[str, Any]) -> Inspection:
    return Factory(str(bundle / "root"), cgroup_manager="none").validate(str(bundle), config=document)


def test_a_good_bundle_is_valid_and_possible_here(bundle: Path) -> None:
    assert validate(bundle, config()) == Inspection()


def test_nothing_is_made(bundle: Path) -> None:
    validate(bundle, config())

    assert [path.name for path in bundle.iterdir()] == ["rootfs"]


def test_faults_of_the_reader_and_of_the_plan_come_together(bundle: Path) -> None:
    document = config(hostname=5)
    document["linux"]["sysctl"] = {"kernel.hostname": "x"}

    found = validate(bundle, document)

    assert [pointer for pointer, _ in found.faults] == ["/hostname", "/linux/sysctl/kernel.hostname"]
    assert not found.valid


def test_a_missing_rootfs_is_the_hosts_fault(tmp_path: Path) -> None:
    found = validate(tmp_path, config())

    assert found.valid
    assert found.host[0][0] == "/root/path"


def test_missing_sources_hooks_and_namespaces_are_named(bundle: Path) -> None:
    hooks = {"createRuntime": [{"path": "/bin/sh"}, {"path": "/no/such/hook"}]}
    document = config(hooks=hooks)
    document["mounts"].append({"destination": "/data", "source": "missing", "options": ["rbind"]})
    document["linux"]["namespaces"][1]["path"] = "/no/such/namespace"

    found = validate(bundle, document)

    assert [pointer for pointer, _ in found.host] == [
        f"/mounts/{len(document['mounts']) - 1}/source",
        "/linux/namespaces/1/path",
        "/hooks/createRuntime/1/path",
    ]


def test_unknown_properties_leave_it_valid(bundle: Path) -> None:
    found = validate(bundle, config(extra=1))

    assert found.valid
    assert found.unknown == (("/extra", "is no property of the specification"),)


def test_what_is_no_json_is_the_only_fault(bundle: Path) -> None:
    (bundle / "config.json").write_text("{")

    found = Factory(str(bundle / "root")).validate(str(bundle))

    assert len(found.faults) == 1
    assert found.faults[0][0] == ""
    assert "not valid JSON" in found.faults[0][1]


def test_a_missing_config_json_is_a_fault(bundle: Path) -> None:
    found = Factory(str(bundle / "root")).validate(str(bundle))

    assert found.faults == (("", "JSON specification file config.json not found"),)
