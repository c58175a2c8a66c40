"""Reading JSON: bytes to a document, and a document's values with a JSON pointer (RFC 6901) in every error.

The reading functions below take the object that holds a property, the property's name and the pointer of the object.
A property that is absent or null is the same here, as in Go's decoder, which engines use.
"""

from __future__ import annotations

from pyocirun.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any, NoReturn, TypeVar

    T = TypeVar("T")
    Object = dict[str, Any]

MAX_SIZE = 16 << 20
"""Bytes of JSON that are read at all. Real configs have some 10 KiB; one with a large seccomp profile 100."""

MAX_DEPTH = 100
"""Nested arrays and objects that are read at all. The deepest value of the runtime-spec lies eight deep."""

UINT32 = (1 << 32) - 1
INT64 = (1 << 63) - 1
UINT64 = (1 << 64) - 1

_WHITESPACE = " \t\n\r"


def load_json(data: bytes, what: str) -> Any:
    """The JSON document in `data`, which errors call `what` ("config.json").

    Raises SpecError with line and column for what is no JSON (RFC 8259), and for what is, but that no two readers agree
    upon: a repeated key, NaN or Infinity, nesting deeper than MAX_DEPTH, more than MAX_SIZE bytes.
    """
    check_size(len(data), what)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise _syntax(what, data[: error.start].decode(), "this is not UTF-8") from None
    repeated: list[_Repeated] = []
    start = len(text) - len(text.lstrip(_WHITESPACE))
    try:
        document, end = _scanner(repeated)(text, start)
    except StopIteration as stop:
        raise _syntax(what, text[: stop.value], "a JSON value is missing here") from None
    except SystemError:
        # CPython 3.11's scanner takes JSONDecodeError from a module that it expects to be loaded.
        return _load_slowly(text, what)
    except RecursionError:
        raise _too_deep(what) from None
    except ValueError as error:
        position = getattr(error, "pos", None)
        if position is None:
            raise SpecError(f"{what} is not valid JSON: {error}") from None
        raise _syntax(what, text[:position], getattr(error, "msg", "")) from None
    rest = text[end:].lstrip(_WHITESPACE)
    if rest:
        raise _syntax(what, text[: len(text) - len(rest)], "there is something after the end of the document")
    # Fewer brackets than levels is the usual case, and spares the walk.
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH and _deeper_than(MAX_DEPTH, document):
        raise _too_deep(what)
    if repeated:
        pointer = _pointer_of(repeated[0], document, "")
        raise fault(pointer, f'the key "{repeated[0].key}" is there twice')
    return document


def _load_slowly(text: str, what: str) -> Any:
    import json

    try:
        return json.loads(text)
    except ValueError as error:
        raise _syntax(what, text[: getattr(error, "pos", 0)], getattr(error, "msg", "")) from None


def check_size(size: int, what: str) -> None:
    """Raises SpecError if this many bytes are more than is read."""
    if size > MAX_SIZE:
        raise SpecError(f"{what} is too large: {size} bytes, at most {MAX_SIZE} are read")


def fault(pointer: str, text: str) -> SpecError:
    """The error for a wrong value, its message as `describe` has it."""
    return SpecError(describe(pointer, text), pointer=pointer, faults=[(pointer, text)])


def describe(pointer: str, text: str) -> str:
    """A fault in one line, the pointer before the text, unless it is that of the whole document.

    What a terminal would not show as itself is escaped: keys and values come from whoever wrote the config.
    """
    line = f"{pointer}: {text}" if pointer else text
    if line.isprintable():
        return line
    return "".join([c if c.isprintable() else c.encode("unicode_escape").decode() for c in line])


def child(at: str, key: str | int) -> str:
    """The pointer of a member: "/linux", "sysctl" -> "/linux/sysctl", with ~ and / escaped (RFC 6901)."""
    return f"{at}/{str(key).replace('~', '~0').replace('/', '~1')}"


def fields(value: Any, at: str) -> Object:
    """`value` if it is an object."""
    if type(value) is not dict:
        _wrong(value, at, "an object")
    return value


def section(parent: Object, key: str, at: str) -> Object | None:
    """An object."""
    value = parent.get(key)
    if value is not None and type(value) is not dict:
        _wrong(value, child(at, key), "an object")
    return value


