"""start: opening the gate at which a created container waits, and hearing what comes of it."""

from __future__ import annotations

import errno
import posix

from pyocirun import native
from pyocirun.errors import OperationError, StateError
from pyocirun.spawn.message import AT, FAILED, GO, HEADER_BYTES, Message, decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyocirun.container.process import Process
    from pyocirun.container.state import State
    from pyocirun.errors import Error
    from pyocirun.trace import Trace


def open_gate(
    directory: str, state: State, init: Process, oom: Callable[[], Error | None], trace: Trace | None = None
) -> None:
    """Write GO into the gate and wait until execve(2) has happened.

    directory: the container's state directory.  oom: the error to raise if the kernel killed for lack of memory.
    trace: is told what init does meanwhile.
    Raises OperationError or HookError for what failed, StateError if nobody waits at the gate.
    """
    report = posix.open(f"{directory}/report", posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
    try:
        _write_go(f"{directory}/gate", state, oom)
        _tell(trace, state, ("hook",))
        _listen(report, state, init, oom, trace)
    finally:
        _tell(trace, state, ())
        posix.close(report)


def _write_go(path: str, state: State, oom: Callable[[], Error | None]) -> None:
    """ENXIO: nobody waits there.  EPIPE: who waited has died just now."""
    try:
        gate = posix.open(path, posix.O_WRONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
        try:
            posix.write(gate, encode(Message(GO, state.start_index)))
        finally:
            posix.close(gate)
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.EPIPE):
            raise
        stopped = StateError("cannot start a container that has stopped", id=state.id, status="stopped")
        raise oom() or stopped from None


def _listen(report: int, state: State, init: Process, oom: Callable[[], Error | None], trace: Trace | None) -> None:
    """Messages until the end of file. It follows AT("exec") when execve closed the FIFO; a dead init closes it too."""
    announced = False
    while True:
        native.poll(report, init.pidfd)
        try:
            data = posix.read(report, 1 << 16)
        except BlockingIOError:
            continue
        if not data:
            break
        for message in _messages(data):
            if message.kind == FAILED:
                raise _failure(state, message)
            if message.kind == AT:
                announced = True
                _tell(trace, state, ("seccomp", "exec"))
    killed = oom() if not announced or init.ended(0) else None
    if killed is not None:
        raise killed
    if not announced:
        raise OperationError("container init ended before it could exec", step="wait")


def _tell(trace: Trace | None, state: State, kinds: tuple[str, ...]) -> None:
    """It is operations of these kinds that init does from now on."""
    if trace is not None:
        from pyocirun.trace import NSEXEC

        verbs = {"hook": "run startContainer hook ", "seccomp": "load the seccomp filter", "exec": "execute "}
        texts = [verbs[kind] + text for _, kind, text, _ in state.behind_gate if kind in kinds]
        trace.step(", ".join(texts) or ("leave the gate" if kinds else ""), NSEXEC)


def _messages(data: bytes) -> list[Message]:
    messages = []
    while len(data) >= HEADER_BYTES:
        end = HEADER_BYTES + int.from_bytes(data[24:32], "little")
        messages.append(decode(data[:end]))
        data = data[end:]
    return messages


def _failure(state: State, message: Message) -> Error:
    from pyocirun.plan import ops
    from pyocirun.spawn import failure

    for number, (index, kind, text, timeout) in enumerate(state.behind_gate):
        if index == message.index:
            if kind == "hook":  # no other kind stands before them
                hook = ops.RunHook("startContainer", number, text, (), (), timeout or None)
                return failure.hook_error(hook, message)
            if kind == "seccomp":
                return failure.filter_error(message, index, state.total)
            if kind == "landlock":
                return failure.behind_gate(ops.LandlockRestrict(), message, index, state.total)
            return failure.behind_gate(ops.Exec((text,), ()), message, index, state.total)
    return failure.behind_gate(ops.Finish(), message, message.index, state.total)
