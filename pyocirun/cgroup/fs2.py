"""The cgroupfs driver on a host with nothing but cgroup v2: one directory a container."""

from __future__ import annotations

import errno
import posix
import time

from pyocirun import files, native
from pyocirun.cgroup.tree import (
    GONE,
    failed,
    in_use,
    mkdir,
    move_process,
    processes_in,
    read_file,
    remove_trees,
    rmdir,
    signal_each,
    subtree,
    survived,
    write_file,
)
from pyocirun.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Set

    from pyocirun.cgroup.events import Notices
    from pyocirun.cgroup.stats import Stats
    from pyocirun.cgroup.undo import Saved
    from pyocirun.cgroup.v1 import Write
    from pyocirun.spec.resources import Resources

_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_FREEZE_SECONDS = 10.0
_KILL_SECONDS = 10.0
_SIGKILL = 9
_DELEGATE = "/sys/kernel/cgroup/delegate"
_DELEGATED = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")


class V2Manager:
    """A container's cgroup on cgroup v2: see `manager.Manager`.

    directory: absolute.  top: the mountpoint, or another directory above, from which on controllers are passed down.
    lenient: where making the cgroup is not permitted, go without one, instead of failing.
    """

    def __init__(self, directory: str, top: str = "/sys/fs/cgroup", *, lenient: bool = False) -> None:
        if not directory.startswith("/") or ".." in directory.split("/"):
            raise CgroupError(f"not a path of a cgroup: {directory!r}", path=directory)
        self._directory = directory
        self._top = top
        self._lenient = lenient
        self._foreign = False
        self._why_not: dict[str, str] = {}

    @property
    def paths(self) -> dict[str, str]:
        return {"": self._directory} if self._directory else {}

    def path(self, controller: str) -> str:
        return self._directory

    def exists(self) -> bool:
        return bool(self._directory) and files.is_directory(self._directory)

    def refuse_in_use(self) -> None:
        if not self.exists():
            return
        if found := self.all_pids():
            self._foreign = True
            raise in_use(self._directory, found)
        if self.freezer_state() == "FROZEN":
            self._foreign = True
            raise CgroupError("container's cgroup unexpectedly frozen", path=self._directory, controller="freezer")

    def create(self) -> list[str]:
        made: list[str] = []
        try:
            if not mkdir(self._directory, made):
                self.refuse_in_use()
            self._pass_controllers_down()
            self._refuse_type()
        except OSError as error:
            _remove(made)
            if not (self._lenient and error.errno in _REFUSED):
                what = f"cannot create cgroup {self._directory}"
                raise failed(error, what, error.filename or self._directory, "") from error
            self._directory = ""
            return []
        except BaseException:
            _remove(made)
            raise
        return made

    def write(self, writes: Iterable[Write]) -> None:
        """Write in order. Raises CgroupError that names file, value and errno, or the controller that is missing."""
        late = [write for write in writes if not self._write_one(write, patient=True)]
        for write in late:
            self._write_one(write, patient=False)

    def set(self, resources: Resources) -> None:
        from pyocirun.cgroup.v2 import writes

        self._check_usage(resources)
        wanted = writes(self.complete(resources))
        saved = self.saved(resources)
        try:
            self.write(wanted)
            if resources.devices:
                from pyocirun.cgroup.ebpf import program

                self.attach_devices(program(resources.devices))
        except BaseException as error:
            saved.take_back_after(error)
            raise

    def saved(self, resources: Resources) -> Saved:
        """What the files say now that `set` would write. Raises SpecError."""
        from pyocirun.cgroup.undo import Saved
        from pyocirun.cgroup.v2 import writes

        wanted = writes(self.complete(resources))
        return Saved({write.controller: self._directory for write in wanted}, wanted)

    def complete(self, resources: Resources) -> Resources:
        """`resources` with what has to be written besides, and is to stay as it is."""
        from pyocirun.cgroup.v2 import complete

        try:
            return complete(resources, read_file(f"{self._directory}/cpu.max"))
        except (OSError, ValueError):
            return resources  # without the controller, to write it fails in words

    def attach_devices(self, program: bytes) -> None:
        """Put a device program in force in the place of those there are, b"" being none. There is never a gap."""
        if not self._directory:
            return
        cgroup = posix.open(self._directory, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
        held = [cgroup]
        try:
            old = native.bpf_query(cgroup)
            held += old
            if program:
                new = native.bpf_load(program)
                held.append(new)
                # One is replaced. Of several, all go once the new one is there: meanwhile each has to allow.
                native.bpf_attach(cgroup, new, old[0] if len(old) == 1 else -1)
            for each in old if not program or len(old) > 1 else ():
                native.bpf_detach(cgroup, each)
        except OSError as error:
            hint = (
                "it takes CAP_BPF or CAP_SYS_ADMIN in the initial user namespace" if error.errno == errno.EPERM else ""
            )
            what = f"cannot put device rules in force for cgroup {self._directory}"
            raise failed(error, what, self._directory, "devices", hint) from error
        finally:
            for fd in held:
                posix.close(fd)

    def delegate(self, uid: int) -> None:
        """Give the cgroup to a user, as far as it is safe: the directory and the files that cgroups(7) names."""
        if not self._directory:
            return
        try:
            names = tuple(read_file(_DELEGATE).split())
        except OSError:
            names = _DELEGATED
        for path in (self._directory, *(f"{self._directory}/{name}" for name in names)):
            try:
                posix.chown(path, uid, -1)
            except FileNotFoundError:
                pass  # of a controller that is not here
            except OSError as error:
                raise failed(error, f"cannot give {path} to user {uid}", path, "") from error

    def join(self, pid: int, controllers: Set[str] | None = None) -> None:
        self.add_pid("", pid)

    def apply(self, pid: int) -> None:
        self.create()
        if pid != -1:
            self.join(pid)

    def add_pid(self, subcgroup: str, pid: int, controllers: Set[str] | None = None) -> None:
        if ".." in subcgroup.split("/"):
            raise CgroupError(f"bad sub cgroup path: {subcgroup}", path=subcgroup)
        if not self._directory:
            return
        below = f"/{subcgroup.strip('/')}" if subcgroup.strip("/") else ""
        directory = self._directory + below
        try:
            move_process(f"{directory}/cgroup.procs", b"%d" % pid)
        except OSError as error:
            what = f"cannot add process {pid} to cgroup {directory}"
            raise failed(error, what, directory, "", why_not_joined(directory, error.errno or 0)) from error

    def pids(self) -> list[int]:
        return sorted(processes_in(self._directory)) if self._directory else []

    def all_pids(self) -> list[int]:
        if not self._directory:
            return []
        found: set[int] = set()
        for below in subtree(self._directory):
            found |= processes_in(below)
        return sorted(found)

    def freeze(self, state: str = "FROZEN") -> None:
        if not self._directory:
            raise CgroupError("cannot toggle freezer: cgroups not configured for container", controller="freezer")
        if state not in ("FROZEN", "THAWED"):
            raise CgroupError(f"invalid freezer state {state!r}", controller="freezer")
        self._write_freeze(state == "FROZEN")
        if self._await_event("frozen", state == "FROZEN", _FREEZE_SECONDS) or state == "THAWED":
            return
        # Left half frozen, it would stop whoever joins it.
        self._write_freeze(False)
        raise CgroupError(
            f"unable to freeze: not within {_FREEZE_SECONDS:g} s",
            path=f"{self._directory}/cgroup.freeze",
            controller="freezer",
            hint="a process in state D cannot be frozen",
        )

    def thaw(self) -> None:
        self.freeze("THAWED")

    def freezer_state(self) -> str:
        """What is asked of this cgroup itself: one that only an ancestor freezes is not ours to thaw."""
        if not self._directory:
            return "UNDEFINED"
        try:
            return "FROZEN" if read_file(f"{self._directory}/cgroup.freeze").strip() == "1" else "THAWED"
        except OSError as error:
            if error.errno in GONE:
                return "UNDEFINED"
            what = "cannot read freezer state"
            raise failed(error, what, f"{self._directory}/cgroup.freeze", "freezer") from error

    def kill(self, signal: int) -> None:
        if not self.exists():
            return
        if signal == _SIGKILL and self._kill_at_once():
            self._await_empty()
            return
        frozen = self.freezer_state() == "FROZEN"
        signal_each(self.all_pids, signal)
        if frozen and signal == _SIGKILL:
            self._write_freeze(False)
        if signal == _SIGKILL:
            self._await_empty()

    def destroy(self) -> None:
        """Raises CgroupError that names the processes in the way, after about a second of trying.

        Does nothing if `create` found the cgroup in use by somebody else.
        """
        if not self._foreign and self._directory and not rmdir(self._directory):
            remove_trees([self._directory])

    def oom_kill_count(self) -> int:
        return self._event("memory.events", "oom_kill")

    def stats(self, controllers: Set[str] | None = None) -> Stats:
        from pyocirun.cgroup.stats import Stats, read_v2

        return read_v2(self._directory, controllers) if self._directory else Stats()

    def oom_notices(self) -> Notices:
        from pyocirun.cgroup.events import oom_v2

        return oom_v2(self._needed())

    def pressure_notices(self, level: str) -> Notices:
        from pyocirun.cgroup.events import pressure_v2

        return pressure_v2(self._needed(), level)

    def _needed(self) -> str:
        if not self._directory:
            raise CgroupError("the container has no cgroup")
        return self._directory

    def _pass_controllers_down(self) -> None:
        """Enable every controller in all cgroups above; one that cannot be is missed only when a limit needs it."""
        names = self._directory.removeprefix(self._top).strip("/").split("/")
        above = self._top
        for name in names:
            self._enable(above)
            above = f"{above}/{name}"

    def _enable(self, directory: str) -> None:
        try:
            there = read_file(f"{directory}/cgroup.controllers").split()
            enabled = read_file(f"{directory}/cgroup.subtree_control").split()
        except OSError as error:
            if error.errno in _REFUSED or error.errno in GONE:
                return
            raise
        missing = [name for name in there if name not in enabled]
        if not missing or self._try_enable(directory, missing):
            return
        for name in missing:
            self._try_enable(directory, [name])

    def _try_enable(self, directory: str, names: list[str]) -> bool:
        path = f"{directory}/cgroup.subtree_control"
        try:
            write_file(path, " ".join(f"+{name}" for name in names).encode())
        except OSError as error:
            for name in names:
                self._why_not.setdefault(name, f"it cannot be enabled in {path}: {error.strerror}")
            return False
        for name in names:
            self._why_not.pop(name, None)
        return True

    def _refuse_type(self) -> None:
        """A cgroup among threaded ones takes no process of its own right."""
        try:
            kind = read_file(f"{self._directory}/cgroup.type").strip()
        except OSError as error:
            if error.errno in GONE:
                return  # there is none at the top
            raise
        if kind != "domain":
            text = f"cannot enter cgroup {self._directory}: it is in {kind} mode"
            hint = "a cgroup above it is threaded: choose another cgroupsPath"
            raise CgroupError(text, path=f"{self._directory}/cgroup.type", errno=errno.EOPNOTSUPP, hint=hint)

    def _write_one(self, write: Write, *, patient: bool) -> bool:
        """False if the kernel would not take it yet, and that may be owed to the order."""
        if not self._directory:
            raise CgroupError(
                f"cannot set {write.controller} limit: container could not join or create cgroup ({write.file})",
                controller=write.controller,
                hint="a rootless container has no limits without a cgroup that is delegated to you",
            )
        missing: OSError | None = None
        for name, value in ((write.file, write.value), (write.other, write.other_value or write.value)):
            if not name:
                continue
            path = f"{self._directory}/{name}"
            try:
                write_file(path, value.encode())
            except FileNotFoundError as error:
                missing = missing or error
                continue
            except OSError as error:
                if patient and write.late and error.errno == errno.EINVAL:
                    return False
                raise self._refused(write, value, path, error) from error
            return True
        if write.optional:
            return True
        assert missing is not None
        raise self._missing(write, missing)

    def _missing(self, write: Write, error: OSError) -> CgroupError:
        """There is no such file: the controller is not there, or does not have it."""
        path = f"{self._directory}/{write.file}"
        try:
            there = read_file(f"{self._directory}/cgroup.controllers").split()
        except OSError:
            there = []
        if write.controller not in there and write.controller != "cgroup":
            text = (
                f"cannot set {write.file}: controller {write.controller} is not available in cgroup {self._directory}"
            )
            hint = self._why_not.get(write.controller, "the kernel, or who delegated the cgroup, does not offer it")
            return CgroupError(text, path=path, controller=write.controller, errno=errno.ENOENT, hint=hint)
        hint = _HINTS.get((write.controller, errno.ENOENT), "this kernel has no such file")
        return failed(error, f"cannot set {write.file}", path, write.controller, hint)

    def _refused(self, write: Write, value: str, path: str, error: OSError) -> CgroupError:
        number = error.errno or 0
        hint = _HINTS.get((write.file, number)) or _HINTS.get((write.controller, number), "")
        return failed(error, f"failed to write {value!r} to {path}", path, write.controller, hint)

    def _check_usage(self, resources: Resources) -> None:
        """checkBeforeUpdate: v2 would take a limit below what is in use, and kill."""
        memory = resources.memory
        if memory is None or not memory.check_before_update or (memory.limit or 0) <= 0:
            return
        used = self._number("memory.current")
        if memory.limit is not None and memory.limit < used:
            raise CgroupError(
                f"unable to set memory limit to {memory.limit} (current usage: {used})",
                path=f"{self._directory}/memory.max",
                controller="memory",
                errno=errno.EBUSY,
            )

    def _number(self, name: str) -> int:
        try:
            return int(read_file(f"{self._directory}/{name}"))
        except (OSError, ValueError):
            return 0

    def _write_freeze(self, frozen: bool) -> None:
        path = f"{self._directory}/cgroup.freeze"
        try:
            write_file(path, b"1" if frozen else b"0")
        except OSError as error:
            if frozen or error.errno not in GONE:
                raise failed(error, f"cannot write {int(frozen)} to {path}", path, "freezer") from error

    def _await_event(self, key: str, value: bool, seconds: float) -> bool:
        """Wait until a line of cgroup.events says so; False if it does not in time."""
        deadline = time.monotonic() + seconds
        delay = 0.0002
        while bool(self._event("cgroup.events", key)) != value:
            if time.monotonic() > deadline:
                return False
            time.sleep(delay)
            delay = min(delay * 2, 0.02)
        return True

    def _event(self, name: str, key: str) -> int:
        """A number of a file with lines of "key number"; 0 if it is not there."""
        try:
            lines = read_file(f"{self._directory}/{name}").splitlines() if self._directory else []
        except OSError as error:
            if error.errno in GONE:
                return 0
            raise failed(error, "cannot read", f"{self._directory}/{name}", "") from error
        return next((int(line.split()[1]) for line in lines if line.startswith(f"{key} ")), 0)

    def _kill_at_once(self) -> bool:
        """cgroup.kill, Linux 5.14: everything in the cgroup and below, forks in progress included."""
        try:
            write_file(f"{self._directory}/cgroup.kill", b"1")
        except OSError as error:
            if error.errno in (*GONE, errno.EOPNOTSUPP):
                return error.errno in GONE and not self.exists()
            raise failed(error, "cannot kill", f"{self._directory}/cgroup.kill", "") from error
        return True

    def _await_empty(self) -> None:
        if not self._await_event("populated", False, _KILL_SECONDS):
            raise survived(self._directory, self.all_pids())


def why_not_joined(directory: str, number: int) -> str:
    """A hint for an errno of writing to cgroup.procs, "" for none."""
    if number == errno.EBUSY:
        return f"{directory} passes controllers on to cgroups below it, so it takes no process itself"
    if number == errno.EOPNOTSUPP:
        return f"{directory} is threaded, or a cgroup above it is"
    if number == errno.EACCES:
        return "the first cgroup that is above both the old place and the new one must be yours"
    return ""


def _remove(made: list[str]) -> None:
    for directory in reversed(made):
        rmdir(directory)


_HINTS: dict[tuple[str, int], str] = {
    ("pids.max", errno.EINVAL): "the kernel takes at most 4194304",
    ("cpu.max", errno.EINVAL): "quota must be at least 1000 us and not below burst, period from 1000 to 1000000 us",
    ("cpu.idle", errno.EINVAL): "idle is 0 or 1",
    ("io.bfq.weight", errno.ERANGE): "weight must be from 10 to 1000",
    ("cpu.max.burst", errno.EINVAL): "burst must not exceed quota",
    ("cpu.weight", errno.EINVAL): "an idle cgroup has no weight: write cpu.idle 0 first",
    ("io", errno.ENODEV): "the host has no such block device",
    ("io", errno.EINVAL): "a device that can be limited, and a value from 1 on",
    ("io", errno.ENOENT): "the kernel has no I/O scheduler with weights (BFQ), and no io.cost",
    ("hugetlb", errno.ENOENT): "the host has no huge pages of this size",
    ("cpuset", errno.EINVAL): "give existing processors or nodes as a list such as 0-2,7",
    ("cpuset", errno.ENOSPC): "these processors or nodes are not available in the parent cgroup",
    ("cpuset", errno.ERANGE): "give existing processors or nodes as a list such as 0-2,7",
    ("rdma", errno.EINVAL): "the host has no such RDMA device",
}
