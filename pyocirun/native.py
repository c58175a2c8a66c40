"""The C side: typed calls of the cffi module `_native`. Every call raises OSError where the kernel refuses."""

from __future__ import annotations

import posix

from pyocirun import files
from pyocirun._native import ffi as _ffi
from pyocirun._native import lib as _lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MESSAGE_BYTES = 32 + 3072 + 1024
STAT, MKDIR, RMDIR, OPEN = range(4)
"""What `each` does: OPEN for writing."""


def sealed_memfd(name: str, data: bytes, *, executable: bool = False) -> int:
    """A descriptor of a file in memory with this content, that nobody can change any more. memfd_create(2)"""
    return _checked(_lib.pyo_sealed_memfd(name.encode(), data, len(data), executable))


def shared_memfd(name: str, size: int) -> int:
    """A descriptor of a file in memory, `size` bytes of zeros."""
    return _checked(_lib.pyo_shared_memfd(name.encode(), size))


def socketpair() -> tuple[int, int]:
    """Two connected SOCK_SEQPACKET sockets, close-on-exec."""
    ends = _ffi.new("int[2]")
    _checked(_lib.pyo_socketpair(ends))
    return ends[0], ends[1]


def launch(executable: int, flags: int, fds: Sequence[int], preserve: int, cgroup: int = -1) -> tuple[int, int]:
    """(pid, pidfd) of a child that executes nsexec in new namespaces.

    flags: CLONE_NEW*.  fds: 0, 1 and 2 of the child (-1: closed), then its socket, its plan and the plan's descriptors,
    which it finds from 3 + preserve on.  preserve: how many descriptors from 3 on it keeps under their numbers.
    cgroup: descriptor of the cgroup v2 directory that it starts in, -1 for that of the caller.
    Only the calling thread waits, until nsexec runs; nothing of the process is copied.
    """
    pidfd = _ffi.new("int *")
    pid = _checked(_lib.pyo_launch(executable, flags, list(fds), len(fds), preserve, cgroup, pidfd))
    return pid, pidfd[0]


def send(fd: int, data: bytes, fds: Sequence[int] = ()) -> None:
    """One message, with descriptors. Raises BrokenPipeError once the other side is gone."""
    _checked(_lib.pyo_send(fd, data, len(data), list(fds) if fds else _ffi.NULL, len(fds)))


def receive(fd: int) -> tuple[bytes, int]:
    """The next message and the descriptor that came with it, -1 if none did. b"" at the end of file."""
    buffer = _ffi.new("char[]", MESSAGE_BYTES)
    received = _ffi.new("int *")
    while True:
        length = _lib.pyo_receive(fd, buffer, MESSAGE_BYTES, received)
        if length != -4:  # EINTR: Python's own signal handlers have run by now
            return _ffi.buffer(buffer, _checked(length))[:], received[0]


def poll(first: int, second: int = -1, timeout_ms: int = -1) -> int:
    """Which of two descriptors can be read or has ended: bits 1 and 2; 0: neither, in that time. -1: for ever."""
    ready = _lib.pyo_poll(first, second, timeout_ms)
    return 0 if ready == -4 else _checked(ready)


def each(call: int, paths: Sequence[str]) -> list[int]:
    """One of STAT, MKDIR, RMDIR and OPEN for all of these paths: what came of each, a descriptor, 0 or -errno.

    In one go, and so a third faster than one by one, and other threads are disturbed once.
    """
    results = _ffi.new("int[]", len(paths))
    _lib.pyo_each(call, files.encode("\0".join(paths)), len(paths), results)
    return list(results)


def signals(kept: Sequence[int]) -> int:
    """A descriptor of all signals of the calling thread but these, which are blocked from now on. signalfd(2)"""
    return _checked(_lib.pyo_signals(list(kept), len(kept)))


def next_signal(fd: int) -> int:
    """The number of a signal that came, 0 if there is none."""
    return _checked(_lib.pyo_next_signal(fd))


def namespace_type(fd: int) -> int:
    """CLONE_NEW* of the namespace behind a file of /proc/PID/ns. Raises OSError (ENOTTY) if it is none."""
    return _checked(_lib.pyo_namespace_type(fd))


def fs_type(path: str) -> int:
    """f_type of statfs(2)"""
    return _checked(_lib.pyo_fs_type(files.encode(path)), path)


def landlock_abi() -> int:
    """The version of Landlock that this kernel speaks, 0 if it has none or has it off."""
    return max(0, int(_lib.pyo_landlock_abi()))


def prlimit(pid: int, resource: int, soft: int, hard: int) -> None:
    """Set a resource limit of a process. 2**64 - 1: no limit."""
    _checked(_lib.pyo_prlimit(pid, resource, soft, hard))


