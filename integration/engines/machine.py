"""A machine for an engine: namespaces and a /run of its own, and a first process that ends with everything in it.

Engines use fixed places below /run whatever they are told, so each gets a mount, pid and network namespace, with an
empty tmpfs on /run. The first process of the pid namespace is this file, run as a program: it reaps orphans, and when
it is killed the kernel ends everything below it. Only cgroups are the host's: an engine is told a parent whose name has
NAME in it, and what is below that is removed at the end.

With systemd the pid namespace is the host's too, since pids are what systemd is told; orphans still come to the first
process, and all below it are killed at the end. Of the host's /run it keeps what systemd and its buses have there.
"""

from __future__ import annotations

import ctypes
import json
import os
import pty
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

NAME = f"pyocirun-test-{os.getpid()}"
SLICE = f"{NAME}.slice"
BASE = "/run/engine"
# More than 1 where everything takes longer, as under emulation.
PATIENCE = float(os.environ.get("PYOCIRUN_PATIENCE", "1"))
TIMEOUT = round(60 * PATIENCE)
CGROUPS = "/sys/fs/cgroup"
OF_SYSTEMD = ("systemd", "dbus", "user")
TUN = "/dev/net/tun"
PR_SET_CHILD_SUBREAPER = 36
NEEDED = ("unshare", "nsenter", "mount", "ip", "setpriv", "setsid")


class Ended:
    """How a command ended: its exit status, and what it wrote."""

    def __init__(self, status: int, stdout: str, stderr: str = "") -> None:
        self.status, self.stdout, self.stderr = status, stdout, stderr

    def __repr__(self) -> str:
        return f"status {self.status}, stdout {self.stdout[-2000:]!r}, stderr {self.stderr[-2000:]!r}"

    def ok(self) -> str:
        """What it wrote to stdout, after a check that it succeeded."""
        assert self.status == 0, repr(self)
        return self.stdout


