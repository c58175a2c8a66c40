"""linux.maskedPaths and linux.readonlyPaths."""

from __future__ import annotations

from pyocirun.linux.mounts import MOUNT_ATTR_RDONLY
from pyocirun.plan import ops
from pyocirun.plan.mounts import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.spec.config import Spec


def protect(spec: Spec) -> list[ops.Op]:
    """Read-only first: a mask may lie inside such a tree, never the other way round.

    Spec: config-linux.md#masked-paths, #readonly-paths. What is missing is passed over; what comes twice is done once.
    """
    return [
        *[_readonly(path) for path in dict.fromkeys(spec.linux.readonly_paths or ())],
        *[ops.MaskPath(path) for path in dict.fromkeys(spec.linux.masked_paths or ())],
    ]


def _readonly(path: str) -> ops.Op:
    """What is mounted on the root is seen by nobody who has it as root already: the root itself changes."""
    return ops.Attributes("/", MOUNT_ATTR_RDONLY) if clean(path) == "/" else ops.ReadonlyPath(path)
