"""What is asked of systemd over D-Bus: each request on a connection of its own, or all on one, see `Shared`.

The messages are jeepney's; sending and waiting for them is a few lines here. Messages whose answers nobody needs go
out together with the next one: each wait costs two changes of process. See org.freedesktop.systemd1(5). systemd
answers most requests with a job, which is waited for.

The installed command has this module, and jeepney, in its snapshot: see pyocirun/cli/boot.py.
"""

from __future__ import annotations

import os
import socket
import time
from _thread import get_ident
from errno import ECONNRESET

from jeepney import DBusAddress, HeaderFields, MatchRule, Message, MessageType, Parser, message_bus, new_method_call
from jeepney.bus import get_bus

from pyocirun.cgroup.properties import COLLECTS, Property
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
_PART = 1 << 16
"""Bytes that are received at a time."""

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
    with _Use(user) as bus:
        asked = [bus.post(_call(_PROPERTIES, "Get", "ss", (_MANAGER, name))) for name in ("Version", "ControlGroup")]
        try:
            version, base = (str(bus.answer(serial)[0][1]) for serial in asked)
        except _Refused as refused:
            raise _failed("cannot ask systemd", refused) from None
    digits = "".join(c if c.isdigit() else " " for c in version).split()
    return int(digits[0]) if digits else 0, base.rstrip("/")


def start(unit: Unit, properties: Sequence[Property], pids: Sequence[int]) -> None:
    """Start a transient unit with these processes. One of that name that has failed, or is about to go, is waited for.

    Raises CgroupError, and there is no unit then but one that was there before.
    """
    given = [*properties, *([Property("PIDs", "au", list(pids))] if pids else [])]
    body: tuple[Any, ...] = (unit.name, "replace", [(each.name, (each.signature, each.value)) for each in given], [])
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with _Use(unit.user) as bus:
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
    with _Use(unit.user) as bus:
        try:
            before = bus.unit_properties(unit, [each.name for each in properties])
            bus.call("SetUnitProperties", "sba(sv)", body)
        except _Refused as refused:
            raise _failed(f"cannot change the unit {unit.name}", refused) from None
    return before


def stop(unit: Unit) -> None:
    """Stop a unit, and forget that it failed. One that is not there is fine. Raises CgroupError."""
    with _Use(unit.user) as bus:
        try:
            result = bus.run_job("StopUnit", "ss", (unit.name, "replace"))
        except _Refused as refused:
            if refused.name != _NO_SUCH:
                raise _failed(f"cannot stop the unit {unit.name}", refused) from None
            return
        if result != "done":
            raise CgroupError(f"cannot stop the unit {unit.name}: systemd says {result!r}")
        if unit.version < COLLECTS:
            bus.attempt("ResetFailedUnit", "s", (unit.name,))


def attach(unit: Unit, subgroup: str, pid: int) -> None:
    """Move a process of the caller's into a unit, or a cgroup below its own. Raises CgroupError."""
    below = f"/{subgroup}" if subgroup else ""
    with _Use(unit.user) as bus:
        try:
            bus.call("AttachProcessesToUnit", "ssau", (unit.name, below, [pid]))
        except _Refused as refused:
            raise _failed(f"cannot move process {pid} into the unit {unit.name}", refused) from None


class Shared:
    """For a with statement: what this thread asks of systemd meanwhile, it asks on one connection.

    One within another is the same as the outer one.
    """

    def __enter__(self) -> None:
        self._is_first = get_ident() not in _open
        if self._is_first:
            _open[get_ident()] = []

    def __exit__(self, *_: object) -> None:
        if self._is_first:
            for bus in _open.pop(get_ident()):
                bus.close()


_open: dict[int, list[_Bus]] = {}
"""By thread: its connections, while they are shared."""


class _Use:
    """A connection for one request: the one that this thread shares, or one that is closed after it."""

    def __init__(self, user: bool) -> None:
        self._user = user
        self._kept = _open.get(get_ident())

    def __enter__(self) -> _Bus:
        for bus in self._kept or ():
            if bus.user == self._user:
                self._bus = bus
                return bus
        self._bus = _connect(self._user)
        if self._kept is not None:
            self._kept.append(self._bus)
        return self._bus

    def __exit__(self, kind: object, *_: object) -> None:
        """After an error nobody knows what is still to come on a connection."""
        if self._kept is None or kind is not None:
            self._bus.close()
        if self._kept and kind is not None:
            self._kept.remove(self._bus)


