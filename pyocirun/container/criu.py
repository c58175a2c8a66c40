"""Running criu: one process of it for one request, asked over a socket (`criu swrk`)."""

from __future__ import annotations

import posix

from pyocirun import files, native
from pyocirun.container import criu_rpc as rpc
from pyocirun.errors import CriuError, Error, OperationError, UsageError
from pyocirun.plan import criu as plans
from pyocirun.plan.encode import encode
from pyocirun.record import Record
from pyocirun.spawn.effects import kill
from pyocirun.spawn.launch import Launched, launch
from pyocirun.spawn.sync import await_exec, drive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyocirun.container.criu_rpc import Field, Value
    from pyocirun.plan.ops import Slot

    Notified = Callable[[str, int, int], None]
    """Gets the name of what happened, the pid that it is about, and a descriptor that came along or -1."""

OLDEST = 30000
"""The first criu that tells its version when it is asked."""

NEEDED = "install criu 3.0 or newer, or name it with --criu or Factory(criu=...)"
CONFIG_FILE = "/etc/criu/runc.conf"
CONFIG_ANNOTATION = "org.criu.config"
LOG_LINES = 10
LOG_BYTES = 1 << 16


class CriuOptions(Record):
    """What criu is to do, and how: for Container.checkpoint and Factory.restore. criu(8) explains most of it.

    image_path: directory of the images, made if it is missing.  work_path: directory of the log, "": the same.
    parent_path: of the images of a pre-dump before, relative to image_path.
    leave_running: the container goes on after the checkpoint.  pre_dump: of its memory alone; then it goes on too.
    page_server: (address, port) to send memory to.  veth_pairs: (inside, outside) names, for a restore.
    empty_ns: "network" is all there is, and always so: addresses and routes are the business of who made them.
    status_fd: a NUL byte is written there once memory can be fetched, and it is closed; -1 for none.
    manage_cgroups_mode: "soft", "full", "strict", "ignore" or "", which leaves it to criu.
    """

    image_path: str = "checkpoint"
    work_path: str = ""
    parent_path: str = ""
    leave_running: bool = False
    tcp_established: bool = False
    tcp_skip_in_flight: bool = False
    link_remap: bool = False
    ext_unix_sk: bool = False
    shell_job: bool = False
    file_locks: bool = False
    pre_dump: bool = False
    page_server: tuple[str, int] | None = None
    veth_pairs: tuple[tuple[str, str], ...] = ()
    empty_ns: tuple[str, ...] = ()
    auto_dedup: bool = False
    lazy_pages: bool = False
    status_fd: int = -1
    lsm_profile: str = ""
    lsm_mount_context: str = ""
    manage_cgroups_mode: str = ""


def check(options: CriuOptions) -> None:
    """Raises UsageError for what criu does not know."""
    if not options.image_path:
        raise UsageError("the path of the checkpoint's images is empty")
    if options.manage_cgroups_mode not in rpc.CGROUP_MODES:
        raise UsageError("Invalid manage-cgroups-mode value", hint="soft, full, strict or ignore")
    for name in options.empty_ns:
        if name != "network":
            raise UsageError(f'namespace "{name}" is not supported', hint="--empty-ns network is all there is")


class Criu:
    """One criu program. program: a name, looked up in PATH, or a path."""

    def __init__(self, program: str, warn: Callable[[str], None]) -> None:
        self.program = program
        self.warn = warn
        self._version = 0

    def version(self) -> int:
        """Such as 40101 for 4.1.1. Raises CriuError if there is no criu, or one that does not say."""
        if not self._version:
            try:
                answer = self.ask([(rpc.REQUEST_TYPE, rpc.VERSION)])
            except CriuError as error:
                if error.errno:
                    raise
                text = f"{self.program} does not tell its version: it is older than 3.0, or no criu"
                raise CriuError(text, hint=NEEDED) from error
            told = rpc.decode(rpc.content(answer, rpc.VERSION_OF))
            major, minor, sublevel = (rpc.number(told, field) for field in (1, 2, 4))
            self._version = major * 10000 + minor * 100 + sublevel
        return self._version

    def require(self, oldest: int, what: str) -> None:
        """Raises CriuError if it is older than this."""
        if self.version() < oldest:
            text = f"{what} needs criu {name(oldest)} or newer; {self.program} is {name(self.version())}"
            raise CriuError(text, hint=f"install criu {name(oldest)} or newer, or name it with --criu")

    def require_feature(self, feature: int, what: str) -> None:
        """Raises CriuError if this criu, on this kernel, has it not."""
        answer = self.ask([(rpc.REQUEST_TYPE, rpc.FEATURE_CHECK), (rpc.REQUEST_FEATURES, [(feature, True)])])
        if not rpc.number(rpc.decode(rpc.content(answer, rpc.FEATURES)), feature):
            raise CriuError(f"{what} cannot be had of {self.program} on this kernel", hint="see `criu check --all`")

    def ask(self, request: list[Field]) -> dict[int, list[int | bytes]]:
        """The answer to a request that needs nothing but to be asked. Raises CriuError."""
        nothing = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
        try:
            run = Run(self, (nothing, nothing, nothing))
        finally:
            posix.close(nothing)
        with run:
            return run.ask(request, _no_news)


