"""pyocirun run: create and start a container, and in the foreground wait for its end."""

from __future__ import annotations

from pyocirun import files
from pyocirun.cli.create import new_container
from pyocirun.errors import ContainerNotExist, Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.cli.foreground import Signals
    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call
    from pyocirun.container.container import Container
    from pyocirun.spawn.terminal import Relay


def run(call: Call, session: Session) -> int:
    """Exit status of the container's process, 128 + its signal, or 0 with --detach."""
    signals = None if call.flags["detach"] else foreground(call, session)
    container = new_container(call, session, detach=signals is None)
    pid = container.pid  # it may have ended when start returns
    relay = relay_of(container)
    keep: bool = signals is None or call.flags["keep"]
    done = False
    try:
        if call.flags["pid-file"]:
            from pyocirun.cli.pidfile import write_pid_file

            write_pid_file(call.flags["pid-file"], pid)
        session.step("start")
        if relay is not None:
            relay.begin()
        notify = files.environment("NOTIFY_SOCKET") or None
        container.start(notify_socket=notify, notify_in_background=signals is not None)
        session.step("wait for the container")
        status = signals.follow(pid, container.kill, container.wait, relay) if signals else 0
        if signals and keep:
            from pyocirun.cli.wait import note

            note(container, session)
        done = True
    finally:
        if relay is not None:
            relay.end()
        if not (done and keep):
            session.step("delete")
            remove(container, session)
    return status


def foreground(call: Call, session: Session) -> Signals:
    """Be ready for signals and for orphans of the container, before there is a container."""
    from pyocirun.cli.foreground import Signals

    if not call.flags["no-subreaper"]:
        # python-prctl's C part: its Python part imports more than everything else here.
        import _prctl

        try:
            _prctl.prctl(_prctl.PR_SET_CHILD_SUBREAPER, 1)
        except OSError as error:
            session.warn(f"cannot become a subreaper: {error}")
    return Signals()


def relay_of(container: Container) -> Relay | None:
    """Between the container's terminal and ours; None if it has none, or another has got it."""
    if container.init is None or container.init.terminal < 0:
        return None
    from pyocirun.spawn.terminal import Relay

    return Relay(container.init.terminal)


def remove(container: Container, session: Session) -> None:
    """Delete the container. What fails here must not hide why, or how, the process ended."""
    try:
        container.delete(force=True)
    except ContainerNotExist:
        pass  # a poststart hook failed: that has deleted it
    except Error as error:
        session.warn(f"cannot delete container {container.id}: {error}")
