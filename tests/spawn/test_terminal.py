"""Between a terminal and descriptors: real pseudo terminals, and a process at the far end."""

from __future__ import annotations

import os
import pty
import subprocess
import termios
import threading
from collections.abc import Callable, Iterator

import pytest

from pyocirun.spawn.terminal import Relay

Pipe = tuple[int, int]


@pytest.fixture
def pipes() -> Iterator[Callable[[], Pipe]]:
    made: list[int] = []

    def pipe() -> Pipe:
        ends = os.pipe()
        made.extend(ends)
        return ends

    yield pipe
    for fd in made:
        try:
            os.close(fd)
        except OSError:
            continue


def relayed(script: str, stdin: int, stdout: int) -> int:
    """The exit status of a shell on a terminal of its own, whose bytes a Relay carries."""
    master, slave = pty.openpty()
    shell = subprocess.Popen(["sh", "-c", script], stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    pidfd = os.pidfd_open(shell.pid)
    wake, other = os.pipe()
    try:
        Relay(master, stdin, stdout).run(pidfd, wake, lambda: None)
        return shell.wait(10)
    finally:
        for fd in (master, pidfd, wake, other):
            os.close(fd)


def read_all(fd: int) -> bytes:
    parts = []
    while part := os.read(fd, 65536):
        parts.append(part)
    return b"".join(parts)


def test_output_arrives_to_its_last_byte(pipes: Callable[[], Pipe]) -> None:
    stdin, _ = pipes()
    read, write = pipes()
    seen: list[bytes] = []
    reader = threading.Thread(target=lambda: seen.append(read_all(read)))
    reader.start()

    status = relayed("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; exit 7", stdin, write)
    os.close(write)
    reader.join(10)

    assert status == 7
    assert seen[0].count(b"line ") == 3000


def test_input_and_its_end_arrive(pipes: Callable[[], Pipe]) -> None:
    stdin, feed = pipes()
    read, write = pipes()
    os.write(feed, b"one\ntwo")
    os.close(feed)

    status = relayed("stty -echo; printf '[%s]' \"$(cat)\"", stdin, write)
    os.close(write)

    assert status == 0
    assert read_all(read).replace(b"\r", b"").endswith(b"[one\ntwo]")


def test_output_that_nobody_reads_stops_nobody(pipes: Callable[[], Pipe]) -> None:
    stdin, _ = pipes()
    read, write = pipes()
    os.close(read)

    status = relayed("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; exit 3", stdin, write)

    assert status == 3


def test_one_who_keeps_the_terminal_open_does_not_hold_the_end_up(pipes: Callable[[], Pipe]) -> None:
    stdin, _ = pipes()
    read, write = pipes()

    status = relayed("trap '' HUP; (trap '' HUP; sleep 3) & echo done", stdin, write)
    os.close(write)

    assert status == 0
    assert b"done" in read_all(read)


def test_a_terminal_that_is_not_ours_is_left_alone(pipes: Callable[[], Pipe]) -> None:
    master, slave = pty.openpty()
    other, end = pty.openpty()
    before = termios.tcgetattr(slave)
    relay = Relay(other, slave, slave)

    relay.begin()
    during = termios.tcgetattr(slave)
    relay.end()

    assert during == before
    for fd in (master, slave, other, end):
        os.close(fd)