class Run:
    """A criu that runs, until the `with` around it ends.

    stdio: descriptors for 0, 1 and 2.  passed: (what it is, descriptor) of those that it gets besides; they are closed
    here.  rootfs, readonly: see plan/criu.py, swrk().
    """

    def __init__(
        self,
        criu: Criu,
        stdio: tuple[int, int, int],
        passed: tuple[tuple[str, int], ...] = (),
        rootfs: str = "",
        readonly: bool = False,
    ) -> None:
        self._cgroup2 = Cgroup2Mount.find()
        ours, theirs = native.socketpair()
        self._socket = ours
        self._program = criu.program
        self._warn = criu.warn
        given = (("a socket", theirs), *passed)
        plan = plans.swrk(criu.program, tuple(what for what, _ in given), _environment(), rootfs, readonly=readonly)
        by_name = dict(given)

        def descriptor(slot: Slot) -> int:
            return by_name.pop(slot.path)

        self._launched: Launched | None = None
        try:
            self._launched = launch(plan, encode(plan), descriptor, stdio)
            drive(plan, self._launched, {}, {}, criu.warn)
            await_exec(self._launched, plan)
            self._launched.close()
        except BaseException as error:
            for fd in by_name.values():
                posix.close(fd)
            self.close()
            if isinstance(error, OperationError) and error.step in ("lookup", "access", "execve"):
                text = f"criu cannot be executed: {self._program}: {posix.strerror(error.errno).lower()}"
                raise CriuError(text, errno=error.errno, hint=NEEDED) from error
            raise

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        assert self._launched is not None
        return self._launched.pid

    def ask(self, request: list[Field], notified: Notified) -> dict[int, list[int | bytes]]:
        """The answer to a request. notified: called while criu waits; an error of its makes criu give up.

        Raises CriuError if criu does not succeed, else what `notified` raised.
        """
        wanted = next(value for field, value in request if field == rpc.REQUEST_TYPE)
        assert isinstance(wanted, int)
        kind = rpc.NAMES[wanted]
        problem: BaseException | None = None
        self._send(request, kind)
        while True:
            answer, fd = self._receive(kind)
            try:
                if rpc.number(answer, rpc.TYPE) != rpc.NOTIFY:
                    break
                if problem is None:
                    problem = _notify(answer, fd, notified)
                self._send([(rpc.REQUEST_TYPE, rpc.NOTIFY), (rpc.REQUEST_NOTIFIED, problem is None)], kind)
            finally:
                if fd >= 0:
                    posix.close(fd)
        if problem is not None:
            raise problem
        if not rpc.number(answer, rpc.SUCCESS) or rpc.number(answer, rpc.TYPE) != wanted:
            number = rpc.number(answer, rpc.ERRNO)
            said = rpc.content(answer, rpc.ERROR).decode("utf-8", "replace").strip()
            text = f"criu failed: type {kind} errno {number}"
            raise Refused(f"{text}: {said}" if said else text, text)
        return answer

    def close(self) -> None:
        """criu ends: by itself, since nobody asks any more, else it is made to. Nothing of it is left."""
        if self._socket >= 0:
            posix.close(self._socket)
            self._socket = -1
        if self._launched is not None:
            self._launched.close()
            native.poll(self._launched.pidfd, timeout_ms=5000)
            kill(self._launched)
            self._launched = None
            self._give_options_back()

    def _give_options_back(self) -> None:
        """criu mounts cgroup v2 for itself, without options, and the kernel then takes that for a wish of the host's.

        nsdelegate keeps containers from the limits of their own cgroup.
        """
        try:
            if self._cgroup2 is not None and Cgroup2Mount.find() != self._cgroup2:
                self._cgroup2.remount()
        except OSError as error:
            self._warn(f"criu has changed the options of {self._cgroup2}, which cannot be undone: {error.strerror}")

    def _send(self, message: list[Field], kind: str) -> None:
        try:
            native.send(self._socket, rpc.encode(message))
        except OSError as error:
            raise self._ended(kind) from error

    def _receive(self, kind: str) -> tuple[dict[int, list[int | bytes]], int]:
        data, fd = native.receive(self._socket)
        if not data:
            raise self._ended(kind)
        try:
            return rpc.decode(data), fd
        except ValueError as error:
            raise CriuError(f"{self._program} answers what criu does not: {error}", hint=NEEDED) from error

    def _ended(self, kind: str) -> Refused:
        text = f"criu failed: type {kind}: {self._program} ended without an answer"
        return Refused(text, text)


