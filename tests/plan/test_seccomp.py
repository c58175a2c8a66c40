"""linux.seccomp: what libseccomp is asked for, and what the finished program decides."""

from __future__ import annotations

import importlib.util
import json
import platform
from collections.abc import Sequence
from typing import Any

import pytest

from pyocirun.errors import SpecError
from pyocirun.linux import seccomp as numbers
from pyocirun.plan import tenant
from pyocirun.plan.ops import ConnectAgent, Exec, LoadSeccomp, NoNewPrivs, SetAmbient, SetCapabilities, Sync
from pyocirun.plan.seccomp import Condition, Filter, Newest, make_filter, refuse_new
from pyocirun.record import replace
from pyocirun.spawn.seccomp import compile_program
from pyocirun.spec.linux import Linux
from pyocirun.spec.process import Capabilities
from pyocirun.spec.seccomp import ACTIONS, ARCHITECTURES, FLAGS, OPERATORS, parse_seccomp
from tests.bpf import ALLOW, ENOSYS, EPERM, ERRNO, I386, KILL_PROCESS, X32_BIT, X86_64, decide
from tests.support import GOLDEN, HOST_V1_ROOT, build, minimal_process, minimal_spec, only, where

ADMIN = 1 << 21
GETPID, GETCWD, MKDIR, PERSONALITY, MSEAL = 39, 79, 83, 135, 462
I386_GETPID, I386_MKDIR = 20, 39

on_x86_64 = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of system calls"),
    pytest.mark.skipif(importlib.util.find_spec("pyocirun._seccomp") is None, reason="built without libseccomp"),
]


def profile(*syscalls: dict[str, Any], default: str = "SCMP_ACT_ERRNO", **fields: Any) -> Any:
    return parse_seccomp({"defaultAction": default, "syscalls": list(syscalls), **fields})


def rule(*names: str, action: str = "SCMP_ACT_ALLOW", args: Sequence[tuple[Any, ...]] = (), **fields: Any) -> Any:
    keys = ("index", "op", "value", "valueTwo")
    return {"names": list(names), "action": action, "args": [dict(zip(keys, arg)) for arg in args], **fields}


# What is asked for


def test_every_name_of_the_specification_has_its_number() -> None:
    assert set(numbers.ACTIONS) == set(ACTIONS)
    assert set(numbers.OPERATORS) == set(OPERATORS)
    assert set(numbers.FLAGS) == set(FLAGS)


def test_an_errno_is_eperm_unless_the_rule_says_otherwise() -> None:
    asked = make_filter(profile(rule("a", action="SCMP_ACT_ERRNO", errnoRet=95), default="SCMP_ACT_ALLOW"))
    plain = make_filter(profile(rule("a", action="SCMP_ACT_TRACE"), default="SCMP_ACT_ALLOW"))

    assert asked.rules[0].answer == ERRNO | 95
    assert plain.rules[0].answer == numbers.TRACE | EPERM


def test_a_rule_that_says_what_the_default_does_adds_nothing() -> None:
    asked = make_filter(profile(rule("a", action="SCMP_ACT_ERRNO", errnoRet=1), rule("b")))

    assert [bool(one.alternatives) for one in asked.rules] == [False, True]


def test_conditions_on_different_arguments_all_have_to_hold() -> None:
    asked = make_filter(profile(rule("a", args=[(0, "SCMP_CMP_EQ", 1), (1, "SCMP_CMP_MASKED_EQ", 15, 3)])))

    assert asked.rules[0].alternatives == ((Condition(0, 4, 1), Condition(1, 7, 15, 3)),)


def test_conditions_on_one_argument_are_alternatives() -> None:
    asked = make_filter(profile(rule("a", args=[(0, "SCMP_CMP_EQ", 1), (0, "SCMP_CMP_GT", 5), (1, "SCMP_CMP_NE", 2)])))

    assert asked.rules[0].alternatives == ((Condition(0, 4, 1),), (Condition(0, 6, 5),), (Condition(1, 1, 2),))


def test_more_than_thirty_two_system_calls_make_a_tree() -> None:
    names = [f"call{number}" for number in range(33)]

    assert make_filter(profile(rule(*names))).tree
    assert not make_filter(profile(rule(*names[:32]))).tree


