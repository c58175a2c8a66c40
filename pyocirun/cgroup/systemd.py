"""The systemd driver: systemd makes the cgroup, as a transient unit, and its files get what systemd has no word for.

D-Bus is loaded when systemd is asked for something: most commands need no more than the cgroup's path.
"""

from __future__ import annotations

import posix

from pyocirun import files
from pyocirun.cgroup.fs import V1Manager
from pyocirun.cgroup.fs2 import V2Manager
from pyocirun.cgroup.properties import changes, properties
from pyocirun.cgroup.tree import failed, mkdir, move_process, processes_in, read_file, remove_tree
from pyocirun.cgroup.unit import directories, is_below, parse_unit
from pyocirun.errors import CgroupError
from pyocirun.record import replace
from pyocirun.spawn.probe import own_cgroups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pyocirun.cgroup.properties import Property
    from pyocirun.cgroup.undo import Saved
    from pyocirun.cgroup.unit import Unit
    from pyocirun.cgroup.v1 import Write
    from pyocirun.linux.host import Host
    from pyocirun.spec.resources import Resources

BOOTED = "/run/systemd/system"
"""Where systemd is the machine's init: sd_booted(3)."""


def place(cgroups_path: str | None, id: str, annotations: dict[str, str], host: Host) -> tuple[Unit, dict[str, str]]:
    """The unit that a container is to have, and its directories.

    Raises SpecError for a path that is not of systemd's kind, CgroupError without a systemd that can be asked.
    """
    if not files.is_directory(BOOTED):
        raise CgroupError(
            "systemd is not running on this host: cannot use the systemd cgroup driver",
            path=BOOTED,
            hint="leave out --systemd-cgroup",
        )
    user = _is_users(host)
    unit = parse_unit(cgroups_path, id, annotations, user=user)
    if not host.cgroup2_only and (user or unit.subgroup or unit.delegated):
        what = "a user's own systemd" if user else "a cgroup below the unit's own"
        raise CgroupError(f"{what} has no use on cgroup v1: it cannot be delegated there")
    from pyocirun.cgroup import bus

    version, base = bus.look(user)
    unit = replace(unit, version=version, pulls=user and not _is_own(base))
    return unit, directories(unit, host, base)


def pulls(user: bool) -> bool:
    """Whether only systemd may move processes of this caller into a unit. Raises CgroupError."""
    if not user:
        return False
    from pyocirun.cgroup import bus

    return not _is_own(bus.look(user)[1])


class SystemdV2(V2Manager):
    """A unit's cgroup on cgroup v2: see `manager.Manager`. directory: with the unit's subgroup."""

    def __init__(self, directory: str, unit: Unit, top: str = "/sys/fs/cgroup", *, lenient: bool = False) -> None:
        super().__init__(directory, top, lenient=lenient)
        self.unit = unit
        self._is_ours = False
        self._held: list[Write] | None = None

    def start_unit(self, properties: Sequence[Property], pids: Sequence[int], *, held: bool = False) -> None:
        """Start the unit with these processes; held: one of them is there only until `settle`."""
        from pyocirun.cgroup import bus

        self.refuse_in_use()
        bus.start(self.unit, properties, pids)
        self._is_ours = True
        if held:
            self._held = []

    def settle(self) -> None:
        """The process that held the unit is gone: it counts no longer."""
        writes, self._held = self._held, None
        super().write(writes or [])

    def refuse_in_use(self) -> None:
        if not self._is_ours:
            super().refuse_in_use()

    def create(self) -> list[str]:
        directory = self._directory
        try:
            if self.unit.subgroup:
                mkdir(directory, [])
                # What has processes can pass no controllers on.
                for pid in processes_in(files.parent(directory)):
                    move_process(f"{directory}/cgroup.procs", b"%d" % pid)
            made = super().create()
            if self.unit.delegated:
                mkdir(f"{directory}/{self.unit.delegated}", made)
        except OSError as error:
            raise failed(error, f"cannot create cgroup {directory}", error.filename or directory, "") from error
        return made

    def delegate(self, uid: int) -> None:
        super().delegate(uid)
        if self.unit.delegated:
            V2Manager(f"{self._directory}/{self.unit.delegated}").delegate(uid)

    def apply(self, pid: int) -> None:
        self.start_unit(_plain(self.unit, unified=True), [pid] if pid != -1 else [])
        self.create()
        if pid != -1:
            self.join(pid)

    def write(self, writes: Iterable[Write]) -> None:
        """While the unit is held there is room for one process more than it is to have."""
        if self._held is not None:
            writes = list(writes)
            self._held += [write for write in writes if write.file == "pids.max"]
            writes = [_with_one_more(write) for write in writes]
        super().write(writes)

    def set(self, resources: Resources) -> None:
        self._check_usage(resources)
        resources = self.complete(resources)
        # Who cannot load programs has no rules for devices in force either.
        wanted = changes(resources, self.unit.version, unified=True, devices=not self.unit.user)
        _change(self.unit, wanted, self.saved(resources), lambda: super(SystemdV2, self).set(resources))

    def destroy(self) -> None:
        if self._foreign:
            return
        from pyocirun.cgroup import bus

        super().destroy()
        if self.unit.subgroup and self._directory:
            remove_tree(files.parent(self._directory))
        bus.stop(self.unit)


