"""The ways to manage cgroups, so that one list of scenarios can ask the same of each: cgroup v1 and v2, each with
systemd and without, and on v2 the systemd of an ordinary user.

`modes()` marks a scenario to be run once in each of those that this host has. Its `runtime` is then a Managed: limits
are read from the kernel by their names in the runtime specification, whatever files they stand in.
"""

from __future__ import annotations

import atexit
import functools
import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from integration.harness import NEEDS, Bundle, Result, Runtime, cgroup_of, cgroups

TOP = Path("/sys/fs/cgroup")
USER = "tester"
UNLIMITED = -1

V1_CONTROLLERS = ("memory", "cpu", "cpuset", "pids", "devices", "freezer", "blkio")

V1_FILES = {
    "memory.limit": "memory.limit_in_bytes",
    "memory.swap": "memory.memsw.limit_in_bytes",
    "memory.reservation": "memory.soft_limit_in_bytes",
    "memory.usage": "memory.usage_in_bytes",
    "cpu.shares": "cpu.shares",
    "cpu.quota": "cpu.cfs_quota_us",
    "cpu.period": "cpu.cfs_period_us",
    "cpu.burst": "cpu.cfs_burst_us",
    "cpu.idle": "cpu.idle",
    "cpu.cpus": "cpuset.cpus",
    "cpu.mems": "cpuset.mems",
    "pids.limit": "pids.max",
    "blockIO.weight": "blkio.bfq.weight",
    "hugepages.2MB": "hugetlb.2MB.limit_in_bytes",
}

V2_FILES = {
    "memory.limit": "memory.max",
    "memory.reservation": "memory.low",
    "memory.usage": "memory.current",
    "cpu.burst": "cpu.max.burst",
    "cpu.idle": "cpu.idle",
    "cpu.cpus": "cpuset.cpus",
    "cpu.mems": "cpuset.mems",
    "pids.limit": "pids.max",
    "hugepages.2MB": "hugetlb.2MB.max",
}

SHARES_OF_WEIGHT = {1: 2, 59: 512, 100: 1024, 10000: 262144}
"""cpu.shares by the weight that stands for it on cgroup v2: those that scenarios use."""

BLKIO_OF_WEIGHT = {1: 10, 100: 100, 10000: 1000}
"""blockIO.weight by io.weight on cgroup v2: those that scenarios use, and what it is at first on either scale."""

HAS_SWAP = any(map(os.path.exists, (TOP / "cgroup.controllers", TOP / "memory/memory.memsw.limit_in_bytes")))
SWAP = pytest.mark.skipif(not HAS_SWAP, reason="the kernel counts no swap")