@pytest.mark.parametrize(
    ("flags", "bits"),
    [
        (None, numbers.SPEC_ALLOW),
        ([], 0),
        (["SECCOMP_FILTER_FLAG_TSYNC"], 0),
        (["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"], numbers.FLAG_LOG | numbers.SPEC_ALLOW),
        (["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], 0),
    ],
)
def test_no_flags_are_not_the_same_as_an_empty_list(flags: list[str] | None, bits: int) -> None:
    fields: dict[str, Any] = {} if flags is None else {"flags": flags}

    asked = make_filter(profile(**fields))

    assert asked.flags == bits


def test_an_agent_gets_a_listener() -> None:
    notify = rule("mkdir", action="SCMP_ACT_NOTIFY")
    seccomp = profile(notify, listenerPath="/a", flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])

    assert make_filter(seccomp, (5, 19)).flags == numbers.NEW_LISTENER | numbers.WAIT_KILLABLE_RECV


def test_a_flag_that_the_kernel_lacks_is_refused() -> None:
    seccomp = profile(flags=["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])

    with pytest.raises(SpecError, match=r"needs Linux 5\.19") as caught:
        make_filter(seccomp, (5, 18))

    assert caught.value.pointer == "/linux/seccomp/flags/1"


@pytest.mark.parametrize(
    ("default", "fields", "refused"),
    [
        ("SCMP_ACT_ERRNO", {}, True),
        ("SCMP_ACT_ERRNO", {"defaultErrnoRet": ENOSYS}, False),
        ("SCMP_ACT_KILL_PROCESS", {}, True),
        ("SCMP_ACT_ALLOW", {}, False),
        ("SCMP_ACT_LOG", {}, False),
        ("SCMP_ACT_TRACE", {}, False),
    ],
)
def test_new_calls_are_refused_where_the_default_refuses(default: str, fields: dict[str, Any], refused: bool) -> None:
    assert make_filter(profile(default=default, **fields)).refuses_new == refused


def test_a_filter_is_described_in_words() -> None:
    seccomp = profile(rule("a", "b"), rule("c"), architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"])

    text = make_filter(seccomp).describe()

    assert text == "default SCMP_ACT_ERRNO(1); 2 rules for 3 system calls; x86_64, x86; SPEC_ALLOW"


# Its place in the plan


def test_nothing_stands_between_the_filter_and_execve() -> None:
    plan = build(minimal_spec(seccomp=profile(rule("execve"))))

    assert [type(op) for op in plan.ops[-3:]] == [Sync, LoadSeccomp, Exec]
    assert plan.position("exec") == len(plan.ops) - 3


def test_exec_gets_the_same_filter_in_the_same_place() -> None:
    seccomp = profile(rule("execve"))

    plan = tenant.build(minimal_process(), "box", 0, linux=Linux(seccomp=seccomp))

    assert plan.ops[-2] == LoadSeccomp(make_filter(seccomp))
    assert plan.position("exec") == len(plan.ops) - 3


def test_the_agent_is_connected_to_before_the_gate() -> None:
    seccomp = profile(rule("mkdir", action="SCMP_ACT_NOTIFY"), listenerPath="/run/agent")

    plan = build(minimal_spec(seccomp=seccomp))

    assert where(plan, ConnectAgent) + 1 == plan.position("seccomp") < plan.position("created")


@pytest.mark.parametrize(("own", "used"), [("/run/agent", "/run/agent"), (None, "/run/receiver")])
def test_the_annotation_for_a_receiver_counts_where_there_is_no_listener_path(own: str | None, used: str) -> None:
    notify = rule("mkdir", action="SCMP_ACT_NOTIFY")
    document = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [notify], "listenerPath": own}

    seccomp = parse_seccomp(document, annotations={"run.oci.seccomp.receiver": "/run/receiver"})

    assert only(build(minimal_spec(seccomp=seccomp)), ConnectAgent).path == used


def test_a_receiver_has_an_absolute_path() -> None:
    with pytest.raises(SpecError, match="is not an absolute path") as caught:
        parse_seccomp({"defaultAction": "SCMP_ACT_ALLOW"}, annotations={"run.oci.seccomp.receiver": "a"})

    assert caught.value.pointer == "/annotations/run.oci.seccomp.receiver"


@pytest.mark.parametrize(("value", "refused"), [("1", True), ("", True), ("0", False)])
def test_an_annotation_refuses_names_that_libseccomp_does_not_know(value: str, refused: bool) -> None:
    document = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("no_such_call")]}

    seccomp = parse_seccomp(document, annotations={"run.oci.seccomp_fail_unknown_syscall": value})

    assert make_filter(seccomp).refuses_unknown is refused


def test_a_listener_path_without_a_notify_rule_connects_to_nobody() -> None:
    plan = build(minimal_spec(seccomp=profile(listenerPath="/run/agent")))

    assert plan.position("seccomp") == -1


def test_the_capability_to_load_it_is_kept_until_execve() -> None:
    sets = Capabilities(("CAP_KILL",), ("CAP_KILL",), ("CAP_KILL",), ("CAP_KILL",), ("CAP_KILL",))

    plan = build(minimal_spec(seccomp=profile(), process=minimal_process(capabilities=sets)))

    assert only(plan, SetCapabilities) == SetCapabilities(1 << 5, 1 << 5, 1 << 5, ADMIN)
    assert only(plan, SetCapabilities).fields({}) == (1 << 5 | ADMIN, 1 << 5 | ADMIN, 1 << 5)
    assert only(plan, SetAmbient).mask == 1 << 5


@pytest.mark.parametrize(("seccomp", "privileges"), [(True, True), (False, False)])
def test_no_capability_is_kept_where_it_is_not_needed(seccomp: bool, privileges: bool) -> None:
    process = minimal_process(capabilities=Capabilities(), no_new_privileges=privileges)

    plan = build(minimal_spec(seccomp=profile() if seccomp else None, process=process))

    assert only(plan, SetCapabilities).kept == 0
    assert any(type(op) is NoNewPrivs for op in plan.ops) == privileges


# ENOSYS before a program

REFUSE_ALL = (0x06 | (ERRNO | EPERM) << 32,)


def test_new_numbers_get_enosys_and_all_others_what_they_got() -> None:
    program = refuse_new(REFUSE_ALL, [Newest(X86_64, 300, X32_BIT), Newest(I386, 100, 1 << 31)])

    answers = [decide(program, number, arch=arch) for arch in (X86_64, I386) for number in (0, 100, 101, 300, 301)]

    old, new = ERRNO | EPERM, ERRNO | ENOSYS
    assert answers == [old, old, old, old, new, old, old, new, new, new]


def test_numbers_past_the_limit_are_left_to_the_program() -> None:
    program = refuse_new(REFUSE_ALL, [Newest(X86_64, 300, X32_BIT), Newest(X86_64, X32_BIT + 500, 2 * X32_BIT)])

    answers = [decide(program, X32_BIT + number) for number in (0, 500, 501, X32_BIT)]

    assert answers == [ERRNO | EPERM, ERRNO | EPERM, ERRNO | ENOSYS, ERRNO | EPERM]


def test_architectures_that_are_not_in_the_profile_are_left_to_the_program() -> None:
    program = refuse_new(REFUSE_ALL, [Newest(X86_64, 300, X32_BIT)])

    assert decide(program, 9999, arch=I386) == ERRNO | EPERM


def test_a_program_that_the_kernel_would_not_take_is_refused() -> None:
    with pytest.raises(SpecError, match="the filter takes 4102 instructions; the kernel takes at most 4096"):
        refuse_new(REFUSE_ALL * 4096, [Newest(X86_64, 300, X32_BIT)])


# What the whole program decides, compiled by libseccomp


def compiled(seccomp: Any, **changes: Any) -> tuple[int, ...]:
    return compile_program(replace(make_filter(seccomp), **changes), lambda message: None)


class TestCompiled:
    pytestmark = on_x86_64

    def test_what_the_rules_name_is_allowed_and_the_rest_gets_the_default(self) -> None:
        program = compiled(profile(rule("getpid", "mseal", "personality")))

        assert decide(program, GETPID) == ALLOW
        assert decide(program, GETCWD) == ERRNO | EPERM

    @pytest.mark.parametrize("action", [action for action in ACTIONS if action != "SCMP_ACT_ALLOW"])
    def test_every_action_is_answered(self, action: str) -> None:
        program = compiled(profile(rule("mkdir", action=action), default="SCMP_ACT_ALLOW", listenerPath="/a"))

        assert decide(program, MKDIR) == numbers.answer(action)
        assert decide(program, GETPID) == ALLOW

    @pytest.mark.parametrize(
        ("operator", "second", "holds"),
        [
            ("SCMP_CMP_NE", 0, [1, 2, 4, 1 << 40]),
            ("SCMP_CMP_LT", 0, [1, 2]),
            ("SCMP_CMP_LE", 0, [1, 2, 3]),
            ("SCMP_CMP_EQ", 0, [3]),
            ("SCMP_CMP_GE", 0, [3, 4, 1 << 40]),
            ("SCMP_CMP_GT", 0, [4, 1 << 40]),
            ("SCMP_CMP_MASKED_EQ", 2, [2]),
        ],
    )
    def test_every_operator_compares_all_64_bits(self, operator: str, second: int, holds: list[int]) -> None:
        program = compiled(profile(rule("personality", args=[(0, operator, 3, second)])))

        allowed = [value for value in (1, 2, 3, 4, 1 << 40) if decide(program, PERSONALITY, [value]) == ALLOW]

        assert allowed == holds

    def test_every_argument_can_be_compared(self) -> None:
        program = compiled(profile(rule("personality", args=[(index, "SCMP_CMP_EQ", index + 1) for index in range(6)])))

        assert decide(program, PERSONALITY, [1, 2, 3, 4, 5, 6]) == ALLOW
        assert decide(program, PERSONALITY, [1, 2, 3, 4, 5, 0]) == ERRNO | EPERM

    def test_two_values_of_one_argument_are_alternatives(self) -> None:
        program = compiled(profile(rule("personality", args=[(0, "SCMP_CMP_EQ", 0), (0, "SCMP_CMP_EQ", 8)])))

        assert [decide(program, PERSONALITY, [value]) == ALLOW for value in (0, 4, 8)] == [True, False, True]

    def test_names_that_libseccomp_does_not_know_are_passed_over_and_told(self) -> None:
        told: list[str] = []

        program = compile_program(make_filter(profile(rule("getpid", "no_such_call"))), told.append)

        assert decide(program, GETPID) == ALLOW
        assert len(told) == 1 and told[0].endswith("does not know: no_such_call")

    def test_rules_hold_for_every_architecture_by_its_own_numbers(self) -> None:
        program = compiled(profile(rule("mkdir"), architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]))

        assert decide(program, I386_MKDIR, arch=I386) == ALLOW
        assert decide(program, I386_GETPID, arch=I386) == ERRNO | EPERM
        assert decide(program, MKDIR) == ALLOW

    def test_an_architecture_that_is_not_listed_is_killed(self) -> None:
        program = compiled(profile(rule("mkdir")))

        assert decide(program, I386_MKDIR, arch=I386) == numbers.KILL_THREAD

    @pytest.mark.parametrize("name", ARCHITECTURES)
    def test_every_architecture_is_taken_or_refused_with_its_pointer(self, name: str) -> None:
        seccomp = profile(rule("mkdir"), architectures=["SCMP_ARCH_X86_64", name])

        try:
            program = compiled(seccomp)
        except SpecError as error:
            assert error.pointer == "/linux/seccomp/architectures/1"
        else:
            assert decide(program, MKDIR) == ALLOW

    def test_calls_newer_than_all_that_the_profile_names_get_enosys(self) -> None:
        program = compiled(profile(rule("personality")))

        assert decide(program, PERSONALITY - 1) == ERRNO | EPERM
        assert decide(program, PERSONALITY + 1) == ERRNO | ENOSYS
        assert decide(program, 9999) == ERRNO | ENOSYS

    def test_the_newest_call_may_stand_in_a_rule_that_adds_nothing(self) -> None:
        program = compiled(profile(rule("getpid"), rule("personality", action="SCMP_ACT_ERRNO")))

        assert decide(program, PERSONALITY) == ERRNO | EPERM
        assert decide(program, PERSONALITY + 1) == ERRNO | ENOSYS

    def test_numbers_of_x32_are_none_of_the_new_ones(self) -> None:
        alone = compiled(profile(rule("getpid"), default="SCMP_ACT_KILL_PROCESS"))
        beside = compiled(profile(rule("getpid"), architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"]))

        assert decide(alone, X32_BIT + GETPID) != ERRNO | ENOSYS
        assert decide(beside, X32_BIT + GETPID) == ALLOW
        assert decide(beside, X32_BIT + 9999) == ERRNO | ENOSYS

    def test_a_rule_that_contradicts_another_is_refused_or_ignored_as_libseccomp_does(self) -> None:
        seccomp = profile(rule("mkdir"), rule("mkdir", action="SCMP_ACT_KILL_PROCESS"))

        try:
            program = compiled(seccomp)
        except SpecError as error:
            assert error.pointer == "/linux/seccomp/syscalls/1"
        else:
            assert decide(program, MKDIR) in (ALLOW, KILL_PROCESS)

    def test_a_tree_decides_what_a_chain_decides(self) -> None:
        asked = dockers()

        tree, chain = (
            compile_program(asked, lambda _: None),
            compile_program(replace(asked, tree=False), lambda _: None),
        )

        for arch in (X86_64, I386):
            for number in range(500):
                assert decide(tree, number, arch=arch) == decide(chain, number, arch=arch), (number, arch)

    def test_the_default_profile_of_docker(self) -> None:
        program = compile_program(dockers(), lambda _: None)

        kept = {"getpid": GETPID, "execve": 59, "write": 1}
        lost = {"mount": 165, "reboot": 169, "bpf": 321}
        assert {name: decide(program, number) for name, number in kept.items()} == dict.fromkeys(kept, ALLOW)
        assert {name: decide(program, number) for name, number in lost.items()} == dict.fromkeys(lost, ERRNO | EPERM)
        assert decide(program, 435) == ERRNO | ENOSYS  # clone3
        assert decide(program, 56, [0x10000000]) == ERRNO | EPERM  # clone with CLONE_NEWUSER
        assert decide(program, 56, [0x11]) == ALLOW
        assert decide(program, 9999) == ERRNO | ENOSYS


def dockers() -> Filter:
    config = json.loads((GOLDEN / "docker-default" / "config.json").read_text())
    return make_filter(parse_seccomp(config["linux"]["seccomp"]), HOST_V1_ROOT.kernel)
