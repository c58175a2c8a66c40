"""Logs of the system in the place of a file: `--log journald:ID` and `--log syslog:NAME`."""

from __future__ import annotations

from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Send = Callable[[str, str, dict[str, str | int]], None]

JOURNAL = "/run/systemd/journal/socket"
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}
FIELDS = {"step": "PYOCIRUN_STEP", "errno": "ERRNO", "path": "PYOCIRUN_PATH", "hint": "PYOCIRUN_HINT"}


def open_sink(target: str) -> Send | None:
    """What sends one record: level, message, facts; None if `target` is a file's path. Raises OSError.

    target: "journald:ID", where ID becomes the field CONTAINER_ID, or "syslog:NAME".
    """
    kind, colon, name = target.partition(":")
    if colon and kind == "journald":
        return journal(name)
    if colon and kind == "syslog":
        return system_log(name or "pyocirun")
    return None


def journal(container: str, path: str = JOURNAL) -> Send:
    """Records for systemd's journal, in its own protocol: one datagram each. Raises OSError."""
    connection = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
    connection.connect(path)

    def send(level: str, message: str, facts: dict[str, str | int]) -> None:
        fields = {"MESSAGE": message, "PRIORITY": str(PRIORITIES[level]), "SYSLOG_IDENTIFIER": "pyocirun"}
        if container:
            fields["CONTAINER_ID"] = container
        fields |= {FIELDS[name]: str(value) for name, value in facts.items() if value}
        connection.send(b"".join(_field(name, value) for name, value in fields.items()))

    return send


def system_log(name: str) -> Send:
    """Records for syslog(3)."""
    import syslog

    syslog.openlog(name, syslog.LOG_PID, syslog.LOG_DAEMON)

    def send(level: str, message: str, facts: dict[str, str | int]) -> None:
        told = "".join(f" {fact}={value}" for fact, value in facts.items() if value)
        syslog.syslog(PRIORITIES[level], message.replace("\0", "\\0") + told.replace("\0", "\\0"))

    return send


def _field(name: str, value: str) -> bytes:
    """A value of several lines comes with its length, so that it cannot end in a field of its own making."""
    data = value.encode("utf-8", "backslashreplace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
