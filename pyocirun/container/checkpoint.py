"""checkpoint: criu writes the processes of a container to files, and ends them unless they are to go on."""

from __future__ import annotations

import json
import posix

from pyocirun import files
from pyocirun.container import criu_rpc as rpc
from pyocirun.container import external
from pyocirun.container.criu import Criu, CriuOptions, Refused, Run, check, common, open_directory, with_log
from pyocirun.container.state import write_file
from pyocirun.errors import Error, StateError, UsageError
from pyocirun.plan.criu import refuse_unrestorable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.cgroup.manager import Manager
    from pyocirun.container.container import Container
    from pyocirun.container.criu_rpc import Field, Value
    from pyocirun.spec.config import Spec

LOG = "dump.log"
DESCRIPTORS = "descriptors.json"
OWN_STATUS = 31500
"""criu 3.15 tells by a notification that memory can be fetched; older ones write to a descriptor."""
FREEZES_V2 = 31400
EXTERNAL_SINCE = {"network": 31100, "pid": 31500}
EXTERNAL_KEYS = {"network": ("net", "extRootNetNS"), "pid": ("pid", "extRootPidNS")}
"""Namespaces that were joined: criu leaves them alone, and is given them at the restore under these names."""


def dump(container: Container, options: CriuOptions) -> None:
    """Write the images of a running or paused container. It is up to the caller to delete what has ended by it.

    Raises StateError, UsageError, SpecError, CriuError.
    """
    check(options)
    status = container.status
    if status not in ("running", "paused"):
        text = f"Container cannot be checkpointed in {status} state"
        raise StateError(text, id=container.id, status=status, hint="it has to run, or to be paused")
    spec = container.spec()
    refuse_unrestorable(spec)
    if options.parent_path.startswith("/"):
        raise UsageError("--parent-path must be relative", hint="it counts from the path of the images")
    _check_status_fd(options)
    criu = Criu(container.criu, container._warn)
    criu.require(30000, "a checkpoint")
    if options.pre_dump:
        criu.require_feature(rpc.MEM_TRACK, "a pre-dump, which needs memory tracking,")
    if options.lazy_pages:
        criu.require_feature(rpc.LAZY_PAGES, "a checkpoint with lazy pages")
    # In a user namespace criu looks for images as a user who may only pass through.
    images = open_directory(options.image_path, make=0o711 if spec.linux.namespace("user") else 0o700)
    work = -1
    try:
        _check_parent(options, images)
        work = open_directory(options.work_path, make=0o700) if options.work_path else -1
        request = _request(container, spec, criu, options, images, work)
        _run(container, criu, options, request)
    finally:
        for fd in (images, work):
            if fd >= 0:
                posix.close(fd)


def _check_parent(options: CriuOptions, images: int) -> None:
    """It counts from the directory of the images, which is there by now."""
    parent = options.parent_path
    if not parent:
        return
    try:
        found = posix.stat(parent, dir_fd=images).st_mode & files.S_IFMT == files.S_IFDIR
    except OSError:
        found = False
    if not found:
        path = f"{options.image_path}/{parent}"
        raise UsageError(f"invalid --parent-path: {path}: no such directory", path=path)


def _check_status_fd(options: CriuOptions) -> None:
    fd = options.status_fd
    if fd < 0:
        return
    try:
        with open(f"/proc/thread-self/fdinfo/{fd}") as file:
            flags = next(int(line.split()[1], 8) for line in file if line.startswith("flags:"))
    except OSError:
        raise UsageError(f"invalid --status-fd argument {fd}: it is not open") from None
    if flags & posix.O_ACCMODE == posix.O_RDONLY:
        raise UsageError(f"invalid --status-fd argument {fd}: not writable")


def _request(container: Container, spec: Spec, criu: Criu, options: CriuOptions, images: int, work: int) -> list[Field]:
    values: dict[str, Value | tuple[Value, ...]] = {
        **common(options, container.annotations, LOG),
        "images_dir_fd": images,
        "work_dir_fd": work if work >= 0 else None,
        "pid": container.pid,
        "root": container.rootfs,
        "leave_running": options.leave_running,
        "tcp_skip_in_flight": options.tcp_skip_in_flight,
        "link_remap": options.link_remap,
        "external": _external_namespaces(spec, criu),
        "freeze_cgroup": _freezer(container.manager, criu),
        "parent_img": options.parent_path or None,
        "track_mem": bool(options.parent_path) or options.pre_dump,
        "status_fd": options.status_fd if options.status_fd >= 0 and criu.version() < OWN_STATUS else None,
    }
    if options.page_server is not None:
        address, port = options.page_server
        values["page_server"] = [(1, address), (2, port)]
    if not options.pre_dump:
        found = external.entries(spec, container.bundle, container.pid, container.manager.paths)
        values["ext_mnt"] = tuple(
            [(1, entry.point), (2, external.key(index))] for index, entry in enumerate(found) if entry.kind
        )
        write_file(images, external.MOUNTS, json.dumps(external.to_document(found)).encode())
        write_file(images, DESCRIPTORS, json.dumps(_descriptors(container.pid)).encode())
    kind = rpc.PRE_DUMP if options.pre_dump else rpc.DUMP
    return [(rpc.REQUEST_TYPE, kind), (rpc.REQUEST_OPTIONS, rpc.options(values))]


def _run(container: Container, criu: Criu, options: CriuOptions, request: list[Field]) -> None:
    nothing = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    status_fd = options.status_fd

    def notified(script: str, pid: int, fd: int) -> None:
        nonlocal status_fd
        if script == "status-ready" and status_fd >= 0:
            try:
                posix.write(status_fd, b"\0")
                posix.close(status_fd)
            except OSError as error:
                container._warn(f"cannot write to descriptor {status_fd} that memory can be fetched: {error.strerror}")
            status_fd = -1

    try:
        with Run(criu, (nothing, nothing, nothing)) as run:
            run.ask(request, notified)
    except Refused as error:
        raise with_log(error, options.work_path or options.image_path, LOG) from error
    finally:
        posix.close(nothing)


def _external_namespaces(spec: Spec, criu: Criu) -> tuple[str, ...]:
    found = []
    for space in spec.linux.namespaces:
        if space.path is not None and space.type in EXTERNAL_KEYS:
            criu.require(EXTERNAL_SINCE[space.type], f"a checkpoint in a {space.type} namespace that was joined")
            file, key = EXTERNAL_KEYS[space.type]
            try:
                inode = posix.stat(space.path).st_ino
            except OSError as error:
                text = f"the {space.type} namespace {space.path} is gone: {error.strerror}"
                raise Error(text, errno=error.errno or 0, path=space.path, step="stat") from error
            found.append(f"{file}[{inode}]:{key}")
    return tuple(found)


def _freezer(manager: Manager, criu: Criu) -> str | None:
    """The cgroup that stands still meanwhile; else criu stops one thread after another."""
    paths = manager.paths
    if "freezer" in paths:
        return paths["freezer"]
    return paths.get("") if set(paths) == {""} and criu.version() >= FREEZES_V2 else None


def _descriptors(pid: int) -> list[str]:
    """What the standard descriptors of init are: a restore passes on its own in the place of pipes."""
    found = []
    for fd in (0, 1, 2):
        try:
            found.append(posix.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            found.append("")
    return found
