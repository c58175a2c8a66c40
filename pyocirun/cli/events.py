"""pyocirun events: what happens to a container and what it uses, a line of JSON each."""

from __future__ import annotations

from pyocirun.cli.output import print_text
from pyocirun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def run(call: Call, session: Session) -> int:
    from json import dumps

    from pyocirun.container.events import Event

    full: bool = call.flags["full"]
    interval = duration(call.flags["interval"])
    if interval <= 0:
        raise UsageError("duration interval must be greater than 0")
    container = session.load(call.args[0])
    if call.flags["stats"]:
        _print(dumps(Event("stats", container.id, container.stats()).to_json(full=full), separators=(",", ":")))
        return 0
    with container.events(interval) as events:
        for event in events:
            _print(dumps(event.to_json(full=full), separators=(",", ":")))
    return 0


def duration(text: str) -> float:
    """Seconds of a duration as Go writes it: "300ms", "1.5h", "1m30s", "-2s", "0". Raises UsageError."""
    sign, left = (-1, text[1:]) if text[:1] == "-" else (1, text.removeprefix("+"))
    if left == "0":
        return 0.0
    total = 0.0
    while left:
        number = left[: len(left) - len(left.lstrip("0123456789."))]
        left = left[len(number) :]
        unit = left[: len(left) - len(left.lstrip("nuµμmsh"))]
        left = left[len(unit) :]
        if number.count(".") > 1 or number in ("", ".") or unit not in _UNITS:
            raise UsageError(f'invalid duration "{text}"', hint="a number and a unit, such as 500ms, 5s or 1m30s")
        total += float(number) * _UNITS[unit]
    if not text or not text.strip("+-"):
        raise UsageError(f'invalid duration "{text}"', hint="a number and a unit, such as 500ms, 5s or 1m30s")
    return sign * total


def _print(line: str) -> None:
    print_text(line + "\n")
