"""Plans of containers of a kind: what differs between two of them is the id, in the names of cgroups and the keyring.

A program that makes many containers of one configuration spends a third of its own time on the same plan, time and
again. So the last plans are kept, and the next one is the same with another id in its texts. That this is what `build`
and `encode` would have made is not believed but tried: the second container of a kind gets both, and only if they are
equal is it done so from the third on. An id that also stands elsewhere in a plan does not pass that.
"""

from __future__ import annotations

from _operator import itemgetter as _itemgetter

from pyocirun.plan.build import build
from pyocirun.plan.encode import Encoded, encode
from pyocirun.plan.ops import Plan
from pyocirun.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyocirun.linux.host import Host
    from pyocirun.plan.request import Request
    from pyocirun.spec.config import Spec

    Maker = Callable[[list[str]], Any]

KEPT = 16


class _Template:
    """A plan that was made. is_proven: another id in its texts has given what that other container's plan was.

    texts: those that the id is in, and their numbers.  others: makes the operations that the id is in, by number.
    slots, wish: the same for the slots and the request, None where the id is not in them.  pieces: of the bytes.
    """

    def __init__(self, spec: Spec, host: Host, request: Request, plan: Plan, encoded: Encoded) -> None:
        self.spec = spec
        self.host = host
        self.request = request
        self.plan = plan
        self.encoded = encoded
        self.is_proven = False
        self.texts: dict[str, int] = {}
        self.others = [
            (number, maker)
            for number, op in enumerate(plan.ops)
            if (maker := _maker(op, request.id, self.texts)) is not None
        ]
        self.slots = [_maker(slots, request.id, self.texts) for slots in (encoded.launch, encoded.late)]
        self.wish = _maker(request, request.id, self.texts)
        self.pieces = encoded.data.split(request.id.encode())

    def fits(self, spec: Spec, host: Host, request: Request) -> bool:
        """Whether it was the same, and asked for in the same way, but for the id."""
        return (
            self.spec is spec
            and len(self.request.id) == len(request.id)  # of the same length: offsets in the bytes stay
            and (self.host is host or self.host == host)
            and self.wish is not None
            and self.wish(self._texts(request.id)) == request
        )

    def with_id(self, id: str) -> tuple[Plan, Encoded]:
        texts = self._texts(id)
        ops = [*self.plan.ops]
        for number, make in self.others:
            ops[number] = make(texts)
        launch, late = self.slots
        return Plan(tuple(ops), self.plan.preserve_fds), Encoded(
            id.encode().join(self.pieces),
            self.encoded.launch if launch is None else launch(texts),
            self.encoded.late if late is None else late(texts),
        )

    def _texts(self, id: str) -> list[str]:
        old = self.request.id
        return [text.replace(old, id) for text in self.texts]


_templates: list[_Template] = []


def plan_and_bytes(spec: Spec, host: Host, request: Request) -> tuple[Plan, Encoded]:
    """What `build` and `encode` make. spec: the same object means the same configuration. Raises SpecError."""
    template = next((known for known in list(_templates) if known.fits(spec, host, request)), None)
    if template is not None and template.is_proven:
        return template.with_id(request.id)
    plan = build(spec, host, request)
    encoded = encode(plan)
    if template is None:
        _templates.append(_Template(spec, host, request, plan, encoded))
        del _templates[:-KEPT]
    elif template.request.id != request.id:
        template.is_proven = template.with_id(request.id) == (plan, encoded)
    return plan, encoded


def _maker(value: Any, id: str, texts: dict[str, int]) -> Maker | None:
    """What makes `value` with another id, out of the renamed `texts`; None if the id is not in it. Adds to `texts`."""
    kind = type(value)
    if kind is str:
        return _itemgetter(texts.setdefault(value, len(texts))) if id in value else None
    if kind is tuple:
        return _tuple_maker(value, [_maker(item, id, texts) for item in value])
    if isinstance(value, Record):
        fields = [(field, _maker(item, id, texts)) for field, item in value.__dict__.items()]
        return _record_maker(value, [(field, make) for field, make in fields if make is not None])
    return None


def _tuple_maker(value: tuple[Any, ...], makers: list[Maker | None]) -> Maker | None:
    changed = [(number, make) for number, make in enumerate(makers) if make is not None]
    if not changed:
        return None

    def made(texts: list[str]) -> tuple[Any, ...]:
        items = [*value]
        for number, make in changed:
            items[number] = make(texts)
        return tuple(items)

    return made


def _record_maker(value: Record, changed: list[tuple[str, Maker]]) -> Maker | None:
    if not changed:
        return None
    kind = type(value)
    new = object.__new__
    given = value.__dict__

    def made(texts: list[str]) -> Record:
        copy = new(kind)
        fields = copy.__dict__
        fields.update(given)
        for field, make in changed:
            fields[field] = make(texts)
        return copy

    return made
