"""A Landlock ruleset, which the runtime specification has no section for: it is the JSON text of an annotation.

    {
      "handledAccessFS": ["execute", "write_file"],  "handledAccessNet": ["bind_tcp"],  "scoped": ["signal"],
      "pathBeneath": [{"paths": ["/usr", "/bin"], "allowedAccess": ["execute"], "optional": true}],
      "netPort": [{"ports": [8080], "allowedAccess": ["bind_tcp"]}],
      "bestEffort": false
    }

What is handled is denied, but for what a rule allows.
"""

from __future__ import annotations

from pyocirun.errors import SpecError
from pyocirun.linux.landlock import FILES, PORTS, SCOPES
from pyocirun.record import Record
from pyocirun.spec import reader
from pyocirun.spec.reader import child, fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any, TypeVar

    T = TypeVar("T")

AT = "/annotations/org.pyocirun.landlock"
LAST_PORT = 65535


class PathRule(Record):
    """What may be done beneath these paths of the container. optional: one that is not there is passed over."""

    paths: tuple[str, ...]
    access: tuple[str, ...]
    optional: bool = False


class PortRule(Record):
    """What may be done with these TCP ports. 0: for bind_tcp, those that the kernel chooses from."""

    ports: tuple[int, ...]
    access: tuple[str, ...]


class Landlock(Record):
    """A ruleset. files, ports, scopes: what is denied, keys of the tables in linux.landlock.

    best_effort: what the kernel does not know is left out, else it is an error.
    """

    files: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    path_rules: tuple[PathRule, ...] = ()
    port_rules: tuple[PortRule, ...] = ()
    best_effort: bool = False


def parse_landlock(text: str) -> Landlock:
    """The ruleset in the annotation's text. Raises SpecError, with the annotation's pointer, for the first fault."""
    try:
        return _ruleset(reader.load_json(text.encode("utf-8", "surrogateescape"), "the ruleset"))
    except SpecError as error:
        raise fault(AT, error.message) from None


def _ruleset(document: Any) -> Landlock:
    known = ("handledAccessFS", "handledAccessNet", "scoped", "pathBeneath", "netPort", "bestEffort")
    fields = _fields(document, "", known)
    ruleset = Landlock(
        _names(fields, "handledAccessFS", "", FILES),
        _names(fields, "handledAccessNet", "", PORTS),
        _names(fields, "scoped", "", SCOPES),
        reader.records(fields, "pathBeneath", "", _path_rule) or (),
        reader.records(fields, "netPort", "", _port_rule) or (),
        reader.boolean(fields, "bestEffort", ""),
    )
    if not (ruleset.files or ruleset.ports or ruleset.scopes):
        raise fault(
            "", "it restricts nothing: one of handledAccessFS, handledAccessNet and scoped has to name something"
        )
    _refuse_unhandled("pathBeneath", [rule.access for rule in ruleset.path_rules], "handledAccessFS", ruleset.files)
    _refuse_unhandled("netPort", [rule.access for rule in ruleset.port_rules], "handledAccessNet", ruleset.ports)
    return ruleset


def _path_rule(value: Any, at: str) -> PathRule:
    fields = _fields(value, at, ("paths", "allowedAccess", "optional"))
    return PathRule(
        _required(reader.paths(fields, "paths", at), child(at, "paths")),
        _required(_names(fields, "allowedAccess", at, FILES), child(at, "allowedAccess")),
        reader.boolean(fields, "optional", at),
    )


def _port_rule(value: Any, at: str) -> PortRule:
    fields = _fields(value, at, ("ports", "allowedAccess"))
    return PortRule(
        _required(reader.integers(fields, "ports", at, 0, LAST_PORT), child(at, "ports")),
        _required(_names(fields, "allowedAccess", at, PORTS), child(at, "allowedAccess")),
    )


def _fields(value: Any, at: str, known: tuple[str, ...]) -> dict[str, Any]:
    """An object with these members: a misspelt one would leave something allowed that was meant to be denied."""
    fields = reader.fields(value, at)
    for name in fields:
        if name not in known:
            raise fault(child(at, name), f"is not one of {', '.join(known)}")
    return fields


def _names(fields: dict[str, Any], key: str, at: str, known: Collection[str]) -> tuple[str, ...]:
    names = reader.strings(fields, key, at) or ()
    for index, name in enumerate(names):
        if name not in known:
            raise fault(child(child(at, key), index), f'"{name}" is not one of {", ".join(known)}')
    return names


def _required(values: tuple[T, ...] | None, pointer: str) -> tuple[T, ...]:
    if not values:
        raise fault(pointer, "must name at least one")
    return values


def _refuse_unhandled(rules: str, lists: list[tuple[str, ...]], field: str, handled: tuple[str, ...]) -> None:
    for index, names in enumerate(lists):
        for name in names:
            if name not in handled:
                raise fault(
                    f"/{rules}/{index}/allowedAccess", f'"{name}" is not in {field}, so it is not denied anyway'
                )
