"""The annotation's text -> a ruleset."""

from __future__ import annotations

import json

import pytest

from pyocirun.errors import SpecError
from pyocirun.spec.landlock import AT, Landlock, PathRule, PortRule, parse_landlock

WHOLE = {
    "handledAccessFS": ["execute", "write_file"],
    "handledAccessNet": ["bind_tcp"],
    "scoped": ["signal"],
    "pathBeneath": [{"paths": ["/usr", "/bin"], "allowedAccess": ["execute"], "optional": True}],
    "netPort": [{"ports": [0, 8080], "allowedAccess": ["bind_tcp"]}],
    "bestEffort": True,
}
RULE = {"paths": ["/usr"], "allowedAccess": ["execute"]}


def test_every_member_has_its_place() -> None:
    assert parse_landlock(json.dumps(WHOLE)) == Landlock(
        ("execute", "write_file"),
        ("bind_tcp",),
        ("signal",),
        (PathRule(("/usr", "/bin"), ("execute",), True),),
        (PortRule((0, 8080), ("bind_tcp",)),),
        True,
    )


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({}, "it restricts nothing"),
        ([], "must be an object"),
        ({"handledAccessFs": ["execute"]}, "/handledAccessFs: is not one of"),
        ({"handledAccessFS": ["run"]}, '/handledAccessFS/0: "run" is not one of execute'),
        ({"handledAccessFS": "execute"}, "/handledAccessFS: must be an array"),
        ({"scoped": ["signal"], "bestEffort": 1}, "/bestEffort: must be true or false"),
        ({"scoped": ["signal"], "pathBeneath": [RULE]}, '"execute" is not in handledAccessFS'),
        ({"handledAccessFS": ["execute"], "pathBeneath": [RULE | {"paths": ["usr"]}]}, "must be an absolute path"),
        ({"handledAccessFS": ["execute"], "pathBeneath": [RULE | {"paths": []}]}, "/pathBeneath/0/paths: must name"),
        ({"handledAccessFS": ["execute"], "pathBeneath": [{"paths": ["/"]}]}, "/allowedAccess: must name at least one"),
        ({"handledAccessFS": ["execute"], "pathBeneath": [RULE | {"optionl": True}]}, "optionl: is not one of"),
        ({"handledAccessNet": ["bind_tcp"], "netPort": [{"ports": [65536], "allowedAccess": ["bind_tcp"]}]}, "65535"),
        ({"handledAccessNet": ["bind_tcp"], "netPort": [{"ports": [1], "allowedAccess": ["listen"]}]}, '"listen"'),
    ],
)
def test_fault_has_the_annotations_pointer_and_its_place_in_the_text(document: object, text: str) -> None:
    with pytest.raises(SpecError, match="landlock") as caught:
        parse_landlock(json.dumps(document))

    assert caught.value.pointer == AT
    assert text in caught.value.message


@pytest.mark.parametrize("text", ["", "{", '{"scoped": ["signal"], "scoped": []}', "\udcff"])
def test_what_is_no_json_is_a_fault(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_landlock(text)

    assert caught.value.pointer == AT
