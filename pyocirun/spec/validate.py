"""Every fault of a document at once: for the failure path and `validate`, since jsonschema takes 80 ms to import.

The schema holds what config.md and config-linux.md say of types, ranges and words. What one section asks of another is
only known to the reader in this package, which stops at the first fault it meets: `faults_of` makes it go on.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from pyocirun.errors import SpecError
from pyocirun.spec.config import FOREIGN_PLATFORMS
from pyocirun.spec.reader import child, describe

MOST_FAULTS = 500
"""Faults of one document that are looked for: a list of 10,000 wrong entries need not be told to its end."""

OTHER_PLATFORMS = frozenset(
    ("/process/commandLine", "/process/user/username", *(f"/{name}" for name in FOREIGN_PLATFORMS))
)
"""What the specification has for systems other than Linux."""

_PLACEHOLDERS: dict[str, Any] = {
    "ociVersion": "1.0.0",
    "root": {"path": "rootfs"},
    "cwd": "/",
    "args": ["true"],
    "path": "/placeholder",
    "destination": "/placeholder",
}
"""What stands in for a required property, so that the rest of its object can be read."""


def all_faults(document: Any, definition: str = "") -> list[tuple[str, str]]:
    """Every fault of the document, as (JSON pointer, text), in the order of the document's pointers.

    definition: "" for a whole config.json, or a name under "$defs" of the schema, "process" or "resources".
    """
    errors = _validator(definition).iter_errors(document)
    return sorted({_pointer(error): _text(error) for error in errors}.items())


def unknown_properties(document: Any) -> list[tuple[str, str]]:
    """The properties that the specification does not have, as (JSON pointer, text), in the document's order.

    Readers have to ignore them (spec.md#extensibility), so they are no faults; most are typing errors all the same.
    """
    schema = _schema()
    return [
        (pointer, "is for another platform" if pointer in OTHER_PLATFORMS else "is no property of the specification")
        for pointer in _unknown(document, schema, schema, "")
    ]


def faults_of(document: Any, *checks: Callable[[Any], object]) -> list[tuple[str, str]]:
    """Every fault for which a check raises a SpecError, as (JSON pointer, text), in the order in which they were found.

    A part of the document that is found at fault is taken out of a copy, and the rest is checked again; the next check
    gets what the one before has left.
    """
    rest = _Remainder(document)
    faults: list[tuple[str, str]] = []
    for check in checks:
        while len(faults) < MOST_FAULTS:
            try:
                check(rest.document)
                break
            except SpecError as error:
                pointer = rest.original(error.pointer)
                if pointer not in rest.gone:
                    faults.append((pointer, _without_pointer(error)))
                if not rest.take_out(error.pointer):
                    return faults
    return faults


class _Remainder:
    """A document from which parts are taken out.

    gone: pointers of what was taken out, in the original document, whose lists had all their elements.
    """

    def __init__(self, document: Any) -> None:
        self.document = copy.deepcopy(document)
        self.gone: set[str] = set()
        self._indexes: dict[str, list[int]] = {}

    def original(self, pointer: str) -> str:
        """The pointer that this pointer into the remainder was before anything was taken out."""
        original = ""
        for part in pointer.split("/")[1:]:
            indexes = self._indexes.get(original)
            original += "/" + (str(indexes[int(part)]) if indexes and part.isdigit() else part)
        return original

    def take_out(self, pointer: str) -> bool:
        """Take out what the pointer leads to, or if it is not there, what lacks it. False if nothing can be done."""
        parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
        if not parts:
            return False
        holders = self._holders(parts)
        if len(holders) < len(parts) or not _has(holders[-1], parts[-1]):
            self.gone.add(self.original(pointer))
            if len(holders) == len(parts) and isinstance(holders[-1], dict) and parts[-1] in _PLACEHOLDERS:
                holders[-1][parts[-1]] = copy.deepcopy(_PLACEHOLDERS[parts[-1]])
                return True
            return len(parts) > 1 and self.take_out(pointer.rpartition("/")[0])
        self.gone.add(self.original(pointer))
        holder, last = holders[-1], parts[-1]
        if isinstance(holder, list):
            at = self.original(pointer.rpartition("/")[0])
            del self._indexes.setdefault(at, list(range(len(holder))))[int(last)]
            del holder[int(last)]
        else:
            del holder[last]
        return True

    def _holders(self, parts: list[str]) -> list[Any]:
        """The object or list that each part of a pointer is looked up in, as far as there is one."""
        holders: list[Any] = []
        value = self.document
        for part in parts:
            if not isinstance(value, (dict, list)):
                break
            holders.append(value)
            if not _has(value, part):
                break
            value = value[int(part)] if isinstance(value, list) else value[part]
        return holders


def _has(holder: Any, part: str) -> bool:
    if isinstance(holder, list):
        return part.isdigit() and int(part) < len(holder)
    return holder.get(part) is not None


def _without_pointer(error: SpecError) -> str:
    """The text of an error, whose message names its pointer first."""
    text = error.faults[0][1] if error.faults else error.message
    return text.removeprefix(f"{error.pointer}: ").removeprefix(describe(error.pointer, ""))


def _unknown(value: Any, schema: Any, whole: Any, at: str) -> Iterator[str]:
    while "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].rpartition("/")[2]]
    if isinstance(value, list):
        for index, element in enumerate(value):
            yield from _unknown(element, schema.get("items", {}), whole, child(at, index))
    elif isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        for name, member in value.items():
            if name in known:
                yield from _unknown(member, known[name], whole, child(at, name))
            elif isinstance(others, dict):
                yield from _unknown(member, others, whole, child(at, name))
            elif known:
                yield child(at, name)


@cache
def _schema() -> Any:
    path = os.path.join(os.path.dirname(__file__), "schema", "config.json")
    with open(path, encoding="utf-8") as file:
        return json.load(file)


@cache
def _validator(definition: str) -> Any:
    schema = _schema()
    if definition:
        schema = {"$defs": schema["$defs"], "$ref": f"#/$defs/{definition}"}
    return _Validator(schema)


def _is_integer(_checker: object, value: object) -> bool:
    """As Go has it: 1.0 is no integer, true is none either."""
    return type(value) is int


def _properties(
    validator: Any, properties: dict[str, Any], value: object, _schema: object
) -> Iterator[ValidationError]:
    """The keyword `properties`, to which a null is an absent property."""
    if isinstance(value, dict):
        for name, schema in properties.items():
            if value.get(name) is not None:
                yield from validator.descend(value[name], schema, path=name, schema_path=name)


def _required(_validator: Any, required: list[str], value: object, _schema: object) -> Iterator[ValidationError]:
    """The keyword `required`, to which a null is an absent property."""
    if isinstance(value, dict):
        for name in required:
            if value.get(name) is None:
                yield ValidationError("is missing", path=[name])


def _pattern(_validator: Any, pattern: str, value: object, _schema: object) -> Iterator[ValidationError]:
    """The keyword `pattern`, with ECMAScript's $: unlike Python's it does not match before a last newline."""
    if isinstance(value, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), value):
        yield ValidationError("pattern")


_Validator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {"properties": _properties, "required": _required, "pattern": _pattern},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer),
)


def _pointer(error: ValidationError) -> str:
    pointer = ""
    for part in error.absolute_path:
        pointer = child(pointer, part)
    return pointer


def _text(error: ValidationError) -> str:
    """The fault in a few words: a schema's own text shows the whole value, which may be long."""
    rule: Any = error.validator_value
    schema: Any = error.schema
    shown = json.dumps(error.instance)[:60]
    texts = {
        "type": f"must be of type {rule}, not {shown}",
        "enum": f"{shown} is not one of {', '.join(map(str, rule)) if isinstance(rule, list) else rule}",
        "minimum": f"{shown} is less than {rule}",
        "maximum": f"{shown} is more than {rule}",
        "minLength": "must not be empty",
        "minItems": "must not be empty",
        "pattern": f"{shown} is not {schema.get('description', rule)}",
    }
    text = texts.get(str(error.validator), error.message[:200])
    return f"the key {text}" if "propertyNames" in error.absolute_schema_path else text
