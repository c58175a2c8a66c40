"""Maps of user and group ids between a user namespace and its parent (user_namespaces(7)), as values."""

from __future__ import annotations

from itertools import pairwise

from pyocirun.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_LINES = 340
"""Lines that the kernel takes in one uid_map or gid_map, since Linux 4.15."""

ID_SPACE = 1 << 32


class IDMapping(Record):
    """`size` ids, from `container_id` in the container and from `host_id` outside of it.

    Spec: config-linux.md#user-namespace-mappings.
    """

    container_id: int
    host_id: int
    size: int


def format_map(mappings: Sequence[IDMapping]) -> str:
    """What to write into /proc/PID/uid_map or gid_map: one line a mapping; "" for no mapping."""
    return "".join([f"{mapping.container_id} {mapping.host_id} {mapping.size}\n" for mapping in mappings])


def to_host(mappings: Sequence[IDMapping], container_id: int) -> int | None:
    """The host's id for an id of the container, None if it is not mapped."""
    for mapping in mappings:
        if 0 <= container_id - mapping.container_id < mapping.size:
            return mapping.host_id + container_id - mapping.container_id
    return None


def to_container(mappings: Sequence[IDMapping], host_id: int) -> int | None:
    """The container's id for an id of the host, None if it is not mapped."""
    for mapping in mappings:
        if 0 <= host_id - mapping.host_id < mapping.size:
            return mapping.container_id + host_id - mapping.host_id
    return None


def fault(mappings: Sequence[IDMapping]) -> tuple[int, str] | None:
    """Index and text of the first mapping that the kernel would refuse, -1 for all of them; None if all are good.

    Two ranges may not overlap on either side, no range is empty or runs past the last id, and lines are limited.
    """
    if len(mappings) > MAX_LINES:
        return -1, f"{len(mappings)} id mappings, the kernel takes {MAX_LINES}"
    for index, mapping in enumerate(mappings):
        if mapping.size == 0:
            return index, "id mapping of size 0"
        if max(mapping.container_id, mapping.host_id) + mapping.size > ID_SPACE:
            return index, "id mapping runs past the last id, 4294967295"
    for side in ("container_id", "host_id"):
        index = _overlap([(getattr(mapping, side), mapping.size) for mapping in mappings])
        if index >= 0:
            return (
                index,
                f"id mapping overlaps another one by its {'containerID' if side == 'container_id' else 'hostID'}",
            )
    return None


def _overlap(ranges: list[tuple[int, int]]) -> int:
    """Index of a range (start, size) that overlaps another one, -1 if none does."""
    order = sorted(range(len(ranges)), key=ranges.__getitem__)
    for before, after in pairwise(order):
        if sum(ranges[before]) > ranges[after][0]:
            return max(before, after)
    return -1
