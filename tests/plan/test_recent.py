"""Plans that are made from the last one of their kind."""

from __future__ import annotations

import pytest

from pyocirun.plan import recent
from pyocirun.plan.build import build
from pyocirun.plan.encode import encode
from pyocirun.plan.ops import Hostname
from pyocirun.plan.request import Request
from pyocirun.record import replace
from pyocirun.spec.config import Spec
from tests.support import HOST_V1_ROOT, minimal_spec


@pytest.fixture(autouse=True)
def _none_yet() -> None:
    recent._templates.clear()


def request(id: str) -> Request:
    paths = (("devices", f"/sys/fs/cgroup/devices/{id}"), ("memory", f"/sys/fs/cgroup/memory/{id}"))
    return Request(id, f"/bundles/{id}", "/rootfs", paths)


@pytest.mark.parametrize(
    "ids", [["container-a", "container-b", "container-c"], ["aa", "bb", "a-longer-one"], ["a", "b", "c"]]
)
def test_plan_and_bytes_are_those_of_a_plan_made_anew(ids: list[str]) -> None:
    spec = minimal_spec()

    made = [recent.plan_and_bytes(spec, HOST_V1_ROOT, request(id)) for id in ids]

    for id, (plan, encoded) in zip(ids, made, strict=True):
        assert plan == build(spec, HOST_V1_ROOT, request(id))
        assert encoded == encode(plan)


def test_third_container_of_a_kind_is_made_from_the_first() -> None:
    spec = minimal_spec()

    plans = [recent.plan_and_bytes(spec, HOST_V1_ROOT, request(f"container-{letter}"))[0] for letter in "abc"]

    assert recent._templates[0].is_proven
    assert plans[2].ops[-1] is plans[0].ops[-1]


def test_id_that_also_stands_elsewhere_is_left_there() -> None:
    spec = named("container-a")

    plans = [recent.plan_and_bytes(spec, HOST_V1_ROOT, request(f"container-{letter}"))[0] for letter in "abc"]

    assert all(Hostname("container-a") in plan.ops for plan in plans)


def test_another_configuration_host_or_request_has_a_plan_of_its_own() -> None:
    spec = minimal_spec()
    for letter in "ab":
        recent.plan_and_bytes(spec, HOST_V1_ROOT, request(f"container-{letter}"))
    third = request("container-c")

    for wanted in (
        (named("another"), HOST_V1_ROOT, third),
        (spec, replace(HOST_V1_ROOT, last_cap=20), third),
        (spec, HOST_V1_ROOT, replace(third, rootfs="/another")),
        (spec, HOST_V1_ROOT, replace(third, no_new_keyring=True)),
    ):
        assert recent.plan_and_bytes(*wanted)[0] == build(*wanted)


def named(hostname: str) -> Spec:
    return replace(minimal_spec(), hostname=hostname)