def flock(fd: int, *, wait: bool = True) -> bool:
    """Lock exclusively; False if another holds it and wait is False."""
    result = _lib.pyo_flock(fd, wait)
    if result == -11:  # EAGAIN
        return False
    _checked(result)
    return True


def send_signal(pidfd: int, signal: int) -> None:
    """pidfd_send_signal(2). Raises ProcessLookupError once the process is dead."""
    _checked(_lib.pyo_pidfd_send_signal(pidfd, signal))


def wait(pidfd: int, *, block: bool = True) -> int | None:
    """Exit status of a child, or -signal; None while it runs. Raises ChildProcessError if it is no child of ours."""
    status = _ffi.new("int *")
    return status[0] if _checked(_lib.pyo_wait(pidfd, block, status)) else None


def open_in_root(root: int, path: str) -> int:
    """A file below the directory `root`, for reading; links do not lead out of it. Raises OSError. openat2(2)"""
    return _checked(_lib.pyo_open_in_root(root, files.encode(path)), path)


def open_tree(path: str, *, recursive: bool) -> int:
    """A detached copy of the mount tree at a path. open_tree(2)"""
    return _checked(_lib.pyo_open_tree(files.encode(path), recursive), path)


def mount_setattr(fd: int, set: int, clear: int = 0, propagation: int = 0, *, recursive: bool, userns: int = 0) -> None:
    """mount_setattr(2) on a descriptor. userns: of the user namespace whose maps MOUNT_ATTR_IDMAP takes."""
    _checked(_lib.pyo_mount_setattr(fd, set, clear, propagation, userns, recursive))


def open_beneath(root: int, path: str, *, links: bool) -> int:
    """What `path` names if the directory `root` is taken for /, O_PATH. links: follow them. openat2(2)"""
    return _checked(_lib.pyo_open_beneath(root, files.encode(path), links), path)


def act_as(uid: int, gid: int) -> None:
    """The files that the calling thread makes belong to these ids from now on; its capabilities stay. setfsuid(2)"""
    _checked(_lib.pyo_act_as(uid, gid))


def mount(source: str, target: str, fstype: str, flags: int, data: str) -> None:
    """mount(2) in the caller's own mount namespace."""
    paths = files.encode(source), files.encode(target)
    _checked(_lib.pyo_mount(*paths, fstype.encode(), flags, data.encode()), target)


def unmount(target: str) -> None:
    """Take the topmost mount off a path, at once. Raises OSError (EINVAL) if there is none. umount2(2)"""
    _checked(_lib.pyo_unmount(files.encode(target)), target)


def enter_netns(fd: int) -> None:
    """The calling thread is in this network namespace from now on: for one that ends soon. setns(2)"""
    _checked(_lib.pyo_enter_netns(fd))


def bpf_load(code: bytes) -> int:
    """A descriptor of the device program with these instructions, which is gone when nothing refers to it. bpf(2)"""
    return _checked(_lib.pyo_bpf_load(code, len(code)))


def bpf_attach(cgroup: int, program: int, replaced: int = -1) -> None:
    """Put a device program in force for a cgroup v2, at once in the place of another one; -1: beside what is there."""
    _checked(_lib.pyo_bpf_attach(cgroup, program, replaced))


def bpf_detach(cgroup: int, program: int) -> None:
    """Take a device program out of force."""
    _checked(_lib.pyo_bpf_detach(cgroup, program))


def bpf_query(cgroup: int) -> list[int]:
    """Descriptors of the device programs that are attached to this cgroup itself."""
    ids = _ffi.new("uint32_t[64]")
    count = _checked(_lib.pyo_bpf_query(cgroup, ids, 64))
    return [_checked(_lib.pyo_bpf_open(ids[index])) for index in range(count)]


def step_name(step: int) -> str:
    """What nsexec calls a part of an operation: a system call, mostly."""
    name = _lib.pyo_step_name(step)
    return _ffi.string(name).decode() if name else f"step {step}"


def wire() -> list[tuple[str, str]]:
    """nsexec's own table of operations: (name, signature), in the order of their codes."""
    table: list[tuple[str, str]] = []
    while name := _lib.pyo_op_name(len(table)):
        signature = _lib.pyo_op_signature(len(table))
        table.append((_ffi.string(name).decode(), _ffi.string(signature).decode()))
    return table


def plan_check(data: bytes) -> bool:
    """Whether nsexec would accept these bytes as a plan."""
    return int(_lib.pyo_plan_check(data, len(data))) == 0


def _checked(result: int, path: str | None = None) -> int:
    if result < 0:
        raise OSError(-result, posix.strerror(-result), path)
    return result
