"""What the scenarios stand on: a runtime under test, bundles for it, and the search for what it left behind.

The runtime is the command in RUNTIME, or `pyocirun` on PATH. Everything here works the same for every runtime with
runc's command line, so that a scenario can be run against runc first.

The test process turns itself into a small host of its own: a private mount namespace (see `isolate`), and a subreaper,
so that each container's init becomes its child when the runtime exits, and its exit status can be read here.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import select
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import pytest

HERE = Path(__file__).resolve().parent
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PATIENCE = float(os.environ.get("PYOCIRUN_PATIENCE", "1"))
"""How many times longer everything may take than on a machine of its own."""

TIMEOUT = 30.0 * PATIENCE

CLONE_NEWNS = 0x20000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
PR_SET_CHILD_SUBREAPER = 36
CREATE_RULESET = 444

_libc = ctypes.CDLL(None, use_errno=True)
_own_mounts: set[str] = set()


# ---- the test process as a host of its own -------------------------------------------------------


def isolate() -> None:
    """Move this process into a private mount namespace and make it the reaper of orphans. Needs root.

    crun 1.8 takes a mounted /sys/fs/cgroup/unified for a cgroup v2 host, so that mount is hidden from it.
    """
    unshare(CLONE_NEWNS)
    _check(_libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "mount")
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")
    if runtime_name() == "crun" and os.path.ismount("/sys/fs/cgroup/unified"):
        umount("/sys/fs/cgroup/unified")


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: Path | str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2), for a test's own use: the mount is not taken for something left behind."""
    _own_mounts.add(str(target))
    _check(_libc.mount(source.encode(), str(target).encode(), fstype.encode(), flags, data.encode()), f"mount {target}")


def umount(target: Path | str) -> None:
    """Lazy umount(2)."""
    _check(_libc.umount2(str(target).encode(), MNT_DETACH), f"umount {target}")


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def runtime_command() -> list[str]:
    """The runtime under test, as an argument vector; [] if there is none."""
    if command := shlex.split(os.environ.get("RUNTIME", "")):
        return [os.path.abspath(shutil.which(command[0]) or command[0]), *command[1:]]
    beside = Path(sys.executable).parent / "pyocirun"
    found = shutil.which("pyocirun") or (str(beside) if beside.exists() else None)
    return [found] if found else []


def runtime_name() -> str:
    """Returns "runc" or "crun" where the command is called so, else "pyocirun"."""
    command = runtime_command()
    base = os.path.basename(command[0]) if command else ""
    return base if base in ("runc", "crun") else "pyocirun"


# ---- what a scenario needs -----------------------------------------------------------------------


def _has(program: str) -> Callable[[], bool]:
    return lambda: shutil.which(program) is not None


def _named(variable: str) -> Callable[[], bool]:
    return lambda: os.path.exists(os.environ.get(variable, ""))


def _is_cgroup2() -> bool:
    return os.path.exists("/sys/fs/cgroup/cgroup.controllers")


def _may_exceed_limits() -> bool:
    """CAP_SYS_RESOURCE, without which root cannot give it to others, and criu cannot keep memory in pipes."""
    status = Path("/proc/self/status").read_text().split()
    return bool(int(status[status.index("CapEff:") + 1], 16) & 1 << 24)


