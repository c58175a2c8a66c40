"""Mounts that criu cannot make by itself, since they come from the host: how a checkpoint names them.

criu writes a name of ours in the place of such a mount, and at the restore asks what to bind there. The name is a
number, never a path: a path that an image chose could be read in two ways, and bind what was not meant
(CVE-2026-119101, CVE-2026-115520). A file beside criu's images, MOUNTS, has what the numbers stand for, together with
all other mounts. What is bound is taken from the configuration alone, and before a restored process runs, what is
mounted is compared with that file and with the host.
"""

from __future__ import annotations

import posix

from pyocirun import files, native
from pyocirun.errors import CriuError, Error
from pyocirun.linux.mounts import MS_BIND, parse_options
from pyocirun.plan.mounts import clean
from pyocirun.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyocirun.spec.config import Spec
    from pyocirun.spec.mounts import Mount

MOUNTS = "mounts.json"
FORMAT = 1
S_IFCHR, S_IFBLK = 0o020000, 0o060000
DEVICE_NAMES = {(1, 3): "null", (1, 5): "zero", (1, 7): "full", (1, 8): "random", (1, 9): "urandom", (5, 0): "tty"}


class Row(Record):
    """A line of proc_pid_mountinfo(5), as far as it matters. root: which part of the file system is mounted."""

    id: int
    parent: int
    device: str
    root: str
    point: str
    readonly: bool
    fstype: str


class Entry(Record):
    """A mount of a checkpoint. point: where, with the container's root for /.  kind: what it is from:

    "": the container itself.  "mount": a bind of the configuration with this destination, or what is `below` it.
    "device": a node of the host, MAJOR:MINOR in `of`.  "cgroup": of a controller in `of`.
    """

    point: str
    kind: str = ""
    of: str = ""
    below: str = ""
    readonly: bool = False


def rows(pid: int) -> list[Row]:
    """The mounts that a process sees, those of its root first. Raises OSError."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return [_row(line) for line in file]


def _row(line: str) -> Row:
    left, _, right = line.partition(" - ")
    id, parent, device, root, point, options = left.split(" ")[:6]
    readonly = "ro" in options.split(",")
    return Row(int(id), int(parent), device, _plain(root), _plain(point), readonly, right.split(" ")[0])


def _plain(text: str) -> str:
    """Without the kernel's escapes: blank, tab, newline and backslash are three octal digits."""
    first, *others = text.split("\\")
    return first + "".join(chr(int(part[:3], 8)) + part[3:] for part in others)


