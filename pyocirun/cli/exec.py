"""pyocirun exec: run one more process in a container."""

from __future__ import annotations

from pyocirun.errors import SpecError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyocirun.cli.foreground import Signals
    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call
    from pyocirun.container.process import Process

_LAST_ID = (1 << 32) - 2
"""The greatest uid or gid: 2**32 - 1 means "none" to the kernel."""


def run(call: Call, session: Session) -> int:
    """Exit status of the process, 128 + its signal, or 0 with --detach."""
    flags = call.flags
    request = _request(call)
    terminal = flags["tty"] or (request["process"] or {}).get("terminal") is True
    if terminal or flags["console-socket"]:
        _add_terminal(request, flags, terminal)
    signals = None
    if not flags["detach"]:
        from pyocirun.cli.foreground import Signals

        signals = Signals()
    process = session.load(call.args[0]).exec(**request)
    if flags["pid-file"]:
        from pyocirun.cli.pidfile import write_pid_file

        try:
            write_pid_file(flags["pid-file"], process.pid)
        except BaseException:
            process.signal(9)
            process.wait()
            raise
    session.step("wait for the process" if signals else "finish")
    if process.terminal >= 0 and signals:
        return _follow_terminal(process, signals)
    return signals.follow(process.pid, process.signal, process.wait) if signals else 0


def _add_terminal(request: dict[str, Any], flags: dict[str, Any], terminal: bool) -> None:
    """--tty gives one to the process of a file too. Raises UsageError."""
    from pyocirun.cli.terminal import check_terminal
    from pyocirun.spawn.terminal import caller_size

    check_terminal(flags, detach=flags["detach"], terminal=terminal)
    request["terminal"] = terminal
    request["console_socket"] = flags["console-socket"] or None
    if not flags["detach"]:
        request["console_size"] = caller_size()


def _follow_terminal(process: Process, signals: Signals) -> int:
    from pyocirun.spawn.terminal import Relay

    relay = Relay(process.terminal)
    try:
        relay.begin()
        return signals.follow(process.pid, process.signal, process.wait, relay)
    finally:
        relay.end()


def _request(call: Call) -> dict[str, Any]:
    """The arguments of Container.exec that the command line asks for. Raises UsageError, Error."""
    flags, args = call.flags, call.args[1:]
    if flags["preserve-fds"] < 0:
        raise UsageError("--preserve-fds must not be negative")
    common = {
        "preserve_fds": flags["preserve-fds"],
        "cgroup": flags["cgroup"] or None,
        "ignore_paused": flags["ignore-paused"],
        "pidfd_socket": flags["pidfd-socket"] or None,
    }
    if flags["process"]:
        return {"process": _read_process(flags["process"]), **common}
    if not args:
        raise UsageError("exec args cannot be empty")
    return {
        "process": None,
        "args": args,
        "env": flags["env"],
        "cwd": flags["cwd"] or None,
        "user": _user(flags["user"]) if flags["user"] else None,
        "additional_gids": [_id(str(gid), "additional gid") for gid in flags["additional-gids"]] or None,
        "capabilities": flags["cap"],
        "no_new_privileges": flags["no-new-privs"],
        "apparmor_profile": flags["apparmor"] or None,
        "selinux_label": flags["process-label"] or None,
        **common,
    }


def _user(text: str) -> tuple[int, int | None]:
    """uid and gid of "UID[:GID]", None for a gid that is not given."""
    uid, colon, gid = text.partition(":")
    return _id(uid, "uid"), _id(gid, "gid") if colon else None


def _id(text: str, what: str) -> int:
    """A uid or gid in decimal. No default for what cannot be read: elsewhere that made root of it (CVE-2026-30892)."""
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) > _LAST_ID:
        raise UsageError(f'bad {what}: "{text}" is not a number from 0 to {_LAST_ID}')
    return int(text)


def _read_process(path: str) -> dict[str, Any]:
    """The process of a JSON file, as a dict. What is inside is the library's to check. Raises SpecError."""
    from pyocirun.spec.bundle import read_file
    from pyocirun.spec.reader import load_json

    process = load_json(read_file(path, path), path)
    if not isinstance(process, dict):
        raise SpecError(f"the process in {path} is not a JSON object", path=path)
    return process