def _has_working_criu() -> bool:
    """3.17, of Debian 12, knows nothing of the vdso of Linux 6."""
    if not shutil.which("criu"):
        return False
    version = subprocess.run(["criu", "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    return version.startswith("Version: 4") and _run("criu", "check") == 0


def _has_landlock() -> bool:
    """With scopes, which came with Linux 6.12; a kernel may have it built in and off."""
    return int(_libc.syscall(CREATE_RULESET, None, 0, 1)) >= 6


def _run(*command: str) -> int:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False).returncode


NEEDS: dict[str, Callable[[], bool]] = {
    "root": lambda: os.geteuid() == 0,
    "cgroup1": lambda: os.path.isdir("/sys/fs/cgroup/memory") and not _is_cgroup2(),
    "cgroup2": _is_cgroup2,
    "systemd": lambda: os.path.isdir("/run/systemd/system"),
    "busybox": lambda: (path := shutil.which("busybox")) is not None and _is_static(path),
    "userns": lambda: os.path.exists("/proc/self/ns/user"),
    "timens": lambda: os.path.exists("/proc/self/ns/time"),
    "cgroupns": lambda: os.path.exists("/proc/self/ns/cgroup"),
    "mqueue": lambda: os.path.exists("/proc/sys/fs/mqueue"),
    "keyring": lambda: os.path.exists("/proc/keys"),
    "strace": _has("strace"),
    "setpriv": _has("setpriv"),
    "ip": _has("ip"),
    "uidmap": _has("newuidmap"),
    "cri-o": _named("CRIO"),
    "buildkitd": _named("BUILDKITD"),
    "resource": _may_exceed_limits,
    "criu": _has_working_criu,
    "landlock": _has_landlock,
    "lazypages": lambda: (
        _has_working_criu() and _run("criu", "check", "--feature", "uffd-noncoop") == 0 and _may_exceed_limits()
    ),
    "memtrack": lambda: _has_working_criu() and _run("criu", "check", "--feature", "mem_dirty_track") == 0,
}

NATURE = (
    "cgroup1",
    "cgroup2",
    "systemd",
    "resource",
    "criu",
    "landlock",
    "lazypages",
    "memtrack",
    "cri-o",
    "buildkitd",
)
"""Needs that no installation can meet. `make test` runs what they are about on another machine, the virtual one, but
for those that Debian lacks: CRIO and BUILDKITD name the programs of one who has built them."""

_T = TypeVar("_T")


def requires(*needs: str) -> pytest.MarkDecorator:
    """A scenario that needs these (keys of NEEDS): skipped without them.

    With PYOCIRUN_MUST_WORK=1 it fails then, unless it is one of NATURE that is missing.
    """
    return pytest.mark.requires(*needs)


def only(name: str) -> pytest.MarkDecorator:
    """A scenario for one runtime: where it does by design what others do not."""
    return pytest.mark.only(name)


def _is_static(path: str) -> bool:
    """Whether an ELF file asks for no interpreter."""
    with open(path, "rb") as file:
        return b"ld-linux" not in file.read(4096)


# ---- running things ------------------------------------------------------------------------------


class Result:
    """The end of one command.

    stdout and stderr are files, read each time: a container that goes on writes there too.
    """

    def __init__(self, args: list[str], status: int, stdout: Path, stderr: Path, log: Path, seconds: float) -> None:
        self.args, self.status, self.seconds = args, status, seconds
        self._stdout, self._stderr, self._log = stdout, stderr, log

    @property
    def stdout(self) -> str:
        return self._stdout.read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return self._stderr.read_text(errors="replace")

    @property
    def log(self) -> list[dict[str, Any]]:
        """The JSON log, an object a line."""
        text = self._log.read_text() if self._log.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    @property
    def error(self) -> str:
        """The message of the last line of level error in the log; "" if there is none."""
        messages = [line["msg"] for line in self.log if line["level"] == "error"]
        return str(messages[-1]) if messages else ""

    def ok(self) -> Result:
        """This result, after a check that the status was 0."""
        assert self.status == 0, f"{shlex.join(self.args)}: status {self.status}\n{self.stderr}{self.stdout[-2000:]}"
        return self

    def fails(self, *texts: str, status: int = 1) -> Result:
        """This result, after a check that it failed with this status, and that the logged error holds these texts."""
        assert self.status == status, f"{shlex.join(self.args)}: status {self.status}\n{self.stderr}"
        assert self.error, f"no error in the log of {shlex.join(self.args)}: {self.stderr}"
        assert "Traceback" not in self.stderr
        for text in texts:
            assert text in self.error, f"{text!r} is not in {self.error!r}"
        return self

    @property
    def report(self) -> dict[str, Any]:
        """The probe's report on stdout."""
        self.ok()
        report: dict[str, Any] = json.loads(self.stdout)
        return report


class Bundle:
    """A bundle directory: a rootfs with the probe (and busybox, where the host has it), and `config`.

    The config is saved whenever a runtime is given the bundle.
    """

    def __init__(self, path: Path, probe: Path) -> None:
        self.path = path
        self.rootfs = path / "rootfs"
        self.config = default_config()
        _fill_rootfs(self.rootfs, probe)

    @property
    def process(self) -> dict[str, Any]:
        process: dict[str, Any] = self.config["process"]
        return process

    @property
    def linux(self) -> dict[str, Any]:
        linux: dict[str, Any] = self.config["linux"]
        return linux

    def args(self, *args: str) -> Bundle:
        """Set process.args; a first word without a slash is a mode of the probe. Returns the bundle."""
        self.process["args"] = list(args) if args and "/" in args[0] else ["/bin/probe", *args]
        return self

    def shell(self, script: str) -> Bundle:
        """Have busybox's shell run this. Returns the bundle."""
        return self.args("/bin/sh", "-c", script)

    def mount(self, destination: str, type: str = "", source: str = "", options: tuple[str, ...] = ()) -> None:
        """Append to mounts."""
        entry = {"destination": destination, "type": type, "source": source or type, "options": list(options)}
        self.config["mounts"].append(entry)

    def bind(self, source: Path | str, destination: str, *options: str) -> None:
        """Append a bind mount; rbind where the options say so."""
        kind = () if "rbind" in options else ("bind",)
        self.mount(destination, "bind", str(source), (*kind, *options))

    def without_namespace(self, *types: str) -> None:
        self.linux["namespaces"] = [n for n in self.linux["namespaces"] if n["type"] not in types]

    def with_namespace(self, type: str, path: str = "") -> None:
        """Replace the namespace of this type, or add it; join the one at path if that is given."""
        self.without_namespace(type)
        self.linux["namespaces"].append({"type": type} | ({"path": path} if path else {}))

    def map_users(self, host_id: int, size: int = 65536) -> None:
        """A user namespace in which 0 is host_id, and a rootfs that belongs to it."""
        self.with_namespace("user")
        for key in ("uidMappings", "gidMappings"):
            self.linux[key] = [{"containerID": 0, "hostID": host_id, "size": size}]
        for path in (self.rootfs, *(p for p in self.rootfs.rglob("*") if p.is_dir() and not p.is_symlink())):
            os.chown(path, host_id, host_id)

    def hook(self, kind: str, *args: str, **fields: Any) -> None:
        """Append a hook; args[0] is the path too unless `path` is among the fields."""
        self.config.setdefault("hooks", {}).setdefault(kind, []).append({"path": args[0], "args": list(args), **fields})

    def save(self) -> None:
        (self.path / "config.json").write_text(json.dumps(self.config))


class Runtime:
    """The runtime under test, with a root directory of its own."""

    def __init__(self, command: list[str], base: Path, prefix: str) -> None:
        self.command, self.base, self.prefix = command, base, prefix
        self.name = runtime_name()
        self.root = base / "state"
        self.root.mkdir(mode=0o700)
        self._count = 0
        self._pids: dict[str, int] = {}

    # one command

    def __call__(
        self,
        *args: str,
        root: Path | str | None = None,
        log_format: str = "json",
        options: tuple[str, ...] = (),
        stdin: int | IO[bytes] | None = None,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        fd3: Path | None = None,
        timeout: float = TIMEOUT,
    ) -> Result:
        """Run one command to its end, with --root and --log of this test. Never raises for a failure.

        options: further global ones.
        """
        running = self.spawn(
            *args, root=root, log_format=log_format, options=options, stdin=stdin, env=env, cwd=cwd, fd3=fd3
        )
        return running.wait(timeout)

    def spawn(
        self,
        *args: str,
        root: Path | str | None = None,
        log_format: str = "json",
        options: tuple[str, ...] = (),
        stdin: int | IO[bytes] | None = None,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        fd3: Path | None = None,
        through: tuple[str, ...] = (),
    ) -> Running:
        """Begin one command. Its output goes to files, so that a container that holds it stops nobody.

        fd3: a file that the command has open as its descriptor 3.  through: words of a program that runs it.
        """
        self._count += 1
        name = f"{self._count:03}"
        log = self.base / f"{name}.log"
        argv = [*self.command, "--root", str(root or self.root), "--log", str(log), "--log-format", log_format]
        argv += [*options, *args]
        if fd3:
            argv = ["/bin/sh", "-c", 'exec 3<"$0" "$@"', str(fd3), *argv]
        return Running([*through, *argv], self.base, name, log, stdin, env, cwd)

    # commands by name

    def new_id(self) -> str:
        """An id that no other test uses; cgroups left behind are found by its prefix."""
        self._count += 1
        return f"{self.prefix}-{self._count}"

    def run(self, bundle: Bundle, *options: str, id: str = "", **kwargs: Any) -> Result:
        bundle.save()
        return self("run", "--bundle", str(bundle.path), *options, id or self.new_id(), **kwargs)

    def create(self, bundle: Bundle, *options: str, id: str = "", **kwargs: Any) -> Result:
        bundle.save()
        return self("create", "--bundle", str(bundle.path), *options, id or self.new_id(), **kwargs)

    def created(self, bundle: Bundle, *options: str, **kwargs: Any) -> str:
        """The id of a new container that waits for start."""
        id = self.new_id()
        file = self.base / f"{id}.pid"
        self.create(bundle, *options, "--pid-file", str(file), id=id, **kwargs).ok()
        self._pids[id] = int(file.read_text())
        return id

    def running(self, bundle: Bundle, *args: str) -> str:
        """The id of a new container that has been started; args: process.args, as for Bundle.args (default: sleep)."""
        id = self.created(bundle.args(*(args or ("sleep", str(int(60 * PATIENCE))))))
        self.start(id).ok()
        return id

    def start(self, id: str) -> Result:
        return self("start", id)

    def kill(self, id: str, *args: str) -> Result:
        return self("kill", id, *args)

    def delete(self, id: str, *options: str) -> Result:
        return self("delete", *options, id)

    def exec(self, id: str, *args: str, options: tuple[str, ...] = (), **kwargs: Any) -> Result:
        """exec with these process args: those after a first word without a slash are a mode of the probe."""
        command = args if args and "/" in args[0] else ("/bin/probe", *args)
        return self("exec", *options, id, *command, **kwargs)

    def state(self, id: str) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self("state", id).ok().stdout)
        return state

    def status(self, id: str) -> str:
        return str(self.state(id)["status"])

    def pid(self, id: str) -> int:
        """That of the container's init; of a created one without asking for its state."""
        pid = self._pids.get(id, 0)
        return pid if pid and alive(pid) else int(self.state(id)["pid"])

    # waiting

    def wait(self, id: str, timeout: float = 10.0) -> int:
        """Wait until the container's init has ended: its exit status, or -signal."""
        return wait_for_orphan(self.pid(id), timeout)

    def stop(self, id: str) -> None:
        """Kill the container's init and wait for its end."""
        pid = self.pid(id)
        self.kill(id, "KILL").ok()
        wait_for_orphan(pid)

    def clean(self) -> None:
        """Delete every container of this root."""
        for id in sorted(os.listdir(self.root)) if self.root.exists() else []:
            if not id.startswith("@"):
                self("delete", "--force", id)
        reap()

    def sweep(self) -> None:
        """Remove by hand what the runtime did not: processes, then cgroups."""
        for pid in children():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for path in reversed(cgroups()):
            if self.prefix in path:
                _rmdir(path)

    def traces(self) -> list[str]:
        """What there is of containers of this test: state directories, cgroups, mounts, processes."""
        reap()
        found = [str(self.root / id) for id in os.listdir(self.root) if not id.startswith("@")]
        found += [path for path in cgroups() if self.prefix in path]
        place = str(self.base.parent)
        found += [line for line in mounts() if place in line and line.split()[4] not in _own_mounts]
        found += [f"process {pid}: {command_of(pid)}" for pid in children()]
        return found

    # last, for the name hides the type

    def list(self, *options: str, **kwargs: Any) -> Result:
        return self("list", *options, **kwargs)