class SystemdV1(V1Manager):
    """A unit's cgroups on cgroup v1: systemd makes those of the controllers that it knows, and we the others."""

    def __init__(self, paths: dict[str, str], unit: Unit, *, lenient: bool = False) -> None:
        super().__init__(paths, lenient=lenient)
        self.unit = unit
        self._is_ours = False

    def start_unit(self, properties: Sequence[Property], pids: Sequence[int], *, held: bool = False) -> None:
        """As for cgroup v2."""
        from pyocirun.cgroup import bus

        self.refuse_in_use()
        bus.start(self.unit, properties, pids)
        self._is_ours = True

    def settle(self) -> None:
        """As for cgroup v2. A process that is moved counts, and is not refused, so there is nothing to take back."""

    def apply(self, pid: int) -> None:
        self.start_unit(_plain(self.unit, unified=False), [pid] if pid != -1 else [])
        super().apply(pid)

    def set(self, resources: Resources) -> None:
        """systemd denies all devices before it allows some: nobody may be running meanwhile."""
        self._check_usage(resources)
        resources = self.complete(resources)
        wanted = changes(resources, self.unit.version, unified=False, devices=True)
        frozen = bool(resources.devices) and self.freezer_state() == "THAWED"
        if frozen:
            self.freeze()
        try:
            _change(self.unit, wanted, self.saved(resources), lambda: super(SystemdV1, self).set(resources))
        finally:
            if frozen:
                self.thaw()

    def complete(self, resources: Resources) -> Resources:
        """As for cgroup v2: systemd keeps quota and period as one share of time."""
        from pyocirun.cgroup.v2 import complete

        directory = self.paths.get("cpu", "")
        try:
            now = [read_file(f"{directory}/cpu.cfs_{name}_us") for name in ("quota", "period")]
        except OSError:
            return resources
        return complete(resources, " ".join(now))

    def destroy(self) -> None:
        if self._foreign:
            return
        from pyocirun.cgroup import bus

        super().destroy()
        bus.stop(self.unit)

    def _refuse_in_use(self, directory: str) -> None:
        if not self._is_ours:
            super()._refuse_in_use(directory)


def _change(unit: Unit, wanted: Sequence[Property], saved: Saved, write: Callable[[], None]) -> None:
    """Set properties, and then the files; if these cannot be written, unit and files are as they were before."""
    from pyocirun.cgroup import bus

    before = bus.change(unit, wanted)
    try:
        write()
    except BaseException as error:
        try:
            bus.change(unit, before)
        except CgroupError as second:
            if isinstance(error, CgroupError):
                error.hint = f"{error.hint}; the unit could not be taken back: {second.message}".lstrip("; ")
        saved.take_back()  # a quota, say, which systemd has made whole percents of
        raise


def _is_users(host: Host) -> bool:
    """Whether a user's own systemd is to be asked: always without privileges, and as root of a user namespace that
    has the way there.
    """
    if host.euid != 0:
        return True
    runtime = posix.environ.get(b"XDG_RUNTIME_DIR", b"").decode("utf-8", "surrogateescape")
    return host.in_userns and runtime.startswith("/run/user/") and files.exists(f"{runtime}/bus")


def _is_own(base: str) -> bool:
    """Whether the caller is itself below the manager's cgroup: only so may it move processes there."""
    return is_below(own_cgroups(read_file("/proc/self/cgroup")).get("", "/"), base)


def _plain(unit: Unit, *, unified: bool) -> tuple[Property, ...]:
    return properties(unit, unit.name, None, {}, unified=unified, devices=False)


def _with_one_more(write: Write) -> Write:
    if write.file != "pids.max" or not write.value.isdecimal():
        return write
    return replace(write, value=str(int(write.value) + 1))
