"""Capability names and their numbers: the place in `CAPABILITIES` is the number (capabilities(7))."""

from __future__ import annotations

CAPABILITIES: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)

_NUMBERS = {name: number for number, name in enumerate(CAPABILITIES)}


def mask(names: tuple[str, ...] | list[str]) -> tuple[int, list[str]]:
    """The bits of `names`, and the names that are no capability, in their order and each once."""
    bits = 0
    unknown: list[str] = []
    for name in names:
        number = _NUMBERS.get(name)
        if number is not None:
            bits |= 1 << number
        elif name not in unknown:
            unknown.append(name)
    return bits, unknown


def names(mask: int) -> list[str]:
    """The names of the bits that are set, lowest first; a bit without a name is written as its number, "CAP_63"."""
    return [
        CAPABILITIES[number] if number < len(CAPABILITIES) else f"CAP_{number}"
        for number in range(mask.bit_length())
        if mask >> number & 1
    ]
