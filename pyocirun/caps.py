"""Capabilities by name and by number, and those of a process: capabilities(7)."""

from __future__ import annotations

from pyocirun.linux.capabilities import CAPABILITIES, mask, names

__all__ = ["CAPABILITIES", "mask", "names", "of_process"]

_SETS = {
    "CapInh": "inheritable",
    "CapPrm": "permitted",
    "CapEff": "effective",
    "CapBnd": "bounding",
    "CapAmb": "ambient",
}


def of_process(pid: int | str = "self") -> dict[str, list[str]]:
    """The five sets of a process, by the names that config.json has for them. Raises OSError."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        fields = dict(line.rstrip().partition(":\t")[::2] for line in file)
    return {name: names(int(fields[field], 16)) for field, name in _SETS.items()}
