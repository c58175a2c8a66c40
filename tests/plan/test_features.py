"""The features document claims what could be planned, by the names that the reader knows."""

from __future__ import annotations

from typing import Any

import pytest

from pyocirun.about import libseccomp
from pyocirun.container.features import features
from pyocirun.linux.mounts import parse_options
from pyocirun.spec import example
from pyocirun.spec.config import parse_config


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return features()


def test_versions_are_accepted_by_the_reader(document: dict[str, Any]) -> None:
    config = example.default_config(False)

    for name in ("ociVersionMin", "ociVersionMax"):
        parse_config(config | {"ociVersion": document[name]})


def test_every_hook_kind_is_read(document: dict[str, Any]) -> None:
    hooks = {kind: [{"path": "/bin/true"}] for kind in document["hooks"]}

    read = parse_config(example.default_config(False) | {"hooks": hooks}).hooks

    assert read is not None
    assert all((read.prestart, read.create_runtime, read.create_container))
    assert all((read.start_container, read.poststart, read.poststop))


def test_mount_options_are_known_and_none_goes_to_a_file_system(document: dict[str, Any]) -> None:
    assert parse_options(document["mountOptions"]).data == ""
    assert {"rro", "rbind", "nosymfollow", "rprivate"} <= set(document["mountOptions"])


def test_namespaces_and_capabilities_are_those_of_the_tables(document: dict[str, Any]) -> None:
    assert {"pid", "network", "mount", "ipc", "uts", "user", "cgroup"} <= set(document["linux"]["namespaces"])
    assert "CAP_CHECKPOINT_RESTORE" in document["linux"]["capabilities"]


def test_rulesets_of_landlock_are_claimed_and_said_to_change_what_is_done(document: dict[str, Any]) -> None:
    assert document["annotations"]["org.pyocirun.landlock.enabled"] == "true"
    assert "org.pyocirun." in document["potentiallyUnsafeConfigAnnotations"]


def test_cgroup_v1_is_there(document: dict[str, Any]) -> None:
    assert document["linux"]["cgroup"]["v1"] is True


def test_seccomp_is_claimed_with_the_library_that_compiles_it(document: dict[str, Any]) -> None:
    seccomp = document["linux"]["seccomp"]

    assert seccomp["enabled"] == bool(libseccomp())
    assert document["annotations"].get("io.github.seccomp.libseccomp.version", "") == libseccomp()
    assert set(seccomp.get("supportedFlags", ())) <= set(seccomp.get("knownFlags", ()))


def test_every_claim_has_the_type_that_the_specification_gives_it(document: dict[str, Any]) -> None:
    linux = document["linux"]

    assert all(isinstance(linux[name]["enabled"], bool) for name in ("seccomp", "apparmor", "selinux", "netDevices"))
    assert all(isinstance(value, bool) for value in (*linux["cgroup"].values(), *linux["intelRdt"].values()))
    assert isinstance(linux["mountExtensions"]["idmap"]["enabled"], bool)
    assert all(isinstance(value, str) for value in document["annotations"].values())
    assert all(value == value.strip() for value in document["annotations"].values())
