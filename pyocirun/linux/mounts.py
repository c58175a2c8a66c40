"""Mount options: names, MS_* bits of mount(2), MOUNT_ATTR_* bits of mount_setattr(2), and how a list adds up."""

from __future__ import annotations

from pyocirun.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SILENT = 32768
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_I_VERSION = 1 << 23
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

MOUNT_ATTR_RDONLY = 0x00000001
MOUNT_ATTR_NOSUID = 0x00000002
MOUNT_ATTR_NODEV = 0x00000004
MOUNT_ATTR_NOEXEC = 0x00000008
MOUNT_ATTR__ATIME = 0x00000070
MOUNT_ATTR_RELATIME = 0x00000000
MOUNT_ATTR_NOATIME = 0x00000010
MOUNT_ATTR_STRICTATIME = 0x00000020
MOUNT_ATTR_NODIRATIME = 0x00000080
MOUNT_ATTR_IDMAP = 0x00100000
MOUNT_ATTR_NOSYMFOLLOW = 0x00200000

ACCESS_TIME = MS_NOATIME | MS_RELATIME | MS_STRICTATIME
"""The bits of which a mount has one at most: setting one of them by name takes the others back."""

PER_MOUNT = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOSYMFOLLOW | MS_NODIRATIME | ACCESS_TIME
"""The bits that belong to one mount; the others (sync, mand, lazytime, ...) belong to the file system below it."""

PROPAGATION_TYPES = MS_SHARED | MS_SLAVE | MS_PRIVATE | MS_UNBINDABLE


class MountOptions(Record):
    """What a mount's list of options means.

    flags: MS_* bits to set.  cleared: MS_* bits that an option took away by name ("rw", "dev") and none set after it.
    propagation: one value for each mount(2) call to come after the mount, in order.
    data: the options that are no option of mount(8) but the file system's, joined by commas.
    rec_set, rec_clear: attr_set and attr_clr for mount_setattr(AT_RECURSIVE); both 0 if no option asks for it.
    idmap: "" none, "idmap" for the mount alone, "ridmap" for the tree.  tmpcopyup: fill the tmpfs with what it covers.
    """

    flags: int = 0
    cleared: int = 0
    propagation: tuple[int, ...] = ()
    data: str = ""
    rec_set: int = 0
    rec_clear: int = 0
    idmap: str = ""
    tmpcopyup: bool = False


SET: dict[str, int] = {
    "bind": MS_BIND,
    "rbind": MS_BIND | MS_REC,
    "defaults": 0,
    "dirsync": MS_DIRSYNC,
    "iversion": MS_I_VERSION,
    "lazytime": MS_LAZYTIME,
    "mand": MS_MANDLOCK,
    "noatime": MS_NOATIME,
    "nodev": MS_NODEV,
    "nodiratime": MS_NODIRATIME,
    "noexec": MS_NOEXEC,
    "nosuid": MS_NOSUID,
    "nosymfollow": MS_NOSYMFOLLOW,
    "relatime": MS_RELATIME,
    "remount": MS_REMOUNT,
    "ro": MS_RDONLY,
    "silent": MS_SILENT,
    "strictatime": MS_STRICTATIME,
    "sync": MS_SYNCHRONOUS,
}

CLEAR: dict[str, int] = {
    "async": MS_SYNCHRONOUS,
    "atime": MS_NOATIME,
    "dev": MS_NODEV,
    "diratime": MS_NODIRATIME,
    "exec": MS_NOEXEC,
    "loud": MS_SILENT,
    "noiversion": MS_I_VERSION,
    "nolazytime": MS_LAZYTIME,
    "nomand": MS_MANDLOCK,
    "norelatime": MS_RELATIME,
    "nostrictatime": MS_STRICTATIME,
    "rw": MS_RDONLY,
    "suid": MS_NOSUID,
    "symfollow": MS_NOSYMFOLLOW,
}

PROPAGATION: dict[str, int] = {
    "shared": MS_SHARED,
    "rshared": MS_SHARED | MS_REC,
    "slave": MS_SLAVE,
    "rslave": MS_SLAVE | MS_REC,
    "private": MS_PRIVATE,
    "rprivate": MS_PRIVATE | MS_REC,
    "unbindable": MS_UNBINDABLE,
    "runbindable": MS_UNBINDABLE | MS_REC,
}

RECURSIVE_SET: dict[str, int] = {
    "rro": MOUNT_ATTR_RDONLY,
    "rnosuid": MOUNT_ATTR_NOSUID,
    "rnodev": MOUNT_ATTR_NODEV,
    "rnoexec": MOUNT_ATTR_NOEXEC,
    "rnodiratime": MOUNT_ATTR_NODIRATIME,
    "rrelatime": MOUNT_ATTR_RELATIME,
    "rnoatime": MOUNT_ATTR_NOATIME,
    "rstrictatime": MOUNT_ATTR_STRICTATIME,
    "rnosymfollow": MOUNT_ATTR_NOSYMFOLLOW,
}

