"""spec: a config to begin with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from integration.harness import Bundle, Runtime


def _spec(runtime: Runtime, place: Path, *options: str) -> dict[str, Any]:
    (place / "new").mkdir()
    runtime("spec", *options, cwd=place / "new").ok()
    config: dict[str, Any] = json.loads((place / "new/config.json").read_text())
    return config


def test_spec_writes_a_config_into_the_working_directory(runtime: Runtime, place: Path) -> None:
    config = _spec(runtime, place)

    assert config["process"]["args"] == ["sh"]
    assert config["process"]["terminal"] is True
    assert config["process"]["noNewPrivileges"] is True
    assert config["process"]["rlimits"] == [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}]
    assert config["root"] == {"path": "rootfs", "readonly": True}
    assert len(config["mounts"]) == 7
    assert {"pid", "network", "ipc", "uts", "mount"} <= {entry["type"] for entry in config["linux"]["namespaces"]}


def test_spec_gives_three_capabilities_and_none_to_inherit(runtime: Runtime, place: Path) -> None:
    capabilities = _spec(runtime, place)["process"]["capabilities"]

    expected = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
    assert {name: capabilities.get(name, []) for name in ("bounding", "effective", "permitted", "inheritable")} == {
        "bounding": expected,
        "effective": expected,
        "permitted": expected,
        "inheritable": [],
    }


def test_spec_is_indented_by_tabs(runtime: Runtime, place: Path) -> None:
    _spec(runtime, place)

    assert (place / "new/config.json").read_text().startswith('{\n\t"ociVersion": "1.')


def test_spec_takes_a_bundle(runtime: Runtime, place: Path) -> None:
    (place / "there").mkdir()

    runtime("spec", "--bundle", str(place / "there")).ok()

    assert (place / "there/config.json").exists()


def test_spec_does_not_overwrite(runtime: Runtime, place: Path) -> None:
    (place / "config.json").write_text("mine")

    result = runtime("spec", cwd=place)

    result.fails("File config.json exists. Remove it first")
    assert (place / "config.json").read_text() == "mine"


def test_the_written_config_runs(runtime: Runtime, bundle: Bundle) -> None:
    runtime("spec", "--bundle", str(bundle.path)).ok()
    bundle.config = json.loads((bundle.path / "config.json").read_text())
    bundle.process["terminal"] = False

    report = runtime.run(bundle.args("report")).report

    assert report["pid"] == 1


@pytest.mark.parametrize(("type", "present"), [("network", False), ("user", True)])
def test_a_rootless_config_has_a_user_namespace_and_the_network_of_the_host(
    runtime: Runtime, place: Path, type: str, present: bool
) -> None:
    config = _spec(runtime, place, "--rootless")

    assert (type in {entry["type"] for entry in config["linux"]["namespaces"]}) is present
    assert [entry["size"] for entry in config["linux"]["uidMappings"]] == [1]
