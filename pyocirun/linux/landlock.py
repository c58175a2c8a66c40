"""What Landlock can restrict: names of access rights, their bits, and the ABI that each came with (landlock(7))."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

FILES = {
    "execute": (1 << 0, 1),
    "write_file": (1 << 1, 1),
    "read_file": (1 << 2, 1),
    "read_dir": (1 << 3, 1),
    "remove_dir": (1 << 4, 1),
    "remove_file": (1 << 5, 1),
    "make_char": (1 << 6, 1),
    "make_dir": (1 << 7, 1),
    "make_reg": (1 << 8, 1),
    "make_sock": (1 << 9, 1),
    "make_fifo": (1 << 10, 1),
    "make_block": (1 << 11, 1),
    "make_sym": (1 << 12, 1),
    "refer": (1 << 13, 2),
    "truncate": (1 << 14, 3),
    "ioctl_dev": (1 << 15, 5),
}
"""LANDLOCK_ACCESS_FS_*, in lower case -> (bit, first ABI)."""

PORTS = {"bind_tcp": (1 << 0, 4), "connect_tcp": (1 << 1, 4)}
"""LANDLOCK_ACCESS_NET_*"""

SCOPES = {"abstract_unix_socket": (1 << 0, 6), "signal": (1 << 1, 6)}
"""LANDLOCK_SCOPE_*"""

NEWEST = 7
"""The last ABI of which something is known here; 7 added only flags that are not for containers."""


def bits(table: dict[str, tuple[int, int]], names: Iterable[str], abi: int) -> int:
    """The bits of these names, as far as an ABI has them."""
    found = 0
    for name in names:
        bit, since = table[name]
        found |= bit if since <= abi else 0
    return found


def names(table: dict[str, tuple[int, int]], mask: int) -> list[str]:
    """The names of these bits."""
    return [name for name, (bit, _) in table.items() if mask & bit]
