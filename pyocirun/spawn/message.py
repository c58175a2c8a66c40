"""The messages between nsexec and its parent, as bytes: csrc/msg.c has the protocol, csrc/run.h the struct."""

from __future__ import annotations

from pyocirun.errors import OperationError
from pyocirun.record import Record

AT, GO, WARN, FAILED = 1, 2, 3, 4
HEADER_BYTES = 32


class Message(Record):
    """One message, as csrc/run.h has it. index: of an operation of the plan.  error: errno, 0 for none."""

    kind: int
    index: int
    error: int = 0
    step: int = 0
    value: int = 0
    payload: bytes = b""


def encode(message: Message) -> bytes:
    """The bytes of a message."""
    return b"".join(
        (
            message.kind.to_bytes(4, "little"),
            message.index.to_bytes(4, "little"),
            message.error.to_bytes(4, "little", signed=True),
            message.step.to_bytes(4, "little"),
            message.value.to_bytes(8, "little", signed=True),
            len(message.payload).to_bytes(8, "little"),
            message.payload,
        )
    )


def decode(data: bytes) -> Message:
    """The message of these bytes. Raises OperationError if they are none."""
    if len(data) < HEADER_BYTES or int.from_bytes(data[24:32], "little") != len(data) - HEADER_BYTES:
        raise OperationError(f"nsexec sent {len(data)} bytes that are no message", step="protocol")
    return Message(
        int.from_bytes(data[0:4], "little"),
        int.from_bytes(data[4:8], "little"),
        int.from_bytes(data[8:12], "little", signed=True),
        int.from_bytes(data[12:16], "little"),
        int.from_bytes(data[16:24], "little", signed=True),
        data[HEADER_BYTES:],
    )
