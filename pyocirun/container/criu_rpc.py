"""The messages between us and `criu swrk`, in the encoding of Protocol Buffers, version 2.

Only what is used here is known by name. A message is a list of (number, value): int and bool become variable-length
integers, str and bytes go as they are, a list is a message of its own; None is left out. What comes in is a dict of
number -> values in their order, ints and bytes: of messages inside, the bytes can be decoded in turn.

See https://criu.org/RPC, and https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from pyocirun import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    Value = int | str | bytes | list["Field"] | None
    Field = tuple[int, "Value"]

DUMP, RESTORE, PRE_DUMP, NOTIFY, FEATURE_CHECK, VERSION = 1, 2, 4, 6, 9, 10
"""Types of requests, and of the answers to them."""

NAMES = {DUMP: "DUMP", RESTORE: "RESTORE", PRE_DUMP: "PRE_DUMP", FEATURE_CHECK: "FEATURE_CHECK", VERSION: "VERSION"}

# The fields of a request.
REQUEST_TYPE, REQUEST_OPTIONS, REQUEST_NOTIFIED, REQUEST_FEATURES = 1, 2, 3, 5

# The fields of an answer, and of what is inside of it.
TYPE, SUCCESS, RESTORED, NOTIFICATION, ERRNO, FEATURES, ERROR, VERSION_OF = 1, 2, 4, 5, 7, 8, 9, 10
RESTORED_PID = 1
SCRIPT, PID = 1, 2

MEM_TRACK, LAZY_PAGES = 1, 2
"""Features."""

OPTIONS: dict[str, int] = {
    "images_dir_fd": 1,
    "pid": 2,
    "leave_running": 3,
    "ext_unix_sk": 4,
    "tcp_established": 5,
    "evasive_devices": 6,
    "shell_job": 7,
    "file_locks": 8,
    "log_level": 9,
    "log_file": 10,
    "page_server": 11,
    "notify_scripts": 12,
    "root": 13,
    "parent_img": 14,
    "track_mem": 15,
    "auto_dedup": 16,
    "work_dir_fd": 17,
    "link_remap": 18,
    "veths": 19,
    "ext_mnt": 23,
    "manage_cgroups": 24,
    "cg_root": 25,
    "rst_sibling": 26,
    "inherit_fd": 27,
    "manage_cgroups_mode": 34,
    "external": 37,
    "empty_ns": 38,
    "join_ns": 39,
    "freeze_cgroup": 44,
    "tcp_skip_in_flight": 46,
    "lazy_pages": 48,
    "status_fd": 49,
    "orphan_pts_master": 50,
    "config_file": 51,
    "lsm_profile": 53,
    "lsm_mount_context": 63,
}
"""Options by name: the numbers of their fields. Those that come several times have a list of values, see `options`."""

CGROUP_MODES = {"": 6, "ignore": 0, "soft": 3, "full": 4, "strict": 5}
"""--manage-cgroups-mode; "": criu's own default."""


def options(values: dict[str, Value | tuple[Value, ...]]) -> list[Field]:
    """The fields for options by name; False is left out like None, and a tuple stands for one field each."""
    fields: list[Field] = []
    for name, value in values.items():
        several = value if isinstance(value, tuple) else (value,)
        fields += [(OPTIONS[name], one) for one in several if one is not None and one is not False]
    return fields


def encode(fields: list[Field]) -> bytes:
    """The bytes of a message."""
    return b"".join([_field(number, value) for number, value in fields if value is not None])


def decode(data: bytes) -> dict[int, list[int | bytes]]:
    """The fields of a message. Raises ValueError for bytes that are none."""
    found: dict[int, list[int | bytes]] = {}
    position = 0
    while position < len(data):
        key, position = _number(data, position)
        kind = key & 7
        value: int | bytes
        if kind == 0:
            value, position = _number(data, position)
        elif kind in (1, 2, 5):
            size, position = _number(data, position) if kind == 2 else (8 if kind == 1 else 4, position)
            value, position = data[position : position + size], position + size
            if position > len(data):
                raise ValueError("a message of criu is cut short")
        else:
            raise ValueError(f"a message of criu has a field of kind {kind}")
        found.setdefault(key >> 3, []).append(value)
    return found


def number(fields: dict[int, list[int | bytes]], field: int, default: int = 0) -> int:
    """The last number in a field. Those of 32 bits with a sign are encoded with 64."""
    value = fields.get(field, [default])[-1]
    if isinstance(value, bytes):
        raise ValueError(f"field {field} of criu's message is no number")
    return value - (1 << 64) if value >> 63 else value


def content(fields: dict[int, list[int | bytes]], field: int) -> bytes:
    """The bytes in a field, b"" if there is none."""
    value = fields.get(field, [b""])[-1]
    if not isinstance(value, bytes):
        raise ValueError(f"field {field} of criu's message is a number")
    return value


def _field(number: int, value: Value) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value & (1 << 64) - 1)
    if isinstance(value, str):
        value = files.encode(value)
    elif isinstance(value, list):
        value = encode(value)
    assert value is not None
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _number(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position == len(data) or shift > 63:
            raise ValueError("a message of criu has a number that does not end")
        digit = data[position]
        position += 1
        value |= (digit & 0x7F) << shift
        shift += 7
        if digit < 0x80:
            return value & (1 << 64) - 1, position
