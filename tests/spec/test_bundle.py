"""Reading a bundle."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from pyocirun.errors import SpecError
from pyocirun.record import replace
from pyocirun.spec import reader
from pyocirun.spec.bundle import checked, read_bundle, read_file, rootfs_path
from pyocirun.spec.config import Root, parse_config
from pyocirun.spec.example import default_config, rootless_config, write_text
from pyocirun.spec.process import parse_process
from pyocirun.spec.resources import Pids, Resources, parse_resources


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(write_text(default_config()))
    return tmp_path


def test_bundle_gives_its_path_the_bytes_and_the_spec(bundle: Path) -> None:
    path, data, spec = read_bundle(str(bundle))

    assert path == str(bundle)
    assert data == (bundle / "config.json").read_bytes()
    assert spec == parse_config(default_config())


def test_relative_bundle_becomes_absolute(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle.parent)

    assert read_bundle(bundle.name)[0] == str(bundle)


def test_other_config_file_is_read_in_place_of_the_bundles(bundle: Path) -> None:
    other = bundle / "other.json"
    other.write_text(write_text({**default_config(), "hostname": "other"}))

    assert read_bundle(str(bundle), str(other))[2].hostname == "other"


def test_document_is_taken_in_place_of_a_file(tmp_path: Path) -> None:
    document = default_config()

    _, data, spec = read_bundle(str(tmp_path), document)

    assert json.loads(data) == document
    assert spec == parse_config(document)


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), b"x"])
def test_document_that_is_no_json_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(SpecError, match="the configuration is no JSON document"):
        read_bundle(str(tmp_path), {**default_config(), "unknown": value})


def test_missing_config_has_the_text_that_users_know(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        read_bundle(str(tmp_path))

    assert str(caught.value) == "JSON specification file config.json not found"


@pytest.mark.parametrize(("name", "text"), [("none", "no such file or directory"), ("file", "not a directory")])
def test_bundle_that_is_no_directory_is_named(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(SpecError) as caught:
        read_bundle(str(tmp_path / name))

    assert str(caught.value) == f"chdir {tmp_path / name}: {text}"


def test_directory_in_place_of_config_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()

    with pytest.raises(SpecError, match=r"^cannot read config\.json: Is a directory$"):
        read_bundle(str(tmp_path))


def test_large_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    with open(tmp_path / "config.json", "wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(SpecError, match=r"^config\.json is too large"):
        read_bundle(str(tmp_path))


def test_endless_file_is_refused() -> None:
    with pytest.raises(SpecError, match=f"zero is too large: .* at most {reader.MAX_SIZE} are read"):
        read_file("/dev/zero", "zero")


def test_pipe_is_read_to_its_end() -> None:
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as file:
            file.write(b"x" * 200_000)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert len(read_file(f"/dev/fd/{reading}", "pipe")) == 200_000
    finally:
        writer.join()
        os.close(reading)


@pytest.mark.parametrize(
    ("path", "rootfs"), [("rootfs", "/b/rootfs"), ("./a/../r", "/b/r"), ("/srv/r/", "/srv/r"), ("..", "/")]
)
def test_root_path_is_relative_to_the_bundle(path: str, rootfs: str) -> None:
    spec = replace(parse_config(default_config()), root=Root(path))

    assert rootfs_path("/b", spec) == rootfs


def test_one_fault_keeps_its_text(tmp_path: Path) -> None:
    config = default_config()
    config["process"]["cwd"] = "relative"

    with pytest.raises(SpecError) as caught:
        read_bundle(str(tmp_path), config)

    assert str(caught.value) == "/process/cwd: Cwd must be an absolute path"
    assert caught.value.faults == [("/process/cwd", "Cwd must be an absolute path")]


def test_all_faults_are_listed_in_one_line(tmp_path: Path) -> None:
    config = default_config()
    config["hostname"] = 5
    config["process"]["args"] = []
    config["root"]["path"] = None
    config["mounts"][2]["options"][0] = {}
    config["linux"]["namespaces"][0]["type"] = "x"
    config["linux"]["resources"]["pids"] = {"limit": "many"}
    config["linux"]["resources"]["memory"] = {"limit": 1.5}

    with pytest.raises(SpecError) as caught:
        read_bundle(str(tmp_path), config)

    assert sorted(pointer for pointer, _ in caught.value.faults) == [
        "/hostname",
        "/linux/namespaces/0/type",
        "/linux/resources/memory/limit",
        "/linux/resources/pids/limit",
        "/mounts/2/options/0",
        "/process/args",
        "/root/path",
    ]
    assert str(caught.value).startswith("/root/path: is missing; ")
    assert str(caught.value).endswith("; and 2 more")
    assert str(caught.value).isprintable()


def test_process_file_has_pointers_of_its_own() -> None:
    document = {"cwd": "/", "args": [1], "terminal": 1}

    with pytest.raises(SpecError) as caught:
        checked(document, lambda value: parse_process(value, ""), "process")

    assert [pointer for pointer, _ in caught.value.faults] == ["/args/0", "/terminal"]


def test_resources_file_is_checked_alone() -> None:
    def parse(value: Any) -> Resources:
        return parse_resources(reader.fields(value, ""), "")

    assert checked({"pids": {"limit": 5}}, parse, "resources") == Resources(pids=Pids(5))
    with pytest.raises(SpecError, match=r"^/pids/limit: "):
        checked({"pids": {"limit": "5"}}, parse, "resources")


def test_example_text_is_indented_by_tabs() -> None:
    text = write_text(default_config())

    assert text.startswith('{\n\t"ociVersion": "1.3.0",\n\t"process": {\n\t\t"terminal": true,\n')
    assert text.endswith("\n}")
    assert json.loads(text) == default_config()


def test_example_has_a_cgroup_namespace_for_cgroup_v2() -> None:
    assert {"type": "cgroup"} not in default_config()["linux"]["namespaces"]
    assert {"type": "cgroup"} in default_config(cgroup2=True)["linux"]["namespaces"]


def test_rootless_example_needs_no_privilege() -> None:
    config = rootless_config(1000, 1001)

    assert config["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 1000, "size": 1}]
    assert config["linux"]["gidMappings"] == [{"containerID": 0, "hostID": 1001, "size": 1}]
    assert {"type": "network"} not in config["linux"]["namespaces"]
    assert {"type": "user"} in config["linux"]["namespaces"]
    assert "resources" not in config["linux"]
    assert "gid=5" not in config["mounts"][2]["options"]
    assert config["mounts"][5]["options"][0] == "rbind"
