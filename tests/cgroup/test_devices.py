"""What device rules come to, and the way there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyocirun.cgroup.devices import EVERYTHING, Policy, allows, parse_list, policy, transition
from pyocirun.errors import SpecError
from pyocirun.spec.resources import DeviceRule

DENY_ALL = DeviceRule(False, access="rwm")
ALLOW_ALL = DeviceRule(True, access="rwm")
SDA = ("b", 8, 0)
FUSE = ("c", 10, 229)


def test_without_rules_only_the_fixed_list_is_allowed() -> None:
    allowed = policy(())

    assert not allows(allowed, SDA, "r")
    assert allows(allowed, ("c", 1, 3), "rw")
    assert allows(allowed, ("c", 136, 7), "rwm")


def test_letters_that_mean_nothing_are_passed_over() -> None:
    allowed = policy((DENY_ALL, DeviceRule(True, *SDA, "rxa")))

    assert allows(allowed, SDA, "r")
    assert not allows(allowed, SDA, "w")


def test_any_node_can_be_made() -> None:
    allowed = policy((DENY_ALL,))

    assert allows(allowed, SDA, "m")
    assert allows(allowed, FUSE, "m")


@pytest.mark.parametrize(
    "device", [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, 0), (136, 99), (10, 200)]
)
def test_fixed_list_cannot_be_turned_off(device: tuple[int, int]) -> None:
    rules = (DENY_ALL, DeviceRule(False, "c", *device, "rwm"))

    assert allows(policy(rules), ("c", *device), "rwm")


def test_hosts_console_is_not_on_the_fixed_list() -> None:
    assert not allows(policy(()), ("c", 5, 1), "r")


def test_rules_apply_in_order() -> None:
    allowed = policy((DENY_ALL, DeviceRule(True, "b", 8, 0, "rw"), DeviceRule(False, "b", 8, 0, "w")))

    assert allows(allowed, SDA, "r")
    assert not allows(allowed, SDA, "w")


def test_rule_for_everything_wipes_what_came_before() -> None:
    allowed = policy((DeviceRule(True, "b", 8, 0, "rw"), DENY_ALL))

    assert not allows(allowed, SDA, "r")


def test_everything_allowed_allows_everything() -> None:
    assert policy((DENY_ALL, ALLOW_ALL)) == EVERYTHING


def test_exceptions_from_everything_are_denied() -> None:
    allowed = policy((ALLOW_ALL, DeviceRule(False, "b", 8, None, "rwm")))

    assert not allows(allowed, SDA, "r")
    assert allows(allowed, FUSE, "rw")


def test_any_type_with_a_number_is_both_types_and_not_everything() -> None:
    allowed = policy((DeviceRule(True, "a", 8, 0, "rw"),))

    assert allows(allowed, SDA, "rw")
    assert allows(allowed, ("c", 8, 0), "rw")
    assert not allows(allowed, FUSE, "r")


def test_any_type_with_less_access_is_not_everything() -> None:
    allowed = policy((DeviceRule(True, "a", None, None, "r"),))

    assert allows(allowed, SDA, "r")
    assert not allows(allowed, SDA, "w")


def test_wide_rule_takes_back_the_narrow_ones_within() -> None:
    allowed = policy((DeviceRule(True, "b", 8, 0, "rw"), DeviceRule(False, "b", None, None, "rw")))

    assert not allows(allowed, SDA, "r")


@pytest.mark.parametrize(
    "rules",
    [
        (DeviceRule(True, "b", 8, None, "rw"), DeviceRule(False, "b", 8, 0, "w")),
        (DeviceRule(True, "b", None, 0, "rw"), DeviceRule(False, "b", 8, None, "r")),
        (ALLOW_ALL, DeviceRule(False, "b", None, None, "rw"), DeviceRule(True, "b", 8, 0, "r")),
    ],
)
def test_hole_in_a_wildcard_is_refused(rules: tuple[DeviceRule, ...]) -> None:
    with pytest.raises(SpecError) as caught:
        policy(rules)

    assert caught.value.pointer == f"/linux/resources/devices/{len(rules) - 1}"


def test_hole_without_common_access_is_fine() -> None:
    allowed = policy((DeviceRule(True, "b", 8, None, "r"), DeviceRule(False, "b", 8, 0, "w")))

    assert allows(allowed, SDA, "r")


@pytest.mark.parametrize(
    ("rule", "member"),
    [
        (DeviceRule(True, "c", 1, 3, ""), "access"),
        (DeviceRule(True, "c", 1, 3, "xa"), "access"),
        (DeviceRule(True, "p", 1, 3, "r"), "type"),
        (DeviceRule(True, "c", -2, 3, "r"), "major"),
        (DeviceRule(True, "c", 1, 1 << 32, "r"), "minor"),
    ],
)
def test_senseless_rule_is_refused_by_its_pointer(rule: DeviceRule, member: str) -> None:
    with pytest.raises(SpecError) as caught:
        policy((DENY_ALL, rule))

    assert caught.value.pointer == f"/linux/resources/devices/1/{member}"


def test_minus_one_is_any_number() -> None:
    assert policy((DeviceRule(True, "c", -1, -1, "r"),)) == policy((DeviceRule(True, "c", None, None, "r"),))


def test_new_cgroup_is_denied_everything_first() -> None:
    steps = transition(EVERYTHING, policy((DENY_ALL, DeviceRule(True, "b", 8, 0, "mr"))))

    assert steps[0] == ("devices.deny", "a")
    assert steps[1] == ("devices.allow", "b 8:0 rm")
    assert ("devices.allow", "c 136:* rwm") in steps
    assert {file for file, _ in steps[1:]} == {"devices.allow"}


def test_new_cgroup_that_may_everything_needs_no_write() -> None:
    assert transition(EVERYTHING, policy((ALLOW_ALL,))) == []


def test_new_cgroup_with_exceptions_is_denied_only_those() -> None:
    steps = transition(EVERYTHING, policy((ALLOW_ALL, DeviceRule(False, "b", 8, 0, "w"))))

    assert steps == [("devices.deny", "b 8:0 w")]


def test_update_writes_only_what_changes_and_allows_first() -> None:
    old = Policy(False, ((SDA, "rw"), (FUSE, "rw")))
    new = Policy(False, ((SDA, "r"), (("b", 8, 16), "r"), (FUSE, "rw")))

    assert transition(old, new) == [("devices.allow", "b 8:16 r"), ("devices.deny", "b 8:0 w")]


def test_unknown_old_policy_is_reset() -> None:
    assert transition(None, Policy(True, ((SDA, "w"),))) == [("devices.allow", "a"), ("devices.deny", "b 8:0 w")]


def test_list_is_read_back() -> None:
    text = "b *:* m\nc 1:3 rwm\nc 136:* rw\n"

    assert parse_list(text) == Policy(False, ((("b", None, None), "m"), (("c", 1, 3), "rwm"), (("c", 136, None), "rw")))


def test_list_of_a_cgroup_that_allows_by_default_tells_nothing() -> None:
    assert parse_list("a *:* rwm\n") is None


NUMBERS = st.sampled_from([None, 1, 2])
RULES = st.lists(
    st.builds(
        DeviceRule,
        st.booleans(),
        st.sampled_from(["a", "b", "c"]),
        NUMBERS,
        NUMBERS,
        st.sampled_from(["r", "w", "rw", "rwm", "m"]),
    ),
    max_size=6,
)


def last_word(rules: list[DeviceRule], device: tuple[str, int, int], letter: str) -> bool:
    """The plain meaning of the list: the last rule that speaks of it decides."""
    verdict = letter == "m"
    if letter != "m":
        for rule in rules:
            if (
                rule.type in ("a", device[0])
                and rule.major in (None, device[1])
                and rule.minor in (None, device[2])
                and letter in rule.access
            ):
                verdict = rule.allow
    return verdict


@given(RULES, st.sampled_from("bc"), st.sampled_from([1, 2]), st.sampled_from([1, 2]), st.sampled_from("rwm"))
def test_policy_means_what_the_rules_say(rules: list[DeviceRule], type: str, major: int, minor: int, kind: str) -> None:
    try:
        result = policy(rules)
    except SpecError as error:
        assert error.pointer.startswith("/linux/resources/devices")
        return

    assert allows(result, (type, major, minor), kind) == last_word(rules, (type, major, minor), kind)


@given(RULES, RULES)
def test_transition_arrives(before: list[DeviceRule], after: list[DeviceRule]) -> None:
    try:
        old, new = policy(before), policy(after)
    except SpecError:
        return

    arrived = _kernel(old, transition(old, new))

    assert (arrived.allowed, dict(arrived.exceptions)) == (new.allowed, dict(new.exceptions))


def _kernel(state: Policy, steps: list[tuple[str, str]]) -> Policy:
    """What security/device_cgroup.c makes of the writes: exceptions are matched by equal numbers only."""
    allowed, exceptions = state.allowed, dict(state.exceptions)
    for file, value in steps:
        allow = file == "devices.allow"
        if value == "a":
            allowed, exceptions = allow, {}
            continue
        type, numbers, access = value.split()
        major, minor = [None if number == "*" else int(number) for number in numbers.split(":")]
        kept = set(exceptions.pop((type, major, minor), ""))
        kept = kept - set(access) if allow == allowed else kept | set(access)
        if kept:
            exceptions[(type, major, minor)] = "".join(c for c in "rwm" if c in kept)
    return Policy(allowed, tuple(exceptions.items()))
