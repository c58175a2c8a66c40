"""What is asked of systemd over D-Bus. One connection serves one request.

See org.freedesktop.systemd1(5). systemd answers most requests with a job, which is waited for.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque

from jeepney import DBusAddress, MatchRule, Message, MessageType, new_method_call
from jeepney.bus import get_bus
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import DBusConnection
from jeepney.low_level import HeaderFields

from pyocirun.cgroup.properties import Property
from pyocirun.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyocirun.cgroup.unit import Unit

JOB_SECONDS = 30.0
_ANSWER_SECONDS = 25.0
"""What libdbus gives a reply; a bus on a busy machine takes seconds to let us in, too."""
_PATIENCE_SECONDS = 1.0
"""How long a unit that was there before may take to be gone."""

_OBJECT = "/org/freedesktop/systemd1"
_SERVICE = "org.freedesktop.systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_EXISTS = "org.freedesktop.systemd1.UnitExists"
_NO_SUCH = "org.freedesktop.systemd1.NoSuchUnit"
_USER_HINT = "a user needs a session with a systemd of its own: DBUS_SESSION_BUS_ADDRESS, or XDG_RUNTIME_DIR with bus"
_HINTS = {
    "org.freedesktop.DBus.Error.AccessDenied": "systemd, or polkit, does not let this caller",
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired": "systemd, or polkit, does not let this caller",
    "org.freedesktop.DBus.Error.PropertyReadOnly": "this systemd has no such property; see systemctl --version",
    "org.freedesktop.DBus.Error.ServiceUnknown": "nothing on this bus is called org.freedesktop.systemd1",
}


def look(user: bool) -> tuple[int, str]:
    """The version of systemd, and the cgroup of the manager, "" for the topmost. Raises CgroupError."""
    with _Bus(user) as bus:
        digits = "".join(c if c.isdigit() else " " for c in str(bus.manager_property("Version"))).split()
        return int(digits[0]) if digits else 0, str(bus.manager_property("ControlGroup")).rstrip("/")


def start(unit: Unit, properties: Sequence[Property], pids: Sequence[int]) -> None:
    """Start a transient unit with these processes. One of that name that has failed, or is about to go, is waited for.

    Raises CgroupError, and there is no unit then but one that was there before.
    """
    given = [*properties, *([Property("PIDs", "au", list(pids))] if pids else [])]
    body: tuple[Any, ...] = (unit.name, "replace", [(each.name, (each.signature, each.value)) for each in given], [])
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with _Bus(unit.user) as bus:
        while True:
            try:
                result = bus.run_job("StartTransientUnit", "ssa(sv)a(sa(sv))", body)
            except _Refused as refused:
                if refused.name != _EXISTS or time.monotonic() > deadline:
                    raise _failed(f"cannot start the unit {unit.name}", refused) from None
                bus.attempt("ResetFailedUnit", "s", (unit.name,))
                time.sleep(0.02)
                continue
            break
        if result != "done":
            bus.attempt("StopUnit", "ss", (unit.name, "replace"))
            bus.attempt("ResetFailedUnit", "s", (unit.name,))
            text = f"cannot start the unit {unit.name}: systemd says {result!r}"
            raise CgroupError(text, hint=f"journalctl -u {unit.name} may tell why")


def change(unit: Unit, properties: Sequence[Property]) -> list[Property]:
    """Set properties of a unit that is there until it ends; what they were before comes back. Raises CgroupError."""
    if not properties:
        return []
    body = (unit.name, True, [(each.name, (each.signature, each.value)) for each in properties])
    with _Bus(unit.user) as bus:
        try:
            now = bus.unit_properties(unit)
            bus.call(_MANAGER, "SetUnitProperties", "sba(sv)", body)
        except _Refused as refused:
            raise _failed(f"cannot change the unit {unit.name}", refused) from None
    return [Property(each.name, *now[each.name]) for each in properties if each.name in now]


def stop(unit: Unit) -> None:
    """Stop a unit, and forget that it failed. One that is not there is fine. Raises CgroupError."""
    with _Bus(unit.user) as bus:
        try:
            result = bus.run_job("StopUnit", "ss", (unit.name, "replace"))
        except _Refused as refused:
            if refused.name != _NO_SUCH:
                raise _failed(f"cannot stop the unit {unit.name}", refused) from None
            return
        if result != "done":
            raise CgroupError(f"cannot stop the unit {unit.name}: systemd says {result!r}")
        bus.attempt("ResetFailedUnit", "s", (unit.name,))


def attach(unit: Unit, subgroup: str, pid: int) -> None:
    """Move a process of the caller's into a unit, or a cgroup below its own. Raises CgroupError."""
    below = f"/{subgroup}" if subgroup else ""
    with _Bus(unit.user) as bus:
        try:
            bus.call(_MANAGER, "AttachProcessesToUnit", "ssau", (unit.name, below, [pid]))
        except _Refused as refused:
            raise _failed(f"cannot move process {pid} into the unit {unit.name}", refused) from None


