"""Namespaces: the spec's type names, the kernel's flags and the names of the files in /proc/PID/ns (namespaces(7))."""

from __future__ import annotations

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

FLAGS: dict[str, int] = {
    "pid": CLONE_NEWPID,
    "network": CLONE_NEWNET,
    "mount": CLONE_NEWNS,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "user": CLONE_NEWUSER,
    "cgroup": CLONE_NEWCGROUP,
    "time": CLONE_NEWTIME,
}

FILES: dict[str, str] = {
    "pid": "pid",
    "network": "net",
    "mount": "mnt",
    "ipc": "ipc",
    "uts": "uts",
    "user": "user",
    "cgroup": "cgroup",
    "time": "time",
}

_TYPES_BY_FILE = {file: type for type, file in FILES.items()}


def type_of_file(file: str) -> str | None:
    """The spec's type of a file in /proc/PID/ns: "net" -> "network"; None if it is no namespace known here.

    pid_for_children and time_for_children name the namespaces of children, so they count as none.
    """
    return _TYPES_BY_FILE.get(file)


def type_names(flags: int) -> list[str]:
    """The spec's types whose CLONE_NEW* bit is set, in the order of `FLAGS`."""
    return [type for type, flag in FLAGS.items() if flags & flag]


def flag_name(type: str) -> str:
    """The CLONE_NEW* name of a namespace type, for printing: "mount" -> "CLONE_NEWNS"."""
    special = {"network": "NET", "mount": "NS"}
    return "CLONE_NEW" + special.get(type, type.upper())