def entries(spec: Spec, bundle: str, pid: int, cgroup_paths: dict[str, str]) -> list[Entry]:
    """All mounts of a container, by what is mounted where now. bundle: sources count from there.

    Raises CriuError for what cannot be told apart.
    """
    mounted = rows(pid)
    root = posix.open(f"/proc/{pid}/root", posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        binds = _configured(spec, mounted, root)
        # In a cgroup namespace the file system itself is mounted, which criu does.
        bound = cgroup_paths if spec.linux.namespace("cgroup") is None else {}
        found = [_entry(row, mounted, binds, bundle, root, bound) for row in mounted]
    finally:
        posix.close(root)
    _refuse_unspeakable(found)
    return found


def _configured(spec: Spec, mounted: list[Row], root: int) -> dict[int, Mount]:
    """Mount id -> the bind of the configuration that it is."""
    known = {row.id: row for row in mounted}
    binds: dict[int, Mount] = {}
    for index, mount in enumerate(spec.mounts):
        if not is_bind(mount):
            continue
        try:
            fd = native.open_beneath(root, clean(mount.destination), links=True)
        except OSError as error:
            text = f"mounts[{index}]: {mount.destination} cannot be found in the container"
            raise CriuError(f"{text}: {error.strerror}", errno=error.errno or 0, path=mount.destination) from error
        try:
            id = _mount_id(fd)
        finally:
            posix.close(fd)
        if id not in known or known[id].point == "/":
            raise CriuError(f"mounts[{index}]: nothing is mounted on {mount.destination} any more")
        if id in binds:
            text = f"mounts[{index}] on {mount.destination} and the mount on {binds[id].destination} are in one place"
            raise CriuError(text, hint="is one of them a link to the other? a restore could not tell them apart")
        binds[id] = mount
    return binds


def is_bind(mount: Mount) -> bool:
    """Whether it comes from the host."""
    flags = parse_options(mount.options).flags
    return mount.type == "bind" or bool(flags & MS_BIND)


def _mount_id(fd: int) -> int:
    with open(f"/proc/thread-self/fdinfo/{fd}") as file:
        return next(int(line[7:]) for line in file if line.startswith("mnt_id:"))


def _entry(
    row: Row, mounted: list[Row], binds: dict[int, Mount], bundle: str, root: int, cgroup_paths: dict[str, str]
) -> Entry:
    if row.point == "/":
        return Entry("/", readonly=row.readonly)
    bound = _bind_around(row, mounted, binds)
    if bound is not None:
        mount = binds[bound.id]
        below = row.point[len(bound.point) :].strip("/")
        if not below or _came_along(row, _top(mount, bundle), below):
            return Entry(row.point, "mount", clean(mount.destination), below, row.readonly)
    if cgroup_paths and row.root != "/" and row.fstype in ("cgroup", "cgroup2"):
        return Entry(row.point, "cgroup", _controller(row, cgroup_paths), readonly=row.readonly)
    own = [other.device for other in mounted if other.root == "/" and other.point != "/" and other.id not in binds]
    if row.device not in own:
        device = _device(root, row.point)
        if device is not None:
            return Entry(row.point, "device", device, readonly=row.readonly)
    return Entry(row.point, readonly=row.readonly)


def _bind_around(row: Row, mounted: list[Row], binds: dict[int, Mount]) -> Row | None:
    """The bind of the configuration that a mount is, or lies in."""
    known = {other.id: other for other in mounted}
    while row.id not in binds:
        if row.parent not in known or row.parent == row.id:
            return None
        row = known[row.parent]
    return row


def _came_along(row: Row, top: str, below: str) -> bool:
    """Whether the host has the same below the source of a bind; else the container has mounted it there."""
    try:
        about = posix.stat(f"{top}/{below}", follow_symlinks=False)
    except OSError:
        return False
    return f"{posix.major(about.st_dev)}:{posix.minor(about.st_dev)}" == row.device


def _controller(row: Row, cgroup_paths: dict[str, str]) -> str:
    """Which of the container's cgroups is bound there: by file system and directory."""
    for controller, path in cgroup_paths.items():
        try:
            about = posix.stat(path)
        except OSError:
            continue
        if f"{posix.major(about.st_dev)}:{posix.minor(about.st_dev)}" == row.device and path.endswith(row.root):
            return controller
    raise CriuError(f"the cgroup {row.root} on {row.point} is not the container's own: it cannot be restored")


def _device(root: int, point: str) -> str | None:
    try:
        fd = native.open_beneath(root, point, links=False)
    except OSError:
        return None
    try:
        about = posix.fstat(fd)
    finally:
        posix.close(fd)
    if about.st_mode & files.S_IFMT not in (S_IFCHR, S_IFBLK):
        return None
    return f"{posix.major(about.st_rdev)}:{posix.minor(about.st_rdev)}"


def _refuse_unspeakable(found: list[Entry]) -> None:
    """criu's options end a path at "]:", see add_external() in its documentation of --external."""
    for entry in found:
        if entry.kind and ("]:" in entry.point or "\n" in entry.point):
            text = f"criu cannot be told of a mount on {entry.point!r}"
            raise CriuError(text, path=entry.point, hint='a path in its options ends at "]:"')


def key(index: int) -> str:
    """How criu's images name the mount with this index in MOUNTS."""
    return f"pyocirun-{index}"


def to_document(found: list[Entry]) -> dict[str, Any]:
    """MOUNTS, ready for JSON."""
    return {"format": FORMAT, "mounts": [{name: getattr(entry, name) for name in Entry._fields} for entry in found]}


def from_document(document: object, path: str) -> list[Entry]:
    """The mounts in a MOUNTS. Raises CriuError."""
    try:
        if not isinstance(document, dict) or document["format"] != FORMAT:
            raise ValueError
        found = [Entry(**entry) for entry in document["mounts"]]
        for entry in found:
            if not all(isinstance(getattr(entry, name), str) for name in ("point", "kind", "of", "below")):
                raise ValueError
    except (KeyError, TypeError, ValueError):
        hint = "a checkpoint is restored by the runtime that made it"
        raise CriuError(f"{path} is none of pyocirun's", path=path, hint=hint) from None
    return found


def sources(found: list[Entry], spec: Spec, bundle: str, cgroup_paths: dict[str, str]) -> list[tuple[int, str]]:
    """(index, path on the host) of all mounts that criu has to be told of. Raises CriuError.

    The configuration must have the same binds as at the checkpoint.
    """
    binds = {clean(mount.destination): mount for mount in spec.mounts if is_bind(mount)}
    told = []
    for index, entry in enumerate(found):
        if entry.kind == "mount":
            if entry.of not in binds:
                raise CriuError(f"the configuration has no bind mount on {entry.of}, which the checkpoint has")
            told.append((index, _source(binds[entry.of], entry, bundle)))
        elif entry.kind == "cgroup":
            if entry.of not in cgroup_paths:
                raise CriuError(f"there is no cgroup of the controller {entry.of!r} for {entry.point}")
            told.append((index, cgroup_paths[entry.of]))
        elif entry.kind == "device":
            told.append((index, _node(entry, spec)))
        elif entry.kind:
            raise CriuError(f"the checkpoint has a mount of an unknown kind {entry.kind!r}")
    missing = set(binds) - {entry.of for entry in found if entry.kind == "mount"}
    if missing:
        text = f"the checkpoint has no bind mount on {min(missing)}, which the configuration has"
        raise CriuError(text, hint="a container is restored with the mounts that it had")
    return told


def _top(mount: Mount, bundle: str) -> str:
    source = mount.source or ""
    return files.real(source if source.startswith("/") else f"{bundle}/{source}")


def _source(mount: Mount, entry: Entry, bundle: str) -> str:
    top = _top(mount, bundle)
    if not entry.below:
        return top
    fd = posix.open(top, posix.O_PATH | posix.O_CLOEXEC)
    try:
        posix.close(native.open_beneath(fd, entry.below, links=False))
    except OSError as error:
        text = f"{entry.below} is not below {top}, as it was at the checkpoint: {error.strerror}"
        raise CriuError(text, errno=error.errno or 0, path=f"{top}/{entry.below}") from error
    finally:
        posix.close(fd)
    return f"{top}/{entry.below}"


def _node(entry: Entry, spec: Spec) -> str:
    """The host's own node of a device that the container was given."""
    for path in [f"/dev/{name}" for number, name in DEVICE_NAMES.items() if entry.of == f"{number[0]}:{number[1]}"]:
        return path
    for device in spec.linux.devices:
        if entry.of == f"{device.major}:{device.minor}":
            return device.path
    raise CriuError(f"the configuration has no device {entry.of} for {entry.point}, which the checkpoint has")


def refuse_links(found: list[Entry], rootfs: str) -> None:
    """Raises CriuError if a mount would go through a link of the rootfs: criu takes the paths as they were.

    What is missing is made, and what lies in a file system of the container's own comes back with it.
    """
    own = [entry.point for entry in found if entry.point != "/"]
    root = posix.open(rootfs, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        for point in own:
            if any(point.startswith(f"{other}/") for other in own):
                continue
            try:
                posix.close(native.open_beneath(root, point, links=False))
            except FileNotFoundError:
                continue
            except OSError as error:
                text = f"the mount on {point} would go through a link in the rootfs, which was none at the checkpoint"
                raise CriuError(text, errno=error.errno or 0, path=f"{rootfs}{point}") from error
    finally:
        posix.close(root)


def compare(found: list[Entry], told: list[tuple[int, str]], pid: int) -> None:
    """Raises CriuError unless a restored process sees the mounts of the checkpoint, and of the host what it should."""
    mounted = {row.point: row for row in rows(pid)}  # of several in one place, the last one is on top
    expected = {entry.point for entry in found}
    if expected != set(mounted):
        odd = min(expected ^ set(mounted))
        state = "is not mounted" if odd in expected else "is mounted, and was not at the checkpoint"
        raise CriuError(f"{odd} {state}: the container is not restored", path=odd)
    for entry in found:
        if entry.readonly and not mounted[entry.point].readonly:
            raise CriuError(
                f"{entry.point} is not read-only as it was: the container is not restored", path=entry.point
            )
    root = posix.open(f"/proc/{pid}/root", posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        for index, source in told:
            _compare_one(found[index], source, root)
    except OSError as error:
        text = f"what was restored cannot be looked at: {error.strerror}"
        raise Error(text, errno=error.errno or 0, path=str(error.filename or ""), step="compare") from error
    finally:
        posix.close(root)


def _compare_one(entry: Entry, source: str, root: int) -> None:
    fd = native.open_beneath(root, entry.point, links=False)
    try:
        same = files.same(posix.fstat(fd), posix.stat(source))
    finally:
        posix.close(fd)
    if not same:
        raise CriuError(f"{entry.point} is not {source}: the container is not restored", path=entry.point)
