"""Users and groups by name, from the passwd(5) and group(5) of an image: for programs that write configurations.

config.json has numbers only, and names mean what the image says. The files are the image's, so they are not trusted:
read with `read_limited` they are bounded, and a number is never looked up as a name.
"""

from __future__ import annotations

import os
import stat

from pyocirun.errors import Error
from pyocirun.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 1 << 20
MAX_LINE = 4096
MAX_ID = (1 << 32) - 2


class User(Record):
    """A user. uid, gid: numbers.  groups: further gids, in the order of the group file.  home: "/" if none is known."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"


def find_user(wanted: str, passwd: str, group: str) -> User:
    """What "user", "uid", "user:group" or "uid:gid" stands for, as images name their users. "" is root.

    passwd, group: the text of the two files.  A uid that passwd does not know has gid 0, or the one given. A group that
    is given is the only one: others of the user are left out. Raises Error for a name that is not there, and for an
    entry whose ids cannot be read: none of them is ever taken for 0.
    """
    name, colon, group_name = wanted.partition(":")
    entry = _passwd_entry(name or "0", passwd)
    uid = _number(name or "0") if entry is None else _id(entry, 2, "passwd")
    if uid is None:
        raise Error(f"there is no user {name!r} in the passwd file", step="passwd")
    home = entry[5] if entry and len(entry) > 5 and entry[5].startswith("/") else "/"
    if colon:
        return User(uid, find_group(group_name, group), (), home)
    if entry is None:
        return User(uid, 0, (), home)
    return User(uid, _id(entry, 3, "passwd"), tuple(_groups_of(entry[0], group)), home)


def find_group(wanted: str, group: str) -> int:
    """The gid of a group's name or number. group: the text of the group file.

    Raises Error for an unknown name, and for one whose gid cannot be read.
    """
    number = _number(wanted)
    if number is not None:
        return number
    for fields in _entries(group):
        if fields[0] == wanted:
            return _id(fields, 2, "group")
    raise Error(f"there is no group {wanted!r} in the group file", step="group")


def read_limited(rootfs: str, path: str) -> str:
    """The text of a small file of an image, "" if there is none; of one that is too long, the beginning.

    path: absolute, in the image. Links are followed within the image only. Raises OSError.
    """
    from pyocirun import native

    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = native.open_in_root(root, path)
    except FileNotFoundError:
        return ""
    finally:
        os.close(root)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ""
        data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            data = data[: data.rfind(b"\n") + 1]  # half a line has half a number
        return data.decode("utf-8", "replace")


def _passwd_entry(wanted: str, passwd: str) -> list[str] | None:
    number = _number(wanted)
    for fields in _entries(passwd):
        if fields[0] == wanted if number is None else len(fields) > 2 and _number(fields[2]) == number:
            return fields
    return None


def _id(fields: list[str], index: int, file: str) -> int:
    """The id in this field of an entry."""
    number = _number(fields[index]) if len(fields) > index else None
    if number is None:
        raise Error(f"the entry of {fields[0]!r} in the {file} file has no number in field {index + 1}", step=file)
    return number


def _groups_of(user: str, group: str) -> Iterator[int]:
    for fields in _entries(group):
        number = _number(fields[2]) if len(fields) > 3 else None
        if number is not None and user in fields[3].split(","):
            yield number


def _entries(text: str) -> Iterator[list[str]]:
    """The fields of each line that has some. A line that is too long does not count."""
    for line in text[:MAX_BYTES].split("\n"):  # splitlines() knows more ends of a line than the C library
        if line and len(line) <= MAX_LINE and not line.startswith("#"):
            yield line.split(":")


def _number(text: str) -> int | None:
    """A uid or gid in decimal digits, None for anything else: "+1", "1x", "" and what does not fit are none."""
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > MAX_ID:
        return None
    return int(text)
