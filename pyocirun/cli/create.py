"""pyocirun create: make a container that waits to be started; with --dry-run, print the plan of it."""

from __future__ import annotations

from pyocirun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call
    from pyocirun.container.container import Container


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
    if flags["console-socket"] or flags["pidfd-socket"]:
        _refuse_terminal(flags, detach=detach)
    if flags["preserve-fds"] < 0:
        raise UsageError("--preserve-fds must not be negative")
    return session.factory().create(
        session.id(call.args[0]),
        flags["bundle"] or None,
        config=flags["config"] or None,
        preserve_fds=flags["preserve-fds"],
        no_pivot=flags["no-pivot"],
        no_new_keyring=flags["no-new-keyring"],
    )


def _refuse_terminal(flags: dict[str, Any], *, detach: bool) -> None:
    """What the library cannot know: that there is a socket for a terminal."""
    from pyocirun.cli.terminal import refuse_terminal
    from pyocirun.spec.bundle import read_bundle

    _, _, spec = read_bundle(flags["bundle"] or ".", flags["config"] or None)
    refuse_terminal(flags, detach=detach, terminal=spec.process is not None and spec.process.terminal is True)


def _write_pid_file(container: Container, path: str) -> None:
    from pyocirun.cli.pidfile import write_pid_file

    try:
        write_pid_file(path, container.pid)
    except BaseException:
        # The caller hears of a failure, so there must be no container.
        container.delete(force=True)
        raise