class Cgroup2Mount(Record):
    """Where the host has cgroup v2, and how: options of the mount and of the file system."""

    point: str
    options: tuple[str, ...]
    data: tuple[str, ...]

    def __str__(self) -> str:
        return self.point

    @staticmethod
    def find() -> Cgroup2Mount | None:
        """The one of the host, None if there is none."""
        with open("/proc/thread-self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                left, _, right = line.partition(" - cgroup2 ")
                if right:
                    about = left.split(" ")
                    return Cgroup2Mount(about[4], tuple(about[5].split(",")), tuple(right.split()[-1].split(",")))
        return None

    def remount(self) -> None:
        """Make it as it was. Raises OSError."""
        from pyocirun.linux.mounts import MS_REMOUNT, parse_options

        flags = parse_options(self.options).flags | MS_REMOUNT
        native.mount("cgroup2", self.point, "cgroup2", flags, ",".join(self.data[1:]))


class Refused(CriuError):
    """criu answered that it failed. summary: without what it said of the reason, which its log knows better."""

    def __init__(self, message: str, summary: str) -> None:
        super().__init__(message)
        self.summary = summary


def with_log(error: Refused, directory: str, file: str) -> CriuError:
    """The same, with what criu said in its log: the first error of it, then its end.

    The first line is all that some callers show.
    """
    path = f"{directory}/{file}"
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK)
    except OSError:
        return error
    try:
        size = posix.fstat(fd).st_size
        text = posix.pread(fd, LOG_BYTES, max(0, size - LOG_BYTES)).decode("utf-8", "replace")
    finally:
        posix.close(fd)
    lines = text.splitlines()
    # The first one is why; the limit is only criu's wish for more than enough descriptors.
    faults = [line.partition("Error ")[2] for line in lines if "Error " in line and "RLIMIT_NOFILE" not in line]
    summary = f"{error.summary}: {faults[0]}" if faults else error.message
    tail = tuple(lines[-LOG_LINES:])
    message = "\n".join([summary, f"the end of {path}:", *tail])
    return CriuError(message, log=tail, path=path)


def name(version: int) -> str:
    """40101: "4.1.1"; the last part is left out where it is 0."""
    major, rest = divmod(version, 10000)
    minor, sublevel = divmod(rest, 100)
    return f"{major}.{minor}" + (f".{sublevel}" if sublevel else "")


def config_file(annotations: dict[str, str]) -> str | None:
    """The file whose settings criu puts above ours; None: it is told of none."""
    return annotations.get(CONFIG_ANNOTATION, CONFIG_FILE) or None


def common(options: CriuOptions, annotations: dict[str, str], log: str) -> dict[str, Value | tuple[Value, ...]]:
    """What checkpoint and restore tell criu alike."""
    from pyocirun.linux.namespaces import CLONE_NEWNET

    return {
        "log_level": 4,
        "log_file": log,
        "notify_scripts": True,
        "shell_job": options.shell_job,
        "tcp_established": options.tcp_established,
        "ext_unix_sk": options.ext_unix_sk,
        "file_locks": options.file_locks,
        "empty_ns": CLONE_NEWNET,
        "manage_cgroups": True,  # criu before 2.0 asked for it; the mode decides
        "manage_cgroups_mode": rpc.CGROUP_MODES[options.manage_cgroups_mode],
        "orphan_pts_master": True,
        "auto_dedup": options.auto_dedup,
        "lazy_pages": options.lazy_pages,
        "config_file": config_file(annotations),
    }


def open_directory(path: str, *, make: int = 0) -> int:
    """A descriptor of a directory. make: if it is missing, it is made with this mode. Raises Error."""
    try:
        if make:
            files.make_directories(files.absolute(path), make)
        return posix.open(path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError as error:
        text = f"cannot open the directory {path}: {posix.strerror(error.errno or 0).lower()}"
        raise Error(text, errno=error.errno or 0, path=path, step="open") from error


def _notify(answer: dict[int, list[int | bytes]], fd: int, notified: Notified) -> BaseException | None:
    """What went wrong while somebody was told, None if nothing did."""
    news = rpc.decode(rpc.content(answer, rpc.NOTIFICATION))
    try:
        notified(rpc.content(news, rpc.SCRIPT).decode(), rpc.number(news, rpc.PID), fd)
    except BaseException as error:
        return error
    return None


def _no_news(script: str, pid: int, fd: int) -> None:
    pass


def _environment() -> tuple[str, ...]:
    return tuple(f"{_text(name)}={_text(value)}" for name, value in posix.environ.items())


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