class Running:
    """A command of the runtime that has begun."""

    live: dict[int, subprocess.Popen[bytes]] = {}

    def __init__(
        self,
        argv: list[str],
        base: Path,
        name: str,
        log: Path,
        stdin: int | IO[bytes] | None,
        env: dict[str, str] | None,
        cwd: Path | None,
    ) -> None:
        self.argv, self.log = argv, log
        self.out, self.err = base / f"{name}.out", base / f"{name}.err"
        self.began = time.monotonic()
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=out,
                stderr=err,
                env=env,
                cwd=cwd,
            )
        self.live[self.process.pid] = self.process

    def wait(self, timeout: float = TIMEOUT) -> Result:
        """Wait for the command's end. After the timeout it is killed, and the test fails."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"{shlex.join(self.argv)}: no end after {timeout} s\n{self.err.read_text(errors='replace')}")
        finally:
            self.live.pop(self.process.pid, None)
        seconds = time.monotonic() - self.began
        return Result(self.argv, self.process.returncode, self.out, self.err, self.log, seconds)


MEASURE = """
import os, sys
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(pid, 0)
with open(sys.argv[1], "w") as file:
    file.write(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def measured(runtime: Runtime, *args: str) -> tuple[Result, int]:
    """Run one command to its end: its result, and the most memory that it took at once, in bytes.

    A small process starts it: what its parent had at that moment counts, too.
    """
    peak = runtime.base / "peak"
    result = runtime.spawn(*args, through=(sys.executable, "-IS", "-c", MEASURE, str(peak))).wait()
    return result, int(peak.read_text()) << 10


def eventually(condition: Callable[[], _T], what: str = "", timeout: float = 10.0) -> _T:
    """Poll until the condition holds; its value."""
    end = time.monotonic() + timeout * PATIENCE
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"not within {timeout} s: {what or condition}")
        time.sleep(0.01)
    return value


