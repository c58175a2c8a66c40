"""Plan -> bytes for nsexec, as csrc/plan.h lays them out."""

from __future__ import annotations

from _struct import pack

from pyocirun.errors import SpecError
from pyocirun.plan.ops import WIRE, Plan, Slot
from pyocirun.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAGIC = 0x31306E75726F6379
HEADER_SIZE = 40
MAX_BYTES = 8 << 20
MAX_OPS = 4096
NO_SLOT_32 = (1 << 32) - 1

_CODES = {name: (code, signature) for code, (name, signature) in enumerate(WIRE)}


class Encoded(Record):
    """A plan as nsexec reads it. launch, late: the descriptors it counts on, in the order of their slots."""

    data: bytes
    launch: tuple[Slot, ...]
    late: tuple[Slot, ...]


def encode(plan: Plan, *, stamps: bool = False) -> Encoded:
    """The bytes of `plan`, and the descriptors that go with them.

    stamps: nsexec notes in a shared page when each operation started.
    Raises SpecError for a text with a NUL byte and for a plan that is too large.
    """
    launch, late = _slots(plan, stamps)
    slots = {slot: number for number, slot in enumerate(launch + late)}
    ops = [(index, op) for index, op in enumerate(plan.ops) if op.wire]
    if len(plan.ops) > MAX_OPS:
        raise SpecError(f"the configuration needs {len(plan.ops)} operations; at most {MAX_OPS} are possible")
    body = _Body(HEADER_SIZE + 8 * len(ops))
    table = []
    for index, op in ops:
        code, signature = _CODES[op.wire]
        table.append(code | index << 16 | body.end << 32)
        body.add(signature, op.fields(slots))
    data = body.finish(_header(plan, len(ops), slots, len(launch)), table)
    if len(data) > MAX_BYTES:
        raise SpecError(f"the plan takes {len(data)} bytes; at most {MAX_BYTES} are possible")
    return Encoded(data, launch, late)


def _slots(plan: Plan, stamps: bool) -> tuple[tuple[Slot, ...], tuple[Slot, ...]]:
    wanted = dict.fromkeys(slot for op in plan.ops for slot in op.slots())
    launch = [slot for slot in wanted if not slot.late]
    if plan.position("start") >= 0:
        launch = [Slot("gate"), Slot("report"), *launch]
    if stamps:
        launch.append(Slot("stamps"))
    return tuple(launch), tuple(slot for slot in wanted if slot.late)


def _header(plan: Plan, op_count: int, slots: dict[Slot, int], launch: int) -> list[int]:
    """The header's fields behind magic and size."""
    numbers = [slots.get(Slot(kind), NO_SLOT_32) for kind in ("gate", "report", "stamps")]
    return [op_count, launch, plan.preserve_fds, *numbers, 0]


class _Body:
    """Fields and lists, a word after the other, then all strings; offsets of strings are patched in at the end."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.words: list[int] = []
        self.patches: list[tuple[int, int]] = []
        self.strings: dict[str, int] = {}
        self.pool_size = 0

    @property
    def end(self) -> int:
        return self.start + 8 * len(self.words)

    def add(self, signature: str, fields: tuple[Any, ...]) -> None:
        words = self.words
        position = len(words)
        words += [0] * len(signature)
        for kind, field in zip(signature, fields, strict=True):
            if kind == "u":
                words[position] = field
            elif kind == "s":
                self.patches.append((position, self._string(field)))
            else:
                words[position] = self.end
                self._list(kind, field)
            position += 1

    def _list(self, kind: str, items: tuple[Any, ...]) -> None:
        self.words.append(len(items))
        if kind == "n":
            self.words += items
            return
        for item in items:
            self.patches.append((len(self.words), self._string(item)))
            self.words.append(0)
        self.words.append(0)

    def _string(self, text: str) -> int:
        offset = self.strings.get(text)
        if offset is None:
            if "\0" in text:
                raise SpecError(f"{text!r} contains a NUL character")
            self.strings[text] = offset = self.pool_size
            self.pool_size += 1 + (len(text) if text.isascii() else len(_bytes(text)))
        return offset

    def finish(self, header: list[int], table: list[int]) -> bytes:
        pool = self.end
        for position, offset in self.patches:
            self.words[position] = pool + offset
        strings = _bytes("\0".join([*self.strings, ""])) or b"\0"
        size = pool + len(strings)
        return b"".join([_words([MAGIC]), _halves([size, *header]), _words(table), _words(self.words), strings])


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _words(numbers: list[int]) -> bytes:
    return pack(f"<{len(numbers)}Q", *numbers)


def _halves(numbers: list[int]) -> bytes:
    return pack(f"<{len(numbers)}I", *numbers)
