"""Life in the foreground: signals, exit status, orphans, --keep, pid files and pidfd sockets."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from integration.harness import Bundle, Running, Runtime, eventually, only, requires, wait_for_orphan
from integration.terminal import Receiver


@only("pyocirun")  # runc 1.1 forwards the SIGURG that Go sends to itself, too
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT])
def test_a_signal_is_forwarded(runtime: Runtime, bundle: Bundle, number: signal.Signals) -> None:
    running = _spawn(runtime, bundle.args("trap"))
    eventually(lambda: "ready" in running.out.read_text(), "the process is ready")

    running.process.send_signal(number)

    assert str(int(number)) in running.wait().stdout


@only("pyocirun")
def test_a_signal_before_the_container_is_there_reaches_it(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    go = place / "go"
    os.mkfifo(go)
    bundle.hook("createRuntime", "/bin/sh", "-c", f"cat {go}")
    bundle.without_namespace("pid")
    running = _spawn(runtime, bundle.args("sleep", "60"))
    with open(go, "w"):  # the hook runs
        running.process.send_signal(signal.SIGTERM)

    # The probe ends with the number that it got; before it looks out for signals, they end it.
    assert running.wait().status in (signal.SIGTERM, 128 + signal.SIGTERM)


@requires("busybox")
def test_the_end_by_a_signal_is_128_and_its_number(runtime: Runtime, bundle: Bundle) -> None:
    bundle.without_namespace("pid")

    assert runtime.run(bundle.shell("kill -9 $$")).status == 137


@requires("busybox")
def test_keep_leaves_a_stopped_container(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.new_id()

    status = runtime.run(bundle.args("exit", "3"), "--keep", id=id).status

    assert status == 3
    assert runtime.status(id) == "stopped"


@only("pyocirun")
@pytest.mark.parametrize(("args", "known"), [(("exit", "3"), 3), (("kill-self", "9"), 137)])
def test_keep_keeps_the_exit_status(runtime: Runtime, bundle: Bundle, args: tuple[str, ...], known: int) -> None:
    id = runtime.new_id()

    runtime.run(bundle.args(*args), "--keep", id=id)

    assert runtime.state(id)["exitStatus"] == known
    assert runtime("wait", id).ok().stdout == f"{known}\n"
    runtime.delete(id).ok()
    assert not (runtime.root / id).exists()


def test_without_keep_nothing_stays(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.new_id()

    runtime.run(bundle.args("exit", "0"), id=id).ok()

    assert not (runtime.root / id).exists()


def test_the_pid_file_of_a_detached_run(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    id = runtime.new_id()

    runtime.run(bundle.args("sleep", "60"), "--detach", "--pid-file", str(place / "pid"), id=id).ok()

    assert (place / "pid").read_text() == str(runtime.pid(id))


@requires("busybox")
def test_orphans_are_reaped_in_the_foreground(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    bundle.without_namespace("pid")
    running = _spawn(runtime, bundle.shell("(sleep 0.1 & echo $!); sleep 1"))
    eventually(lambda: running.out.read_text().strip(), "the orphan is known")
    orphan = int(running.out.read_text())

    eventually(lambda: not Path(f"/proc/{orphan}").exists(), "it has been reaped", timeout=0.8)

    running.wait().ok()


@requires("busybox")
def test_without_the_subreaper_orphans_are_the_callers(runtime: Runtime, bundle: Bundle) -> None:
    bundle.without_namespace("pid")
    running = _spawn(runtime, bundle.shell("(sleep 0.3 & echo $!); sleep 1"), "--no-subreaper")
    eventually(lambda: running.out.read_text().strip(), "the orphan is known")
    orphan = int(running.out.read_text())

    status = wait_for_orphan(orphan)

    assert status == 0
    running.wait().ok()


@only("pyocirun")
def test_create_sends_a_pidfd_of_init(
    runtime: Runtime, bundle: Bundle, place: Path, receivers: Callable[[Path], Receiver]
) -> None:
    receiver = receivers(place / "pidfd.sock")

    id = runtime.created(bundle.args("sleep", "60"), "--pidfd-socket", str(receiver.path))
    pidfd = receiver.received()

    assert receiver.data == b"standard"
    assert f"Pid:\t{runtime.pid(id)}" in Path(f"/proc/self/fdinfo/{pidfd}").read_text()


@only("pyocirun")
def test_an_annotation_names_the_socket_for_the_pidfd(
    runtime: Runtime, bundle: Bundle, place: Path, receivers: Callable[[Path], Receiver]
) -> None:
    receiver = receivers(place / "pidfd.sock")
    bundle.config["annotations"] = {"run.oci.pidfd_receiver": str(receiver.path)}

    id = runtime.created(bundle.args("sleep", "60"))
    pidfd = receiver.received()

    assert f"Pid:\t{runtime.pid(id)}" in Path(f"/proc/self/fdinfo/{pidfd}").read_text()


@only("pyocirun")
def test_the_pidfd_tells_of_the_end(
    runtime: Runtime, bundle: Bundle, place: Path, receivers: Callable[[Path], Receiver]
) -> None:
    receiver = receivers(place / "pidfd.sock")
    id = runtime.new_id()
    options = ("--detach", "--pidfd-socket", str(receiver.path))
    runtime.run(bundle.args("sleep", "60"), *options, id=id).ok()
    pidfd = receiver.received()
    before, _, _ = select.select([pidfd], [], [], 0)

    runtime.kill(id, "KILL").ok()
    after, _, _ = select.select([pidfd], [], [], 10)

    assert (before, after) == ([], [pidfd])


@only("pyocirun")
def test_exec_sends_a_pidfd_of_its_process(
    runtime: Runtime, bundle: Bundle, place: Path, receivers: Callable[[Path], Receiver]
) -> None:
    receiver = receivers(place / "pidfd.sock")
    id = runtime.running(bundle)
    options = ("--detach", "--pidfd-socket", str(receiver.path), "--pid-file", str(place / "pid"))

    runtime.exec(id, "sleep", "1", options=options).ok()
    pidfd = receiver.received()

    pid = int((place / "pid").read_text())
    assert receiver.data == b"setns"
    assert f"Pid:\t{pid}" in Path(f"/proc/self/fdinfo/{pidfd}").read_text()
    wait_for_orphan(pid)


@only("pyocirun")
def test_a_pidfd_socket_that_nobody_listens_on_leaves_nothing(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    id = runtime.new_id()

    result = runtime.create(bundle.args("sleep", "60"), "--pidfd-socket", str(place / "none"), id=id)

    result.fails("cannot connect to the pidfd socket")
    assert result.log[-1]["step"] == "connect"
    assert result.log[-1]["hint"]
    assert not (runtime.root / id).exists()


def _spawn(runtime: Runtime, bundle: Bundle, *options: str) -> Running:
    bundle.save()
    return runtime.spawn("run", "--bundle", str(bundle.path), *options, runtime.new_id())
