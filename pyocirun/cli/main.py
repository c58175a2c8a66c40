"""The command `pyocirun`: parse, call the command's module, turn what went wrong into a message and an exit status."""

from __future__ import annotations

import posix
import sys

from pyocirun import files
from pyocirun.cli import options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from pyocirun.cli.options import Call
    from pyocirun.container.container import Container
    from pyocirun.container.factory import Factory
    from pyocirun.log import Log
    from pyocirun.trace import Trace

DEFAULT_ROOT = "/run/pyocirun"
STDERR = 2

WAITING = {
    "create": "setting up",
    "start": "starting",
    "delete": "deleting",
    "pause": "pausing",
    "resume": "resuming",
    "checkpoint": "saving",
}
"""Commands that wait for hooks, processes or the kernel, and what they do meanwhile.

run is none of them: its container may write to the terminal.
"""
_LEVELS = ("debug", "info", "warning", "error")


def main(argv: list[str] | None = None) -> int:
    """Run one command line and return its exit status. argv: without the program's name; None: of this process.

    This is the one place that catches errors.
    0: done.  1: failed.  3: no such command.  255: exec failed.  130: interrupted.
    run and exec in the foreground: the process's own status, or 128 + the signal that ended it.
    """
    session = Session()
    try:
        call = session.understand(sys.argv[1:] if argv is None else argv)
        return _run(call, session) if call is not None else 0
    except (Exception, KeyboardInterrupt) as error:
        from pyocirun.cli.failure import report

        return report(error, session)
    finally:
        session.end()


def _run(call: Call, session: Session) -> int:
    """Run a command; one that may take its time says so to whoever looks on."""
    command = _command(call.command)
    if call.command not in WAITING or not posix.isatty(STDERR):
        return command(call, session)
    from pyocirun.cli.progress import Progress

    with Progress(f"{WAITING[call.command]} {' '.join(call.args)}"):
        return command(call, session)


def entry() -> NoReturn:
    """The installed command: leaves without tearing the interpreter down, which nobody would see but in its time."""
    try:
        leave(main())
    except KeyboardInterrupt:  # main itself is done with it
        posix._exit(130)


