"""state.json: what is kept of a container, written atomically and read with distrust."""

from __future__ import annotations

import posix

from pyocirun import files, native
from pyocirun.errors import ContainerNotExist, InvalidID, StateError
from pyocirun.record import Record, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1
STATE = "state.json"
CONFIG = "config.json"
GATE = "gate"
REPORT = "report"
NOTIFY = "notify"
"""The one directory, of containers that a service manager waits for."""
NET_DEVICES = "@netdevices"
"""Below the root directory, and no container: there while network devices are being moved. See net_undo.py."""
_KINDS: dict[str, type] = {
    **dict.fromkeys(("pyocirun_state_version", "init_process_pid", "init_process_start", "start_index", "total"), int),
    **dict.fromkeys(("id", "oci_version", "bundle", "rootfs", "created", "cgroup_manager"), str),
    **dict.fromkeys(("rdt_group", "rdt_monitor"), str),
    **dict.fromkeys(("cgroup_paths", "annotations", "unit"), dict),
    **dict.fromkeys(("namespace_types", "behind_gate"), tuple),
}
"""What each field of a state is; those that are not here are true or false."""
ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+.-")


class State(Record):
    """What state.json holds. The configuration lies beside it, as it was when the container was created.

    created: RFC 3339 with nanoseconds, UTC.  init_process_pid: 0 before the container is created (status "creating").
    init_process_start: start time of that process, field 22 of /proc/PID/stat.  cgroup_paths: controller -> directory.
    cgroup_manager: "cgroupfs", "systemd" or "none".  namespace_types: the spec's types of all its namespaces.
    start_index: of Sync("start") in the plan, total: how many operations that has.  behind_gate: what comes after it,
    as (index, operation, text, timeout), for messages.  rdt_group: the resctrl group and its monitoring group, "" for
    none.  rdt_made: that group ends with the container.  exec_reads_config: it has what holds for processes that exec
    starts, too.  poststart, poststop: there are such hooks in the configuration.  unit: the fields of
    the Unit that systemd made the cgroup for, {} for none.
    """

    pyocirun_state_version: int
    id: str
    oci_version: str
    bundle: str
    rootfs: str
    created: str
    init_process_pid: int = 0
    init_process_start: int = 0
    rootless: bool = False
    cgroup_manager: str = "cgroupfs"
    cgroup_paths: dict[str, str] = {}
    namespace_types: tuple[str, ...] = ()
    annotations: dict[str, str] = {}
    start_index: int = -1
    total: int = 0
    behind_gate: tuple[tuple[int, str, str, int], ...] = ()
    has_process: bool = True
    exec_reads_config: bool = False
    poststart: bool = False
    poststop: bool = False
    rdt_group: str = ""
    rdt_monitor: str = ""
    rdt_made: bool = False
    unit: dict[str, Any] = {}