class _Refused(Exception):
    """An answer that is an error. name: of D-Bus."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


class _Bus:
    """A connection to the bus of the system, or of the user."""

    def __init__(self, user: bool) -> None:
        self._user = user

    def __enter__(self) -> _Bus:
        try:
            self._connection = DBusConnection(_socket(_address(self._user)))
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            bus = "user's bus" if self._user else "system bus"
            number = getattr(error, "errno", None) or 0
            text = f"cannot ask systemd: no connection to the {bus}: {error}"
            raise CgroupError(text, errno=number, hint=_USER_HINT if self._user else "is dbus running?") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def call(self, interface: str, method: str, signature: str, body: tuple[Any, ...], path: str = _OBJECT) -> Any:
        """The answer's body. Raises _Refused, CgroupError."""
        address = DBusAddress(path, bus_name=_SERVICE, interface=interface)
        return self._answer(new_method_call(address, method, signature, body))

    def attempt(self, method: str, signature: str, body: tuple[Any, ...]) -> None:
        """Ask something of the manager that may be refused."""
        try:
            self.call(_MANAGER, method, signature, body)
        except _Refused:
            pass

    def manager_property(self, name: str) -> object:
        try:
            return self.call(_PROPERTIES, "Get", "ss", (_MANAGER, name))[0][1]
        except _Refused as refused:
            raise _failed("cannot ask systemd", refused) from None

    def unit_properties(self, unit: Unit) -> dict[str, tuple[str, object]]:
        kind = "org.freedesktop.systemd1." + ("Scope" if unit.is_scope else "Slice")
        path = self.call(_MANAGER, "GetUnit", "s", (unit.name,))[0]
        found = self.call(_PROPERTIES, "GetAll", "s", (kind,), path)[0]
        assert isinstance(found, dict)
        return found

    def run_job(self, method: str, signature: str, body: tuple[Any, ...]) -> str:
        """How the job ended that `method` of the manager begins: "done", "failed", "timeout" and so on."""
        rule = MatchRule(type="signal", interface=_MANAGER, member="JobRemoved", path=_OBJECT)
        self._answer(message_bus.AddMatch(rule))
        self.attempt("Subscribe", "", ())  # which is refused the second time
        ended: deque[Message] = deque()
        with self._connection.filter(rule, queue=ended):
            job = self.call(_MANAGER, method, signature, body)[0]
            deadline = time.monotonic() + JOB_SECONDS
            while True:
                try:
                    message = self._connection.recv_until_filtered(ended, timeout=deadline - time.monotonic())
                except (TimeoutError, ValueError):
                    raise CgroupError(f"{method} {body[0]}: systemd did not end the job in {JOB_SECONDS:g} s") from None
                except OSError as error:
                    raise _lost(error) from error
                if message.body[1] == job:
                    return str(message.body[3])

    def _answer(self, message: Message) -> Any:
        try:
            reply = self._connection.send_and_get_reply(message, timeout=_ANSWER_SECONDS)
        except TimeoutError:
            raise CgroupError(f"systemd did not answer in {_ANSWER_SECONDS:g} s") from None
        except OSError as error:
            raise _lost(error) from error
        if reply.header.message_type is MessageType.error:
            text = reply.body[0] if reply.body and isinstance(reply.body[0], str) else ""
            raise _Refused(reply.header.fields.get(HeaderFields.error_name, ""), text)
        return reply.body


def _address(user: bool) -> str:
    """The path of the bus's socket, which begins with a NUL for an abstract one."""
    if not user:
        return str(get_bus("SYSTEM"))
    if os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
        return str(get_bus("SESSION"))
    return os.environ["XDG_RUNTIME_DIR"] + "/bus"


def _socket(address: str) -> socket.socket:
    """A connection that has shown who it is: by what the kernel says of it, as our uid here may not be our uid there.

    D-Bus specification, "Authentication Protocol", mechanism EXTERNAL without an initial response.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        made.settimeout(_ANSWER_SECONDS)
        made.connect(address)
        made.sendall(b"\0AUTH EXTERNAL\r\nDATA\r\n")
        answer = b""
        while answer.count(b"\r\n") < 2 and not answer.startswith((b"REJECTED", b"ERROR")):
            part = made.recv(1024)
            if not part:
                break
            answer += part
        if b"\r\nOK " not in answer:
            raise ConnectionRefusedError(f"it refused this user: {answer.decode(errors='replace').strip()}")
        made.sendall(b"BEGIN\r\n")
        made.settimeout(None)
    except BaseException:
        made.close()
        raise
    return made


def _failed(what: str, refused: _Refused) -> CgroupError:
    return CgroupError(f"{what}: {refused or refused.name}", hint=_HINTS.get(refused.name, ""))


def _lost(error: OSError) -> CgroupError:
    return CgroupError(f"the connection to systemd was lost: {error.strerror}", errno=error.errno or 0)
