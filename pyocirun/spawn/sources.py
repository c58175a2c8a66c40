"""Mount trees that the parent opens: for a user namespace that may not reach them, or to map their ids."""

from __future__ import annotations

import posix

from pyocirun import files, native
from pyocirun.errors import OperationError
from pyocirun.linux.mounts import MOUNT_ATTR_IDMAP, MS_REC
from pyocirun.plan.ops import Slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyocirun.plan.ops import HoldTree, Idmap


def open_trees(trees: tuple[Slot, ...], pid: int) -> tuple[int, ...]:
    """Detached copies, in the order of `trees`. Their propagation is set first: nothing the container does comes back.

    pid: a process in the container's user namespace.
    Raises OperationError for a path that cannot be opened, and for ids that cannot be mapped.
    """
    opened: list[int] = []
    namespaces: dict[tuple[str, str], int] = {}
    try:
        for tree in trees:
            opened.append(_open(tree))
            if tree.idmap is not None:
                _map_ids(tree, opened[-1], tree.idmap, _namespace(tree.idmap, pid, namespaces))
    except BaseException:
        _close(opened)
        raise
    finally:
        _close(namespaces.values())
    return tuple(opened)


def map_held(held: HoldTree, fd: int, pid: int) -> None:
    """Map the ids of a tree that nsexec opened in the container's root, and sent. Raises OperationError."""
    namespaces: dict[tuple[str, str], int] = {}
    tree = Slot("held", held.source, held.recursive, user=held.origin, idmap=held.idmap)
    try:
        _map_ids(tree, fd, held.idmap, _namespace(held.idmap, pid, namespaces))
    finally:
        _close(namespaces.values())


def _open(tree: Slot) -> int:
    try:
        fd = native.open_tree(tree.path, recursive=tree.recursive)
    except OSError as error:
        raise _failure(f"cannot open the mount source {tree.path}", tree, error, "open_tree", "") from error
    if tree.propagation:
        native.mount_setattr(fd, 0, 0, tree.propagation & ~MS_REC, recursive=True)
    return fd


def _namespace(idmap: Idmap, pid: int, namespaces: dict[tuple[str, str], int]) -> int:
    """A descriptor of the user namespace with the maps: the container's, or one that is made for them."""
    maps = (idmap.uid_map, idmap.gid_map)
    if maps not in namespaces:
        if idmap.uid_map:
            from pyocirun.spawn.userns import make_user_namespace

            namespaces[maps] = make_user_namespace(*maps)
        else:
            namespaces[maps] = posix.open(f"/proc/{pid}/ns/user", posix.O_RDONLY | posix.O_CLOEXEC)
    return namespaces[maps]


def _map_ids(tree: Slot, fd: int, idmap: Idmap, namespace: int) -> None:
    try:
        native.mount_setattr(fd, MOUNT_ATTR_IDMAP, recursive=idmap.recursive, userns=namespace)
    except OSError as error:
        # What lies in the container's root, no path of ours leads to.
        name = fs_name(tree.path) if tree.kind == "tree" else "unknown file system"
        hint = "a mount that has an idmap already cannot get another one" if error.errno == 1 else ""
        if error.errno == 22:
            hint = f"does the file system {name} know idmapped mounts? xfs, ext4, btrfs and tmpfs do"
        text = f"cannot map the ids of {tree.path} ({name})"
        raise _failure(text, tree, error, "mount_setattr", hint) from error


def fs_name(path: str) -> str:
    """The type of the file system that `path` lies on, by mountinfo; "unknown file system" if it is not there."""
    fd = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
    try:
        info = files.read_text(f"/proc/thread-self/fdinfo/{fd}")
    finally:
        posix.close(fd)
    mount = next((line.split()[1] for line in info.splitlines() if line.startswith("mnt_id:")), "")
    for line in files.read_text("/proc/thread-self/mountinfo").splitlines():
        if line.split(" ", 1)[0] == mount:
            return line.partition(" - ")[2].split(" ")[0]
    return "unknown file system"


def _failure(what: str, tree: Slot, error: OSError, step: str, hint: str) -> OperationError:
    where = f" ({tree.user})" if tree.user else ""
    text = f"{what}: {step}: {error.strerror}{where}"
    return OperationError(text, errno=error.errno or 0, path=tree.path, step=step, hint=hint)


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        posix.close(fd)
