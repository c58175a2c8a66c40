"""pyocirun explain: the plan of a container, operation by operation. It changes nothing, and needs no root."""

from __future__ import annotations

from pyocirun.cli.output import print_text
from pyocirun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call


def run(call: Call, session: Session) -> int:
    print_plan(session, call.flags, bundle=call.args[0] if call.args else None, id=call.flags["id"])
    return 0


def print_plan(session: Session, flags: dict[str, Any], *, bundle: str | None, id: str | None) -> None:
    """Print the plan for `bundle` on this host. bundle: None for the current directory.  Raises Error."""
    if flags["format"] not in ("text", "json"):
        raise UsageError("invalid format option")
    wishes: dict[str, Any] = {"config": flags["config"] or None, "no_pivot": flags["no-pivot"]}
    if id:
        wishes["id"] = id
    plan = session.factory(effects=False).plan(bundle or ".", **wishes)
    from pyocirun.plan.explain import as_json, text

    show = as_json if flags["format"] == "json" else text
    print_text(show(plan, show_env=flags["show-env"]))
