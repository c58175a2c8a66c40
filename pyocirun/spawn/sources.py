"""Mount trees that the parent opens for a container whose user namespace may not reach them."""

from __future__ import annotations

import posix

from pyocirun import native
from pyocirun.errors import OperationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.plan.ops import Slot


def open_trees(trees: tuple[Slot, ...]) -> tuple[int, ...]:
    """Detached copies, in the order of `trees`. Their propagation is set first: nothing the container does comes back.

    Raises OperationError for a path that cannot be opened.
    """
    opened: list[int] = []
    try:
        for tree in trees:
            opened.append(native.open_tree(tree.path, recursive=tree.recursive))
            if tree.propagation:
                native.mount_setattr(opened[-1], 0, 0, tree.propagation & ~0x4000, recursive=True)
    except OSError as error:
        for fd in opened:
            posix.close(fd)
        text = f"cannot open the mount source {tree.path}: {error.strerror}"
        raise OperationError(text, errno=error.errno or 0, path=tree.path, step="open_tree") from error
    return tuple(opened)
