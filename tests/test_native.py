"""The C side's typed calls, as far as they need no root."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pyocirun import native
from pyocirun.linux.namespaces import CLONE_NEWNET
from pyocirun.plan.encode import encode
from pyocirun.plan.ops import Clone, Finish, Op, Plan, Sync
from pyocirun.spawn.launch import Launched, launch
from pyocirun.spawn.message import AT, GO, Message, decode
from pyocirun.spawn.message import encode as encode_message


@pytest.fixture
def pair() -> tuple[int, int]:
    return native.socketpair()


# Files in memory


def test_sealed_file_has_its_content() -> None:
    fd = native.sealed_memfd("x", b"content")

    assert os.read(fd, 100) == b"content"
    os.close(fd)


@pytest.mark.parametrize("executable", [False, True])
def test_sealed_file_cannot_be_changed(executable: bool) -> None:
    fd = native.sealed_memfd("x", b"content", executable=executable)

    for attempt in (
        lambda: os.write(fd, b"y"),
        lambda: os.pwrite(fd, b"y", 0),
        lambda: os.ftruncate(fd, 1),
        lambda: os.ftruncate(fd, 100),
        lambda: mmap.mmap(fd, 7, mmap.MAP_SHARED, mmap.PROT_WRITE),
        lambda: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE),
    ):
        with pytest.raises(PermissionError):
            attempt()
    os.close(fd)


def test_sealed_file_cannot_be_changed_through_proc() -> None:
    fd = native.sealed_memfd("x", b"content")

    other = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    with pytest.raises(PermissionError):
        os.write(other, b"y")

    os.close(other)
    os.close(fd)


def test_sealed_file_can_be_mapped_privately() -> None:
    fd = native.sealed_memfd("x", b"content")

    with mmap.mmap(fd, 7, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
        mapped[0:1] = b"C"
        assert mapped[:] == b"Content"

    assert os.pread(fd, 7, 0) == b"content"
    os.close(fd)


def test_plain_file_in_memory_is_not_executable() -> None:
    fd = native.sealed_memfd("x", b"#!/bin/true\n")

    with pytest.raises(PermissionError):
        subprocess.run([f"/proc/self/fd/{fd}"], pass_fds=[fd], check=False)
    os.close(fd)


def test_shared_file_is_zeros() -> None:
    fd = native.shared_memfd("x", 5000)

    assert os.read(fd, 9999) == bytes(5000)
    os.close(fd)


def test_files_in_memory_close_on_exec() -> None:
    for fd in (native.sealed_memfd("x", b""), native.shared_memfd("x", 1), *native.socketpair()):
        assert not os.get_inheritable(fd)
        os.close(fd)


# Messages


def test_message_boundaries_are_kept(pair: tuple[int, int]) -> None:
    for text in (b"one", b"twotwo", b"3"):
        native.send(pair[0], text)

    assert [native.receive(pair[1])[0] for _ in range(3)] == [b"one", b"twotwo", b"3"]


def test_largest_message(pair: tuple[int, int]) -> None:
    data = os.urandom(native.MESSAGE_BYTES)

    native.send(pair[0], data)

    assert native.receive(pair[1]) == (data, -1)


def test_zero_bytes_travel(pair: tuple[int, int]) -> None:
    native.send(pair[0], b"a\0b\0")

    assert native.receive(pair[1])[0] == b"a\0b\0"


def test_descriptor_travels_and_closes_on_exec(pair: tuple[int, int]) -> None:
    reader, writer = os.pipe()

    native.send(pair[0], b"x", (writer,))
    os.close(writer)
    data, received = native.receive(pair[1])

    os.write(received, b"through")
    assert (data, os.read(reader, 10)) == (b"x", b"through")
    assert not os.get_inheritable(received)
    os.close(received)
    os.close(reader)


def test_surplus_descriptors_are_closed(pair: tuple[int, int]) -> None:
    reader, writer = os.pipe()

    native.send(pair[0], b"x", (writer, writer, writer))
    os.close(writer)
    _, received = native.receive(pair[1])
    os.close(received)

    assert native.poll(reader, timeout_ms=0) == 1
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_too_many_descriptors_are_refused(pair: tuple[int, int]) -> None:
    with pytest.raises(OSError) as caught:
        native.send(pair[0], b"x", [0] * 251)

    assert caught.value.errno == errno.EINVAL


def test_end_of_file_is_no_bytes(pair: tuple[int, int]) -> None:
    os.close(pair[0])

    assert native.receive(pair[1]) == (b"", -1)


def test_sending_to_nobody_is_a_broken_pipe_and_no_signal(pair: tuple[int, int]) -> None:
    os.close(pair[1])

    with pytest.raises(BrokenPipeError):
        native.send(pair[0], b"x")


def test_receive_goes_on_after_a_signal(pair: tuple[int, int]) -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: native.send(pair[0], b"from the handler"))
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()

    data, _ = native.receive(pair[1])

    signal.signal(signal.SIGUSR1, before)
    assert data == b"from the handler"


# Waiting


def test_poll_tells_which(pair: tuple[int, int]) -> None:
    other = native.socketpair()
    assert native.poll(pair[1], other[1], 0) == 0

    native.send(other[0], b"x")
    assert native.poll(pair[1], other[1], 0) == 2

    native.send(pair[0], b"x")
    assert native.poll(pair[1], other[1], 0) == 3
    assert native.poll(pair[1], timeout_ms=0) == 1


def test_poll_gives_up(pair: tuple[int, int]) -> None:
    start = time.monotonic()

    assert native.poll(pair[0], timeout_ms=50) == 0
    assert time.monotonic() - start > 0.04


def test_wait_for_what_is_no_child() -> None:
    fd = os.pidfd_open(os.getppid())

    with pytest.raises(ChildProcessError):
        native.wait(fd)
    os.close(fd)


def test_wait_without_blocking() -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    fd = os.pidfd_open(child.pid)

    assert native.wait(fd, block=False) is None

    native.send_signal(fd, signal.SIGKILL)
    assert native.wait(fd) == -signal.SIGKILL
    child.returncode = -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        native.send_signal(fd, 0)
    os.close(fd)


def test_lock_is_exclusive(tmp_path: Path) -> None:
    first, second = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))

    assert native.flock(first)
    assert not native.flock(second, wait=False)

    os.close(first)
    assert native.flock(second, wait=False)
    os.close(second)


# Questions


def test_type_of_a_namespace() -> None:
    with open("/proc/self/ns/net") as file:
        assert native.namespace_type(file.fileno()) == CLONE_NEWNET


def test_file_is_no_namespace() -> None:
    with open(os.devnull) as file, pytest.raises(OSError) as caught:
        native.namespace_type(file.fileno())

    assert caught.value.errno == errno.ENOTTY


def test_type_of_a_file_system() -> None:
    assert native.fs_type("/proc") == 0x9FA0


def test_error_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        native.fs_type(str(tmp_path / "missing"))

    assert caught.value.filename == str(tmp_path / "missing")


# Starting nsexec


def started(*plan: Op, preserve_fds: int = 0, stdio: tuple[int, int, int] = (0, 1, 2)) -> Launched:
    whole = Plan(plan, preserve_fds)
    return launch(whole, encode(whole), lambda slot: -1, stdio)


def ended(launched: Launched) -> int | None:
    launched.close()
    status = native.wait(launched.pidfd)
    os.close(launched.pidfd)
    return status


def finished(launched: Launched) -> int | None:
    """The status of an nsexec that goes through to the end of its plan."""
    while native.receive(launched.socket)[0]:
        pass
    return ended(launched)


def test_plan_that_does_nothing_ends() -> None:
    launched = started(Clone(0), Finish())

    assert decode(native.receive(launched.socket)[0]) == Message(AT, 1)
    assert native.receive(launched.socket) == (b"", -1)
    assert ended(launched) == 0


def test_nsexec_waits_for_go() -> None:
    launched = started(Clone(0), Sync("hooks:state"), Finish())

    assert decode(native.receive(launched.socket)[0]) == Message(AT, 1)
    assert native.poll(launched.pidfd, timeout_ms=50) == 0

    native.send(launched.socket, encode_message(Message(GO, 1)))
    assert finished(launched) == 0


def test_nsexec_dies_with_the_socket() -> None:
    launched = started(Clone(0), Sync("hooks:state"), Finish())
    native.receive(launched.socket)

    assert ended(launched) == 1


@pytest.mark.parametrize("answer", [Message(GO, 2), Message(AT, 1), Message(9, 1)])
def test_nsexec_refuses_another_answer(answer: Message) -> None:
    launched = started(Clone(0), Sync("hooks:state"), Finish())
    native.receive(launched.socket)

    native.send(launched.socket, encode_message(answer))

    failed = decode(native.receive(launched.socket)[0])
    assert (failed.kind, failed.index, failed.error) == (4, 1, errno.EPROTO)
    assert native.step_name(failed.step) == "protocol"
    assert ended(launched) == 1


@pytest.mark.parametrize("answer", [b"x", b"x" * 32, encode_message(Message(GO, 1, payload=b"abc"))[:-1]])
def test_nsexec_refuses_a_malformed_answer(answer: bytes) -> None:
    launched = started(Clone(0), Sync("hooks:state"), Finish())
    native.receive(launched.socket)

    native.send(launched.socket, answer)

    assert decode(native.receive(launched.socket)[0]).error == errno.EPROTO
    assert ended(launched) == 1


def test_nsexec_refuses_a_damaged_plan() -> None:
    plan = Plan((Clone(0), Finish()))
    good = encode(plan)
    damaged = type(good)(good.data[:-1] + b"\1", (), ())

    launched = launch(plan, damaged, lambda slot: -1, (0, 1, 2))

    failed = decode(native.receive(launched.socket)[0])
    assert (failed.kind, failed.error) == (4, errno.EPROTO)
    assert native.step_name(failed.step) == "plan"
    assert ended(launched) == 1


def test_nsexec_sees_only_its_own_descriptors() -> None:
    secret, _ = os.pipe()
    os.set_inheritable(secret, True)
    launched = started(Clone(0), Sync("hooks:state"), Finish())
    native.receive(launched.socket)

    seen = os.listdir(f"/proc/{launched.pid}/fd")

    # 0, 1, 2 and the socket; the plan is closed once it is mapped.
    assert sorted(seen) == ["0", "1", "2", "3"]
    ended(launched)


def test_preserved_descriptors_keep_their_numbers() -> None:
    script = """
