"""linux.maskedPaths and linux.readonlyPaths."""

from __future__ import annotations

from pyocirun.plan import ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.spec.config import Spec


def protect(spec: Spec) -> list[ops.Op]:
    """Read-only first: a mask may lie inside such a tree, never the other way round.

    Spec: config-linux.md#masked-paths, #readonly-paths. What is missing is passed over; what comes twice is done once.
    """
    return [
        *[ops.ReadonlyPath(path) for path in dict.fromkeys(spec.linux.readonly_paths or ())],
        *[ops.MaskPath(path) for path in dict.fromkeys(spec.linux.masked_paths or ())],
    ]
