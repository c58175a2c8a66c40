"""The parent's side of the protocol: answers nsexec until the plan is through, or says what failed."""

from __future__ import annotations

import posix

from pyocirun import native
from pyocirun.errors import Error, OperationError
from pyocirun.plan.ops import Fork, Sync
from pyocirun.record import Record
from pyocirun.spawn.message import AT, FAILED, GO, WARN, Message, decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyocirun.plan.ops import Op, Plan
    from pyocirun.spawn.launch import Launched

    Effects = dict[type[Op], Callable[[Any, Launched], None]]


class Answer(Record):
    """What goes along with GO."""

    payload: bytes = b""
    fds: tuple[int, ...] = ()


NOTHING = Answer()


def drive(
    plan: Plan,
    launched: Launched,
    effects: Effects,
    answers: dict[str, Callable[[int], Answer]],
    warn: Callable[[str], None],
) -> None:
    """Run the parent's operations where the plan has them, and answer nsexec, up to the gate or to execve.

    effects: what runs an operation of the parent, by its type.  answers: what to send along at a point of Sync, or
    "home" or "terminal"; it gets the descriptor that came with AT, or -1, which is closed afterwards, and so are its
    own ones.
    Raises OperationError for what nsexec reports, Error if it dies; the caller kills and cleans up.
    """
    done = plan.position_of_clone() + 1
    while True:
        message, fd = _receive(launched)
        try:
            op = _announced(plan, done, message, warn)
            if op is None:
                continue
            if type(op) is Fork:
                _follow(launched, fd)
                fd = -1
                _go(launched, message.index, NOTHING)
                done = message.index + 1
                continue
            _run(plan, done, message.index, launched, effects)
            done = message.index + 1
            point = op.point if type(op) is Sync else op.wire
            if point in ("start", "exec", "finish"):
                return
            _answer(launched, message.index, point, fd, answers)
        finally:
            if fd >= 0:
                posix.close(fd)


def await_exec(launched: Launched, plan: Plan) -> None:
    """Between AT("exec") and the end of file: execve happens, or the reason why not comes. Raises OperationError."""
    data, _ = native.receive(launched.socket)
    if data:
        from pyocirun.spawn.failure import operation_error

        raise operation_error(plan, decode(data))


def died(launched: Launched) -> Error:
    """What to say of an nsexec that ended without a word. It may have forked just before."""
    from pyocirun.spawn.orphan import reap_forked

    native.poll(launched.pidfd)
    launched.close()
    reap_forked(launched.pid)
    try:
        status = native.wait(launched.pidfd)
    except ChildProcessError:
        status = None
    if status == -9:
        text = "container init was killed during set-up (signal 9)"
        return OperationError(text, step="wait", hint="was it OOM-killed? is the memory limit too low?")
    return OperationError(f"container init ended during set-up with status {status}", step="wait")


def _run(plan: Plan, start: int, end: int, launched: Launched, effects: Effects) -> None:
    for op in plan.ops[start:end]:
        if not op.wire:
            effects[type(op)](op, launched)


def _follow(launched: Launched, pidfd: int) -> None:
    """The process forked and its child is ours now; what forked has ended, and is reaped."""
    try:
        native.wait(launched.pidfd)
    except ChildProcessError:
        pass  # where SIGCHLD is ignored, the kernel has reaped it
    posix.close(launched.pidfd)
    launched.pid, launched.pidfd = _pid_of(pidfd), pidfd


def _pid_of(pidfd: int) -> int:
    """The process id behind a pidfd: proc_pid_fdinfo(5) knows it better than who sent it."""
    info = posix.open(f"/proc/thread-self/fdinfo/{pidfd}", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        for line in posix.read(info, 4096).splitlines():
            if line.startswith(b"Pid:"):
                return int(line[4:])
    finally:
        posix.close(info)
    raise OperationError("nsexec sent a descriptor that is no pidfd", step="protocol")


def _receive(launched: Launched) -> tuple[Message, int]:
    """The next message. nsexec is dead if its pidfd says so and nothing is left to read: while it forks, another
    process has its socket, and there is no end of file.
    """
    if native.poll(launched.socket, launched.pidfd) == 2 and not native.poll(launched.socket, timeout_ms=0):
        raise died(launched)
    data, fd = native.receive(launched.socket)
    if not data:
        raise died(launched)
    return decode(data), fd


def _announced(plan: Plan, done: int, message: Message, warn: Callable[[str], None]) -> Op | None:
    """The operation that AT tells of, None for a warning. Raises what FAILED tells of.

    done: none before it is believed, whoever has got hold of nsexec's end of the socket.
    """
    if message.kind == FAILED:
        from pyocirun.spawn.failure import operation_error

        raise operation_error(plan, message)
    if message.kind not in (AT, WARN) or message.index >= len(plan.ops):
        raise OperationError(f"nsexec sent a message of unknown kind {message.kind}", step="protocol")
    if message.kind == AT:
        if message.index < done:
            raise OperationError(f"nsexec announced operation {message.index} out of order", step="protocol")
        return plan.ops[message.index]
    warn(_warning(plan, message))
    return None


def _answer(launched: Launched, index: int, point: str, fd: int, answers: dict[str, Callable[[int], Answer]]) -> None:
    answer = answers[point](fd) if point in answers else NOTHING
    try:
        _go(launched, index, answer)
    finally:
        for sent in answer.fds:
            posix.close(sent)


def _go(launched: Launched, index: int, answer: Answer) -> None:
    try:
        native.send(launched.socket, encode(Message(GO, index, payload=answer.payload)), answer.fds)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it goes on after AT of home: why it has ended, or that it has, is what is received next


def _warning(plan: Plan, message: Message) -> str:
    op = plan.ops[message.index]
    return f"{op.describe()}: {native.step_name(message.step)}: {posix.strerror(message.error)}"
