"""The annotation for Landlock: what is planned for it, and for which kernel."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyocirun.errors import SpecError
from pyocirun.linux.landlock import NEWEST
from pyocirun.plan import ops, tenant
from pyocirun.plan.criu import refuse_unrestorable
from pyocirun.plan.landlock import ruleset, warnings
from pyocirun.record import replace
from pyocirun.spec.config import Spec
from pyocirun.spec.hooks import Hook, Hooks
from pyocirun.spec.process import Capabilities
from pyocirun.spec.seccomp import Seccomp
from tests.support import HOST_V1_ROOT, build, every, minimal_process, minimal_spec, only, where

HOST = replace(HOST_V1_ROOT, landlock=NEWEST)
RULES = {
    "handledAccessFS": ["execute", "truncate"],
    "handledAccessNet": ["connect_tcp"],
    "scoped": ["signal"],
    "pathBeneath": [{"paths": ["/usr", "/bin"], "allowedAccess": ["execute", "truncate"]}],
    "netPort": [{"ports": [80], "allowedAccess": ["connect_tcp"]}],
}
SYS_ADMIN = 1 << 21


def written(**changes: Any) -> dict[str, str]:
    return {"org.pyocirun.landlock": json.dumps(RULES | changes)}


def restricted(**fields: Any) -> Spec:
    return minimal_spec(annotations=written(), **fields)


def test_the_ruleset_is_made_while_the_process_is_root_in_its_own_mounts() -> None:
    plan = build(restricted(masked_paths=("/proc/kcore",)), HOST)

    assert where(plan, ops.PivotRoot) < where(plan, ops.MaskPath) < where(plan, ops.LandlockRuleset)
    assert where(plan, ops.LandlockRuleset) < where(plan, ops.LandlockPath("/usr", 1 << 0 | 1 << 14))
    assert where(plan, ops.LandlockPort(80, 2)) < where(plan, ops.SetUser)


def test_the_process_is_restricted_behind_the_hooks_and_before_the_filter() -> None:
    hooks = Hooks(start_container=(Hook("/h"),))

    plan = build(restricted(hooks=hooks, seccomp=Seccomp("SCMP_ACT_ALLOW")), HOST)

    assert where(plan, ops.RunHook) < where(plan, ops.LandlockRestrict) < where(plan, ops.Sync("exec"))
    assert where(plan, ops.LandlockRestrict) < where(plan, ops.LoadSeccomp)


@pytest.mark.parametrize(("no_new_privileges", "kept"), [(True, 0), (False, SYS_ADMIN)])
def test_without_no_new_privs_a_capability_is_kept_for_it(no_new_privileges: bool, kept: int) -> None:
    process = minimal_process(capabilities=Capabilities(), no_new_privileges=no_new_privileges)

    assert only(build(restricted(process=process), HOST), ops.SetCapabilities).kept == kept


def test_exec_has_a_ruleset_of_its_own() -> None:
    plan = tenant.build(minimal_process(), "box", 0, landlock=ruleset(written(), NEWEST))

    assert len(every(plan, ops.LandlockPath)) == 2
    assert where(plan, ops.LandlockRuleset) < where(plan, ops.SetUser) < where(plan, ops.LandlockRestrict)


def test_without_the_annotation_there_is_nothing_of_it() -> None:
    plan = build(minimal_spec(), HOST)

    assert not [op for op in plan.ops if type(op).__name__.startswith("Landlock")]


@pytest.mark.parametrize(("abi", "text"), [(0, "it has no Landlock"), (2, "it has version 2 of Landlock")])
def test_what_the_kernel_does_not_know_is_refused(abi: int, text: str) -> None:
    with pytest.raises(SpecError, match=text) as caught:
        build(restricted(), replace(HOST, landlock=abi))

    assert caught.value.pointer == "/annotations/org.pyocirun.landlock"


def test_best_effort_leaves_out_what_the_kernel_does_not_know_and_says_so() -> None:
    wanted = written(bestEffort=True)

    assert ruleset(wanted, 2) == [ops.LandlockRuleset(1), ops.LandlockPath("/usr", 1), ops.LandlockPath("/bin", 1)]
    assert ruleset(wanted, 0) == []
    assert "does not restrict truncate, connect_tcp, signal" in warnings(wanted, 2)[0]
    assert warnings(wanted, NEWEST) == []


def test_no_checkpoint_is_taken_of_what_would_come_back_unrestricted() -> None:
    with pytest.raises(SpecError, match="Landlock"):
        refuse_unrestorable(restricted())
