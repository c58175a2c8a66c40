"""Plans of containers of a kind: what differs between two of them is the id, in the names of cgroups and the keyring.

A program that makes many containers of one configuration spends a third of its own time on the same plan, time and
again. So the last plans are kept, and the next one is the same with another id in its texts. That this is what `build`
and `encode` would have made is not believed but tried: the second container of a kind gets both, and only if they are
equal is it done so from the third on. An id that also stands elsewhere in a plan does not pass that.
"""

from __future__ import annotations

from pyocirun.plan.build import build
from pyocirun.plan.encode import Encoded, encode
from pyocirun.plan.ops import Plan
from pyocirun.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyocirun.linux.host import Host
    from pyocirun.plan.build import Request
    from pyocirun.spec.config import Spec

KEPT = 16


class _Template:
    """A plan that was made. is_proven: another id in its texts has given what that other container's plan was.

    named: the numbers of the operations in which the id is.
    """

    def __init__(self, spec: Spec, host: Host, request: Request, plan: Plan, encoded: Encoded) -> None:
        self.spec = spec
        self.host = host
        self.request = request
        self.plan = plan
        self.encoded = encoded
        self.is_proven = False
        self.named = [number for number, op in enumerate(plan.ops) if renamed(op, request.id, "") is not op]

    def fits(self, spec: Spec, host: Host, request: Request) -> bool:
        """Whether it was the same, and asked for in the same way, but for the id."""
        return (
            self.spec is spec
            and len(self.request.id) == len(request.id)  # of the same length: offsets in the bytes stay
            and renamed(self.request, self.request.id, request.id) == request
            and self.host == host
        )

    def with_id(self, id: str) -> tuple[Plan, Encoded]:
        old = self.request.id
        data = self.encoded.data.replace(old.encode(), id.encode())
        launch, late = renamed(self.encoded.launch, old, id), renamed(self.encoded.late, old, id)
        ops = [*self.plan.ops]
        for number in self.named:
            ops[number] = renamed(ops[number], old, id)
        return Plan(tuple(ops), self.plan.preserve_fds), Encoded(data, launch, late)


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


def renamed(value: Any, old: str, new: str) -> Any:
    """`value` with `new` for `old` in all texts that it holds; itself if there are none."""
    kind = type(value)
    if kind is str:
        return value.replace(old, new)
    if kind is tuple:
        items = [renamed(item, old, new) for item in value]
        return value if all(map(_is, items, value)) else tuple(items)
    if isinstance(value, Record):
        changed = {}
        for field, item in value.__dict__.items():
            if type(item) in _WITH_TEXT or isinstance(item, Record):
                other = renamed(item, old, new)
                if other is not item:
                    changed[field] = other
        if not changed:
            return value
        copy = object.__new__(kind)
        copy.__dict__.update(value.__dict__, **changed)
        return copy
    return value


_WITH_TEXT = frozenset((str, tuple))


def _is(one: object, other: object) -> bool:
    return one is other
