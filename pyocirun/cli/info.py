"""pyocirun info: this runtime and this machine on one page."""

from __future__ import annotations

from pyocirun.cli.output import print_text, to_json
from pyocirun.container.info import info
from pyocirun.errors import UsageError
from pyocirun.linux.capabilities import CAPABILITIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call


def run(call: Call, session: Session) -> int:
    if call.flags["format"] not in ("text", "json"):
        raise UsageError("invalid format option")
    found = info(session.factory(effects=False))
    print_text(to_json(found, indent="  ") + "\n" if call.flags["format"] == "json" else _text(found))
    return 0


def _text(found: dict[str, dict[str, Any]]) -> str:
    lines = []
    for section, values in found.items():
        width = max(map(len, values), default=0)
        lines += [section, *(f"  {name:{width}}  {_word(name, value)}" for name, value in values.items())]
    return "\n".join(lines) + "\n"


def _word(name: str, value: Any) -> str:
    if name == "capabilities":
        return _capabilities(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _capabilities(names: list[str]) -> str:
    """The shorter of what is there and what is missing."""
    missing = [name for name in CAPABILITIES if name not in names]
    if len(missing) > len(names):
        return " ".join(names) or "none"
    return f"all but {' '.join(missing)}" if missing else "all"
