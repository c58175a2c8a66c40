"""linux.netDevices: network devices of the host change into the container's network namespace, by rtnetlink(7).

nsexec opens a netlink socket in that namespace and hands it over: nobody has to enter it, and it lives as long as the
socket does, so that a device can come back when the creation fails. net_undo.py is for a creation that is killed.
"""

from __future__ import annotations

import fcntl
import posix
import threading

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pyocirun import native
from pyocirun.container.net_undo import INSIDE, OUTSIDE, Undo
from pyocirun.errors import Error, OperationError
from pyocirun.record import Record, replace, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

IFF_UP = 1
IFA_F_PERMANENT = 0x80
IFA_F_KEPT = 0x02 | 0x10 | 0x100 | 0x200 | 0x400
"""Flags of an address that are wishes and no states: nodad, home address, managed temporary ones, no route, joining."""
RT_SCOPE_UNIVERSE = 0
SIOCGSKNS = 0x894C
EEXIST, ENODEV = 17, 19
NUMBERS = 1024
"""How many names a template is tried for."""


class Device(Record):
    """A device that is to be given back. name, up, addresses: as they were on the host.

    inside: its name in the container.  host_index: on the host.  index: in the container, 0 until it is there.
    returning: whether giving it back has begun.
    """

    name: str
    inside: str
    host_index: int
    up: bool
    addresses: tuple[dict[str, Any], ...]
    index: int = 0
    returning: bool = False


class Mover:
    """Moves devices between the caller's network namespace and that of a netlink socket, which this object owns.

    undo: is told what to give back before a device moves.  warn: gets a line where that cannot be.
    """

    def __init__(self, socket: int, undo: Undo, warn: Callable[[str], None]) -> None:
        self.socket = posix.dup(socket)
        self.host = posix.open("/proc/thread-self/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
        self.undo = undo
        self.warn = warn
        self.noted = False
        self.devices: list[Device] = []

    def move(self, devices: tuple[tuple[str, str], ...]) -> None:
        """Move each (name on the host, name in the container), with its permanent global addresses, and set it up.

        A name may have %d in it for a number. Raises OperationError; what was moved by then is in `devices`.
        Spec: config-linux.md#network-devices
        """
        _in_thread(lambda: self._move_all(devices))

    def give_back(self) -> None:
        """What was moved is on the host again, as it was. Raises OperationError for the last device that cannot."""
        if self.devices:
            _in_thread(self._give_all_back)
        self.keep()

    def keep(self) -> None:
        """The devices belong to the container for good. Raises OSError."""
        if self.noted:
            self.undo.drop()

    def close(self) -> None:
        for fd in (self.socket, self.host):
            posix.close(fd)

    def _move_all(self, devices: tuple[tuple[str, str], ...]) -> None:
        target = _namespace_of(self.socket)
        try:
            self._hold(target)
            with IPRoute() as outside, self._inside() as inside:
                for name, wanted in devices:
                    try:
                        self._move(outside, inside, target, name, wanted)
                    except NetlinkError as error:
                        raise _failed(f"cannot move network device {name} into the container", error) from error
        finally:
            posix.close(target)

    def _hold(self, target: int) -> None:
        try:
            self.undo.hold(target, self.host)
            self.noted = True
        except OSError as error:
            self.warn(f"were this command killed now, its network devices would not come back: {error.strerror}")

    def _move(self, outside: IPRoute, inside: IPRoute, target: int, name: str, wanted: str) -> None:
        found = outside.link_lookup(ifname=name)
        if not found:
            text = f"cannot move network device {name}: there is none on the host"
            raise OperationError(text, errno=ENODEV, step="lookup")
        (link,) = outside.get_links(found[0])
        addresses = tuple(_addresses(outside, found[0]))
        device = Device(name, "", found[0], bool(link["flags"] & IFF_UP), addresses)
        device = replace(device, inside=_free_name(inside, name, wanted))
        self._note(*self.devices, device)
        index, named = _change(outside, inside, found[0], target, device.inside)
        self.devices.append(replace(device, index=index))
        self._note(*self.devices)
        if not named:  # somebody else took the name just now; of a template the kernel knows the next one
            inside.link("set", index=index, ifname=wanted)
        _set_up(inside, index, addresses)

    def _note(self, *devices: Device) -> None:
        if self.noted:
            self.undo.save([dict(zip(Device._fields, values(device))) for device in devices])

    def _give_all_back(self) -> None:
        last: Error | None = None
        self.devices = [replace(device, returning=True) for device in self.devices]
        self._note(*self.devices)
        with IPRoute() as outside, self._inside() as inside:
            for device in reversed(self.devices):
                try:
                    _give_back(outside, inside, self.host, device)
                except NetlinkError as error:
                    last = _failed(f"cannot give network device {device.name} back to the host", error)
        self.devices.clear()
        if last is not None:
            raise last

    def _inside(self) -> IPRoute:
        return IPRoute(fileno=posix.dup(self.socket))


def give_back_noted(undo: Undo, documents: list[dict[str, Any]]) -> None:
    """Give back what `undo` has noted of a creation that was killed. Raises OperationError, OSError, StateError."""
    _in_thread(lambda: _give_noted_back(undo, [_device(document) for document in documents]))


def _give_noted_back(undo: Undo, devices: list[Device]) -> None:
    namespaces = []
    try:
        for name in (OUTSIDE, INSIDE):
            namespaces.append(posix.open(f"{undo.path}/{name}", posix.O_RDONLY | posix.O_CLOEXEC))
        host = namespaces[0]
        with _route_in(host) as outside, _route_in(namespaces[1]) as inside:
            # What has neither arrived nor begun to return has not been moved at all.
            arrived = [_arrived(outside, inside, device) for device in devices]
            devices = [replace(device, returning=True) for device in arrived if device is not None]
            undo.save([dict(zip(Device._fields, values(device))) for device in devices])
            for device in reversed(devices):
                try:
                    _give_back(outside, inside, host, device)
                except NetlinkError as error:
                    raise _failed(f"{device.name}", error) from error
    finally:
        for fd in namespaces:
            posix.close(fd)


def _arrived(outside: IPRoute, inside: IPRoute, device: Device) -> Device | None:
    """The device, with its index in the container, if giving it back has begun or can begin."""
    if device.index or device.returning:
        return device
    if any(link.get_attr("IFLA_IFNAME") == device.name for link in _links(outside, device.host_index)):
        return None
    found = inside.link_lookup(ifname=device.inside)
    return replace(device, index=found[0]) if found else None


def _give_back(outside: IPRoute, inside: IPRoute, host: int, device: Device) -> None:
    """The device is on the host as it was; if its name is taken there by now, under the next free one of dev%d.

    One that has ended in the meantime is no error, and neither is one that is there already.
    """
    if device.index in _indexes(inside):
        index, named = _change(inside, outside, device.index, host, device.name)
        if not named:
            outside.link("set", index=index, ifname="dev%d")
    else:
        found = outside.link_lookup(ifname=device.name)
        if not found:
            return
        index = found[0]
    _set_up(outside, index, device.addresses, up=device.up)


def _change(source: IPRoute, target: IPRoute, index: int, namespace: int, name: str) -> tuple[int, bool]:
    """Move a device into another namespace: its index there, and whether it has this name.

    The kernel renames what it has moved already, unless the old name is taken there too.
    """
    before = _indexes(target)
    named = True
    try:
        source.link("set", index=index, net_ns_fd=namespace, ifname=name)
    except NetlinkError as error:
        if error.code != EEXIST:
            raise
        named = False
        if index in _indexes(source):
            source.link("set", index=index, net_ns_fd=namespace, ifname="dev%d")
    (new,) = _indexes(target) - before
    return new, named


def _device(document: dict[str, Any]) -> Device:
    """What `_note` wrote. Raises OperationError."""
    try:
        device = Device(**document)
        return replace(device, addresses=tuple(device.addresses))
    except (TypeError, ValueError) as error:
        raise OperationError(f"what was noted of it is damaged: {error}", step="undo") from None


def _route_in(namespace: int) -> IPRoute:
    """A netlink socket in a network namespace, which a thread of its own enters."""
    import socket

    sockets: list[socket.socket] = []

    def make() -> None:
        native.enter_netns(namespace)
        sockets.append(socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE))

    _in_thread(make)
    return IPRoute(fileno=sockets[0].detach())


