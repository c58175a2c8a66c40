"""The text format of GVariant, as far as properties of systemd units need it. Pure.

Numbers, strings, booleans, arrays, tuples and bytestrings, with keywords or "@" for the type where it is not the usual
one. Dictionaries, variants and maybe types are not part of it. See GLib's "GVariant Text Format".
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_KEYWORDS = {
    "boolean": "b",
    "byte": "y",
    "int16": "n",
    "uint16": "q",
    "int32": "i",
    "uint32": "u",
    "handle": "h",
    "int64": "x",
    "uint64": "t",
    "double": "d",
    "string": "s",
    "objectpath": "o",
    "signature": "g",
}
_RANGES = {
    "y": (0, (1 << 8) - 1),
    "n": (-(1 << 15), (1 << 15) - 1),
    "q": (0, (1 << 16) - 1),
    "i": (-(1 << 31), (1 << 31) - 1),
    "u": (0, (1 << 32) - 1),
    "h": (-(1 << 31), (1 << 31) - 1),
    "x": (-(1 << 63), (1 << 63) - 1),
    "t": (0, (1 << 64) - 1),
}
_TEXTS = "sog"
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_DEEPEST = 16
_BREAKS = frozenset(",()[]'\"")


def parse(text: str) -> tuple[str, object]:
    """(signature, value) of one value. Arrays are lists, tuples tuples, and arrays of bytes `bytes`.

    Raises ValueError.
    """
    reader = _Reader(text)
    signature, value = reader.value("", 0)
    if reader.peek():
        raise ValueError(f"{reader.rest()!r} is left over")
    return signature, value


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def peek(self) -> str:
        """The next character that is no space, "" at the end."""
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1
        return self._text[self._at : self._at + 1]

    def rest(self) -> str:
        return self._text[self._at :]

    def value(self, wanted: str, depth: int) -> tuple[str, object]:
        """A value of the type `wanted`, "" for the one that its text stands for."""
        if depth > _DEEPEST:
            raise ValueError("too deep")
        first = self.peek()
        if first == "@":
            return self.value(self._agreed(wanted, self._signature()), depth)
        if first == "[":
            return self._array(wanted, depth)
        if first == "(":
            return self._tuple(wanted, depth)
        if first and first in "'\"":
            return self._agreed(wanted, "s", _TEXTS), self._string()
        if self._text.startswith(("b'", 'b"'), self._at):
            self._at += 1
            self._agreed(wanted, "ay")
            return "ay", self._string().encode("latin-1", "strict") + b"\0"
        word = self._word()
        if word in _KEYWORDS:
            return self.value(self._agreed(wanted, _KEYWORDS[word]), depth)
        return _simple(word, wanted)

    def _agreed(self, wanted: str, found: str, others: str = "") -> str:
        """`wanted`, or if that is open `found`; they must be the same, or `wanted` one of the others."""
        if wanted and wanted != found and not (len(wanted) == 1 and wanted in others):
            raise ValueError(f"a value of type {wanted} is expected")
        return wanted or found

    def _signature(self) -> str:
        start = self._at + 1
        self._at = _end_of_type(self._text, start, 0)
        return self._text[start : self._at]

    def _array(self, wanted: str, depth: int) -> tuple[str, object]:
        if wanted and not wanted.startswith("a"):
            raise ValueError(f"a value of type {wanted} is expected")
        kind = wanted[1:]
        values: list[object] = []

        def member() -> None:
            """The first one gives the others its type."""
            nonlocal kind
            kind, value = self.value(kind, depth + 1)
            values.append(value)

        self._items("]", member)
        if not kind:
            raise ValueError("the type of an empty array must be given, such as @as []")
        if kind == "y":
            return "ay", bytes(value for value in values if isinstance(value, int))
        return f"a{kind}", values

    def _tuple(self, wanted: str, depth: int) -> tuple[str, object]:
        kinds = _members(wanted) if wanted else []
        values: list[tuple[str, object]] = []

        def member() -> None:
            if wanted and len(values) >= len(kinds):
                raise ValueError(f"a value of type {wanted} is expected")
            values.append(self.value(kinds[len(values)] if wanted else "", depth + 1))

        self._items(")", member)
        signature = f"({''.join([kind for kind, _ in values])})"
        if not values:
            raise ValueError("a tuple without members has no type on D-Bus")
        return self._agreed(wanted, signature), tuple([value for _, value in values])

    def _items(self, end: str, read: Callable[[], None]) -> None:
        """Read what stands between commas up to `end`; the cursor is at the opening bracket."""
        self._at += 1
        while self.peek() != end:
            read()
            if self.peek() == ",":
                self._at += 1
            elif self.peek() != end:
                raise ValueError(f"{end!r} is missing")
        self._at += 1

    def _word(self) -> str:
        start = self._at
        while self._at < len(self._text) and not (self._text[self._at].isspace() or self._text[self._at] in _BREAKS):
            self._at += 1
        if start == self._at:
            raise ValueError("a value is missing" if not self.rest() else f"{self.rest()!r} is unexpected")
        return self._text[start : self._at]

    def _string(self) -> str:
        quote = self._text[self._at]
        self._at += 1
        found = []
        while (one := self._next()) != quote:
            found.append(self._escaped(self._next()) if one == "\\" else one)
        return "".join(found)

    def _next(self) -> str:
        one = self._text[self._at : self._at + 1]
        if not one or one == "\0":
            raise ValueError("the string does not end" if not one else "a string has no NUL")
        self._at += 1
        return one

    def _escaped(self, one: str) -> str:
        digits = {"u": 4, "U": 8}.get(one, 0)
        if not digits:
            return _ESCAPES.get(one, one)
        code = self._text[self._at : self._at + digits]
        self._at += digits
        if len(code) < digits or not all(digit in "0123456789abcdefABCDEF" for digit in code):
            raise ValueError(f"{digits} hexadecimal digits are expected after \\{one}")
        number = int(code, 16)
        if not number or number > 0x10FFFF or 0xD800 <= number < 0xE000:
            raise ValueError(f"{code} is no character")
        return chr(number)


def _simple(word: str, wanted: str) -> tuple[str, object]:
    if word in ("true", "false"):
        if wanted not in ("", "b"):
            raise ValueError(f"a value of type {wanted} is expected")
        return "b", word == "true"
    if wanted and wanted not in _RANGES and wanted != "d":
        raise ValueError(f"a value of type {wanted} is expected")
    number = _number(word)
    if wanted == "d" or (not wanted and isinstance(number, float)):
        return "d", float(number)
    kind = wanted or "i"
    low, high = _RANGES[kind]
    if isinstance(number, float) or not low <= number <= high:
        raise ValueError(f"{word} is no value of type {kind}")
    return kind, number


def _number(word: str) -> int | float:
    digits = word.lstrip("+-")
    sign = word[: len(word) - len(digits)]
    starts = digits[:1].isdecimal() or digits[:1] == "."  # not "inf" or "nan"
    if not word.isascii() or "_" in word or len(sign) > 1 or len(digits) > 64 or not starts:
        raise ValueError(f"{word} is no value")
    try:
        if digits[:2] in ("0x", "0X"):
            number: int | float = int(digits, 16)
        elif digits.isdecimal():
            number = int(digits, 8 if len(digits) > 1 and digits[0] == "0" else 10)
        else:
            number = float(digits)
    except ValueError:
        raise ValueError(f"{word} is no value") from None
    return -number if sign == "-" else number


def _end_of_type(text: str, at: int, depth: int) -> int:
    """Where the one complete type ends that begins at `at`."""
    one = text[at : at + 1]
    if depth > _DEEPEST or not one or one not in "bynqiuhxtdsoga(":
        raise ValueError("no type, or none that is known here")
    if one == "a":
        return _end_of_type(text, at + 1, depth + 1)
    if one != "(":
        return at + 1
    at += 1
    while text[at : at + 1] != ")":
        at = _end_of_type(text, at, depth + 1)
    return at + 1


def _members(signature: str) -> list[str]:
    if not signature.startswith("("):
        raise ValueError(f"a value of type {signature} is expected")
    found, at = [], 1
    while signature[at] != ")":
        end = _end_of_type(signature, at, 0)
        found.append(signature[at:end])
        at = end
    return found
