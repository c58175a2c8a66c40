"""Namespaces of processes: which there are, and whether two are the same. namespaces(7)"""

from __future__ import annotations

import os

from pyocirun.linux.namespaces import FILES, FLAGS, type_of_file

__all__ = ["FILES", "FLAGS", "of_process", "path", "same", "supported", "type_of_file"]


def supported() -> list[str]:
    """The types that this kernel has, by the names of config.json."""
    return [type for type, file in FILES.items() if os.path.exists(f"/proc/self/ns/{file}")]


def path(type: str, pid: int | str = "self") -> str:
    """The file that stands for a process's namespace, as config.json wants it to join one. type: a key of FILES."""
    return f"/proc/{pid}/ns/{FILES[type]}"


def of_process(pid: int | str = "self") -> dict[str, int]:
    """Type -> inode number of a process's namespaces; equal numbers are the same namespace. Raises OSError."""
    return {type: os.stat(path(type, pid)).st_ino for type in supported()}


def same(one: str, other: str) -> bool:
    """Whether two files stand for the same namespace. Raises OSError."""
    first, second = os.stat(one), os.stat(other)
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)
