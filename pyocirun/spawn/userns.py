"""A user namespace for the sake of its maps alone: an idmapped mount has ids by it, or it is to be compared."""

from __future__ import annotations

import posix

from pyocirun.linux.namespaces import CLONE_NEWUSER
from pyocirun.plan import ops
from pyocirun.plan.encode import encode
from pyocirun.spawn.effects import kill, open_namespace
from pyocirun.spawn.idmap import write_maps
from pyocirun.spawn.launch import Launched, launch
from pyocirun.spawn.sync import NOTHING, Answer, drive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")


def make_user_namespace(uid_map: str, gid_map: str) -> int:
    """A descriptor of a new user namespace; nobody lives in it. Maps are lines of "inside outside count".

    A second nsexec makes it, by a plan of its own. Raises OperationError for maps that may not be written.
    """
    maps = ops.WriteIdMaps(uid_map, gid_map)
    plan = ops.Plan((ops.Clone(0), ops.Unshare(CLONE_NEWUSER), maps, ops.Sync("id-maps"), ops.Finish()))
    launched = _launch(plan, lambda slot: -1)
    found = -1

    def mapped(fd: int) -> Answer:
        nonlocal found
        found = posix.open(f"/proc/{launched.pid}/ns/user", posix.O_RDONLY | posix.O_CLOEXEC)
        return NOTHING

    def write(op: ops.WriteIdMaps, launched: Launched) -> None:
        write_maps(op, launched.pid)

    try:
        drive(plan, launched, {ops.WriteIdMaps: write}, {"id-maps": mapped}, lambda text: None)
    except BaseException:
        if found >= 0:
            posix.close(found)
        raise
    finally:
        launched.close()
        kill(launched)
    return found


def while_in(path: str, look: Callable[[int], T]) -> T:
    """What `look` finds about a process, by its pid, that is in the user namespace at `path` meanwhile.

    Raises OperationError where it cannot be joined.
    """
    plan = ops.Plan((ops.Clone(0), ops.JoinNamespace("user", path), ops.Sync("id-maps"), ops.Finish()))
    launched = _launch(plan, lambda slot: open_namespace(slot.path, "user"))
    found: list[T] = []

    def joined(fd: int) -> Answer:
        found.append(look(launched.pid))
        return NOTHING

    try:
        drive(plan, launched, {}, {"id-maps": joined}, lambda text: None)
    finally:
        launched.close()
        kill(launched)
    return found[0]


def _launch(plan: ops.Plan, open_slot: Callable[[ops.Slot], int]) -> Launched:
    nothing = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    try:
        return launch(plan, encode(plan), open_slot, (nothing, nothing, nothing))
    finally:
        posix.close(nothing)