# ---- processes -----------------------------------------------------------------------------------


def children() -> list[int]:
    """Children of this process that it did not start itself: orphans of runtimes."""
    files = [Path(f"/proc/self/task/{thread}/children") for thread in os.listdir("/proc/self/task")]
    found = {int(pid) for file in files if file.exists() for pid in file.read_text().split()}
    return sorted(pid for pid in found if pid not in Running.live and _is_adopted(pid))


def reap() -> None:
    """Take the exit status of every dead orphan."""
    for pid in children():
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            continue


def wait_for_orphan(pid: int, timeout: float = 10.0) -> int:
    """Wait for the end of a process that this one has inherited: its exit status, or -signal."""
    assert pid > 0, "no such process"
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        pytest.fail(f"process {pid} is gone")
    try:
        readable, _, _ = select.select([pidfd], [], [], timeout * PATIENCE)
        assert readable, f"process {pid} has not ended within {timeout} s"
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(pidfd)
    return os.waitstatus_to_exitcode(status)


def alive(pid: int) -> bool:
    """Whether there is such a process and it is no zombie."""
    return _stat_field(pid, 0) not in ("", "Z", "X")


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def namespace(kind: str, pid: int | str = "self") -> int:
    """The inode number of a process's namespace."""
    return os.stat(f"/proc/{pid}/ns/{kind}").st_ino


