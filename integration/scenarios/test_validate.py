"""`pyocirun validate`: every fault at once, what nobody knows, and what this machine cannot do."""

from __future__ import annotations

import json

from integration.harness import Bundle, Runtime, only

pytestmark = only("pyocirun")


def test_a_bundle_that_runs_is_valid(runtime: Runtime, bundle: Bundle) -> None:
    bundle.save()

    result = runtime("validate", str(bundle.path)).ok()

    assert result.stdout == "valid\n"


def test_every_fault_is_listed_with_its_pointer(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["cwd"] = "relative"
    bundle.config["hostname"] = 5
    bundle.config["linux"]["sysctl"] = {"vm.swappiness": "1"}
    bundle.save()

    result = runtime("validate", str(bundle.path))

    assert result.status == 1
    assert result.stdout.splitlines() == [
        "3 faults:",
        "  /hostname: must be a string, not a number",
        '  /linux/sysctl/vm.swappiness: sysctl "vm.swappiness" is not in a separate kernel namespace',
        "  /process/cwd: Cwd must be an absolute path",
    ]


def test_strict_takes_unknown_properties_for_faults(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["linux"]["seccmp"] = {}
    bundle.save()

    lenient = runtime("validate", str(bundle.path)).ok()
    strict = runtime("validate", "--strict", str(bundle.path))

    assert "/linux/seccmp: is no property of the specification" in lenient.stdout
    assert strict.status == 1
    assert strict.stdout.splitlines()[0] == "1 fault:"


def test_json_has_the_same(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["process"]["args"] = []
    bundle.config["linux"]["x"] = 1
    bundle.save()

    result = runtime("validate", "--format", "json", str(bundle.path))

    assert result.status == 1
    assert json.loads(result.stdout) == {
        "valid": False,
        "faults": [{"pointer": "/process/args", "text": "args must not be empty"}],
        "unknown": [{"pointer": "/linux/x", "text": "is no property of the specification"}],
        "host": [],
    }


def test_what_the_machine_lacks_is_told_and_no_fault(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["root"]["path"] = "elsewhere"
    bundle.save()

    result = runtime("validate", str(bundle.path)).ok()

    assert result.stdout.splitlines()[:2] == [
        "valid",
        "cannot be done here:",
    ]
    assert "/root/path: " in result.stdout