class Directory:
    """A container's own directory below the root directory, locked while it is open.

    Everything inside is done relative to its descriptor: what is put in the place of the name meanwhile has no effect.
    """

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Unlock."""
        if self.fd >= 0:
            posix.close(self.fd)
            self.fd = -1

    def save(self, state: State) -> bytes:
        """Write state.json: a reader finds the old one or the new one, whole. What was written comes back."""
        data = self.prepare(state)
        self.commit()
        return data

    def prepare(self, state: State) -> bytes:
        """The first half of `save`: all but the moment from which on it holds."""
        data = to_json(dict(zip(State._fields, values(state)))).encode("utf-8", "surrogateescape")
        write_temporary(self.fd, STATE, data)
        return data

    def commit(self) -> None:
        """The second half: what was prepared last takes the place of the old state."""
        rename_temporary(self.fd, STATE)

    def remove(self) -> None:
        """Remove the directory with all its files, and what it has of NOTIFY."""
        for name in (STATE, CONFIG, GATE, REPORT):
            try:
                posix.unlink(name, dir_fd=self.fd)
            except FileNotFoundError:
                continue
        try:
            posix.rmdir(self.path)
        except OSError:  # a write was cut short
            self._remove_rest()

    def _remove_rest(self) -> None:
        for name in (STATE, CONFIG):
            try:
                posix.unlink(_temporary(name), dir_fd=self.fd)
            except FileNotFoundError:
                continue
        try:
            posix.rmdir(self.path)
        except OSError:  # listing takes a descriptor, which may be what is lacking
            for name in posix.listdir(self.fd):
                if name == NOTIFY:
                    self._remove_notify()
                else:
                    posix.unlink(name, dir_fd=self.fd)
            posix.rmdir(self.path)

    def _remove_notify(self) -> None:
        fd = posix.open(NOTIFY, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=self.fd)
        try:
            for name in posix.listdir(fd):
                posix.unlink(name, dir_fd=fd)
        finally:
            posix.close(fd)
        posix.rmdir(NOTIFY, dir_fd=self.fd)


def check_id(id: str) -> str:
    """`id`, if it can be a container's. Raises InvalidID, with runc's text."""
    if not id or id in (".", "..") or len(id) > 255 or not ID_CHARACTERS.issuperset(id):
        raise InvalidID(f"invalid container ID format: {id!r}", id=id, hint="use letters, digits and _ + - .")
    return id


def check_root(root: str, *, make: bool = False) -> None:
    """Refuse a root directory that another user could tamper with. make: make it if it is missing, mode 0700.

    Raises StateError.
    """
    try:
        about = posix.stat(root)
    except FileNotFoundError:
        if make:
            files.make_directories(root, 0o700)
        return
    if about.st_uid != posix.geteuid() or about.st_mode & 0o022 or about.st_mode & files.S_IFMT != files.S_IFDIR:
        raise StateError(
            f"the root directory {root} is not safe: it must be a directory of this user's that no other may write to",
            path=root,
            hint=_root_hint(root, about.st_uid),
        )


def _root_hint(root: str, owner: int) -> str:
    uid = posix.geteuid()
    if uid not in (0, owner):
        return f"{root} is of user {owner}: --root names another directory, or set XDG_RUNTIME_DIR"
    return f"chown {uid} {root} && chmod 700 {root}"


def make_directory(root: str, id: str) -> Directory | None:
    """A new, locked directory for a container; None if there is one."""
    path = f"{root}/{id}"
    try:
        posix.mkdir(path, 0o700)
    except FileExistsError:
        return None
    return open_directory(root, id)


def open_directory(root: str, id: str, *, wait: bool = True) -> Directory | None:
    """The container's directory, locked; None, with wait False, if another process has the lock.

    Raises ContainerNotExist. The lock is of the directory itself, so it is looked at once more after waiting: the one
    that was waited for may be gone.
    """
    path = f"{root}/{id}"
    while True:
        fd = _open(path, id)
        try:
            if not native.flock(fd, wait=wait):
                posix.close(fd)
                return None
            now = posix.stat(path, follow_symlinks=False)
            if files.same(now, posix.fstat(fd)):
                return Directory(path, fd)
        except FileNotFoundError:
            posix.close(fd)
            raise not_exist(id) from None
        except BaseException:
            posix.close(fd)
            raise
        posix.close(fd)


def _open(path: str, id: str) -> int:
    try:
        return posix.open(path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC)
    except FileNotFoundError:
        raise not_exist(id) from None
    except OSError as error:
        text = f"cannot open the state directory of container {id}: {error.strerror}"
        number = error.errno or 0
        hint = "a symbolic link there is not ours"
        raise StateError(text, id=id, errno=number, path=path, hint=hint, step="open") from None


def not_exist(id: str) -> ContainerNotExist:
    """The error for an unknown id."""
    return ContainerNotExist(f"container {id!r}: container does not exist", id=id)


def load(root: str, id: str) -> State:
    """The saved state. Raises ContainerNotExist, or StateError for one that cannot be used."""
    directory = _open(f"{root}/{id}", id)
    try:
        data = read(directory, root, id)
    finally:
        posix.close(directory)
    return parse(data, id, f"{root}/{id}/{STATE}")


def read(directory: int, root: str, id: str) -> bytes:
    """The bytes of state.json in a container's directory. Raises ContainerNotExist, StateError."""
    path = f"{root}/{id}/{STATE}"
    try:
        fd = posix.open(STATE, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK, dir_fd=directory)
    except FileNotFoundError:
        raise not_exist(id) from None
    except OSError as error:
        text, number = f"cannot open the state of container {id}: {error.strerror}", error.errno or 0
        raise StateError(text, id=id, errno=number, path=path, step="open") from None
    try:
        return posix.read(fd, min(posix.fstat(fd).st_size, 1 << 24))
    except OSError as error:
        text, number = f"cannot read the state of container {id}: {error.strerror}", error.errno or 0
        raise StateError(text, id=id, errno=number, path=path, step="read") from None
    finally:
        posix.close(fd)


