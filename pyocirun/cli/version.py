"""pyocirun --version: the lines that engines parse."""

from __future__ import annotations

import pyocirun
from pyocirun import about
from pyocirun.cli.output import print_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call

_UNKNOWN = "unknown"


def run(call: Call, session: Session) -> int:
    print_text(text())
    return 0


def text() -> str:
    """Name and version, then the lines `commit:`, `spec:` and, where libseccomp is known, `libseccomp:`."""
    lines = [
        f"pyocirun version {getattr(pyocirun, '__version__', _UNKNOWN)}",
        f"commit: {about.commit() or _UNKNOWN}",
        f"spec: {about.SPEC_VERSION}",
    ]
    if libseccomp := about.libseccomp():
        lines.append(f"libseccomp: {libseccomp}")
    return "\n".join(lines) + "\n"