def _stat_field(pid: int, index: int) -> str:
    """A field of /proc/PID/stat, counted from the state; "" if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[index]
    except OSError:
        return ""


_started_by_tests: set[int] = set()


def _is_adopted(pid: int) -> bool:
    return pid not in _started_by_tests


def helper(*args: str, **kwargs: Any) -> subprocess.Popen[bytes]:
    """Start a program that is no runtime; it is not taken for something left behind."""
    process = subprocess.Popen(args, **kwargs)
    _started_by_tests.add(process.pid)
    return process


# ---- cgroups and mounts --------------------------------------------------------------------------


def cgroups(top: str = "/sys/fs/cgroup") -> list[str]:
    """All cgroup directories of the host. One without any below tells so by its number of links: it is not read."""
    found = [top]
    try:
        below = [entry.path for entry in os.scandir(top) if entry.is_dir(follow_symlinks=False)]
        for path in below:
            found += cgroups(path) if os.lstat(path).st_nlink != 2 else [path]
    except OSError:
        pass  # removed meanwhile, or the path is too long to be read
    return found


def mounts() -> list[str]:
    """Lines of this process's mountinfo."""
    return Path("/proc/self/mountinfo").read_text().splitlines()


def _rmdir(path: str) -> None:
    """Remove a cgroup, in several attempts: its last process may not be quite gone."""
    for _ in range(200):
        try:
            return os.rmdir(path)
        except OSError as error:
            if error.errno != errno.EBUSY:
                return None
        time.sleep(0.01)
    return None