def parse(data: bytes, id: str, path: str = "") -> State:
    """The state that these bytes describe. Raises StateError."""
    from pyocirun.errors import SpecError
    from pyocirun.spec.reader import load_json

    try:
        document = load_json(data, STATE)
    except SpecError as error:
        raise StateError(f"the state of container {id} is damaged: {error}", id=id, path=path) from None
    if not isinstance(document, dict) or "pyocirun_state_version" not in document:
        text = f"the state of container {id} was written by another runtime"
        raise StateError(text, id=id, path=path, hint="use the runtime that created it")
    if document["pyocirun_state_version"] != VERSION:
        version = document["pyocirun_state_version"]
        text = f"the state of container {id} has version {version}; this pyocirun knows version {VERSION}"
        raise StateError(text, id=id, path=path, hint="use the pyocirun that created it, or a newer one")
    try:
        state = _state(document)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise StateError(f"the state of container {id} is damaged: {error}", id=id, path=path) from None
    if state.id != id:
        raise StateError(f"the state of container {id} is that of {state.id!r}", id=id, path=path)
    return state


def _state(document: dict[str, Any]) -> State:
    known = {field: document[field] for field in State._fields if field in document}
    for field in ("namespace_types", "behind_gate"):
        if type(known[field]) is not list:
            raise TypeError(f"{field} is no list")
    known["namespace_types"] = tuple(known["namespace_types"])
    known["behind_gate"] = tuple(tuple(entry) for entry in known["behind_gate"])
    for field, value in known.items():
        kind = _KINDS.get(field, bool)
        if type(value) is not kind:
            raise TypeError(f"{field} is no {kind.__name__}")
        if isinstance(value, int) and not -(1 << 31) < value < 1 << 63:
            raise ValueError(f"{field} is out of range")
        if isinstance(value, str) and "\0" in value:
            raise ValueError(f"{field} has a NUL in it")
    if known.get("init_process_pid", 0) >= 1 << 31:
        raise ValueError("init_process_pid is out of range")
    for field in ("cgroup_paths", "annotations"):
        if any(type(value) is not str for value in known.get(field, {}).values()):
            raise TypeError(f"{field} has something other than text in it")
    return State(**known)


def write_file(directory: int, name: str, data: bytes) -> None:
    """Write a file of mode 0600 and rename it into its place."""
    write_temporary(directory, name, data)
    rename_temporary(directory, name)


def write_temporary(directory: int, name: str, data: bytes) -> None:
    """Write what is to be renamed to `name`: its own name is nobody else's, and goes with the directory."""
    fd = posix.open(
        _temporary(name),
        posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC | posix.O_NOFOLLOW,
        0o600,
        dir_fd=directory,
    )
    try:
        view = memoryview(data)
        while view:
            view = view[posix.write(fd, view) :]
    finally:
        posix.close(fd)


def rename_temporary(directory: int, name: str) -> None:
    """What was written for `name` takes its place."""
    posix.rename(_temporary(name), name, src_dir_fd=directory, dst_dir_fd=directory)


def _temporary(name: str) -> str:
    return f".{name}.{posix.getpid()}"


def to_json(value: object) -> str:
    """JSON of dicts, lists, tuples, str, int, bool and None, by CPython's C encoder, without the json package."""
    try:
        from _json import encode_basestring_ascii, make_encoder
    except ImportError:
        import json

        return json.dumps(value)
    encode = make_encoder(None, _refuse, encode_basestring_ascii, None, ":", ",", False, False, False)
    return "".join(encode(value, 0))


def _refuse(value: object) -> object:
    raise TypeError(f"no JSON for {type(value).__name__}")
