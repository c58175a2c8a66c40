"""linux.netDevices: network devices of the host change into the container's network namespace, by rtnetlink(7).

nsexec opens a netlink socket in that namespace and hands it over: nobody has to enter it, and it lives as long as the
socket does, so that a device can come back when the creation fails.
"""

from __future__ import annotations

import fcntl
import posix
import threading

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pyocirun.errors import Error, OperationError
from pyocirun.record import Record

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


class Moved(Record):
    """A device that is in the container. index: there.  name, up, addresses: as they were on the host."""

    index: int
    name: str
    up: bool
    addresses: tuple[dict[str, Any], ...]


class Mover:
    """Moves devices between the caller's network namespace and that of a netlink socket, which this object owns."""

    def __init__(self, socket: int) -> None:
        self.socket = posix.dup(socket)
        self.host = posix.open("/proc/thread-self/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
        self.moved: list[Moved] = []

    def move(self, devices: tuple[tuple[str, str], ...]) -> None:
        """Move each (name on the host, name in the container), with its permanent global addresses, and set it up.

        A name may have %d in it for a number. Raises OperationError; what was moved by then is in `moved`.
        Spec: config-linux.md#network-devices
        """
        _in_thread(lambda: self._move_all(devices))

    def give_back(self) -> None:
        """What was moved is on the host again, as it was. Raises OperationError for the last device that cannot."""
        if self.moved:
            _in_thread(self._give_all_back)

    def close(self) -> None:
        for fd in (self.socket, self.host):
            posix.close(fd)

    def _move_all(self, devices: tuple[tuple[str, str], ...]) -> None:
        target = _namespace_of(self.socket)
        try:
            with IPRoute() as outside, self._inside() as inside:
                for name, wanted in devices:
                    try:
                        self._move(outside, inside, target, name, wanted)
                    except NetlinkError as error:
                        raise _failed(f"cannot move network device {name} into the container", error) from error
        finally:
            posix.close(target)

    def _move(self, outside: IPRoute, inside: IPRoute, target: int, name: str, wanted: str) -> None:
        found = outside.link_lookup(ifname=name)
        if not found:
            raise OperationError(
                f"cannot move network device {name}: there is none on the host", errno=ENODEV, step="lookup"
            )
        if inside.link_lookup(ifname=wanted):
            hint = f'the name "{wanted[:12]}%d" would take the next free number'
            text = f"cannot move network device {name}: the container has a device {wanted} already"
            raise OperationError(text, errno=EEXIST, hint=hint, step="lookup")
        (link,) = outside.get_links(found[0])
        addresses = tuple(_addresses(outside, found[0]))
        before = _indexes(inside)
        outside.link("set", index=found[0], net_ns_fd=target, ifname=wanted)
        (index,) = _indexes(inside) - before
        self.moved.append(Moved(index, name, bool(link["flags"] & IFF_UP), addresses))
        _set_up(inside, index, addresses)

    def _give_all_back(self) -> None:
        last: Error | None = None
        with IPRoute() as outside, self._inside() as inside:
            for moved in reversed(self.moved):
                try:
                    before = _indexes(outside)
                    inside.link("set", index=moved.index, net_ns_fd=self.host, ifname=moved.name)
                    (index,) = _indexes(outside) - before
                    _set_up(outside, index, moved.addresses, up=moved.up)
                except NetlinkError as error:
                    last = _failed(f"cannot give network device {moved.name} back to the host", error)
        self.moved.clear()
        if last is not None:
            raise last

    def _inside(self) -> IPRoute:
        return IPRoute(fileno=posix.dup(self.socket))


def _set_up(route: IPRoute, index: int, addresses: tuple[dict[str, Any], ...], *, up: bool = True) -> None:
    for address in addresses:
        route.addr("add", index=index, **address)
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
