"""A user namespace for the sake of its maps alone: an idmapped mount has ids by it."""

from __future__ import annotations

import posix

from pyocirun.linux.namespaces import CLONE_NEWUSER
from pyocirun.plan import ops
from pyocirun.plan.encode import encode
from pyocirun.spawn.effects import kill
from pyocirun.spawn.idmap import write_maps
from pyocirun.spawn.launch import Launched, launch
from pyocirun.spawn.sync import NOTHING, Answer, drive


def make_user_namespace(uid_map: str, gid_map: str) -> int:
    """A descriptor of a new user namespace; nobody lives in it. Maps are lines of "inside outside count".

    A second nsexec makes it, by a plan of its own. Raises OperationError for maps that may not be written.
    """
    maps = ops.WriteIdMaps(uid_map, gid_map)
    plan = ops.Plan((ops.Clone(0), ops.Unshare(CLONE_NEWUSER), maps, ops.Sync("id-maps"), ops.Finish()))
    nothing = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    try:
        launched = launch(plan, encode(plan), lambda slot: -1, (nothing, nothing, nothing))
    finally:
        posix.close(nothing)
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
