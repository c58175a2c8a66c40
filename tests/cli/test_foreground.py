"""Signals and orphans of a foreground call: each test runs in an interpreter of its own, whose handlers it sets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

PROLOGUE = """
import os, signal, subprocess, sys, time
from pyocirun.cli.foreground import Signals
def follow(signals, script):
    clean = lambda: signal.pthread_sigmask(signal.SIG_SETMASK, [])
    child = subprocess.Popen(["sh", "-c", script], preexec_fn=clean)
    def wait():
        return child.wait()
    def forward(number):
        os.kill(child.pid, number)
    print("ready", flush=True)
    return signals.follow(child.pid, forward, wait)
"""

# A shell that ends with 9 when it gets USR1, and tells when it is prepared for that.
PATIENT = "trap 'exit 9' USR1; echo prepared; while :; do sleep 0.02; done"


def start(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-P", "-c", PROLOGUE + code], stdout=subprocess.PIPE, text=True)


def read_until(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    while (line := process.stdout.readline()) and word not in line:
        pass


def test_exit_status_is_handed_on() -> None:
    process = start("sys.exit(follow(Signals(), 'exit 7'))")

    process.communicate(timeout=30)

    assert process.returncode == 7


def test_death_by_signal_is_128_and_the_signal() -> None:
    process = start("sys.exit(follow(Signals(), 'kill -9 $$'))")

    process.communicate(timeout=30)

    assert process.returncode == 137


def test_signal_is_forwarded() -> None:
    process = start(f"sys.exit(follow(Signals(), {PATIENT!r}))")
    read_until(process, "prepared")

    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=30)

    assert process.returncode == 9


def test_signal_before_there_is_a_process_is_not_lost() -> None:
    code = f"""
signals = Signals()
os.kill(os.getpid(), {int(signal.SIGTERM)})
sys.exit(follow(signals, "exec sleep 30"))
"""
    process = start(code)

    process.communicate(timeout=20)

    assert process.returncode == 128 + signal.SIGTERM


def test_window_and_urgent_signals_are_not_forwarded() -> None:
    process = start("sys.exit(follow(Signals(), \"trap 'exit 9' WINCH URG; echo prepared; sleep 0.4; exit 0\"))")
    read_until(process, "prepared")

    process.send_signal(signal.SIGWINCH)
    process.send_signal(signal.SIGURG)
    process.communicate(timeout=30)

    assert process.returncode == 0


def test_signal_to_a_process_that_has_ended_does_no_harm() -> None:
    process = start("signals = Signals()\nsys.exit(follow(signals, 'trap : USR1; kill -USR1 $PPID; exit 5'))")

    process.communicate(timeout=30)

    assert process.returncode == 5


def test_orphans_are_reaped_and_the_process_is_left_to_its_owner() -> None:
    code = """
import ctypes
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
signals = Signals()
sys.exit(follow(signals, "(sleep 0.1 & echo orphan $!); sleep 0.6; exit 3"))
"""
    process = start(code)
    assert process.stdout is not None
    orphan = 0
    while not orphan and (line := process.stdout.readline()):
        orphan = int(line.split()[1]) if line.startswith("orphan") else 0

    deadline = time.monotonic() + 0.45
    while os.path.exists(f"/proc/{orphan}") and time.monotonic() < deadline:
        time.sleep(0.01)
    gone = not os.path.exists(f"/proc/{orphan}")
    process.communicate(timeout=30)

    assert gone
    assert process.returncode == 3
