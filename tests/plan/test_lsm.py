"""Labels of security modules: refused where the kernel has none, and written in the right places."""

from __future__ import annotations

import pytest

from pyocirun.errors import SpecError
from pyocirun.linux.namespaces import CLONE_NEWNS
from pyocirun.plan import ops, tenant
from pyocirun.plan.lsm import refuse_absent
from pyocirun.record import replace
from pyocirun.spec.process import User
from tests.support import HOST_V1_ROOT, build, every, minimal_process, minimal_spec, only, where

HOST = replace(HOST_V1_ROOT, security_modules=("apparmor", "selinux"))
BOTH = minimal_process(user=User(1000), no_new_privileges=True, apparmor_profile="box", selinux_label="u:r:t:s0")


@pytest.mark.parametrize(
    ("field", "pointer", "text"),
    [
        ("apparmor_profile", "/process/apparmorProfile", "AppArmor is not enabled"),
        ("selinux_label", "/process/selinuxLabel", "selinux is disabled or not supported"),
    ],
)
def test_a_label_of_a_module_that_is_off_is_refused(field: str, pointer: str, text: str) -> None:
    spec = minimal_spec(process=minimal_process(**{field: "x"}))

    with pytest.raises(SpecError, match=text) as caught:
        build(spec, HOST_V1_ROOT)

    assert caught.value.pointer == pointer
    assert caught.value.hint


def test_the_pointer_into_a_document_of_its_own_is_short() -> None:
    with pytest.raises(SpecError) as caught:
        refuse_absent(minimal_process(apparmor_profile="x"), ("selinux",), "")

    assert caught.value.pointer == "/apparmorProfile"


@pytest.mark.parametrize("process", [minimal_process(), minimal_process(apparmor_profile="", selinux_label="")])
def test_without_a_label_nothing_is_written(process: object) -> None:
    plan = build(minimal_spec(process=process), HOST_V1_ROOT)

    assert not [op for op in plan.ops if op.wire in ("attribute", "private_proc")]


def test_labels_are_written_before_privileges_go() -> None:
    plan = build(minimal_spec(process=BOTH), HOST)

    for kind in (ops.AppArmorProfile, ops.SelinuxLabel):
        assert where(plan, ops.PivotRoot) < where(plan, kind) < where(plan, ops.NoNewPrivs) < where(plan, ops.SetUser)


def test_the_procfs_is_opened_before_a_mount_of_the_container_is_there() -> None:
    plan = build(minimal_spec(process=BOTH), HOST)

    assert where(plan, ops.Undumpable) < where(plan, ops.PrivateProc) < where(plan, ops.Propagation)


def test_the_keyring_has_the_label_of_the_process() -> None:
    plan = build(minimal_spec(process=BOTH), HOST)

    keyring = where(plan, ops.Keyring)
    assert plan.ops[keyring - 1] == ops.KeyringLabel("u:r:t:s0")
    assert plan.ops[keyring + 1] == ops.KeyringLabel("")


def test_apparmor_gives_keyrings_no_label() -> None:
    process = minimal_process(apparmor_profile="box")

    assert not every(build(minimal_spec(process=process), HOST), ops.KeyringLabel)


def test_what_is_written_where() -> None:
    plan = build(minimal_spec(process=BOTH), HOST)

    assert only(plan, ops.AppArmorProfile).fields({}) == (
        "thread-self/attr/apparmor/exec",
        "thread-self/attr/exec",
        "exec box",
    )
    assert only(plan, ops.SelinuxLabel).fields({}) == ("thread-self/attr/exec", "", "u:r:t:s0")


def test_exec_opens_the_procfs_before_it_joins_and_when_it_cannot_be_traced() -> None:
    plan = tenant.build(BOTH, "box", CLONE_NEWNS)

    assert where(plan, ops.Undumpable) < where(plan, ops.PrivateProc) < where(plan, ops.JoinContainer(CLONE_NEWNS))
    assert where(plan, ops.ReopenNull) < where(plan, ops.AppArmorProfile) < where(plan, ops.NoNewPrivs)
    assert [op.text for op in every(plan, ops.KeyringLabel)] == ["u:r:t:s0", ""]
