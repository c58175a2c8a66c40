"""The root file system: read-only, masked and read-only paths, propagation, no pivot."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from integration.harness import Bundle, Runtime, eventually, helper, mount, mount_at, mounts, only

MS_SHARED = 1 << 20
MS_BIND_REC = 4096 | 16384


@pytest.mark.parametrize(("readonly", "outcome"), [(True, "EROFS"), (False, "ok"), (None, "ok")])
def test_a_readonly_root(runtime: Runtime, bundle: Bundle, readonly: bool | None, outcome: str) -> None:
    bundle.config["root"] = {"path": "rootfs"} | ({} if readonly is None else {"readonly": readonly})

    assert runtime.run(bundle.args("write", "/file", "x")).stdout == f"{outcome}\n"


def test_a_readonly_root_leaves_mounts_on_it_writable(runtime: Runtime, bundle: Bundle) -> None:
    assert runtime.run(bundle.args("write", "/dev/shm/file", "x")).ok().stdout == "ok\n"


def test_a_readonly_root_leaves_the_rootfs_of_the_host_writable(runtime: Runtime, bundle: Bundle) -> None:
    runtime.run(bundle.args("exit", "0")).ok()

    (bundle.rootfs / "later").write_text("x")


def test_an_absolute_path_of_the_root(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["root"]["path"] = str(bundle.rootfs)

    assert runtime.run(bundle.args("exit", "3")).status == 3


@only("pyocirun")
def test_a_rootfs_may_be_named_by_a_link(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.path / "link").symlink_to("rootfs")
    bundle.config["root"]["path"] = "link"

    id = runtime.created(bundle)

    assert runtime.state(id)["bundle"] == str(bundle.path)
    assert runtime.start(id).status == 0


def test_owners_in_the_rootfs_stay(runtime: Runtime, bundle: Bundle) -> None:
    runtime.run(bundle.args("exit", "0")).ok()

    assert os.stat(bundle.rootfs / "home/user").st_uid == 1000


# ---- masked and readonly paths -------------------------------------------------------------------


def test_a_masked_file_is_empty(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["maskedPaths"] = ["/etc/passwd"]

    assert runtime.run(bundle.args("cat", "/etc/passwd")).ok().stdout == ""


def test_a_masked_directory_is_empty_and_readonly(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["maskedPaths"] = ["/etc"]

    report = runtime.run(bundle.args("ls", "/etc")).ok()

    assert json.loads(report.stdout) == {"/etc": {}}
    assert "ro" in mount_at(runtime.run(bundle.args("report")).report, "/etc")["options"]


@pytest.mark.parametrize("key", ["maskedPaths", "readonlyPaths"])
def test_a_path_that_stands_twice_is_covered_once(runtime: Runtime, bundle: Bundle, key: str) -> None:
    bundle.linux[key] = ["/etc", "/home", "/etc"]

    report = runtime.run(bundle).report

    assert [line.split()[4] for line in report["mounts"]].count("/etc") == 1


def test_the_default_paths_are_masked(runtime: Runtime, bundle: Bundle) -> None:
    paths = [path for path in ("/proc/kcore", "/proc/keys", "/proc/timer_list") if os.path.exists(path)]

    for path in paths:
        assert runtime.run(bundle.args("cat", path)).ok().stdout == ""


@pytest.mark.parametrize("key", ["maskedPaths", "readonlyPaths"])
def test_a_path_that_is_missing_is_passed_over(runtime: Runtime, bundle: Bundle, key: str) -> None:
    bundle.linux[key] = ["/no/such/path"]

    assert runtime.run(bundle.args("exit", "3")).status == 3


def test_a_readonly_path_cannot_be_written(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["root"]["readonly"] = False
    bundle.linux["readonlyPaths"] = ["/etc"]

    assert runtime.run(bundle.args("write", "/etc/file", "x")).stdout == "EROFS\n"


def test_a_readonly_file_cannot_be_written(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["root"]["readonly"] = False
    bundle.linux["readonlyPaths"] = ["/etc/passwd"]

    assert runtime.run(bundle.args("write", "/etc/passwd", "x")).stdout == "EROFS\n"


def test_the_root_may_be_among_the_readonly_paths(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["root"]["readonly"] = False
    bundle.linux["readonlyPaths"] = ["/"]

    assert runtime.run(bundle.args("write", "/tmp/file", "x")).stdout == "EROFS\n"


@only("pyocirun")  # runc mounts something there that nobody sees
def test_the_root_cannot_be_masked(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["maskedPaths"] = ["/"]

    runtime.create(bundle).fails("/linux/maskedPaths/0: the root of the container cannot be masked")
    assert runtime.traces() == []


def test_a_readonly_path_keeps_the_options_of_its_mount(runtime: Runtime, bundle: Bundle) -> None:
    report = runtime.run(bundle).report

    assert "ro" in mount_at(report, "/proc/sys")["options"]
    assert mount_at(report, "/proc/sys")["fstype"] == "proc"


def test_masks_need_a_mount_namespace(runtime: Runtime, bundle: Bundle) -> None:
    bundle.without_namespace("mount")
    bundle.config["mounts"] = []

    runtime.create(bundle).fails()
    assert runtime.traces() == []


def test_a_link_in_a_masked_path_stays_in_the_root(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.rootfs / "secret").mkdir()
    (bundle.rootfs / "secret/file").write_text("x")
    os.symlink("/secret", bundle.rootfs / "link")
    bundle.linux["maskedPaths"] = ["/link"]

    result = runtime.run(bundle.args("ls", "/secret"))

    assert json.loads(result.ok().stdout) == {"/secret": {}}


# ---- propagation ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", None), ("private", None), ("rprivate", None), ("shared", "shared:"), ("rshared", "shared:")],
)
def test_rootfs_propagation(runtime: Runtime, bundle: Bundle, place: Path, value: str, expected: str | None) -> None:
    if value:
        bundle.linux["rootfsPropagation"] = value

    fields = mount_at(runtime.run(bundle).report, "/")["propagation"]

    if expected:
        assert any(field.startswith(expected) for field in fields)
    else:
        assert not any(field.startswith("shared:") for field in fields)


def test_rootfs_propagation_slave(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    mount(str(place), place, flags=MS_BIND_REC)
    mount("", place, flags=MS_SHARED)
    bundle.linux["rootfsPropagation"] = "rslave"

    fields = mount_at(runtime.run(bundle).report, "/")["propagation"]

    assert any(field.startswith("master:") for field in fields)
    assert not any(field.startswith("shared:") for field in fields)


def test_rootfs_propagation_unbindable(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["rootfsPropagation"] = "unbindable"

    assert mount_at(runtime.run(bundle).report, "/")["propagation"] == ["unbindable"]


def test_an_unknown_rootfs_propagation_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["rootfsPropagation"] = "viral"

    runtime.create(bundle).fails("viral")
    assert runtime.traces() == []


def test_no_mount_of_the_container_reaches_a_shared_host(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    mount(str(place), place, flags=MS_BIND_REC)
    mount("", place, flags=MS_SHARED)
    before = mounts()

    runtime.running(bundle)

    assert mounts() == before


# ---- without pivot_root --------------------------------------------------------------------------


def test_no_pivot_runs(runtime: Runtime, bundle: Bundle) -> None:
    report = runtime.run(bundle, "--no-pivot").report

    assert report["cwd"] == "/"
    assert mount_at(report, "/proc")["fstype"] == "proc"


def test_no_pivot_keeps_the_root_in_place(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.rootfs / "etc/note").write_text("inside")

    assert runtime.run(bundle.args("cat", "/../../etc/note"), "--no-pivot").ok().stdout == "inside"


def test_without_a_mount_namespace_the_root_is_changed_all_the_same(runtime: Runtime, bundle: Bundle) -> None:
    """chroot is what is left: the mounts of the caller stay as they are."""
    bundle.without_namespace("mount")
    bundle.config["mounts"] = []
    bundle.config["root"]["readonly"] = False
    del bundle.linux["maskedPaths"], bundle.linux["readonlyPaths"]
    before = mounts()
    (bundle.rootfs / "etc/note").write_text("inside")

    result = runtime.run(bundle.args("cat", "/etc/note"))

    assert mounts() == before
    assert result.status != 0 or result.stdout == "inside"


def test_the_bundle_may_be_on_a_mount_of_its_own(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    other = place / "tmpfs"
    other.mkdir()
    mount("other", other, "tmpfs", data="mode=755")
    copy = helper("cp", "-a", str(bundle.rootfs), str(other / "rootfs"))
    eventually(lambda: copy.poll() == 0, "the copy")
    bundle.config["root"]["path"] = str(other / "rootfs")

    assert runtime.run(bundle.args("exit", "3")).status == 3