class _Refused(Exception):
    """An answer that is an error. name: of D-Bus."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


class _Bus:
    """A connection to the bus of the system, or of the user. Raises CgroupError when it is lost, or nothing comes."""

    def __init__(self, user: bool, connection: socket.socket) -> None:
        self.user = user
        self._socket = connection
        self._parser = Parser()
        self._serial = 0
        self._unsent = b""
        self._answers: dict[int, Message] = {}
        self._ended: dict[tuple[object, object], str] = {}
        """Results of jobs, by who told of them and their path."""
        self._watches = False
        self._hello = self.post(message_bus.Hello())

    def close(self) -> None:
        self._socket.close()

    def post(self, message: Message) -> int:
        """Have a message sent at the latest before the next wait; the number that its answer is asked for by."""
        self._serial += 1
        self._unsent += message.serialise(self._serial)
        return self._serial

    def answer(self, serial: int) -> Any:
        """The body of the answer to a message that was posted, and of none that was posted before. Raises _Refused."""
        return self._reply(serial).body

    def call(self, method: str, signature: str, body: tuple[Any, ...]) -> Any:
        """What a method of the manager answers. Raises _Refused."""
        return self.answer(self.post(_call(_MANAGER, method, signature, body)))

    def attempt(self, method: str, signature: str, body: tuple[Any, ...]) -> None:
        """Ask something of the manager that may be refused."""
        try:
            self.call(method, signature, body)
        except _Refused:
            pass

    def unit_properties(self, unit: Unit, names: Sequence[str]) -> list[Property]:
        """Those of `names` that the unit has, and their values now. Raises _Refused."""
        kind = "org.freedesktop.systemd1." + ("Scope" if unit.is_scope else "Slice")
        path = self.call("GetUnit", "s", (unit.name,))[0]
        asked = [(name, self.post(_call(_PROPERTIES, "Get", "ss", (kind, name), path))) for name in names]
        found = []
        for name, serial in asked:
            try:
                found.append(Property(name, *self.answer(serial)[0]))
            except _Refused:
                pass
        return found

    def run_job(self, method: str, signature: str, body: tuple[Any, ...]) -> str:
        """How the job ended that `method` of the manager begins: "done", "failed", "timeout" and so on."""
        if not self._watches:
            rule = MatchRule(type="signal", sender=_SERVICE, interface=_MANAGER, member="JobRemoved", path=_OBJECT)
            self.post(message_bus.AddMatch(rule))
            self.post(_call(_MANAGER, "Subscribe", "", ()))
            self._watches = True
        reply = self._reply(self.post(_call(_MANAGER, method, signature, body)))
        job = reply.header.fields.get(HeaderFields.sender), reply.body[0]
        deadline = time.monotonic() + JOB_SECONDS
        while job not in self._ended:
            try:
                self._take(deadline)
            except TimeoutError:
                raise CgroupError(f"{method} {body[0]}: systemd did not end the job in {JOB_SECONDS:g} s") from None
        return self._ended.pop(job)

    def _reply(self, serial: int) -> Message:
        deadline = time.monotonic() + _ANSWER_SECONDS
        while serial not in self._answers:
            try:
                self._take(deadline)
            except TimeoutError:
                raise CgroupError(f"systemd did not answer in {_ANSWER_SECONDS:g} s") from None
        return _unless_refused(self._answers.pop(serial))

    def _take(self, deadline: float) -> None:
        """Send what is to be sent, and wait for one message. Raises TimeoutError."""
        try:
            if self._unsent:
                self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
                self._socket.sendall(self._unsent)
                self._unsent = b""
            while (message := self._parser.get_next_message()) is None:
                self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
                part = self._socket.recv(_PART)
                if not part:
                    raise ConnectionResetError(ECONNRESET, "it was closed by the other side")
                self._parser.add_data(part)
        except TimeoutError:
            raise
        except (OSError, ValueError) as error:
            raise _lost(error) from error
        self._note(message)

    def _note(self, message: Message) -> None:
        fields = message.header.fields
        answered = fields.get(HeaderFields.reply_serial)
        if message.header.message_type is MessageType.signal:
            if fields.get(HeaderFields.member) == "JobRemoved":
                self._ended[fields.get(HeaderFields.sender), message.body[1]] = str(message.body[3])
        elif answered == self._hello:
            _unless_refused(message)
        elif answered is not None:
            self._answers[answered] = message


def _call(interface: str, method: str, signature: str, body: tuple[Any, ...], path: str = _OBJECT) -> Message:
    return new_method_call(DBusAddress(path, bus_name=_SERVICE, interface=interface), method, signature, body)


def _unless_refused(reply: Message) -> Message:
    if reply.header.message_type is MessageType.error:
        text = reply.body[0] if reply.body and isinstance(reply.body[0], str) else ""
        raise _Refused(reply.header.fields.get(HeaderFields.error_name, ""), text)
    return reply


def _connect(user: bool) -> _Bus:
    try:
        return _Bus(user, _socket(_address(user)))
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        bus = "user's bus" if user else "system bus"
        number = getattr(error, "errno", None) or 0
        text = f"cannot ask systemd: no connection to the {bus}: {error}"
        raise CgroupError(text, errno=number, hint=_USER_HINT if user else "is dbus running?") from error


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
    except BaseException:
        made.close()
        raise
    return made


def _failed(what: str, refused: _Refused) -> CgroupError:
    return CgroupError(f"{what}: {refused or refused.name}", hint=_HINTS.get(refused.name, ""))


def _lost(error: OSError | ValueError) -> CgroupError:
    number = getattr(error, "errno", None) or 0
    return CgroupError(f"the connection to systemd was lost: {getattr(error, 'strerror', None) or error}", errno=number)