class Mode:
    """One way to manage cgroups.

    version: 1 or 2.  systemd: whether units are asked for.  user: as an ordinary user.
    """

    def __init__(self, name: str, version: int, *, systemd: bool = False, user: bool = False) -> None:
        self.name, self.version, self.systemd, self.user = name, version, systemd, user

    def is_here(self) -> bool:
        """Whether this host has it."""
        return NEEDS[f"cgroup{self.version}"]() and (not self.systemd or NEEDS["systemd"]()) and not self.lacks_user()

    def lacks_user(self) -> bool:
        return self.user and not any(entry.pw_name == USER for entry in pwd.getpwall())

    @property
    def manager(self) -> str:
        """What the library calls it."""
        return "systemd" if self.systemd else "cgroupfs"

    def path(self, id: str) -> str:
        """A cgroupsPath that holds the id."""
        if self.systemd:
            return f"{'user' if self.user else 'system'}.slice:scn:{id}"
        return f"/{id}"

    def prefix(self) -> list[str]:
        """What stands before a command, so that it runs as this mode's user, in a cgroup that is theirs."""
        return as_user() if self.user else []

    def dress(self, bundle: Bundle) -> Bundle:
        """Make of a bundle's config what this mode's user may have. Returns the bundle."""
        if not self.user:
            return bundle
        bundle.map_users(pwd.getpwnam(USER).pw_uid, size=1)
        bundle.without_namespace("network")
        bundle.linux["resources"] = {}
        for entry in bundle.config["mounts"]:
            entry["options"] = [option for option in entry.get("options", []) if not option.startswith("gid=")]
            if entry["destination"] == "/sys":
                entry |= {"type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]}
        return bundle


MODES = (
    Mode("v1", 1),
    Mode("systemd-v1", 1, systemd=True),
    Mode("v2", 2),
    Mode("systemd", 2, systemd=True),
    Mode("user", 2, systemd=True, user=True),
)
ROOT = ("v1", "systemd-v1", "v2", "systemd")
V2 = ("v2", "systemd", "user")


def modes(*names: str) -> pytest.MarkDecorator:
    """A scenario for each way to manage cgroups, or for these alone; the mark nearest to a test counts."""
    return pytest.mark.modes(*names)


def here(*names: str) -> list[Mode]:
    """Those of these modes (all, if none is named) that this host has."""
    return [mode for mode in MODES if (not names or mode.name in names) and mode.is_here()]


def plain() -> Mode:
    """The host's own cgroups, without systemd."""
    return next(mode for mode in here() if not mode.systemd)


class Managed(Runtime):
    """The runtime under test as one mode has it, and what it did to the kernel's cgroups."""

    def __init__(self, mode: Mode, command: list[str], base: Path, prefix: str) -> None:
        options = ["--systemd-cgroup"] if mode.systemd else []
        super().__init__([*mode.prefix(), *command, *options], base, prefix)
        self.mode, self._placed = mode, ""
        if mode.user:
            user = pwd.getpwnam(USER)
            for path in (base, self.root):
                os.chown(path, user.pw_uid, user.pw_gid)

    def run(self, bundle: Bundle, *options: str, id: str = "", **kwargs: Any) -> Result:
        id = id or self.new_id()
        self._place(bundle, id)
        return super().run(bundle, *options, id=id, **kwargs)

    def create(self, bundle: Bundle, *options: str, id: str = "", **kwargs: Any) -> Result:
        id = id or self.new_id()
        self._place(bundle, id)
        return super().create(bundle, *options, id=id, **kwargs)

    def _place(self, bundle: Bundle, id: str) -> None:
        """systemd: a slice, a prefix and a name, unless the scenario has said where."""
        if self.mode.systemd and bundle.linux.get("cgroupsPath", self._placed) == self._placed:
            bundle.linux["cgroupsPath"] = self._placed = self.mode.path(id)

    # what is in the kernel

    def cgroup(self, id: str, controller: str = "pids") -> Path:
        """The directory of the container's cgroup; controller: the one of v1."""
        return self.cgroup_of(self.pid(id), controller)

    def cgroup_of(self, pid: int, controller: str = "pids") -> Path:
        return cgroup_of(pid, controller if self.mode.version == 1 else "")

    def cgroups(self, id: str) -> list[Path]:
        """Each cgroup that the container has: one, but on v1."""
        pid = self.pid(id)
        names = V1_CONTROLLERS if self.mode.version == 1 else ("",)
        return list(dict.fromkeys(self.cgroup_of(pid, name) for name in names))

    def members(self, id: str) -> list[int]:
        """The processes in the container's cgroup."""
        return [int(pid) for pid in (self.cgroup(id) / "cgroup.procs").read_text().split()]

    def limit(self, id: str, name: str) -> int | str:
        """What the kernel has for a limit, by its name in the specification: a number, UNLIMITED, or a set's text."""
        return self.limits(id, name)[name]

    def limits(self, id: str, *names: str) -> dict[str, int | str]:
        """The same for several."""
        pid = self.pid(id)
        read = self._limit_v1 if self.mode.version == 1 else self._limit_v2
        return {name: read(pid, name) for name in names}

    def _limit_v1(self, pid: int, name: str) -> int | str:
        file = V1_FILES.get(name, name)
        return _number((self.cgroup_of(pid, file.partition(".")[0]) / file).read_text().strip())

    def _limit_v2(self, pid: int, name: str) -> int | str:
        directory = cgroup_of(pid, "")

        def read(file: str) -> list[int | str]:
            return [_number(word) for word in (directory / file).read_text().split()]

        if name in ("cpu.quota", "cpu.period"):
            return read("cpu.max")[name == "cpu.period"]
        if name == "cpu.shares":
            weight = read("cpu.weight")[0]
            return SHARES_OF_WEIGHT.get(int(weight), f"weight {weight}")
        if name == "blockIO.weight":
            if (directory / "io.bfq.weight").exists():
                return read("io.bfq.weight")[1]
            weight = read("io.weight")[1]
            return BLKIO_OF_WEIGHT.get(int(weight), f"weight {weight}")
        if name == "memory.swap":
            swap = int(read("memory.swap.max")[0])
            return swap if swap == UNLIMITED else swap + int(read("memory.max")[0])
        return (read(V2_FILES.get(name, name)) or [""])[0]

    # acts on the kernel

    def freeze(self, id: str) -> None:
        """Freeze the container's cgroup behind the runtime's back."""
        freeze(self.cgroup(id, "freezer"))

    def thaw(self, id: str) -> None:
        freeze(self.cgroup(id, "freezer"), "0", "THAWED")

    def is_frozen(self, id: str) -> bool:
        cgroup = self.cgroup(id, "freezer")
        file = cgroup / ("freezer.state" if self.mode.version == 1 else "cgroup.events")
        return file.read_text() == "FROZEN\n" or "frozen 1" in file.read_text().splitlines()

    def empty_cgroup(self, name: str) -> list[Path]:
        """Make the cgroup that `Mode.path(name)` stands for, without a process; cgroupfs alone."""
        tops = [TOP / name for name in ("freezer", "pids")] if self.mode.version == 1 else [TOP]
        made = [top / name for top in tops]
        for path in made:
            path.mkdir()
        return made


def freeze(cgroup: Path, v2: str = "1", v1: str = "FROZEN") -> None:
    file = cgroup / "freezer.state"
    if file.exists():
        file.write_text(v1)
    else:
        (cgroup / "cgroup.freeze").write_text(v2)


def _number(text: str) -> int | str:
    if text == "max" or (text.isdigit() and int(text) > 1 << 62):
        return UNLIMITED
    return int(text) if text.lstrip("-").isdigit() else text


# ---- what there is on the host -------------------------------------------------------------------


def inventory() -> dict[str, list[str]]:
    """What a container could leave in the tree of cgroups and with systemd: all there is, if this host is ours alone.

    Elsewhere others come and go, and what has this test's name must do: see Runtime.traces.
    """
    if os.environ.get("PYOCIRUN_ALONE") != "1":
        return {}
    return {"cgroups": sorted(cgroups()), "units": _units(), "the user's units": _units("--user")}


def _units(*options: str) -> list[str]:
    if not (here("user") if options else here("systemd", "systemd-v1")):
        return []
    command = ["systemctl", *options, "list-units", "--all", "--full", "--plain", "--no-legend", "--type=scope"]
    before = with_bus() if options else []
    lines = subprocess.run([*before, *command], stdout=subprocess.PIPE, check=False, text=True, timeout=60).stdout
    return sorted(line.split()[0] for line in lines.splitlines())


def as_user() -> list[str]:
    """The words that run a command as USER, in a cgroup of the user's systemd."""
    return [*in_users_cgroup(), *with_bus()]


def in_users_cgroup() -> list[str]:
    """The words by which root runs a command in a cgroup of USER's systemd."""
    return ["sh", "-c", 'echo 0 >"$0/cgroup.procs" && exec "$@"', str(_users_cgroup())]


def with_bus() -> list[str]:
    """The words that run a command as USER, who reaches the bus of their systemd."""
    uid = pwd.getpwnam(USER).pw_uid
    bus = f"/run/user/{uid}"
    # The user's directory below /run was mounted behind this process's back, which has mounts of its own.
    command = ["nsenter", "--mount=/proc/1/ns/mnt"]
    command += [str(shutil.which("setpriv")), f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return [*command, "env", f"XDG_RUNTIME_DIR={bus}", f"DBUS_SESSION_BUS_ADDRESS=unix:path={bus}/bus"]


@functools.cache
def _users_cgroup() -> Path:
    """The cgroup of a service of the user's systemd, which lasts as long as the tests.

    So does the slice of their containers, which systemd makes for the first of them, and keeps.
    """
    uid = pwd.getpwnam(USER).pw_uid
    unit = f"scenarios-{os.getpid()}.service"
    start = ["systemd-run", "--user", "--quiet", f"--unit={unit}", "--slice=user.slice", "--property=Delegate=yes"]
    start += ["sleep", "infinity"]
    for command in (["loginctl", "enable-linger", USER], ["systemctl", "start", f"user@{uid}.service"]):
        subprocess.run(command, check=True, timeout=120)
    subprocess.run([*with_bus(), *start], check=True, timeout=120)
    atexit.register(subprocess.run, [*with_bus(), "systemctl", "--user", "stop", unit], check=False, timeout=60)
    return next((TOP / f"user.slice/user-{uid}.slice/user@{uid}.service").rglob(unit))
