"""Messages of the protocol, and the parent's side of it against a socket that a test plays nsexec on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyocirun import native
from pyocirun.errors import HookError, OperationError
from pyocirun.plan import ops
from pyocirun.plan.ops import Clone, Exec, Finish, Home, MaskPath, Plan, RunHooks, SaveState, SetRlimit, Sync
from pyocirun.spawn.launch import Launched
from pyocirun.spawn.message import AT, FAILED, GO, HEADER_BYTES, WARN, Message, decode, encode
from pyocirun.spawn.sync import Answer, await_exec, drive

messages = st.builds(
    Message,
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.binary(max_size=100),
)


@given(messages)
def test_message_survives_encoding(message: Message) -> None:
    assert decode(encode(message)) == message


def test_layout_of_a_message() -> None:
    data = encode(Message(FAILED, 5, 13, 7, -1, b"tail"))

    assert data == (
        b"\4\0\0\0" + b"\5\0\0\0" + b"\15\0\0\0" + b"\7\0\0\0" + b"\xff" * 8 + b"\4\0\0\0\0\0\0\0" + b"tail"
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        bytes(HEADER_BYTES - 1),
        bytes(HEADER_BYTES + 1),
        bytes(24) + b"\1" + bytes(7),
        bytes(24) + b"\xff" * 8,
        encode(Message(AT, 1, payload=b"abc"))[:-1],
    ],
)
def test_malformed_message_is_an_error(data: bytes) -> None:
    with pytest.raises(OperationError, match=f"nsexec sent {len(data)} bytes that are no message"):
        decode(data)


class Nsexec:
    """The other end of the socket, with what the parent did noted down."""

    def __init__(self) -> None:
        ours, self.socket = native.socketpair()
        self.launched = Launched(os.getpid(), -1, ours)
        self.done: list[str] = []
        self.warnings: list[str] = []

    def at(self, index: int, fd: int = -1) -> None:
        self.say(Message(AT, index), fd)

    def say(self, message: Message, fd: int = -1) -> None:
        native.send(self.socket, encode(message), (fd,) if fd >= 0 else ())

    def heard(self) -> Message:
        return decode(native.receive(self.socket)[0])

    def note(self, op: ops.Op, launched: Launched) -> None:
        self.done.append(op.describe())

    def drive(self, *plan: ops.Op) -> None:
        kinds: tuple[type[ops.Op], ...] = (SaveState, SetRlimit, RunHooks)
        note: Callable[[Any, Launched], None] = self.note
        effects = dict.fromkeys(kinds, note)
        answers = {"home": lambda fd: Answer(b"HOME=/x")}
        drive(Plan(plan), self.launched, effects, answers, self.warnings.append)


@pytest.fixture
def nsexec() -> Iterator[Nsexec]:
    peer = Nsexec()
    yield peer
    peer.launched.close()
    os.close(peer.socket)


def test_operations_of_the_parent_run_before_nsexec_goes_on(nsexec: Nsexec) -> None:
    nsexec.at(2)
    nsexec.at(3)

    nsexec.drive(Clone(0), SaveState(), Sync("created"), Sync("start"))

    assert nsexec.done == ["save the state"]
    assert nsexec.heard() == Message(GO, 2)


def test_what_nsexec_failed_with_while_home_was_looked_up_is_told(nsexec: Nsexec) -> None:
    nsexec.at(1)
    nsexec.say(Message(FAILED, 2, 2, 0))
    os.close(nsexec.socket)
    nsexec.socket = os.dup(0)

    with pytest.raises(OperationError, match="mask /a"):
        nsexec.drive(Clone(0), Home(0), MaskPath("/a"), Sync("exec"), Exec(("a",), ()))


def test_what_nsexec_failed_with_before_it_took_home_is_told(nsexec: Nsexec) -> None:
    native.send(nsexec.launched.socket, encode(Message(GO, 1)))
    nsexec.say(Message(FAILED, 2, 2, 0))
    os.close(nsexec.socket)
    nsexec.socket = os.dup(0)

    with pytest.raises(OperationError, match="mask /a"):
        nsexec.drive(Clone(0), Home(0), MaskPath("/a"), Sync("exec"), Exec(("a",), ()))


def test_each_operation_of_the_parent_runs_once(nsexec: Nsexec) -> None:
    nsexec.at(2)
    nsexec.at(4)
    nsexec.at(5)

    nsexec.drive(
        Clone(0), RunHooks("prestart", 1), Sync("hooks:createRuntime"), SaveState(), Sync("created"), Sync("start")
    )

    assert nsexec.done == ["run 1 prestart hook", "save the state"]


def test_home_is_answered_and_its_descriptor_closed(nsexec: Nsexec) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with open(os.devnull) as file:
        nsexec.at(1, file.fileno())
    nsexec.at(2)

    nsexec.drive(Clone(0), Home(0), Sync("exec"), Exec(("a",), ()))

    assert nsexec.heard() == Message(GO, 1, payload=b"HOME=/x")
    assert len(os.listdir("/proc/self/fd")) == before


def test_warning_names_operation_and_step(nsexec: Nsexec) -> None:
    step = next(number for number in range(100) if native.step_name(number) == "grant")
    nsexec.say(Message(WARN, 1, 1, step))
    nsexec.at(2)

    nsexec.drive(Clone(0), ops.SetAmbient(1), Sync("start"))

    assert nsexec.warnings == ["set ambient capabilities 0x1: grant: Operation not permitted"]


def test_failure_is_raised(nsexec: Nsexec) -> None:
    nsexec.say(Message(FAILED, 1, 13))

    with pytest.raises(OperationError, match="cannot mask /x") as caught:
        nsexec.drive(Clone(0), MaskPath("/x"), Sync("start"))

    assert (caught.value.index, caught.value.errno) == (1, 13)


def test_failure_of_a_hook_is_raised(nsexec: Nsexec) -> None:
    nsexec.say(Message(FAILED, 1, 0, 0, 256, b"oops\n"))

    with pytest.raises(HookError, match="error running createContainer hook #0: exit status 1"):
        nsexec.drive(Clone(0), ops.RunHook("createContainer", 0, "/h", ("h",), ()), Sync("start"))


@pytest.mark.parametrize("message", [Message(GO, 1), Message(77, 1), Message(AT, 99), Message(0, 0)])
def test_unknown_message_is_an_error(nsexec: Nsexec, message: Message) -> None:
    nsexec.say(message)

    with pytest.raises(OperationError, match="message of unknown kind"):
        nsexec.drive(Clone(0), MaskPath("/x"), Sync("start"))


def test_warning_of_an_unknown_operation_is_an_error_or_a_warning(nsexec: Nsexec) -> None:
    nsexec.say(Message(WARN, 99))
    nsexec.at(1)

    try:
        nsexec.drive(Clone(0), Sync("start"))
    except OperationError:
        return

    assert nsexec.warnings


def test_at_of_an_operation_that_does_not_wait_ends_the_drive(nsexec: Nsexec) -> None:
    nsexec.at(1)

    nsexec.drive(Clone(0), Finish())

    assert nsexec.done == []


def test_exec_without_a_word_is_success(nsexec: Nsexec) -> None:
    os.close(nsexec.socket)
    nsexec.socket = os.open(os.devnull, os.O_RDONLY)

    await_exec(nsexec.launched, Plan((Clone(0), Exec(("a",), ()))))


def test_exec_that_fails_is_raised(nsexec: Nsexec) -> None:
    nsexec.say(Message(FAILED, 1, 2))

    with pytest.raises(OperationError, match="exec a: no such file or directory"):
        await_exec(nsexec.launched, Plan((Clone(0), Exec(("a",), ()))))