class Machine:
    """The namespaces, and a daemon in them if one is given.

    files: path and content of what is laid over the host's files (as /etc/subuid) or made below /run; `daemon`: its
    command line; environment: added to that of the daemon and of every command; systemd: with the host's in reach.
    """

    def __init__(
        self,
        daemon: Sequence[str] = (),
        files: dict[str, str] | None = None,
        environment: dict[str, str] | None = None,
        systemd: bool = False,
    ) -> None:
        self.systemd = systemd
        self.scratch = tempfile.mkdtemp(prefix="pyocirun-engine-")
        os.chmod(self.scratch, 0o755)
        self.environment = environment or {}
        order = json.dumps({"daemon": list(daemon), "files": files or {}, "environment": self.environment})
        # What systemd mounts for a user does not reach those who have mounts of their own, as the tests may.
        enter = ["nsenter", "--mount=/proc/1/ns/mnt", f"--wdns={self.scratch}"] if systemd else []
        enter += ["unshare", "--mount", "--net", "--propagation", "private"]
        enter += [] if systemd else ["--pid", "--fork", "--kill-child", "--mount-proc"]
        self._log = open(os.path.join(self.scratch, "log"), "w+")  # noqa: SIM115 - closed by stop
        self._outer = subprocess.Popen(
            [*enter, sys.executable, os.path.abspath(__file__), order, *(["systemd"] if systemd else [])],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            cwd=self.scratch,  # where what runs in it drops its files
        )
        try:
            eventually(lambda: self._ready() or self._dead(), "the machine is there")
        except BaseException:
            self.stop()
            raise
        self.pid = self._first_process()

    # ---- commands in it ----

    def __call__(
        self, *argv: str, stdin: bytes = b"", user: int = 0, env: dict[str, str] | None = None, timeout: int = TIMEOUT
    ) -> Ended:
        """Run a command to its end. user: its uid and gid."""
        done = subprocess.run(
            self.entered(argv, user), input=stdin, capture_output=True, timeout=timeout, env=self._environment(env)
        )
        return Ended(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def begin(self, *argv: str, user: int = 0, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command; its output comes by pipes."""
        return subprocess.Popen(
            self.entered(argv, user),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment(env),
        )

    def in_terminal(
        self, *argv: str, typed: str = "", user: int = 0, env: dict[str, str] | None = None, timeout: int = TIMEOUT
    ) -> Ended:
        """Run a command in a terminal of its own of 100 columns and 30 rows; stdout has all that appeared there.

        typed: what is typed once something has appeared.
        """
        master, slave = pty.openpty()
        import termios

        termios.tcsetwinsize(master, (30, 100))
        process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *self.entered(argv, user)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=self._environment(env),
        )
        os.close(slave)
        output = b""
        end = time.monotonic() + timeout
        try:
            while time.monotonic() < end:
                try:
                    data = os.read(master, 4096)
                except OSError:
                    break
                output += data
                if typed and output:
                    os.write(master, typed.encode())
                    typed = ""
            return Ended(process.wait(timeout), output.decode(errors="replace"))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            os.close(master)

    def entered(self, argv: Sequence[str], user: int = 0) -> list[str]:
        """The command line that runs argv in the namespaces."""
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--net"]
        enter += [] if self.systemd else ["--pid"]
        if user:
            enter += ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"]
        return [*enter, *argv]

    def _environment(self, more: dict[str, str] | None) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return kept | self.environment | (more or {})

    # ---- what is in it ----

    def path(self, path: str) -> str:
        """Where the host finds a path of the machine."""
        return f"/proc/{self.pid}/root{path}"

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> str:
        """Write a file below the machine's /run, and return its path there."""
        host = self.path(path)
        os.makedirs(os.path.dirname(host), exist_ok=True)
        with open(host, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        os.chmod(host, mode)
        return path

    def mounts(self) -> list[str]:
        """Lines of proc_pid_mountinfo(5)."""
        with open(f"/proc/{self.pid}/mountinfo") as file:
            return file.read().splitlines()

    def processes(self) -> dict[int, str]:
        """Command lines by pid of the host; a zombie has an empty one. The first process is not among them."""
        if self.systemd:
            return {pid: _command_line(pid) for pid in descendants(self.pid)}
        own = os.readlink(f"/proc/{self.pid}/ns/pid")
        found = {}
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != self.pid and _pid_namespaces(int(name)).intersection({own}):
                found[int(name)] = _command_line(int(name))
        return found

    def log(self) -> str:
        """The end of what the daemon wrote."""
        self._log.flush()
        with open(self._log.name) as file:
            return file.read()[-6000:]

    def stop(self) -> None:
        """Kill the first process, and with it everything in there; remove cgroups and scratch."""
        if self.systemd:
            eventually(self._killed, "all of it has ended")
            subprocess.run(["systemctl", "stop", SLICE], check=True)
        elif first := self._first_process():
            os.kill(first, 9)
        self._outer.kill()
        self._outer.wait()
        for path in sorted(cgroups(), key=len, reverse=True):
            eventually(lambda path=path: removed(path), f"{path} can be removed")  # type: ignore[misc]
        self._log.close()
        shutil.rmtree(self.scratch, ignore_errors=True)

    # ---- its start ----

    def _first_process(self) -> int:
        """Pid, as seen here, of the first process of the pid namespace; 0 while there is none."""
        pid = self._outer.pid
        if self.systemd:
            return pid
        try:
            with open(f"/proc/{pid}/task/{pid}/children") as file:
                return int((file.read().split() or ["0"])[0])
        except FileNotFoundError:
            return 0

    def _ready(self) -> bool:
        first = self._first_process()
        return first != 0 and os.path.exists(f"/proc/{first}/root{BASE}/ready")

    def _dead(self) -> bool:
        if self._outer.poll() is None:
            return False
        raise AssertionError(f"it ended: {self.log()}")

    def _killed(self) -> bool:
        """Whether nothing is left below the first process; whatever is there is killed, the daemon first."""
        left = descendants(self._outer.pid)
        for pid in left:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        return not left

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until the condition holds; AssertionError with the daemon's last words if it ends before."""
        eventually(lambda: condition() or self._dead(), what)


def eventually(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until the condition holds; AssertionError if it does not in that time.

    It is asked less and less often, for asking costs what it waits for: 20 times a second, or as often in PATIENCE.
    """
    end, nap = time.monotonic() + seconds * PATIENCE, 0.05
    while not condition():
        assert time.monotonic() < end, f"it took too long until {what}"
        time.sleep(nap)
        nap = min(1.5 * nap, 0.05 * PATIENCE)


def started_again(daemon: Sequence[str]) -> list[str]:
    """The command line of a daemon that is started again whenever it has ended."""
    return ["sh", "-c", 'while :; do "$@"; done', "again", *daemon]


def _pid_namespaces(pid: int) -> set[str]:
    """The pid namespace of a process, and the one around that: a container's process is in one of its own."""
    found = set()
    try:
        found.add(os.readlink(f"/proc/{pid}/ns/pid"))
        descriptor = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY)
    except OSError:
        return found
    try:
        parent = _parent_namespace(descriptor)
        found.add(f"pid:[{os.fstat(parent).st_ino}]")
        os.close(parent)
    except OSError:
        pass
    finally:
        os.close(descriptor)
    return found


def _parent_namespace(descriptor: int) -> int:
    """NS_GET_PARENT of ioctl_nsfs(2)."""
    import fcntl

    return fcntl.ioctl(descriptor, 0xB702)


def descendants(pid: int) -> list[int]:
    """The processes below one, parents before children."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += [int(child) for child in file.read().split()]
    except FileNotFoundError:
        pass
    return found + [each for child in found for each in descendants(child)]


def _command_line(pid: int) -> str:
    """ "" for a zombie, and for what has ended."""
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read().replace("\0", " ").strip()
    except OSError:
        return ""


def cgroups() -> list[str]:
    """Directories in all hierarchies below one with NAME as its name, and those below SLICE.

    Also where no hierarchy is mounted: podman makes directories there too.
    """
    found = []
    for hierarchy in [CGROUPS, *(entry.path for entry in os.scandir(CGROUPS) if entry.is_dir(follow_symlinks=False))]:
        for directory, _, _ in os.walk(os.path.join(hierarchy, NAME)):
            found.append(directory)
        slice = os.path.join(hierarchy, "pyocirun.slice/pyocirun-test.slice", SLICE)
        found += [directory for directory, _, _ in os.walk(slice) if directory != slice]
    return found


def cgroups_left() -> list[str]:
    """Those below NAME and SLICE, without NAME itself and what only looks like a cgroup."""
    return [path for path in cgroups() if os.path.basename(path) != NAME and not _is_plain(path)]


def removed(cgroup: str) -> bool:
    try:
        os.rmdir(cgroup)
    except FileNotFoundError:
        return True
    except OSError:
        if not _is_plain(cgroup):
            return False
        shutil.rmtree(cgroup)
    return True


def _is_plain(path: str) -> bool:
    """Whether it is a directory as any other, in the place of a hierarchy that is not mounted.

    podman and crun write to files of those that they think are mounted.
    """
    try:
        own = os.stat(path).st_dev
    except FileNotFoundError:
        return False
    return own == os.stat(CGROUPS).st_dev and not os.path.exists(f"{CGROUPS}/cgroup.procs")


# ---- the first process of the pid namespace ----


def first_process(order: str, systemd: bool) -> int:
    """Prepare the mount and network namespaces, start the daemon if there is one, and reap until it ends."""
    wanted = json.loads(order)
    run = tempfile.mkdtemp(prefix="pyocirun-run-")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", run], check=True)
    for name in OF_SYSTEMD if systemd else ():
        if os.path.isdir(f"/run/{name}"):
            os.mkdir(f"{run}/{name}")
            subprocess.run(["mount", "--rbind", f"/run/{name}", f"{run}/{name}"], check=True)
    subprocess.run(["mount", "--no-mtab", "--move", run, "/run"], check=True)
    os.rmdir(run)
    os.makedirs(BASE)
    if systemd:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number, (path, content) in enumerate(wanted["files"].items()):
        below_run = path.startswith("/run/")
        place = path if below_run else f"{BASE}/over-{number}"
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "w") as file:
            file.write(content)
        if not below_run:
            subprocess.run(["mount", "--bind", place, path], check=True)
    # As most hosts have it, and rootless podman wants it.
    subprocess.run(["mount", "--make-rshared", "/"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    _open_tun()
    daemon = None
    if wanted["daemon"]:
        daemon = subprocess.Popen(wanted["daemon"], env=os.environ | wanted["environment"])
    with open(f"{BASE}/ready", "w"):
        pass
    return _reap(daemon)


def _open_tun() -> None:
    """Lay a node that everybody may open over that of tun, as udev makes it: users' networks begin there."""
    if os.path.exists(TUN) and not os.stat(TUN).st_mode & stat.S_IWOTH:
        made = f"{BASE}/tun"
        os.mknod(made, stat.S_IFCHR, os.stat(TUN).st_rdev)
        os.chmod(made, 0o666)
        subprocess.run(["mount", "--bind", made, TUN], check=True)


def _reap(daemon: subprocess.Popen[bytes] | None) -> int:
    """Reap for ever, or until the daemon ends: its exit code."""
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            time.sleep(0.1)
            continue
        if daemon and pid == daemon.pid:
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(first_process(sys.argv[1], "systemd" in sys.argv[2:]))
