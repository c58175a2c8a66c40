"""pyocirun features: what this runtime can do, as engines ask for it."""

from __future__ import annotations

from pyocirun.cli.output import print_text, to_json
from pyocirun.container.features import features

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call


def run(call: Call, session: Session) -> int:
    print_text(to_json(features(), indent="    ") + "\n")
    return 0
