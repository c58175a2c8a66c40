"""NOTIFY_SOCKET: the container says that it is ready, and the service manager hears it, with the right pid."""

from __future__ import annotations

import array
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.harness import TIMEOUT, Bundle, Runtime, eventually, mount_at, mounts, only, requires


class Manager:
    """The service manager's socket: what it heard, in order. It closes the descriptor of a barrier."""

    def __init__(self, path: Path) -> None:
        self.heard: list[str] = []
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(0.1)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                data, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(4))
            except TimeoutError:
                continue
            self.heard += data.decode().splitlines()
            for _, _, fds in ancillary:
                os.close(array.array("i", fds[:4])[0])

    def close(self) -> None:
        self._ended.set()
        self._thread.join(TIMEOUT)
        self._socket.close()


@pytest.fixture
def manager(place: Path) -> Iterator[Manager]:
    manager = Manager(place / "manager.sock")
    yield manager
    manager.close()


def env(manager: Manager) -> dict[str, str]:
    return {**os.environ, "NOTIFY_SOCKET": str(manager.path)}


@pytest.fixture
def notifying(bundle: Bundle) -> Bundle:
    """A container that says that it is ready, and stays."""
    bundle.config["root"]["readonly"] = False
    return bundle.args("notify", "READY=1", "60")


def test_a_detached_run_tells_of_the_containers_pid(runtime: Runtime, notifying: Bundle, manager: Manager) -> None:
    id = runtime.new_id()

    runtime.run(notifying, "--detach", id=id, env=env(manager)).ok()

    eventually(lambda: f"MAINPID={runtime.pid(id)}" in manager.heard, "the pid is heard")
    assert manager.heard[:1] == ["READY=1"]


@only("pyocirun")
def test_a_barrier_comes_last(runtime: Runtime, notifying: Bundle, manager: Manager) -> None:
    id = runtime.new_id()

    result = runtime.run(notifying, "--detach", id=id, env=env(manager)).ok()

    eventually(lambda: "BARRIER=1" in manager.heard, "the barrier is heard")
    assert manager.heard == ["READY=1", f"MAINPID={runtime.pid(id)}", "BARRIER=1"]
    assert result.seconds < 20


def test_start_tells_too(runtime: Runtime, notifying: Bundle, manager: Manager) -> None:
    id = runtime.created(notifying, env=env(manager))

    runtime("start", id, env=env(manager)).ok()

    eventually(lambda: f"MAINPID={runtime.pid(id)}" in manager.heard, "the pid is heard")
    assert "READY=1" in manager.heard


def test_start_does_not_wait_for_a_container_that_ends(runtime: Runtime, bundle: Bundle, manager: Manager) -> None:
    bundle.config["root"]["readonly"] = False
    id = runtime.created(bundle.args("exit", "3"), env=env(manager))

    result = runtime("start", id, env=env(manager)).ok()

    assert result.seconds < 10
    assert manager.heard == []


def test_a_run_in_the_foreground_tells_while_it_waits(runtime: Runtime, bundle: Bundle, manager: Manager) -> None:
    bundle.config["root"]["readonly"] = False

    runtime.run(bundle.args("notify", "READY=1", "1"), env=env(manager)).ok()

    assert manager.heard[0] == "READY=1"
    assert manager.heard[1].startswith("MAINPID=")


def test_what_else_the_container_says_is_not_handed_on(runtime: Runtime, bundle: Bundle, manager: Manager) -> None:
    bundle.config["root"]["readonly"] = False
    id = runtime.new_id()

    runtime.run(bundle.args("notify", "MAINPID=1\nSTATUS=x\nREADY=1", "60"), "--detach", id=id, env=env(manager)).ok()

    eventually(lambda: f"MAINPID={runtime.pid(id)}" in manager.heard, "the pid is heard")
    assert not {"MAINPID=1", "STATUS=x"} & set(manager.heard)


@requires("userns")
@only("pyocirun")
def test_a_container_in_a_user_namespace_can_tell(runtime: Runtime, notifying: Bundle, manager: Manager) -> None:
    notifying.map_users(100000)
    notifying.process["user"] = {"uid": 1000, "gid": 1000}

    runtime.run(notifying, "--detach", env=env(manager)).ok()

    eventually(lambda: "READY=1" in manager.heard, "the container is ready")


def test_the_mount_is_private_and_read_only(runtime: Runtime, bundle: Bundle, manager: Manager) -> None:
    bundle.config["root"]["readonly"] = False
    before = mounts()

    report = runtime.run(bundle.args("report"), env=env(manager)).report

    found = mount_at(report, "/run/notify")
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(found["options"])
    assert [field for field in found["propagation"] if field.startswith("shared")] == []
    assert "NOTIFY_SOCKET=/run/notify/notify.sock" in report["env"]
    assert mounts() == before


@only("pyocirun")
def test_the_mount_does_not_spread_from_a_shared_root(runtime: Runtime, bundle: Bundle, manager: Manager) -> None:
    bundle.config["root"]["readonly"] = False
    bundle.linux["rootfsPropagation"] = "shared"
    before = mounts()

    report = runtime.run(bundle.args("report"), env=env(manager)).report

    assert mount_at(report, "/run/notify")["propagation"] == ["-"] or not mount_at(report, "/run/notify")["propagation"]
    assert mounts() == before


def test_without_the_variable_there_is_no_mount(runtime: Runtime, bundle: Bundle) -> None:
    report = runtime.run(bundle.args("report")).report

    assert not [line for line in report["mounts"] if "/run/notify" in line]
    assert not [entry for entry in report["env"] if entry.startswith("NOTIFY_SOCKET=")]


def test_delete_removes_the_directory(runtime: Runtime, notifying: Bundle, manager: Manager) -> None:
    id = runtime.new_id()
    runtime.run(notifying, "--detach", id=id, env=env(manager)).ok()

    runtime.delete(id, "--force").ok()

    assert not (runtime.root / id).exists()
