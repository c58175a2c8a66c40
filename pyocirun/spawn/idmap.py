"""Mapping the ids of a new user namespace, user_namespaces(7): by its files, or by newuidmap(1) and newgidmap(1)."""

from __future__ import annotations

import posix

from pyocirun import files
from pyocirun.errors import HookError, OperationError, SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyocirun.linux.idmap import IDMapping
    from pyocirun.plan.ops import WriteIdMaps

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HELPER_SECONDS = 30


def write_maps(
    op: WriteIdMaps,
    pid: int,
    newuidmap: str = "newuidmap",
    newgidmap: str = "newgidmap",
    warn: Callable[[str], None] = lambda message: None,
) -> None:
    """Map the ids of the user namespace of `pid`. setgroups is denied first where it must be.

    newuidmap, newgidmap: the programs for a map that the caller may not write itself, looked up in PATH.
    Raises OperationError with the file or program, and errno.
    """
    if op.deny_setgroups:
        _write(f"/proc/{pid}/setgroups", "deny")
    for name, program, text, helped in (
        ("uid_map", newuidmap, op.uid_map, op.uid_helper),
        ("gid_map", newgidmap, op.gid_map, op.gid_helper),
    ):
        if helped:
            _run_helper(program, pid, text, warn)
        else:
            _write(f"/proc/{pid}/{name}", text)


def refuse_other_maps(path: str, uids: Sequence[IDMapping], gids: Sequence[IDMapping]) -> None:
    """Raises SpecError if the user namespace at `path` maps other ids than these.

    The kernel tells it of processes alone: of the one whose /proc/PID/ns/user it is, or else one that joins it.
    """
    process, end, _ = path.rpartition("/ns/user")
    if end and process.startswith("/proc/"):
        maps = (_read_map(f"{process}/uid_map"), _read_map(f"{process}/gid_map"))
    else:
        from pyocirun.spawn.userns import while_in

        maps = while_in(path, lambda pid: (_read_map(f"/proc/{pid}/uid_map"), _read_map(f"/proc/{pid}/gid_map")))
    for kind, wanted, found in (("uid", uids, maps[0]), ("gid", gids, maps[1])):
        if found is not None and found != sorted((line.container_id, line.host_id, line.size) for line in wanted):
            pointer = f"/linux/{kind}Mappings"
            shown = "; ".join(" ".join(map(str, line)) for line in found)
            text = f"{pointer}: the user namespace {path} maps other ids: {shown}"
            raise SpecError(text, pointer=pointer, hint="a namespace that is joined needs no mappings")


def _read_map(path: str) -> list[tuple[int, ...]] | None:
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            text = b"".join(iter(lambda: posix.read(fd, 1 << 16), b""))
        finally:
            posix.close(fd)
    except OSError:
        return None
    return sorted(tuple(map(int, line.split())) for line in text.splitlines())


def _write(path: str, text: str) -> None:
    try:
        fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
        try:
            posix.write(fd, text.encode())
        finally:
            posix.close(fd)
    except OSError as error:
        from pyocirun.spawn.restriction import user_namespace_hint

        name = path.rpartition("/")[2]
        raise OperationError(
            f"cannot write {shown(text)!r} to {name}: {posix.strerror(error.errno or 0)}",
            errno=error.errno or 0,
            path=path,
            step="write",
            hint=user_namespace_hint(error.errno or 0) or _hint(text),
        ) from error


def _hint(text: str) -> str:
    if len(text) >= 4096:
        return f"the kernel takes less than a page at once, and this map has {len(text)} bytes: map fewer ranges"
    return "may the caller map these ids? do ranges overlap?"


def shown(text: str) -> str:
    """A map in one line."""
    return "; ".join(text.splitlines())


def _run_helper(program: str, pid: int, text: str, warn: Callable[[str], None]) -> None:
    """The program is set-user-id root, or has CAP_SETUID: it looks into /etc/subuid or subgid what the caller may map.

    It gets no environment: what runs with privilege should have nothing of the caller's.
    """
    from pyocirun.plan import ops
    from pyocirun.spawn.hook import run_plan

    path = find(program)
    step = ops.RunHook("idmap", 0, path, (path, str(pid), *text.split()), (), HELPER_SECONDS)
    try:
        run_plan((ops.Clone(0), step, ops.Finish()), {}, warn)
    except HookError as error:
        file = "/etc/subgid" if program.endswith("newgidmap") else "/etc/subuid"
        raise OperationError(
            f"cannot map {shown(text)!r} by {path}: {error.stderr.strip() or error.message}",
            path=path,
            step="idmap",
            hint=f"are these ranges given to uid {posix.geteuid()} in {file}? has {path} its set-user-id bit?",
        ) from error


def find(program: str) -> str:
    """The absolute path of a program. Without PATH the usual directories are searched. Raises OperationError."""
    if "/" in program:
        return files.absolute(program)
    for directory in (files.environment("PATH") or DEFAULT_PATH).split(":"):
        path = f"{directory}/{program}"
        if directory.startswith("/") and posix.access(path, posix.X_OK) and not files.is_directory(path):
            return path
    raise OperationError(
        f"cannot map more ids than the caller's own: {program} is not in PATH",
        errno=2,
        step="idmap",
        hint="install it (Debian: uidmap), or map nothing but the caller's own uid and gid, one each",
    )