RECURSIVE_CLEAR: dict[str, int] = {
    "rrw": MOUNT_ATTR_RDONLY,
    "rsuid": MOUNT_ATTR_NOSUID,
    "rdev": MOUNT_ATTR_NODEV,
    "rexec": MOUNT_ATTR_NOEXEC,
    "rdiratime": MOUNT_ATTR_NODIRATIME,
    "rnorelatime": MOUNT_ATTR_RELATIME,
    "ratime": MOUNT_ATTR_NOATIME,
    "rnostrictatime": MOUNT_ATTR_STRICTATIME,
    "rsymfollow": MOUNT_ATTR_NOSYMFOLLOW,
}

_RECURSIVE_ACCESS_TIME = {"rrelatime", "rnoatime", "rstrictatime", "rnorelatime", "ratime", "rnostrictatime"}

_ATTRIBUTES = {
    MS_RDONLY: MOUNT_ATTR_RDONLY,
    MS_NOSUID: MOUNT_ATTR_NOSUID,
    MS_NODEV: MOUNT_ATTR_NODEV,
    MS_NOEXEC: MOUNT_ATTR_NOEXEC,
    MS_NOSYMFOLLOW: MOUNT_ATTR_NOSYMFOLLOW,
    MS_NODIRATIME: MOUNT_ATTR_NODIRATIME,
    MS_NOATIME: MOUNT_ATTR_NOATIME,
    MS_STRICTATIME: MOUNT_ATTR_STRICTATIME,
}


def parse_options(options: Sequence[str]) -> MountOptions:
    """The meaning of a mount's list of options; of two that contradict each other the later one holds.

    Spec: config.md#linux-mount-options. A name that is not listed there goes to the file system as data.
    """
    flags = cleared = rec_set = rec_clear = 0
    propagation: list[int] = []
    data: list[str] = []
    idmap = ""
    tmpcopyup = False
    for option in options:
        if option in SET:
            flag = SET[option]
            if flag & ACCESS_TIME:
                flags &= ~ACCESS_TIME
            flags |= flag
            cleared &= ~flag
        elif option in CLEAR:
            flags &= ~CLEAR[option]
            cleared |= CLEAR[option]
        elif option in PROPAGATION:
            propagation.append(PROPAGATION[option])
        elif option in RECURSIVE_SET or option in RECURSIVE_CLEAR:
            rec_set, rec_clear = _recursive(option, rec_set, rec_clear)
        elif option in ("idmap", "ridmap"):
            idmap = option
        elif option == "tmpcopyup":
            tmpcopyup = True
        elif option:
            data.append(option)
    return MountOptions(flags, cleared, tuple(propagation), ",".join(data), rec_set, rec_clear, idmap, tmpcopyup)


def attributes(flags: int) -> int:
    """The MOUNT_ATTR_* bits for fsmount(2) or mount_setattr(2) that say what the per-mount MS_* bits in `flags` say.

    noatime, strictatime and relatime are one field there, not bits: at most one of them may be in `flags`. Whoever
    sets it by mount_setattr(2) has to put MOUNT_ATTR__ATIME into attr_clr.
    """
    attributes = 0
    for flag, attribute in _ATTRIBUTES.items():
        if flags & flag:
            attributes |= attribute
    return attributes


def flag_names(flags: int) -> list[str]:
    """The names of the MS_* bits in `flags`, lowest first; bits without a name as one hexadecimal number at the end."""
    known = {flag: name for name, flag in globals().items() if name.startswith("MS_")}
    names = [known[flag] for flag in sorted(known) if flags & flag]
    rest = flags & ~sum(known)
    return [*names, hex(rest)] if rest else names


def _recursive(option: str, rec_set: int, rec_clear: int) -> tuple[int, int]:
    """attr_set and attr_clr after one more option of the r family.

    Access time is a field of three bits, in which relatime is 0: the kernel wants the whole field cleared before any
    value is set. Taking a value away ("ratime") goes back to relatime, its default.
    """
    attribute = RECURSIVE_SET.get(option, RECURSIVE_CLEAR.get(option, 0))
    if option in _RECURSIVE_ACCESS_TIME:
        if option in RECURSIVE_SET:
            return rec_set & ~MOUNT_ATTR__ATIME | attribute, rec_clear | MOUNT_ATTR__ATIME
        if attribute and rec_set & MOUNT_ATTR__ATIME == attribute:
            rec_set &= ~attribute
        return rec_set, rec_clear | MOUNT_ATTR__ATIME
    if option in RECURSIVE_SET:
        return rec_set | attribute, rec_clear & ~attribute
    return rec_set & ~attribute, rec_clear | attribute
