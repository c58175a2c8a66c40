"""Every fault of a document at once, by a JSON schema: for the failure path, since jsonschema takes 80 ms to import.

The schema holds what config.md and config-linux.md say of types, ranges and words. What one section asks of another is
only known to the reader in this package.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from pyocirun.spec.reader import child


def all_faults(document: Any, definition: str = "") -> list[tuple[str, str]]:
    """Every fault of the document, as (JSON pointer, text), in the order of the document's pointers.

    definition: "" for a whole config.json, or a name under "$defs" of the schema, "process" or "resources".
    """
    errors = _validator(definition).iter_errors(document)
    return sorted({_pointer(error): _text(error) for error in errors}.items())


@cache
def _validator(definition: str) -> Any:
    path = os.path.join(os.path.dirname(__file__), "schema", "config.json")
    with open(path, encoding="utf-8") as file:
        schema = json.load(file)
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
