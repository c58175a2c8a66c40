"""Sockets of callers: what is sent, and what is refused before anything is done."""

from __future__ import annotations

import array
import os
import socket
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyocirun.errors import Error, UsageError
from pyocirun.spawn.handover import Handover
from pyocirun.spawn.launch import Launched
from pyocirun.spawn.sync import Answer


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.settimeout(10)
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        yield listener


def receive(listener: socket.socket) -> tuple[bytes, int]:
    connection, _ = listener.accept()
    with connection:
        data, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
    return data, array.array("i", ancillary[0][2])[0]


def test_the_master_is_sent_with_its_name(listener: socket.socket, tmp_path: Path) -> None:
    handover = Handover(True, str(tmp_path / "s"), None, "standard")
    read, write = os.pipe()

    handover.answers({}, Launched(1, -1, -1))["terminal"](read)
    data, fd = receive(listener)

    assert data == b"/dev/ptmx"
    assert os.path.sameopenfile(fd, read)
    assert handover.taken() == -1
    for end in (read, write, fd):
        os.close(end)
    handover.close()


def test_without_a_console_socket_the_master_is_the_callers() -> None:
    handover = Handover(True, None, None, "standard")
    master, slave = os.openpty()

    handover.answers({}, Launched(1, -1, -1))["terminal"](master)
    fd = handover.taken()
    handover.close()

    assert os.path.sameopenfile(fd, master)
    assert not os.get_inheritable(fd)
    assert not termios.tcgetattr(slave)[1] & termios.ONLCR
    for end in (master, slave, fd):
        os.close(end)


def test_a_master_that_nobody_took_is_closed() -> None:
    handover = Handover(True, None, None, "standard")
    master, slave = os.openpty()
    handover.answers({}, Launched(1, -1, -1))["terminal"](master)
    os.close(master)

    handover.close()

    assert os.read(slave, 1) == b""
    os.close(slave)


@pytest.mark.parametrize("name", ["standard", "setns"])
def test_the_pidfd_is_sent_when_all_is_set_up(listener: socket.socket, tmp_path: Path, name: str) -> None:
    handover = Handover(False, None, str(tmp_path / "s"), name)
    pidfd = os.pidfd_open(os.getpid())
    others = {"created": lambda fd: Answer(b"more")}

    answer = handover.answers(others, Launched(os.getpid(), pidfd, -1))["created"](-1)
    data, fd = receive(listener)

    assert answer == Answer(b"more")
    assert data == name.encode()
    assert f"Pid:\t{os.getpid()}" in Path(f"/proc/self/fdinfo/{fd}").read_text()
    handover.close()
    for end in (pidfd, fd):
        os.close(end)


def test_a_socket_that_nobody_listens_on_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "none")

    with pytest.raises(Error, match=f"cannot connect to the pidfd socket {path}") as caught:
        Handover(False, None, path, "standard")

    assert (caught.value.errno, caught.value.path, caught.value.step) == (2, path, "connect")
    assert caught.value.hint


def test_a_console_socket_without_a_terminal_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot use console socket if runc will not detach or allocate tty"):
        Handover(False, "/s", None, "standard")


def test_what_has_a_terminal_gets_nothing_of_the_callers() -> None:
    with_terminal, without = Handover(True, None, None, "setns"), Handover(False, None, None, "setns")

    null = with_terminal.stdio((0, 1, 2))

    assert [os.fstat(fd).st_rdev for fd in null] == [os.makedev(1, 3)] * 3
    assert without.stdio((0, 1, 2)) == (0, 1, 2)
    with_terminal.close()
