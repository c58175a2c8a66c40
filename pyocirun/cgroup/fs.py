"""The cgroupfs driver: makes, joins, limits, freezes, kills and removes cgroups by their files."""

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
from pyocirun.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Set

    from pyocirun.cgroup.devices import Policy
    from pyocirun.cgroup.events import Notices
    from pyocirun.cgroup.stats import Stats
    from pyocirun.cgroup.undo import Saved
    from pyocirun.cgroup.v1 import Now, Write
    from pyocirun.spec.resources import Resources

# Joined for the sake of tools that look there; nothing is limited by them, so a failure there is no failure.
_COURTESY = frozenset(("", "name=systemd", "misc"))
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_FREEZE_SECONDS = 10.0
_KILL_SECONDS = 10.0
_SIGKILL = 9


class V1Manager:
    """A container's cgroups on cgroup v1, and on the v2 hierarchy of a hybrid host: see `manager.Manager`.

    paths: controller -> absolute directory. Controllers that are mounted together have the same one.
    lenient: forget hierarchies where making or joining a cgroup is not permitted, instead of failing.
    """

    def __init__(self, paths: dict[str, str], *, lenient: bool = False) -> None:
        for directory in paths.values():
            if not directory.startswith("/") or ".." in directory.split("/"):
                raise CgroupError(f"not a path of a cgroup: {directory!r}", path=directory)
        self._paths = dict(paths)
        self._lenient = lenient
        self._foreign = False

    @property
    def paths(self) -> dict[str, str]:
        return self._paths

    def path(self, controller: str) -> str:
        return self._paths.get(controller, "")

    def exists(self) -> bool:
        return any(files.is_directory(directory) for directory in self._main())

    def refuse_in_use(self) -> None:
        wanted = [directory for controller, directory in self._directories() if controller not in _COURTESY]
        for directory, missing in zip(wanted, native.each(native.STAT, wanted), strict=True):
            if not missing:
                self._refuse_in_use(directory)

    def create(self) -> list[str]:
        made: list[str] = []
        try:
            wanted = list(self._directories())
            made += [directory for _, directory in wanted]  # before they are there: a Ctrl-C may come in between
            results = native.each(native.MKDIR, made)
            made[:] = [directory for directory, error in zip(made, results, strict=True) if not error]
            for controller, directory in wanted:
                self._create_one(controller, directory, made)
        except BaseException:
            for directory in reversed(made):
                rmdir(directory)
            raise
        return made

    def write(self, writes: Iterable[Write]) -> None:
        """Write in order, a file that is written several times in a row being opened once.

        Raises CgroupError that names file, value and errno, and for a controller that is missing.
        """
        late = self._write_round(writes, patient=True)
        self._write_round(late, patient=False)

    def set(self, resources: Resources) -> None:
        from pyocirun.cgroup.v1 import writes

        self._check_usage(resources)
        now = self._now(resources)
        wanted = writes(resources, now)
        saved = self.saved(resources)
        try:
            self.write(wanted)
        except BaseException as error:
            saved.take_back_after(error)
            if resources.devices and now.devices is not None:
                self.write(_rules(self._now(resources).devices, now.devices))
            raise

    def saved(self, resources: Resources) -> Saved:
        """What the files say now that `set` would write. Raises SpecError, CgroupError."""
        from pyocirun.cgroup.undo import Saved
        from pyocirun.cgroup.v1 import writes

        return Saved(self._paths, writes(resources, self._now(resources)))

    def attach_devices(self, program: bytes) -> None:
        pass

    def delegate(self, uid: int) -> None:
        pass

    def join(self, pid: int, controllers: Set[str] | None = None) -> None:
        self.add_pid("", pid, controllers)

    def apply(self, pid: int) -> None:
        self.create()
        if pid != -1:
            self.join(pid)

    def add_pid(self, subcgroup: str, pid: int, controllers: Set[str] | None = None) -> None:
        if ".." in subcgroup.split("/"):
            raise CgroupError(f"bad sub cgroup path: {subcgroup}", path=subcgroup)
        below = f"/{subcgroup.strip('/')}" if subcgroup.strip("/") else ""
        data = b"%d" % pid
        for controller, directory in self._directories(controllers):
            try:
                move_process(f"{directory}{below}/cgroup.procs", data)
            except OSError as error:
                self._tolerate(controller, error, f"cannot add process {pid} to cgroup {directory}{below}")

    def pids(self) -> list[int]:
        return sorted(processes_in(self._main()[0])) if self._paths else []

    def all_pids(self) -> list[int]:
        """Those of every hierarchy: a process may have been moved below, or have joined only some yet."""
        found: set[int] = set()
        for directory in self._main():
            for below in subtree(directory):
                found |= processes_in(below)
        return sorted(found)

    def freeze(self, state: str = "FROZEN") -> None:
        directory = self.path("freezer")
        if not directory:
            raise CgroupError("cannot toggle freezer: cgroups not configured for container", controller="freezer")
        if state == "FROZEN":
            _freeze(directory, _FREEZE_SECONDS)
        elif state == "THAWED":
            _write_freezer(directory, state)
        else:
            raise CgroupError(f"invalid freezer state {state!r}", controller="freezer")

    def thaw(self) -> None:
        self.freeze("THAWED")

    def freezer_state(self) -> str:
        directory = self.path("freezer")
        if not directory:
            return "UNDEFINED"
        try:
            # Frozen by an ancestor is not ours to thaw.
            if read_file(f"{directory}/freezer.self_freezing").strip() == "0":
                return "THAWED"
            return _await_stable(directory)
        except OSError as error:
            if error.errno in GONE:
                return "UNDEFINED"
            raise failed(error, "cannot read freezer state", f"{directory}/freezer.state", "freezer") from error

    def kill(self, signal: int) -> None:
        frozen = self.freezer_state() == "FROZEN"
        if not self.all_pids():
            return
        self._signal_frozen(signal, thaw=not frozen or signal == _SIGKILL)
        if signal == _SIGKILL:
            self._kill_until_empty()

    def destroy(self) -> None:
        """Raises CgroupError that names the processes in the way, after about a second of trying.

        Does nothing if `create` found the cgroup in use by somebody else.
        """
        if self._foreign:
            return
        wanted = [directory for _, directory in self._directories()]
        errors = native.each(native.RMDIR, wanted)
        remove_trees([path for path, error in zip(wanted, errors, strict=True) if error and -error not in GONE])

    def oom_kill_count(self) -> int:
        directory = self.path("memory")
        try:
            lines = read_file(f"{directory}/memory.oom_control").splitlines() if directory else []
        except OSError as error:
            if error.errno in GONE:
                return 0
            raise failed(error, "cannot read", f"{directory}/memory.oom_control", "memory") from error
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)

    def stats(self, controllers: Set[str] | None = None) -> Stats:
        from pyocirun.cgroup.stats import read_v1

        return read_v1(self._paths, controllers)

    def oom_notices(self) -> Notices:
        from pyocirun.cgroup.events import oom_v1

        return oom_v1(self._needed("memory"))

    def pressure_notices(self, level: str) -> Notices:
        from pyocirun.cgroup.events import pressure_v1

        return pressure_v1(self._needed("memory"), level)

    def _needed(self, controller: str) -> str:
        """The directory of a controller that there is nothing without."""
        if not self.path(controller):
            raise CgroupError(f"the container has no cgroup of the {controller} controller", controller=controller)
        return self.path(controller)

    def _directories(self, controllers: Set[str] | None = None) -> Iterator[tuple[str, str]]:
        """(controller, directory), each directory once: those of some controllers, or all."""
        seen: set[str] = set()
        for controller, directory in list(self._paths.items()):
            if directory not in seen and (controllers is None or controller in controllers):
                seen.add(directory)
                yield controller, directory

    def _main(self) -> list[str]:
        """The directories that count for who is in the cgroup, that of `devices` first: it is always there."""
        found = [directory for controller, directory in self._directories() if controller not in _COURTESY]
        found.sort(key=lambda directory: directory != self.path("devices"))
        return found or list(self._paths.values())

    def _create_one(self, controller: str, directory: str, made: list[str]) -> None:
        try:
            new = directory in made or mkdir(directory, made)
            if not new and controller not in _COURTESY:
                self._refuse_in_use(directory)
            if directory == self.path("cpuset"):
                _fill_cpuset(directory, new=new)
        except OSError as error:
            self._tolerate(controller, error, f"cannot create cgroup {directory}")

    def _refuse_in_use(self, directory: str) -> None:
        found: set[int] = set()
        for below in subtree(directory):
            found |= processes_in(below)
        if found:
            self._foreign = True
            raise in_use(directory, found)
        if directory == self.path("freezer") and self.freezer_state() == "FROZEN":
            self._foreign = True
            raise CgroupError("container's cgroup unexpectedly frozen", path=directory, controller="freezer")

    def _tolerate(self, controller: str, error: OSError, what: str) -> None:
        """Raise, unless `controller` can be done without; then forget it, so that limits on it fail clearly."""
        if controller not in _COURTESY and not (self._lenient and error.errno in _REFUSED):
            raise failed(error, what, error.filename or self.path(controller), controller) from error
        if controller not in _COURTESY:
            gone = self.path(controller)
            self._paths = {name: path for name, path in self._paths.items() if path != gone}
            rmdir(gone)

    def _write_round(self, writes: Iterable[Write], *, patient: bool) -> list[Write]:
        """Write all; the late ones that the kernel would not take yet come back, if `patient`."""
        late: list[Write] = []
        opened: tuple[str, str] | None = None
        fd, name = -1, ""
        try:
            for write in writes:
                if opened != (write.controller, write.file):
                    if fd >= 0:
                        posix.close(fd)
                    fd, opened = -1, (write.controller, write.file)
                    fd, name = self._open(write)
                if fd < 0:
                    continue
                try:
                    posix.write(fd, write.value.encode())
                except OSError as error:
                    if not (patient and write.late and error.errno == errno.EINVAL):
                        raise self._refused(write, error, name) from error
                    late.append(write)
        finally:
            if fd >= 0:
                posix.close(fd)
        return late

    def _open(self, write: Write) -> tuple[int, str]:
        """A descriptor of the file, and which of its names it has; -1 if there is none and it need not be."""
        directory = self.path(write.controller)
        if not directory:
            raise CgroupError(
                f"cannot set {write.controller} limit: container could not join or create cgroup ({write.file})",
                controller=write.controller,
                hint=f"is the {write.controller} controller mounted as cgroup v1, and may you write to it?",
            )
        for name in (write.file, write.other) if write.other else (write.file,):
            try:
                return posix.open(f"{directory}/{name}", posix.O_WRONLY | posix.O_CLOEXEC), name
            except FileNotFoundError as error:
                missing = error
            except OSError as error:
                raise self._refused(write, error, name) from error
        if write.optional:
            return -1, ""
        raise self._refused(write, missing, write.file)

    def _refused(self, write: Write, error: OSError, name: str) -> CgroupError:
        path = f"{self.path(write.controller)}/{name}"
        if write.file == "memory.limit_in_bytes" and error.errno == errno.EBUSY:
            return self._too_little_memory(write.value)
        hint = _HINTS.get((write.file, error.errno or 0)) or _HINTS.get((write.controller, error.errno or 0), "")
        return failed(error, f"failed to write {write.value!r} to {path}", path, write.controller, hint)

    def _too_little_memory(self, limit: object) -> CgroupError:
        from pyocirun.cgroup.stats import least_memory

        stats = self.stats()
        usage = stats.memory.usage
        return CgroupError(
            f"unable to set memory limit to {limit} (current usage: {usage.usage}, peak usage: {usage.max})",
            path=f"{self.path('memory')}/memory.limit_in_bytes",
            controller="memory",
            errno=errno.EBUSY,
            hint=f"{least_memory(stats)} bytes of it are in use and cannot be freed: the limit must be above that",
        )

    def _check_usage(self, resources: Resources) -> None:
        """For memory.checkBeforeUpdate: the kernel would try to free memory first, which may take long."""
        memory = resources.memory
        if memory is None or not memory.check_before_update or not memory.limit or memory.limit < 0:
            return
        if self.stats().memory.usage.usage > memory.limit:
            raise self._too_little_memory(memory.limit)

    def _now(self, resources: Resources) -> Now:
        """What `writes` must know of the cgroup as it is."""
        memory, devices = self.path("memory"), self.path("devices")
        from pyocirun.cgroup.devices import parse_list
        from pyocirun.cgroup.v1 import Now

        now = Now()
        try:
            if memory and resources.memory is not None:
                now = replace(now, memory_limit=int(read_file(f"{memory}/memory.limit_in_bytes")))
            if devices and resources.devices:
                now = replace(now, devices=parse_list(read_file(f"{devices}/devices.list")))
        except OSError as error:
            raise failed(error, "cannot read cgroup", error.filename or "", "") from error
        return now

    def _signal_frozen(self, signal: int, *, thaw: bool) -> None:
        """Freeze, so that none can fork away, signal every process, and thaw again if wanted."""
        directory = self.path("freezer")
        if directory:
            # Some processes cannot be frozen; whoever forks on is met again by the rounds below.
            _freeze_if_possible(directory, 0.5)
        try:
            signal_each(self.all_pids, signal)
        finally:
            if directory and thaw:
                _write_freezer(directory, "THAWED")
                if signal == _SIGKILL:
                    thaw_below(directory)

    def _kill_until_empty(self) -> None:
        deadline = time.monotonic() + _KILL_SECONDS
        delay = 0.0002
        while left := self.all_pids():
            if time.monotonic() > deadline:
                raise survived(self._main()[0], left)
            time.sleep(delay)
            delay = min(delay * 2, 0.05)
            if delay > 0.005:
                self._signal_frozen(_SIGKILL, thaw=True)


