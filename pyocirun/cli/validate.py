"""pyocirun validate: every fault of a configuration at once, and what this machine cannot do of it."""

from __future__ import annotations

from pyocirun.cli.output import print_text, to_json
from pyocirun.errors import UsageError
from pyocirun.spec.reader import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call
    from pyocirun.container.inspection import Inspection


def run(call: Call, session: Session) -> int:
    """Print what was found. 1: there is a fault.  0: there is none, whatever this machine lacks."""
    if call.flags["format"] not in ("text", "json"):
        raise UsageError("invalid format option")
    bundle = call.args[0] if call.args else None
    found = session.factory(effects=False).validate(bundle, config=call.flags["config"] or None)
    strict = call.flags["strict"]
    valid = found.valid and not (strict and found.unknown)
    print_text((_json if call.flags["format"] == "json" else _text)(found, valid, strict))
    return 0 if valid else 1


def _json(found: Inspection, valid: bool, strict: bool) -> str:
    """strict: unknown properties are among the faults."""
    faults = found.faults + (found.unknown if strict else ())
    lists = {"faults": faults, "unknown": found.unknown, "host": found.host}
    return to_json(
        {"valid": valid} | {name: [{"pointer": at, "text": text} for at, text in list] for name, list in lists.items()},
        indent="  ",
    )


def _text(found: Inspection, valid: bool, strict: bool) -> str:
    faults = found.faults + (found.unknown if strict else ())
    parts = ["valid" if valid else f"{len(faults)} fault{'' if len(faults) == 1 else 's'}:", *_lines(faults)]
    if found.unknown and not strict:
        parts += ["ignored by every runtime:", *_lines(found.unknown)]
    if found.host:
        parts += ["cannot be done here:", *_lines(found.host)]
    return "\n".join(parts) + "\n"


def _lines(faults: tuple[tuple[str, str], ...]) -> list[str]:
    return [f"  {describe(pointer, text)}" for pointer, text in faults]