def optional_string(parent: Object, key: str, at: str) -> str | None:
    """A string. An empty one is an absent one: writers differ in whether they leave an unset string out."""
    value = parent.get(key)
    if value is None:
        return None
    return checked_string(value, child(at, key)) or None


def string(parent: Object, key: str, at: str) -> str:
    """A string that has to be there, and not to be empty."""
    value = parent.get(key)
    if value is None:
        raise fault(child(at, key), "is missing")
    text = checked_string(value, child(at, key))
    if not text:
        raise fault(child(at, key), "must not be empty")
    return text


def checked_string(value: Any, pointer: str) -> str:
    """`value` if it is a string that can be given to the kernel: no NUL and no half of a surrogate pair in it."""
    if type(value) is not str:
        _wrong(value, pointer, "a string")
    if "\0" in value:
        raise fault(pointer, "must not contain a NUL byte")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise fault(pointer, "must be valid Unicode") from None
    return str(value)


def choice(parent: Object, key: str, at: str, choices: Collection[str], wrong: str = "") -> str:
    """One of some strings. wrong: start of the text if it is another one, '"X"' follows, or none at all."""
    if wrong and parent.get(key) is None:
        raise fault(child(at, key), f"{wrong.rstrip(':')}: it is missing")
    value = string(parent, key, at)
    if value not in choices:
        raise fault(child(at, key), f'{wrong} "{value}"' if wrong else f'"{value}" is not one of {", ".join(choices)}')
    return value


def strings(parent: Object, key: str, at: str) -> tuple[str, ...] | None:
    """An array of strings."""
    value = parent.get(key)
    if value is None:
        return None
    if type(value) is not list:
        _wrong(value, child(at, key), "an array")
    try:
        joined = "".join(value)
    except TypeError:
        joined = "\0"
    if "\0" in joined or not joined.isascii():
        pointer = child(at, key)
        for index, element in enumerate(value):
            checked_string(element, child(pointer, index))
    return tuple(value)


def paths(parent: Object, key: str, at: str) -> tuple[str, ...] | None:
    """An array of absolute paths."""
    values = strings(parent, key, at)
    for index, value in enumerate(values or ()):
        if not value.startswith("/"):
            raise fault(child(child(at, key), index), "must be an absolute path")
    return values


def string_map(parent: Object, key: str, at: str) -> dict[str, str]:
    """An object whose values are strings; {} if absent. No key may be empty."""
    value = section(parent, key, at)
    pointer = child(at, key)
    for name, text in (value or {}).items():
        check_key(name, pointer)
        checked_string(text, child(pointer, name))
    return value or {}


def check_key(name: str, at: str) -> None:
    """Raises SpecError if this cannot be a key of the map at `at`."""
    if not name:
        raise fault(at, "a key must not be empty")
    checked_string(name, at)


def optional_integer(parent: Object, key: str, at: str, low: int, high: int) -> int | None:
    """An integer in low..high. 1.0 and 1e3 are none, as in Go."""
    value = parent.get(key)
    if value is None:
        return None
    return checked_integer(value, child(at, key), low, high)


def integer(parent: Object, key: str, at: str, low: int, high: int) -> int:
    """An integer in low..high that has to be there."""
    value = parent.get(key)
    if value is None:
        raise fault(child(at, key), "is missing")
    return checked_integer(value, child(at, key), low, high)


def checked_integer(value: Any, pointer: str, low: int, high: int) -> int:
    """`value` if it is an integer in low..high."""
    if type(value) is not int:
        _wrong(value, pointer, "an integer")
    if not low <= value <= high:
        raise fault(pointer, f"must be from {low} to {high}")
    return int(value)


def integers(parent: Object, key: str, at: str, low: int, high: int) -> tuple[int, ...] | None:
    """An array of integers in low..high."""
    return records(parent, key, at, lambda value, pointer: checked_integer(value, pointer, low, high))


def optional_boolean(parent: Object, key: str, at: str) -> bool | None:
    """true or false."""
    value = parent.get(key)
    if value is not None and type(value) is not bool:
        _wrong(value, child(at, key), "true or false")
    return value