def cgroup_of(pid: int, controller: str) -> Path:
    """The host's directory of a process's cgroup: v1 for this controller, or v2 with the empty controller."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(",") and (controller or not names):
            return Path("/sys/fs/cgroup", _mountpoint(controller), path.lstrip("/"))
    raise LookupError(f"process {pid} is in no cgroup of {controller}")


def _mountpoint(controller: str) -> str:
    for line in mounts():
        fields = line.split()
        if fields[fields.index("-") + 1] == "cgroup" and controller in fields[-1].split(","):
            return fields[4]
    return "/sys/fs/cgroup"


def mount_at(report: dict[str, Any], target: str) -> dict[str, Any]:
    """The topmost mount on target in the probe's report: fstype, source, options, super_options, propagation."""
    found: dict[str, Any] = {}
    for line in report["mounts"]:
        head, _, tail = line.partition(" - ")
        fields, rest = head.split(), tail.split(" ")
        if fields[4] == target:
            found = {
                "root": fields[3],
                "options": fields[5].split(","),
                "propagation": fields[6:],
                "fstype": rest[0],
                "source": rest[1],
                "super_options": rest[2].split(","),
            }
    assert found, f"nothing is mounted on {target}"
    return found


# ---- the bundle's parts --------------------------------------------------------------------------


def build_probe(target: Path) -> Path:
    """Compile the probe, or take the one that PYOCIRUN_PROBE names."""
    if made := os.environ.get("PYOCIRUN_PROBE"):
        return Path(shutil.copy(made, target))
    source = HERE / "probe" / "probe.c"
    flags = ["-std=gnu17", "-static", "-O2", "-s", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([os.environ.get("CC", "cc"), *flags, "-o", target, source], check=True)
    return target


APPLETS = [
    "sh",
    "cat",
    "cp",
    "echo",
    "env",
    "false",
    "id",
    "kill",
    "ln",
    "ls",
    "mkdir",
    "mount",
    "ps",
    "readlink",
    "rm",
    "sleep",
    "stat",
    "tail",
    "test",
    "touch",
    "true",
    "umount",
    "wc",
]


def _fill_rootfs(rootfs: Path, probe: Path) -> None:
    for name in ("bin", "dev", "etc", "home/user", "proc", "root", "sys", "tmp"):
        (rootfs / name).mkdir(parents=True)
    os.chmod(rootfs / "tmp", 0o1777)
    os.chown(rootfs / "home/user", 1000, 1000)
    (rootfs / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
    (rootfs / "etc/group").write_text("root:x:0:\nuser:x:1000:\n")
    shutil.copy(probe, rootfs / "bin/probe")
    if NEEDS["busybox"]():
        shutil.copy(str(shutil.which("busybox")), rootfs / "bin/busybox")
        for applet in APPLETS:
            os.symlink("busybox", rootfs / "bin" / applet)


def default_config() -> dict[str, Any]:
    """A config such as `runc spec` writes, without a terminal, for the probe."""
    capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/probe"],
            "env": [f"PATH={PATH}", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {name: list(capabilities) for name in ("bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "scenario",
        "mounts": [
            _mount("/proc", "proc", "proc"),
            _mount("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
            _mount("/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
            _mount("/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=65536k"),
            _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
            _mount("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": name} for name in ("pid", "network", "ipc", "uts", "mount")],
            "maskedPaths": [
                "/proc/acpi",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/sched_debug",
                "/sys/firmware",
                "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def _mount(destination: str, type: str, source: str, options: str = "") -> dict[str, Any]:
    entry: dict[str, Any] = {"destination": destination, "type": type, "source": source}
    return entry | ({"options": options.split(",")} if options else {})


# ---- directories ---------------------------------------------------------------------------------


def session_directory() -> Iterator[Path]:
    """A directory that every user may enter (a container in a user namespace comes this way), removed at the end."""
    path = Path(tempfile.mkdtemp(prefix="pyocirun-scenarios-"))
    os.chmod(path, 0o755)
    yield path
    remove_tree(path)


def remove_tree(path: Path) -> None:
    """Remove a directory, never through a mount: what is still mounted below is taken off first."""
    for line in reversed(mounts()):
        target = line.split()[4]
        if target == str(path) or target.startswith(f"{path}/"):
            umount(target)
    shutil.rmtree(path, ignore_errors=True)


def is_device(path: Path, major: int, minor: int) -> bool:
    st = os.lstat(path)
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == os.makedev(major, minor)


def errno_name(number: int) -> str:
    return errno.errorcode.get(number, str(number))


SIGNALS = {name[3:]: number for name, number in signal.__dict__.items() if name.startswith("SIG") and name[3] != "_"}
