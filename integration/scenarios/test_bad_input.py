"""Bundles that cannot work: exit status 1, one clear message, and nothing left behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from integration.harness import PATIENCE, Bundle, Runtime, measured, mounts, only


def _create(runtime: Runtime, bundle: Bundle, text: str | bytes | None) -> Any:
    """create with this config.json (None: without one)."""
    file = bundle.path / "config.json"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return runtime("create", "--bundle", str(bundle.path), runtime.new_id())


def test_a_missing_config(runtime: Runtime, bundle: Bundle) -> None:
    _create(runtime, bundle, None).fails("config.json")

    assert runtime.traces() == []


def test_a_missing_bundle(runtime: Runtime, place: Path) -> None:
    runtime("create", "--bundle", str(place / "nowhere"), runtime.new_id()).fails()

    assert runtime.traces() == []


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "nonsense", "[]", "null", '"text"', "{} {}", '{"ociVersion": "1.0.2",}', b"\0\0"),
        pytest.param(b"\xff\xfe{}", marks=pytest.mark.vm),  # where Python is another
    ],
)
def test_a_config_that_is_no_json_object(runtime: Runtime, bundle: Bundle, text: str | bytes) -> None:
    _create(runtime, bundle, text).fails()

    assert runtime.traces() == []


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_a_config_that_is_too_deep(runtime: Runtime, bundle: Bundle, opening: str) -> None:
    _create(runtime, bundle, '{"x": ' + opening * 200_000).fails()

    assert runtime.traces() == []


@only("pyocirun")
def test_a_huge_config_is_refused_at_once(runtime: Runtime, bundle: Bundle) -> None:
    bundle.save()
    os.truncate(bundle.path / "config.json", 200 << 20)

    result, peak = measured(runtime, "create", "--bundle", str(bundle.path), runtime.new_id())

    result.fails("config.json")
    assert result.seconds < 2 * PATIENCE
    assert peak < 64 << 20
    assert runtime.traces() == []


@pytest.mark.parametrize("key", ["uidMappings", "gidMappings"])
def test_a_list_of_mappings_longer_than_16_bits_count(runtime: Runtime, bundle: Bundle, key: str) -> None:
    """CVE-2021-43784: the length of what is handed over wraps around, and the rest counts as other fields."""
    bundle.map_users(100000)
    bundle.linux[key] = [{"containerID": n, "hostID": 1000000000 + n, "size": 1} for n in range(4000)]
    assert len("".join("{containerID} {hostID} {size}\n".format(**line) for line in bundle.linux[key])) > 1 << 16

    runtime.create(bundle).fails()
    assert runtime.traces() == []


WRONG_TYPES: list[tuple[str, Any]] = [
    ("/hostname", 5),
    ("/process/args", "sh"),
    ("/process/user/uid", "root"),
    ("/process/terminal", "no"),
    ("/root", []),
    ("/root/readonly", 1),
    ("/mounts", {}),
    ("/linux/namespaces", "all"),
    ("/linux/resources/memory", [1]),
    ("/linux/maskedPaths", [1]),
    ("/annotations", {"a": 1}),
    ("/hooks", []),
]


@pytest.mark.parametrize(("pointer", "value"), WRONG_TYPES)
def test_a_wrong_type(runtime: Runtime, bundle: Bundle, pointer: str, value: object) -> None:
    _set(bundle, pointer, value)

    runtime.create(bundle).fails()
    assert runtime.traces() == []


@only("pyocirun")
@pytest.mark.parametrize(("pointer", "value"), WRONG_TYPES)
def test_a_wrong_type_is_named_by_its_place(runtime: Runtime, bundle: Bundle, pointer: str, value: object) -> None:
    _set(bundle, pointer, value)

    runtime.create(bundle).fails(pointer)


@only("pyocirun")
def test_all_wrong_types_are_named(runtime: Runtime, bundle: Bundle) -> None:
    for pointer in ("/hostname", "/process/args", "/linux/namespaces"):
        _set(bundle, pointer, 5)

    result = runtime.create(bundle)

    assert result.status == 1
    assert all(pointer in result.stderr for pointer in ("/hostname", "/process/args", "/linux/namespaces"))


def _set(bundle: Bundle, pointer: str, value: object) -> None:
    *parents, last = pointer.split("/")[1:]
    node = bundle.config
    for name in parents:
        node = node.setdefault(name, {})
    node[last] = value


@pytest.mark.parametrize("value", [None, "one", "1", ""])
def test_a_bad_version(runtime: Runtime, bundle: Bundle, value: str | None) -> None:
    bundle.config["ociVersion"] = value
    if value is None:
        del bundle.config["ociVersion"]

    runtime.create(bundle).fails("ociVersion")
    assert runtime.traces() == []


def test_unknown_properties_are_ignored(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["x-unknown"] = {"a": [1]}
    bundle.process["x-unknown"] = 1
    bundle.linux["x-unknown"] = None

    assert runtime.run(bundle.args("exit", "3")).status == 3


@only("pyocirun")
def test_what_is_not_for_this_platform_is_a_warning(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["windows"] = {"layerFolders": ["C:\\layer"]}
    bundle.process["user"]["username"] = "ContainerUser"
    bundle.process["commandLine"] = "cmd /c exit 4"

    result = runtime.run(bundle.args("exit", "3"))

    assert result.status == 3
    assert [line["msg"] for line in result.log] == ["/windows is ignored: it is for another platform"]


def test_annotations_of_images_mean_nothing(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["annotations"] = {
        "org.opencontainers.image.stopSignal": "SIGKILL",
        "org.opencontainers.image.os": "x",
    }

    assert runtime.run(bundle.args("exit", "3")).status == 3


@only("pyocirun")
def test_a_limit_that_no_kernel_has_any_more_is_a_warning(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"] = {"memory": {"kernel": 1 << 26}}

    result = runtime.run(bundle.args("exit", "3"))

    assert result.status == 3
    assert ["memory.kernel is ignored" in line["msg"] for line in result.log] == [True]


@pytest.mark.parametrize("path", ["no-such-directory", "config.json", ""])
def test_a_root_that_is_no_directory(runtime: Runtime, bundle: Bundle, path: str) -> None:
    bundle.config["root"]["path"] = path

    runtime.create(bundle).fails()
    assert runtime.traces() == []


def test_a_missing_root(runtime: Runtime, bundle: Bundle) -> None:
    del bundle.config["root"]

    runtime.create(bundle).fails("root")
    assert runtime.traces() == []


@pytest.mark.parametrize("args", [[], None, [""]])
def test_bad_arguments(runtime: Runtime, bundle: Bundle, args: list[str] | None) -> None:
    bundle.process["args"] = args

    runtime.create(bundle).fails()
    assert runtime.traces() == []


def test_a_nul_in_an_argument(runtime: Runtime, bundle: Bundle) -> None:
    bundle.args("report", "a\0b")

    runtime.create(bundle).fails()
    assert runtime.traces() == []


@pytest.mark.parametrize("entry", ["A=a\0b", "NOEQUALS"])
def test_a_bad_entry_of_the_environment(runtime: Runtime, bundle: Bundle, entry: str) -> None:
    bundle.process["env"].append(entry)

    runtime.create(bundle).fails()
    assert runtime.traces() == []


def test_a_mount_with_a_source_that_is_missing(runtime: Runtime, bundle: Bundle) -> None:
    bundle.bind("/no/such/source", "/mnt")

    runtime.create(bundle).fails("/no/such/source", "o such file or directory")
    assert runtime.traces() == []


@pytest.mark.parametrize("fields", [{"type": "no-such-filesystem"}, {"type": "tmpfs", "options": ["no-such-option"]}])
def test_a_mount_that_the_kernel_refuses(runtime: Runtime, bundle: Bundle, fields: dict[str, Any]) -> None:
    bundle.config["mounts"].append({"destination": "/mnt", "source": "none"} | fields)

    runtime.create(bundle).fails("/mnt")
    assert runtime.traces() == []


def test_a_destination_below_a_file(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/etc/passwd/below", "tmpfs")

    runtime.create(bundle).fails()
    assert runtime.traces() == []


def test_a_directory_on_a_file(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    bundle.bind(place, "/etc/passwd")

    runtime.create(bundle).fails("/etc/passwd")
    assert runtime.traces() == []


def test_a_failed_run_leaves_nothing_either(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/mnt", "no-such-filesystem")

    runtime.run(bundle).fails()
    assert runtime.traces() == []


def test_a_failed_create_removes_what_it_mounted_on_the_host(runtime: Runtime, bundle: Bundle) -> None:
    before = mounts()
    bundle.mount("/mnt", "no-such-filesystem")

    runtime.create(bundle).fails()
    assert mounts() == before


def test_an_id_can_be_used_after_a_failure(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.new_id()
    bundle.process["args"] = ["/no/such/program"]
    runtime.create(bundle, id=id).fails()

    runtime.create(bundle.args("exit", "0"), id=id).ok()

    assert runtime.status(id) == "created"


def test_a_pid_file_that_cannot_be_written(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create(bundle, "--pid-file", "/no/such/directory/pid").fails()

    assert runtime.traces() == []