import os, sys
from pyocirun import native
from pyocirun.plan.encode import encode
from pyocirun.plan.ops import Clone, Finish, Plan, Sync
from pyocirun.spawn.launch import launch
null = os.open("/dev/null", os.O_RDONLY)
for number in (3, 4):
    os.dup2(null, number)
    os.set_inheritable(number, True)
plan = Plan((Clone(0), Sync("hooks:state"), Finish()), 2)
launched = launch(plan, encode(plan), lambda slot: -1, (0, 1, 2))
native.receive(launched.socket)
print({n: os.readlink(f"/proc/{launched.pid}/fd/{n}") for n in ("3", "4")} == {"3": "/dev/null", "4": "/dev/null"})
launched.close()
native.wait(launched.pidfd)
"""
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, cwd="/", check=False)

    assert (done.stdout, done.stderr) == ("True\n", "")


def test_preserved_descriptor_that_is_closed_is_an_error() -> None:
    from pyocirun.errors import Error

    with pytest.raises(Error, match="cannot start nsexec: Bad file descriptor") as caught:
        started(Clone(0), Finish(), preserve_fds=900)

    assert "--preserve-fds 900" in caught.value.hint


def test_descriptor_that_closes_on_exec_is_not_the_containers() -> None:
    from pyocirun.errors import Error

    count = 0
    while not _is_own(3 + count):
        count += 1

    with pytest.raises(Error, match="cannot start nsexec: Bad file descriptor"):
        started(Clone(0), Finish(), preserve_fds=count + 1)


def _is_own(fd: int) -> bool:
    """Whether it is closed, or closes on exec."""
    try:
        return not os.get_inheritable(fd)
    except OSError:
        return True


def test_closed_standard_descriptor_stays_closed() -> None:
    launched = started(Clone(0), Sync("hooks:state"), Finish(), stdio=(-1, 1, 2))
    native.receive(launched.socket)

    seen = os.listdir(f"/proc/{launched.pid}/fd")

    assert "0" not in seen
    ended(launched)


def test_executable_is_no_file_of_the_host() -> None:
    launched = started(Clone(0), Sync("hooks:state"), Finish())
    native.receive(launched.socket)

    executable = os.readlink(f"/proc/{launched.pid}/exe")

    assert executable.startswith("/memfd:pyocirun-nsexec")
    with pytest.raises(OSError) as caught:
        os.open(f"/proc/{launched.pid}/exe", os.O_WRONLY)
    assert caught.value.errno == errno.ETXTBSY
    ended(launched)


def test_nothing_is_left_after_many_launches() -> None:
    finished(started(Clone(0), Finish()))
    before = len(os.listdir("/proc/self/fd"))

    for _ in range(20):
        finished(started(Clone(0), Finish()))

    assert len(os.listdir("/proc/self/fd")) == before


def test_threads_launch_at_once() -> None:
    statuses: list[int | None] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(finished(started(Clone(0), Finish())))) for _ in range(20)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert statuses == [0] * 20


def test_signal_mask_and_handlers_survive_a_launch() -> None:
    mask, handler = signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.getsignal(signal.SIGINT)

    finished(started(Clone(0), Finish()))

    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
    assert signal.getsignal(signal.SIGINT) is handler


def test_unknown_namespace_flag_is_an_error() -> None:
    from pyocirun.errors import Error

    with pytest.raises(Error, match="cannot start nsexec"):
        started(Clone(0x200 | 0x10000), Finish())


def test_cgroup_that_is_missing_is_named_where_it_must_be_joined() -> None:
    from pyocirun.errors import CgroupError

    with pytest.raises(CgroupError, match="cannot join cgroup /no/such: error adding pid to"):
        started(Clone(0, "/no/such", required=True), Finish())


def test_cgroup_that_is_missing_is_passed_over_where_it_need_not_be_joined() -> None:
    launched = started(Clone(0, "/no/such"), Finish())

    assert finished(launched) == 0


# bpf(2)

BEYOND = """
import ctypes, platform, struct, sys, threading
from pyocirun import native

