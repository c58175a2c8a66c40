"""pyocirun create: make a container that waits to be started; with --dry-run, print the plan of it."""

from __future__ import annotations

from pyocirun import files
from pyocirun.errors import UsageError
from pyocirun.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call
    from pyocirun.container.container import Container
    from pyocirun.spec.config import Spec


def run(call: Call, session: Session) -> int:
    if call.flags["dry-run"]:
        from pyocirun.cli.explain import print_plan

        id = session.id(call.args[0])
        print_plan(session, call.flags, bundle=call.flags["bundle"], id=id)
        return 0
    container = new_container(call, session, detach=True)
    if call.flags["pid-file"]:
        _write_pid_file(container, call.flags["pid-file"])
    return 0


def new_container(call: Call, session: Session, *, detach: bool) -> Container:
    """The container that the flags of create and run describe, created. Raises Error."""
    flags: dict[str, Any] = call.flags
    listen: tuple[int, tuple[str, ...]] = 0, ()
    if files.environment("LISTEN_FDS"):
        from pyocirun.cli.listen import passed

        listen = passed()
    if flags["preserve-fds"] < 0:
        raise UsageError("--preserve-fds must not be negative")
    return session.factory().create(
        session.id(call.args[0]),
        flags["bundle"] or None,
        config=flags["config"] or None,
        preserve_fds=listen[0] + flags["preserve-fds"],
        no_pivot=flags["no-pivot"],
        no_new_keyring=flags["no-new-keyring"],
        console_socket=beside(flags, "console-socket"),
        pidfd_socket=beside(flags, "pidfd-socket"),
        notify=bool(files.environment("NOTIFY_SOCKET")),
        change=lambda spec: _as_called(spec, flags, detach, listen[1]),
    )


def beside(flags: dict[str, Any], name: str) -> str | None:
    """The path in this flag, which counts from the bundle that --bundle names: runc changes to it. None for none."""
    path: str = flags[name] or ""
    if not path or path.startswith("/") or not flags["bundle"]:
        return path or None
    return f"{flags['bundle']}/{path}"


def _as_called(spec: Spec, flags: dict[str, Any], detach: bool, env: tuple[str, ...]) -> Spec:
    """The configuration, with what only the command line knows. env: more variables. Raises UsageError."""
    process = spec.process
    if env and process is not None:
        process = replace(process, env=process.env + env)
        spec = replace(spec, process=process)
    terminal = process is not None and process.terminal
    if terminal or flags["console-socket"]:
        from pyocirun.cli.terminal import check_terminal

        check_terminal(flags, detach=detach, terminal=terminal)
        if process is not None and not detach:
            from pyocirun.spawn.terminal import caller_size
            from pyocirun.spec.process import with_terminal

            spec = replace(spec, process=with_terminal(process, None, caller_size()))
    return spec


def _write_pid_file(container: Container, path: str) -> None:
    from pyocirun.cli.pidfile import write_pid_file

    try:
        write_pid_file(path, container.pid)
    except BaseException:
        # The caller hears of a failure, so there must be no container.
        container.delete(force=True)
        raise
