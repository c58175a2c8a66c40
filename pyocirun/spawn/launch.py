"""Starting nsexec: its sealed copy, its descriptors, the process."""

from __future__ import annotations

import posix

import pyocirun
from pyocirun import files, native
from pyocirun.errors import CgroupError, Error, UsageError
from pyocirun.plan.ops import Clone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyocirun.plan.encode import Encoded
    from pyocirun.plan.ops import Plan, Slot

EXEC_PLACES = ("/run", "/var/tmp")


class Launched:
    """A running nsexec: pid and pidfd of the process that becomes the container's (they change with a fork of it)."""

    def __init__(self, pid: int, pidfd: int, socket: int) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.socket = socket

    def close(self) -> None:
        """Close the socket. The pidfd stays: it is the process's handle from then on."""
        if self.socket >= 0:
            posix.close(self.socket)
            self.socket = -1


def launch(
    plan: Plan,
    encoded: Encoded,
    descriptors: Callable[[Slot], int],
    stdio: tuple[int, int, int],
    stamps: int = -1,
    places: tuple[str, ...] = (),
) -> Launched:
    """Start `plan`. descriptors: opens what a slot names; the descriptor is closed here once nsexec has its own.

    stdio: descriptors for 0, 1 and 2.  places: more directories where a copy of nsexec may lie, see _copy_in_file.
    Raises Error if nsexec cannot be started.
    """
    clone = plan.ops[plan.position_of_clone()]
    assert type(clone) is Clone
    ours, theirs = native.socketpair()
    opened = [theirs]
    executable = -1
    try:
        opened.append(native.sealed_memfd("pyocirun-plan", encoded.data))
        for slot in encoded.launch:
            opened.append(stamps if slot.kind == "stamps" else descriptors(slot))
        try:
            executable = _executable(places)
            pid, pidfd = _spawn(clone, executable, [*stdio, *opened], plan.preserve_fds)
        except OSError as error:
            raise _launch_error(clone, plan, error) from error
    except BaseException:
        posix.close(ours)
        raise
    finally:
        for fd in opened:
            if fd != stamps:
                posix.close(fd)
        if executable not in (-1, _sealed.get(_nsexec())):
            posix.close(executable)
    return Launched(pid, pidfd, ours)


def _spawn(clone: Clone, executable: int, fds: list[int], preserve: int) -> tuple[int, int]:
    """Into the cgroup v2 that the plan names, or where that is refused and not required, into none."""
    cgroup = -1
    try:
        if clone.cgroup:
            cgroup = posix.open(clone.cgroup, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
            return native.launch(executable, clone.flags, fds, preserve, cgroup)
    except OSError:
        if clone.required:
            raise
    finally:
        if cgroup >= 0:
            posix.close(cgroup)
    return native.launch(executable, clone.flags, fds, preserve)


def check_preserved(count: int) -> None:
    """Raises UsageError unless descriptors 3 to 2 + count are open, and inheritable.

    Those that are not belong to this process, whatever it is embedded in: a container must never get one of them.
    """
    for fd in range(3, 3 + count):
        try:
            inheritable = posix.get_inheritable(fd)
        except OSError:
            inheritable = False
        if not inheritable:
            text = f"cannot preserve descriptor {fd}: it is not open, or not inheritable"
            raise UsageError(text, errno=9, hint=f"--preserve-fds {count}: the caller must open 3 to {2 + count}")


def _launch_error(clone: Clone, plan: Plan, error: OSError) -> Error:
    number = error.errno or 0
    hint = ""
    if clone.required:
        from pyocirun.cgroup.fs2 import why_not_joined

        hint = why_not_joined(clone.cgroup, number)
        if hint or error.filename == clone.cgroup:
            text = f"cannot join cgroup {clone.cgroup}: error adding pid to cgroup.procs: {posix.strerror(number)}"
            return CgroupError(text, path=clone.cgroup, errno=number, hint=hint)
    if number == 9 and plan.preserve_fds:
        hint = f"--preserve-fds {plan.preserve_fds}: descriptors 3 to {2 + plan.preserve_fds} must be open"
    elif number in (1, 28, 95):
        hint = "namespaces may be switched off or limited here: see /proc/sys/user/max_*_namespaces"
        if number == 1 and posix.geteuid() != 0:
            hint = "who is not root needs a user namespace in config.json: `pyocirun spec --rootless` writes one"
    text = f"cannot {clone.describe()}: {posix.strerror(number)}"
    return Error(text, errno=number, hint=hint, step="clone")


_sealed: dict[str, int] = {}


def _executable(places: tuple[str, ...]) -> int:
    """The sealed copy of nsexec, one for each process: a container can get hold of it, never of a file of the host.

    Two threads may both make one at first; the first one stays (CVE-2019-5736).
    """
    nsexec = _nsexec()
    if nsexec not in _sealed:
        fd = posix.open(nsexec, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            program = posix.read(fd, 1 << 24)
        finally:
            posix.close(fd)
        try:
            copy = native.sealed_memfd("pyocirun-nsexec", program, executable=True)
        except PermissionError:
            return _copy_in_file(program, (*places, *EXEC_PLACES))
        if _sealed.setdefault(nsexec, copy) != copy:
            posix.close(copy)
    return _sealed[nsexec]


def _nsexec() -> str:
    """Its path. Asked each time, and by the package's place: see cli/boot.py, Finder.move()."""
    return files.parent(files.absolute(pyocirun.__file__)) + "/bin/nsexec"


def _copy_in_file(program: bytes, places: tuple[str, ...]) -> int:
    """Where vm.memfd_noexec forbids executable files in memory: an unlinked file, opened read-only.

    The first place that is not mounted noexec serves. It cannot be sealed: a container that got hold of it could write
    to it once nsexec is done. So each launch has one of its own, and nothing ever runs from it again.
    """
    for place in places:
        name = f"{place}/.pyocirun-nsexec-{posix.getpid()}-{posix.urandom(8).hex()}"
        try:
            if posix.statvfs(place).f_flag & posix.ST_NOEXEC:
                continue
            writable = posix.open(
                name, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC | posix.O_NOFOLLOW, 0o500
            )
        except OSError:
            continue
        try:
            posix.write(writable, program)
            readable = posix.open(name, posix.O_RDONLY | posix.O_CLOEXEC)
        finally:
            posix.unlink(name)
            posix.close(writable)
        return readable
    raise Error(
        "cannot make a private copy of nsexec: executable files in memory are forbidden",
        errno=1,
        hint=f"sysctl vm.memfd_noexec=1, or one of {', '.join(places)} that is not mounted noexec",
        step="memfd_create",
    )