libc = ctypes.CDLL(None, use_errno=True)
BPF_CALL = {"x86_64": 321, "aarch64": 280}[platform.machine()]
RECEIVE, SEND = 0xC0502100, 0xC0182101
ready = threading.Event()
seen = []

def filter_of(number):
    # the call's number; that one to the listener, all others allowed
    lines = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x7FC00000), (0x06, 0, 0, 0x7FFF0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    return struct.pack("HxxxxxxQ", len(lines), ctypes.addressof(code)), code

def kernel():
    # a kernel that writes all of the struct that it knows, and not only as much as the caller says that it has
    ready.wait()
    notice = ctypes.create_string_buffer(80)
    assert libc.ioctl(listener, RECEIVE, notice) == 0, ctypes.get_errno()
    id, = struct.unpack_from("Q", notice, 0)
    command, address, size = struct.unpack_from("QQQ", notice, 32)
    seen.append((command, size, ctypes.string_at(address, 1024)))
    ctypes.memset(address + 24, 0, 4)  # no program is attached
    ctypes.memset(address + 32, 0xFF, 1024 - 32)
    assert libc.ioctl(listener, SEND, ctypes.create_string_buffer(struct.pack("QqiI", id, 0, 0, 0))) == 0

thread = threading.Thread(target=kernel)
thread.start()
program, keep = filter_of(BPF_CALL)
assert libc.prctl(38, 1, 0, 0, 0) == 0
listener = libc.syscall({"x86_64": 317, "aarch64": 277}[platform.machine()], 1, 8, program)
assert listener >= 0, ctypes.get_errno()
ready.set()
print(native.bpf_query(7))
thread.join()
command, size, room = seen[0]
print(command, 64 <= size <= 1024, struct.unpack_from("II", room), room[32:] == bytes(1024 - 32))
"""


def test_a_kernel_that_answers_beyond_the_struct_writes_into_room_kept_for_it() -> None:
    """Linux 6.17 to 7.1 write more to the answer of BPF_PROG_QUERY than the caller said that there is."""
    done = subprocess.run([sys.executable, "-P", "-c", BEYOND], capture_output=True, text=True, timeout=60, check=False)

    assert done.stdout.splitlines() == ["[]", "16 True (7, 6) True"], (done.returncode, done.stderr)