def _free_name(inside: IPRoute, name: str, wanted: str) -> str:
    """`wanted`, its %d replaced by the first number that is free. Raises OperationError if the name is taken."""
    taken = {link.get_attr("IFLA_IFNAME") for link in inside.get_links()}
    names = [wanted.replace("%d", str(number), 1) for number in range(NUMBERS)] if "%d" in wanted else [wanted]
    free = next((one for one in names if one not in taken), None)
    if free is None:
        hint = f'the name "{wanted[:12]}%d" would take the next free number'
        text = f"cannot move network device {name}: the container has a device {wanted} already"
        raise OperationError(text, errno=EEXIST, hint=hint, step="lookup")
    return free


def _set_up(route: IPRoute, index: int, addresses: tuple[dict[str, Any], ...], *, up: bool = True) -> None:
    for address in addresses:
        route.addr("replace", index=index, **address)
    if up:
        route.link("set", index=index, state="up")


def _addresses(route: IPRoute, index: int) -> list[dict[str, Any]]:
    """Those that are meant to last and to be seen from elsewhere, as arguments for adding them again."""
    kept = []
    for found in route.get_addr(index=index):
        flags = found.get_attr("IFA_FLAGS") or found["flags"]
        if found["scope"] != RT_SCOPE_UNIVERSE or not flags & IFA_F_PERMANENT:
            continue
        address = {"family": found["family"], "prefixlen": found["prefixlen"], "scope": found["scope"]}
        for key in ("address", "local", "broadcast"):
            if (value := found.get_attr(f"IFA_{key.upper()}")) is not None:
                address[key] = value
        if flags & IFA_F_KEPT:
            address["IFA_FLAGS"] = flags & IFA_F_KEPT
        kept.append(address)
    return kept


def _links(route: IPRoute, index: int) -> list[Any]:
    """The device with this index, if there is one."""
    return [link for link in route.get_links() if link["index"] == index]


def _indexes(route: IPRoute) -> set[int]:
    return {int(link["index"]) for link in route.get_links()}


def _namespace_of(socket: int) -> int:
    """A descriptor of a socket's network namespace."""
    return fcntl.ioctl(socket, SIOCGSKNS, 0)


def _in_thread(work: Callable[[], None]) -> None:
    """pyroute2 runs an event loop; the caller's thread may be in one of its own."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="pyocirun-net")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _failed(what: str, error: NetlinkError) -> OperationError:
    number = abs(int(error.code))
    return OperationError(f"{what}: {posix.strerror(number)}", errno=number, step="netlink")
