"""The plans around criu."""

from __future__ import annotations

import pytest

from pyocirun.errors import SpecError
from pyocirun.linux.namespaces import CLONE_NEWNS
from pyocirun.plan import criu, ops
from pyocirun.plan.encode import encode
from pyocirun.plan.features import IDEAL
from pyocirun.plan.request import Request
from pyocirun.spec.linux import Namespace
from pyocirun.spec.mounts import Mount
from tests.support import minimal_spec

REQUEST = Request("box", "/bundle", "/bundle/rootfs")


def test_criu_is_executed_with_its_socket_first() -> None:
    plan = criu.swrk("criu", ("a socket", "the network namespace"), ("PATH=/opt", "A=b"))

    assert plan.ops[0] == ops.Clone(0)
    assert ops.Resolve("criu", "/opt") in plan.ops
    assert plan.ops[-1] == ops.Exec(("criu", "swrk", "5"), ("PATH=/opt", "A=b"))
    assert [slot.path for slot in encode(plan).launch] == ["a socket", "the network namespace"]


def test_for_a_restore_the_rootfs_is_a_mount_in_a_namespace_of_its_own() -> None:
    plan = criu.swrk("criu", ("a socket",), (), "/r", readonly=True)

    assert plan.ops[0] == ops.Clone(CLONE_NEWNS)
    assert plan.ops.index(ops.Rootfs("/r")) < plan.ops.index(ops.Attributes("/", 1))


def test_mount_points_are_made_by_mounting_without_the_containers_namespaces() -> None:
    mounts = (Mount("/proc", "proc", "proc"), Mount("/cg", "cgroup", "cgroup"), Mount("/d", "/s", "bind", ("idmap",)))
    spec = minimal_spec(mounts=mounts, namespaces=(Namespace("mount"), Namespace("user")))

    plan = criu.mount_points(spec, IDEAL, REQUEST)

    assert [op.target for op in plan.ops if isinstance(op, (ops.Mount, ops.Bind))] == ["/proc", "/d"]
    assert not encode(plan).late
    assert plan.ops[-1] == ops.Finish()


def test_what_criu_would_leave_out_is_refused() -> None:
    with pytest.raises(SpecError, match="id-mapped"):
        criu.refuse_unrestorable(minimal_spec(mounts=(Mount("/d", "/s", "bind", ("idmap",)),)))
    with pytest.raises(SpecError, match="cgroup namespace"):
        criu.refuse_unrestorable(minimal_spec(namespaces=(Namespace("cgroup", "/n"),)))
