"""pyocirun list: the containers of a root directory, as a table, as JSON or as bare ids."""

from __future__ import annotations

import os

from pyocirun.cli.output import print_text, to_json
from pyocirun.errors import Error, StateError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call

_COLUMNS = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")
_KEYS = ("id", "pid", "status", "bundle", "created", "owner")
_LEAST_WIDTH = 12
_PADDING = 3


def run(call: Call, session: Session) -> int:
    states = _states(session)
    if call.flags["quiet"]:
        print_text("".join(state["id"] + "\n" for state in states))
    elif call.flags["format"] == "table":
        print_text(table([_COLUMNS, *[tuple(str(state[key]) for key in _KEYS) for state in states]]))
    elif call.flags["format"] == "json":
        # runc prints null for none, and callers of Go read both.
        print_text(to_json(states or None) + "\n")
    else:
        raise UsageError("invalid format option")
    return 0


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows of cells as left-aligned columns, to the byte what runc's table writer makes of them."""
    widths = [max(_LEAST_WIDTH, *[len(cell) + _PADDING for cell in column]) for column in zip(*rows)]
    return "".join("".join(cell.ljust(width) for cell, width in zip(row[:-1], widths)) + row[-1] + "\n" for row in rows)


def _states(session: Session) -> list[dict[str, Any]]:
    """State and owner of each container, by id. A root that was named must be there, the default one need not."""
    root = session.root()
    if session.flags["root"] is not None:
        try:
            os.stat(root)
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise Error(f"open {root}: {reason}", errno=error.errno or 0, path=root, step="open") from error
    states = []
    for container in session.factory(warn=_tell).list():
        try:
            states.append({**container.state(), "owner": container.owner})
        except StateError as error:
            _tell(f"container {container.id}: {error}")  # deleted while we look, or broken
    return states


def _tell(text: str) -> None:
    """Beside the list and not in the log: it is for whoever looks at the list."""
    print_text(text + "\n", fd=2)
