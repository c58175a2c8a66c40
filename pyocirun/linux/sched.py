"""Scheduling: names and numbers of sched(7), ioprio_set(2), set_mempolicy(2), personality(2), and lists of CPUs."""

from __future__ import annotations

POLICIES: dict[str, int] = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}

FLAGS: dict[str, int] = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}

IO_CLASSES: dict[str, int] = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}

MEMORY_MODES: dict[str, int] = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}

MEMORY_FLAGS: dict[str, int] = {
    "MPOL_F_STATIC_NODES": 1 << 15,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_NUMA_BALANCING": 1 << 13,
}

PERSONALITIES: dict[str, int] = {"LINUX": 0, "LINUX32": 8}

MAX_NUMBER = 8191
"""Highest CPU or node number taken: the most that any Linux configuration has (CONFIG_NR_CPUS)."""


def io_priority(io_class: str, priority: int) -> int:
    """The value that ioprio_set(2) takes. Raises KeyError for a class that is not in IO_CLASSES."""
    return IO_CLASSES[io_class] << 13 | priority


def parse_list(text: str) -> list[int]:
    """The numbers of a list such as "0-3,7" (cpuset(7), formats): sorted, each once; [] for "".

    Raises ValueError for anything else, among it a range that runs backwards and a number above MAX_NUMBER.
    """
    numbers: set[int] = set()
    for part in text.split(",") if text.strip() else ():
        first, dash, last = part.strip().partition("-")
        low = _number(first, text)
        high = _number(last, text) if dash else low
        if high < low:
            raise ValueError(f'invalid range "{part.strip()}" in the list "{text}"')
        numbers.update(range(low, high + 1))
    return sorted(numbers)


def _number(part: str, text: str) -> int:
    if not (part.isascii() and part.isdigit()):
        raise ValueError(f'invalid number "{part}" in the list "{text}"')
    if len(part) > 5 or int(part) > MAX_NUMBER:
        raise ValueError(f'number above {MAX_NUMBER} in the list "{text}"')
    return int(part)