def leave(status: int) -> NoReturn:
    """End the process with this status, or 1 in the place of 0 if its output cannot be written."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (AttributeError, OSError):
        status = status or 1
    posix._exit(status)


class Session:
    """One command line: its flags, and the log and the factory that they ask for, made when first needed.

    command: "" until the command line was understood.
    """

    def __init__(self) -> None:
        self.flags: dict[str, Any] = {}
        self.command = ""
        self.trace: Trace | None = None
        self._log: Log | None = None

    def understand(self, argv: list[str]) -> Call | None:
        """What `argv` asks for; None if it was help, which is printed now. Raises UsageError."""
        call = None if files.environment(options.COMPLETION) else options.parse(argv)
        if call is None:
            call = self._understand_slowly(argv)
            if call is None:
                return None
        self.flags = call.global_flags
        self._check_log()
        self.command = call.command
        if self.flags["timings"]:
            from pyocirun.trace import Trace

            self.trace = Trace()
            self.step("get ready")
        return call

    def step(self, name: str) -> None:
        """For --timings: it is this that takes the time from now on."""
        if self.trace is not None:
            self.trace.step(name)

    def end(self) -> None:
        """Write what --timings asks for."""
        if self.trace is not None:
            try:
                self.trace.write(self.flags["timings"], self.command)
            except OSError as error:
                self.warn(f"cannot write the timings {self.flags['timings']}: {error.strerror}")

    @property
    def log(self) -> Log:
        if self._log is None:
            from pyocirun.log import Log

            level = self.flags.get("log-level")
            self._log = Log(
                self.flags.get("log") or "",
                json=self.flags.get("log-format") == "json",
                debug=self.flags.get("debug", False),
                level=level if level in _LEVELS else "info",
            )
        return self._log

    def warn(self, message: str) -> None:
        self.log.warning(message)

    def _cgroup_manager(self) -> str:
        """The library's name for it: podman asks for "disabled", as crun calls it."""
        if self.flags["systemd-cgroup"]:
            return "systemd"
        named: str = self.flags["cgroup-manager"]
        return "none" if named == "disabled" else named

    def factory(self, *, effects: bool = True, warn: Callable[[str], None] | None = None) -> Factory:
        """The library's factory, as the global flags want it. effects: the default root may be made.

        warn: gets warnings in place of the log. Raises Error.
        """
        from pyocirun.container.factory import Factory

        return Factory(
            self.root(make=effects),
            cgroup_manager=self._cgroup_manager(),
            rootless=self._rootless(),
            criu=self.flags["criu"] or "criu",
            warn=warn or self.warn,
            debug=self.log.debug if self.flags["debug"] else None,
            trace=self.trace,
        )

    def load(self, id: str) -> Container:
        """The container with this id. Raises Error."""
        return self.factory().load(self.id(id))

    def id(self, id: str) -> str:
        """`id`, which is not empty: other faults are the library's to find. Raises UsageError."""
        if not id:
            from pyocirun.errors import UsageError

            raise UsageError("container id cannot be empty")
        return id

    def root(self, *, make: bool = False) -> str:
        """The directory of states, absolute. make: make the default one if it is a user's own. Raises Error."""
        given: str | None = self.flags["root"]
        if given is None:
            return default_root(make=make)
        # POSIX keeps two leading slashes, and so does abspath.
        root = "/" + files.absolute(given).lstrip("/")
        if root == "/" or not given:
            from pyocirun.errors import UsageError

            raise UsageError("Option --root argument should not be set to /" if given else "Option --root is empty")
        return root

    def _understand_slowly(self, argv: list[str]) -> Call | None:
        from pyocirun.cli import usage

        # What is wrong with the command's own flags is to be logged where the global ones say.
        found = options.take_flags(options.GLOBAL, argv, subcommands=True)
        if found is not None:
            self.flags = found[0]
        return usage.understand(argv)

    def _rootless(self) -> bool | None:
        when: str = self.flags["rootless"]
        if when.lower() in ("", "auto"):
            return None
        if when not in options.BOOLEANS:
            from pyocirun.errors import UsageError

            raise UsageError(f'invalid value "{when}" for flag -rootless: not true, false or auto')
        return options.BOOLEANS[when]

    def _check_log(self) -> None:
        if self.flags["log-level"] not in ("", *_LEVELS):
            from pyocirun.errors import UsageError

            raise UsageError(f"invalid log-level: {self.flags['log-level']}")
        if self.flags["log-level"] == "debug":
            self.flags["debug"] = True
        if self.flags["log-format"] not in ("", "text", "json"):
            from pyocirun.errors import UsageError

            raise UsageError(f"invalid log-format: {self.flags['log-format']}")
        path = self.flags["log"]
        if path and not posix.access(path, posix.W_OK) and not path.startswith(("journald:", "syslog:")):
            self._make_log(path)

    def _make_log(self, path: str) -> None:
        """Who looks into the log finds a file, also where nothing was said. Raises Error."""
        try:
            posix.close(posix.open(path, posix.O_CREAT | posix.O_WRONLY | posix.O_NONBLOCK | posix.O_CLOEXEC, 0o644))
        except OSError as error:
            from pyocirun.errors import Error

            self.flags["log"] = None
            text = f"open {path}: {posix.strerror(error.errno or 0).lower()}"
            raise Error(
                text, errno=error.errno or 0, path=path, hint="--log names a file to write", step="open"
            ) from error


def default_root(*, make: bool = False) -> str:
    """Where states are without --root: /run/pyocirun, or a user's own directory in $XDG_RUNTIME_DIR.

    make: make the user's own, mode 0700 and sticky, without which the XDG rules let it be cleaned away.
    Raises Error if that fails.
    """
    runtime_dir = files.environment("XDG_RUNTIME_DIR")
    if not runtime_dir or not _is_user():
        return DEFAULT_ROOT
    root = files.absolute(runtime_dir) + "/pyocirun"
    if make:
        try:
            files.make_directories(root, 0o700)
            posix.chmod(root, 0o1700)
        except OSError as error:
            from pyocirun.errors import Error

            raise Error(
                f"cannot make {root}: {posix.strerror(error.errno or 0)}",
                errno=error.errno or 0,
                path=root,
                step="mkdir",
                hint="the path in $XDG_RUNTIME_DIR must be writable by the user",
            ) from error
    return root


def _is_user() -> bool:
    """Not root, or root of a user namespace only, as rootless engines call."""
    if posix.geteuid() != 0:
        return True
    return files.environment("USER") != "root" and _in_user_namespace()


def _in_user_namespace() -> bool:
    try:
        fd = posix.open("/proc/self/uid_map", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return False
    try:
        return posix.read(fd, 4096).split() != [b"0", b"0", b"4294967295"]
    finally:
        posix.close(fd)


def _command(name: str) -> Callable[[Call, Session], int]:
    """The function `run` of a command's module."""
    run: Callable[[Call, Session], int] = __import__(f"pyocirun.cli.{name}", fromlist=("run",)).run
    return run
