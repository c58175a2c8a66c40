"""Processes by pidfd: waiting, signals, and pids that were given to another process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pyocirun.container.process import Process, open_process, start_time
from pyocirun.errors import StateError


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    yield child
    child.kill()
    child.wait()


def opened(child: subprocess.Popen[bytes]) -> Process:
    return Process(child.pid, os.pidfd_open(child.pid))


def test_status_of_a_child() -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "raise SystemExit(7)"])

    process = opened(child)

    assert process.wait(10) == 7
    assert process.wait() == 7
    assert process.poll() == 7
    child.returncode = 7


def test_signal_that_ended_a_child(sleeper: subprocess.Popen[bytes]) -> None:
    process = opened(sleeper)

    process.signal(signal.SIGTERM)

    assert process.wait(10) == -signal.SIGTERM
    sleeper.returncode = -signal.SIGTERM


def test_running_process_has_no_status(sleeper: subprocess.Popen[bytes]) -> None:
    assert opened(sleeper).poll() is None


def test_wait_gives_up(sleeper: subprocess.Popen[bytes]) -> None:
    with pytest.raises(TimeoutError, match=f"process {sleeper.pid} still runs"):
        opened(sleeper).wait(0.01)


TELLS = tuple(int(part) for part in os.uname().release.split(".")[:2]) >= (6, 15)
"""Whether the kernel tells an exit status to whoever has a pidfd."""


@pytest.mark.skipif(not TELLS, reason="the kernel is older than 6.15")
@pytest.mark.parametrize(("script", "status"), [("exit 3", 3), ("kill -9 $$", -9)])
def test_status_that_somebody_else_took_is_told_by_the_kernel(script: str, status: int) -> None:
    child = subprocess.Popen(["sh", "-c", script])
    process = opened(child)
    child.wait()

    assert process.wait(10) == status


@pytest.mark.skipif(TELLS, reason="the kernel tells")
def test_status_that_somebody_else_took() -> None:
    child = subprocess.Popen(["true"])
    process = opened(child)
    child.wait()

    with pytest.raises(StateError, match="is not known") as caught:
        process.wait(10)

    assert "SIGCHLD" in caught.value.hint


def test_signal_to_the_dead_is_an_error() -> None:
    child = subprocess.Popen(["true"])
    process = opened(child)
    child.wait()

    with pytest.raises(ProcessLookupError):
        process.signal(signal.SIGTERM)


def test_process_is_found_by_pid_and_start(sleeper: subprocess.Popen[bytes]) -> None:
    process = open_process(sleeper.pid, start_time(sleeper.pid))

    assert process is not None
    assert process.pid == sleeper.pid


def test_pid_of_another_process_is_not_taken(sleeper: subprocess.Popen[bytes]) -> None:
    assert open_process(sleeper.pid, start_time(sleeper.pid) + 1) is None


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1])
def test_pid_that_is_none(pid: int) -> None:
    assert open_process(pid, 0) is None


def test_zombie_is_dead() -> None:
    child = subprocess.Popen(["true"])
    process = opened(child)
    start = start_time(child.pid)
    process.ended(10)

    assert start_time(child.pid) == -1
    assert open_process(child.pid, start) is None
    child.wait()


def test_start_time_survives_odd_names() -> None:
    program = (
        "import ctypes, sys; ctypes.CDLL(None).prctl(15, b'a) Z (b', 0, 0, 0); print(1, flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen([sys.executable, "-S", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()

    assert start_time(child.pid) > 0
    child.communicate()


def test_start_time_of_nobody() -> None:
    assert start_time(2**22 + 1) == -1


def test_close_twice_is_harmless(sleeper: subprocess.Popen[bytes]) -> None:
    process = opened(sleeper)

    process.close()
    process.close()

    assert process.pidfd == -1