def boolean(parent: Object, key: str, at: str) -> bool:
    """true or false; False if absent."""
    return optional_boolean(parent, key, at) or False


def records(parent: Object, key: str, at: str, parse: Callable[[Any, str], T]) -> tuple[T, ...] | None:
    """An array, each element of which goes through `parse` with its pointer."""
    value = parent.get(key)
    if value is None:
        return None
    pointer = child(at, key)
    if type(value) is not list:
        _wrong(value, pointer, "an array")
    return tuple([parse(element, f"{pointer}/{index}") for index, element in enumerate(value)])


def record_map(parent: Object, key: str, at: str, parse: Callable[[Any, str], T]) -> dict[str, T]:
    """An object, each value of which goes through `parse` with its pointer; {} if absent. No key may be empty."""
    value = section(parent, key, at)
    pointer = child(at, key)
    read: dict[str, T] = {}
    for name, element in (value or {}).items():
        check_key(name, pointer)
        read[name] = parse(element, child(pointer, name))
    return read


def _wrong(value: Any, pointer: str, expected: str) -> NoReturn:
    if value is None or type(value) is bool:
        kind = {None: "null", True: "true", False: "false"}[value]
    elif type(value) is float and expected == "an integer":
        kind = "a fraction"
    else:
        kinds = {dict: "an object", list: "an array", str: "a string", int: "a number", float: "a number"}
        kind = kinds.get(type(value), type(value).__name__)
    raise fault(pointer, f"must be {expected}, not {kind}")


def _scanner(repeated: list[_Repeated]) -> Callable[[str, int], tuple[Any, int]]:
    """CPython's own scanner, straight from C: the json package costs 8 ms, because it imports re."""
    options = _ScannerOptions(repeated)
    try:
        from _json import make_scanner
    except ImportError:
        from json import JSONDecoder

        return JSONDecoder(
            object_pairs_hook=options.object_pairs_hook,
            parse_float=options.parse_float,
            parse_constant=options.parse_constant,
        ).raw_decode
    scan: Callable[[str, int], tuple[Any, int]] = make_scanner(options)  # type: ignore[arg-type]
    return scan


class _Repeated(dict):  # type: ignore[type-arg]
    """An object of the document with a key that is there twice."""

    key = ""


class _ScannerOptions:
    """What the scanner asks for, by these names. repeated: collects the objects with a repeated key."""

    strict = True
    object_hook = None
    parse_int = int

    def __init__(self, repeated: list[_Repeated]) -> None:
        def make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            made = dict(pairs)
            if len(made) == len(pairs):
                return made
            marked = _Repeated(made)
            keys = [key for key, _ in pairs]
            marked.key = next(key for key in keys if keys.count(key) > 1)
            repeated.append(marked)
            return marked

        self.object_pairs_hook = make_object

    @staticmethod
    def parse_float(text: str) -> float:
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise ValueError(f"the number {text[:40]} is too large")
        return value

    @staticmethod
    def parse_constant(text: str) -> NoReturn:
        raise ValueError(f"{text} is not JSON")


def _syntax(what: str, before: str, text: str) -> SpecError:
    """The error for a place, given all that stands before it."""
    line = before.count("\n") + 1
    column = len(before) - before.rfind("\n")
    return SpecError(f"{what} is not valid JSON: line {line}, column {column}: {text}")


def _too_deep(what: str) -> SpecError:
    return SpecError(f"{what} is nested too deeply: at most {MAX_DEPTH} arrays and objects are read")


def _deeper_than(depth: int, document: Any) -> bool:
    level = [document]
    for _ in range(depth + 1):
        containers = [value for value in level if isinstance(value, (dict, list))]
        level = []
        for container in containers:
            level += container.values() if isinstance(container, dict) else container
        if not containers:
            return False
    return True


def _pointer_of(wanted: Any, value: Any, at: str) -> str:
    """Where in `value` the container `wanted` lies; "" if it is nowhere, as a key repeated in an overwritten object."""
    if value is not wanted and isinstance(value, (dict, list)):
        for key, member in value.items() if isinstance(value, dict) else enumerate(value):
            pointer = child(at, key) if member is wanted else _pointer_of(wanted, member, child(at, key))
            if pointer:
                return pointer
    return ""
