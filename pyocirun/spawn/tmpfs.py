"""root_on_tmpfs: states that a crash of the machine takes away with the containers."""

from __future__ import annotations

from pyocirun import native
from pyocirun.errors import OperationError

TMPFS_MAGIC = 0x01021994


def mount_tmpfs(root: str) -> None:
    """Mount a tmpfs on `root`, mode 0700, unless it lies on one already. Raises OperationError."""
    if native.fs_type(root) == TMPFS_MAGIC:
        return
    try:
        native.mount("tmpfs", root, "tmpfs", 0, "mode=0700,size=64m")
    except OSError as error:
        text = f"cannot mount a tmpfs on {root}: {error.strerror}"
        raise OperationError(text, errno=error.errno or 0, path=root, step="mount") from error
