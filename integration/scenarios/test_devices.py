"""/dev: default devices and links, and linux.devices."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from integration.harness import Bundle, Runtime, only, requires

DEFAULT = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}


def test_the_default_devices(runtime: Runtime, bundle: Bundle) -> None:
    dev = runtime.run(bundle).report["dev"]

    for name, numbers in DEFAULT.items():
        assert dev[name]["type"] == "c"
        assert (dev[name]["major"], dev[name]["minor"]) == numbers
        assert (dev[name]["mode"], dev[name]["uid"], dev[name]["gid"]) == (0o666, 0, 0)


def test_the_default_links(runtime: Runtime, bundle: Bundle) -> None:
    dev = runtime.run(bundle).report["dev"]

    targets = {name: dev[name].get("target") for name in ("fd", "stdin", "stdout", "stderr", "ptmx")}
    assert targets == {
        "fd": "/proc/self/fd",
        "stdin": "/proc/self/fd/0",
        "stdout": "/proc/self/fd/1",
        "stderr": "/proc/self/fd/2",
        "ptmx": "pts/ptmx",
    }


def test_nothing_else_is_in_dev(runtime: Runtime, bundle: Bundle) -> None:
    dev = runtime.run(bundle).report["dev"]

    assert set(dev) - {"core"} == {*DEFAULT, "fd", "stdin", "stdout", "stderr", "ptmx", "pts", "shm", "mqueue"}


def test_the_devices_of_the_host_in_dev_are_left_alone(runtime: Runtime, bundle: Bundle) -> None:
    """With /dev of the host bound, the runtime makes nothing in it."""
    bundle.config["mounts"] = [
        mount for mount in bundle.config["mounts"] if not mount["destination"].startswith("/dev")
    ]
    bundle.bind("/dev", "/dev", "rbind", "rprivate")
    before = sorted(os.listdir("/dev"))

    runtime.run(bundle.args("exit", "0")).ok()

    assert sorted(os.listdir("/dev")) == before


def test_a_device_of_the_config(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["devices"] = [
        {"path": "/dev/mine", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 3, "gid": 4},
        {"path": "/dev/disk", "type": "b", "major": 7, "minor": 77},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o600},
        {"path": "/dev/deep/down", "type": "u", "major": 1, "minor": 5},
    ]

    dev = runtime.run(bundle).report["dev"]

    assert dev["mine"] == {"type": "c", "mode": 0o640, "uid": 3, "gid": 4, "major": 10, "minor": 229}
    assert (dev["disk"]["type"], dev["disk"]["major"], dev["disk"]["minor"]) == ("b", 7, 77)
    assert (dev["pipe"]["type"], dev["pipe"]["mode"]) == ("p", 0o600)
    assert dev["deep"]["type"] == "d"


@pytest.mark.parametrize("umask", [0, 0o77])
def test_the_umask_of_the_runtime_does_not_clip_the_mode(runtime: Runtime, bundle: Bundle, umask: int) -> None:
    bundle.linux["devices"] = [{"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]
    before = os.umask(umask)

    dev = runtime.run(bundle).report["dev"]

    os.umask(before)
    assert dev["mine"]["mode"] == dev["null"]["mode"] == 0o666


def test_type_bits_in_the_mode_are_ignored(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["devices"] = [{"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o20640}]

    assert runtime.run(bundle).report["dev"]["mine"]["mode"] == 0o640


def test_a_default_device_may_be_configured(runtime: Runtime, bundle: Bundle) -> None:
    rule = {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}
    bundle.linux["resources"]["devices"].append(rule)
    bundle.linux["devices"] = [
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o606, "uid": 7, "gid": 8}
    ]

    dev = runtime.run(bundle).report["dev"]

    assert (dev["null"]["mode"], dev["null"]["uid"], dev["null"]["gid"]) == (0o606, 7, 8)


@requires("busybox")
def test_letters_of_a_rule_that_mean_nothing_are_passed_over(runtime: Runtime, bundle: Bundle) -> None:
    rule = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "ra"}
    bundle.linux["resources"]["devices"].append(rule)
    bundle.linux["devices"] = [{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666}]
    for kind in ("bounding", "effective", "permitted"):
        bundle.process["capabilities"][kind].append("CAP_SYSLOG")  # or who may read it depends on the host

    result = runtime.run(bundle.shell("cd /dev; (: <kmsg) 2>/dev/null && echo read; (: >>kmsg) 2>&1 || echo no write"))

    assert result.stdout.splitlines()[0] == "read"
    assert "Operation not permitted" in result.stdout.splitlines()[1]


@pytest.mark.parametrize(
    "device",
    [
        {"path": "relative", "type": "c", "major": 1, "minor": 3},
        {"path": "/dev/mine", "type": "x", "major": 1, "minor": 3},
    ],
)
def test_a_bad_device_is_refused(runtime: Runtime, bundle: Bundle, device: dict[str, object]) -> None:
    bundle.linux["devices"] = [device]

    runtime.create(bundle).fails()
    assert runtime.traces() == []


def test_an_existing_file_in_the_place_of_a_device_is_refused(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    (bundle.rootfs / "node").write_text("a file")
    bundle.linux["devices"] = [{"path": "/node", "type": "c", "major": 1, "minor": 3}]

    runtime.create(bundle).fails("/node")
    assert (bundle.rootfs / "node").read_text() == "a file"


@pytest.mark.parametrize(
    ("kind", "device"),
    [
        (0o20666, {"type": "c", "major": 1, "minor": 5}),
        (0o20666, {"type": "b", "major": 1, "minor": 3}),
        (0o20666, {"type": "p"}),
        (0o10666, {"type": "u", "major": 1, "minor": 3}),
    ],
)
def test_an_existing_node_of_another_kind_is_refused(
    runtime: Runtime, bundle: Bundle, kind: int, device: dict[str, object]
) -> None:
    os.mknod(bundle.rootfs / "node", kind, os.makedev(1, 3))
    bundle.linux["devices"] = [{"path": "/node", **device}]

    runtime.create(bundle).fails("/node")
    assert runtime.traces() == []


@requires("userns")
def test_a_device_of_the_config_is_bound_in_a_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    bundle.map_users(100000)
    bundle.linux["devices"] = [{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]

    dev = runtime.run(bundle).report["dev"]

    assert (dev["kmsg"]["major"], dev["kmsg"]["minor"]) == (1, 11)


@requires("userns")
@only("pyocirun")
def test_a_device_that_the_host_lacks_is_refused_in_a_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    bundle.map_users(100000)
    bundle.linux["devices"] = [{"path": "/dev/no-such", "type": "c", "major": 1, "minor": 11}]

    runtime.create(bundle).fails("/dev/no-such")
    assert runtime.traces() == []


def test_an_existing_device_that_fits_is_taken(runtime: Runtime, bundle: Bundle) -> None:
    os.mknod(bundle.rootfs / "node", 0o20666, os.makedev(1, 3))
    bundle.linux["devices"] = [{"path": "/node", "type": "c", "major": 1, "minor": 3}]

    assert runtime.run(bundle.args("cat", "/node")).status == 0


def test_a_device_can_be_used(runtime: Runtime, bundle: Bundle) -> None:
    assert runtime.run(bundle.args("write", "/dev/null", "x")).ok().stdout == "ok\n"
    assert runtime.run(bundle.args("write", "/dev/full", "x")).stdout == "ENOSPC\n"


def test_a_terminal_can_be_opened(runtime: Runtime, bundle: Bundle) -> None:
    assert runtime.run(bundle.args("open", "rw", "/dev/ptmx")).ok().stdout == "ok\n"