_LEAVES = "weights of leaves went with the I/O scheduler CFQ, in Linux 5.0"
_HINTS: dict[tuple[str, int], str] = {
    ("pids.max", errno.EINVAL): "the kernel takes at most 4194304",
    ("cpu.cfs_quota_us", errno.EINVAL): "quota must be at least 1000 us, not below burst, and within the parent's",
    ("cpu.cfs_period_us", errno.EINVAL): "period must be from 1000 to 1000000 us",
    ("cpu.cfs_burst_us", errno.EINVAL): "burst must not exceed quota",
    ("cpu.rt_runtime_us", errno.EINVAL): "the parent cgroups must grant realtime runtime first",
    ("cpu.rt_runtime_us", errno.ENOENT): "the kernel has no realtime group scheduling (CONFIG_RT_GROUP_SCHED)",
    ("cpu.rt_period_us", errno.ENOENT): "the kernel has no realtime group scheduling (CONFIG_RT_GROUP_SCHED)",
    ("cpu.idle", errno.ENOENT): "cpu.idle needs Linux 5.15",
    ("cpu.idle", errno.EINVAL): "idle is 0 or 1",
    ("memory.memsw.limit_in_bytes", errno.ENOENT): "the kernel does not account swap: boot it with swapaccount=1",
    ("memory.memsw.limit_in_bytes", errno.EINVAL): "memory+swap must not be below the memory limit",
    ("blkio.weight", errno.ENOENT): "the kernel has no I/O scheduler with weights (BFQ)",
    ("blkio.weight_device", errno.ENOENT): "the kernel has no I/O scheduler with weights (BFQ)",
    ("blkio.leaf_weight", errno.ENOENT): _LEAVES,
    ("blkio.leaf_weight_device", errno.ENOENT): _LEAVES,
    ("blkio", errno.ERANGE): "weight must be from 10 to 1000",
    ("blkio", errno.ENODEV): "the host has no such block device",
    ("hugetlb", errno.ENOENT): "the host has no huge pages of this size",
    ("net_prio", errno.ENODEV): "the host has no such network interface",
    ("devices", errno.EPERM): "the parent cgroup does not allow this device",
    ("cpuset", errno.EACCES): "these processors or nodes are not available in the parent cgroup",
    ("cpuset", errno.EINVAL): "give existing processors or nodes as a list such as 0-2,7",
}


