"""Standard output: text that is written whole, and JSON as engines know it from runc."""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_STDOUT = 1


def print_text(text: str, fd: int = _STDOUT) -> None:
    """Write `text` as it is to standard output, or another descriptor. Raises OSError."""
    # A lone surrogate is either a byte of a file name or an escape in someone's JSON: it is shown as \udcXX.
    left = memoryview(text.encode("utf-8", "backslashreplace"))
    while left:
        left = left[posix.write(fd, left) :]


def to_json(value: object, indent: str = "") -> str:
    """JSON of dicts, lists, str, int, bool and None, laid out and escaped as Go's encoder does.

    indent: of one level; "": everything on one line, without blanks. Raises TypeError for another type.
    """
    return _value(value, indent, "\n" if indent else "", _escaper())


def _value(value: object, indent: str, newline: str, escape: Callable[[str], str]) -> str:
    if isinstance(value, str):
        return _string(value, escape)
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    inner = newline + indent
    if isinstance(value, dict):
        colon = ": " if indent else ":"
        items = [_string(name, escape) + colon + _value(item, indent, inner, escape) for name, item in value.items()]
        return "{" + inner + ("," + inner).join(items) + newline + "}" if items else "{}"
    if isinstance(value, (list, tuple)):
        items = [_value(item, indent, inner, escape) for item in value]
        return "[" + inner + ("," + inner).join(items) + newline + "]" if items else "[]"
    raise TypeError(f"no JSON for {type(value).__name__}")


def _string(text: str, escape: Callable[[str], str]) -> str:
    """Go's encoder leaves Unicode as it is, but not what would be special inside HTML or JavaScript."""
    quoted = escape(text)
    for char in "<>&\u2028\u2029":
        if char in quoted:
            quoted = quoted.replace(char, f"\\u{ord(char):04x}")
    return quoted


def _escaper() -> Callable[[str], str]:
    try:
        from _json import encode_basestring
    except ImportError:
        from json.encoder import encode_basestring
    return encode_basestring
