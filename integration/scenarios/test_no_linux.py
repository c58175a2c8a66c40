"""A configuration with little or nothing in its linux section."""

from __future__ import annotations

import pytest

from integration.harness import Bundle, Runtime, mounts, namespace, only

KINDS = ("net", "ipc", "uts", "pid", "user")


def minimal(bundle: Bundle) -> Bundle:
    """No linux section, and nothing that would need one."""
    bundle.config.pop("linux", None)
    bundle.config.pop("hostname", None)
    bundle.config["mounts"] = []
    return bundle


@only("pyocirun")  # runc 1.1 panics, or wants a mount namespace
def test_a_container_without_the_linux_section_shares_the_namespaces_of_the_runtime(
    runtime: Runtime, bundle: Bundle
) -> None:
    report = runtime.run(minimal(bundle)).report

    assert {kind: report["namespaces"].get(kind) for kind in KINDS if report["namespaces"].get(kind)} == {
        kind: namespace(kind) for kind in KINDS if report["namespaces"].get(kind)
    }
    assert report["uid"] == 0


@only("pyocirun")
def test_the_mounts_of_the_host_stay_as_they_are(runtime: Runtime, bundle: Bundle) -> None:
    before = mounts()

    runtime.run(minimal(bundle).args("exit", "0")).ok()

    assert mounts() == before


@only("pyocirun")
def test_the_umask_is_set_without_a_mount_namespace(runtime: Runtime, bundle: Bundle) -> None:
    minimal(bundle)
    bundle.process["user"]["umask"] = 0o27
    bundle.config["root"]["readonly"] = False

    assert runtime.run(bundle.shell("umask")).ok().stdout == "0027\n"


@pytest.mark.parametrize("key", ["maskedPaths", "readonlyPaths"])
def test_paths_are_protected_in_a_mount_namespace_only(runtime: Runtime, bundle: Bundle, key: str) -> None:
    bundle.without_namespace("mount")
    for other in ("maskedPaths", "readonlyPaths"):
        bundle.linux.pop(other)
    bundle.linux[key] = ["/proc/kcore"]

    runtime.create(bundle).fails("unable to restrict sys entries without a private MNT namespace")
    assert runtime.traces() == []


def test_a_minimal_linux_section_runs(runtime: Runtime, bundle: Bundle) -> None:
    minimal(bundle)
    bundle.config["linux"] = {"namespaces": [{"type": "mount"}, {"type": "pid"}]}
    bundle.config["mounts"] = [{"destination": "/proc", "type": "proc", "source": "proc"}]

    report = runtime.run(bundle).report

    assert report["pid"] == 1
    assert report["namespaces"]["net"] == namespace("net")