def _rules(old: Policy | None, new: Policy) -> list[Write]:
    from pyocirun.cgroup.devices import transition
    from pyocirun.cgroup.v1 import Write

    return [Write("devices", file, value) for file, value in transition(old, new)]


def _fill_cpuset(directory: str, *, new: bool) -> None:
    """A cpuset begins without processors and nodes, and takes no process so; give it those of its parent."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if new or not read_file(f"{directory}/{name}").strip():
            write_file(f"{directory}/{name}", _parent_cpuset(files.parent(directory), name).encode())


def _parent_cpuset(directory: str, name: str) -> str:
    """The value of an ancestor, which is filled from the ones above it if it is empty. The topmost never is."""
    value = read_file(f"{directory}/{name}")
    if not value.strip():
        value = _parent_cpuset(files.parent(directory), name)
        write_file(f"{directory}/{name}", value.encode())
    return value


def _freeze(directory: str, seconds: float) -> None:
    """Freeze, or leave thawed and raise.

    While processes keep coming, v1 can hang in FREEZING until FROZEN is written again, or the group gets a moment to
    run: so both are done over and over.
    """
    deadline = time.monotonic() + seconds
    turn = 0
    while True:
        turn += 1
        _write_freezer(directory, "FROZEN")
        try:
            state = read_file(f"{directory}/freezer.state").strip()
        except OSError as error:
            raise failed(error, "cannot read freezer state", f"{directory}/freezer.state", "freezer") from error
        if state == "FROZEN":
            return
        if time.monotonic() > deadline:
            break
        if turn % 50 == 0:
            _write_freezer(directory, "THAWED")
            time.sleep(0.01)
        elif turn % 10 == 0:
            time.sleep(0.001)
    # A group left in FREEZING would stop whoever joins it.
    _write_freezer(directory, "THAWED")
    raise CgroupError(
        f"unable to freeze: the cgroup is still {state} after {seconds:g} s",
        path=f"{directory}/freezer.state",
        controller="freezer",
        hint="a process in state D cannot be frozen",
    )


def _freeze_if_possible(directory: str, seconds: float) -> bool:
    try:
        _freeze(directory, seconds)
    except CgroupError:
        return False
    return True


def thaw_below(directory: str) -> None:
    """Thaw the cgroups below that the container has frozen itself: what is frozen does not even end by SIGKILL."""
    for below in subtree(directory):
        try:
            write_file(f"{below}/freezer.state", b"THAWED")
        except OSError:
            continue  # it has gone; whatever else it is, somebody notices that the processes stay


def _await_stable(directory: str) -> str:
    """The freezer's state, a FREEZING being given a second to become FROZEN; it counts as that in any case."""
    for _ in range(1000):
        state = read_file(f"{directory}/freezer.state").strip()
        if state != "FREEZING":
            return state
        time.sleep(0.001)
    return "FROZEN"


def _write_freezer(directory: str, state: str) -> None:
    path = f"{directory}/freezer.state"
    try:
        write_file(path, state.encode())
    except OSError as error:
        raise failed(error, f"cannot write {state} to {path}", path, "freezer") from error
