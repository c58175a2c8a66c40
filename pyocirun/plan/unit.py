"""systemd's part in a plan: the unit that is the container's cgroup, and who is moved into it."""

from __future__ import annotations

from pyocirun.plan import ops
from pyocirun.plan.request import is_unified

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.cgroup.unit import Unit
    from pyocirun.linux.host import Host
    from pyocirun.plan.request import Request
    from pyocirun.spec.config import Spec


def start(spec: Spec, host: Host, request: Request) -> list[ops.Op]:
    """The unit with its properties. Its cgroup's files are written besides, as for a cgroup without a unit."""
    from pyocirun.cgroup.properties import properties

    assert request.unit is not None
    asked = properties(
        request.unit,
        request.id,
        spec.linux.resources,
        spec.annotations,
        unified=is_unified(request.cgroup_paths),
        devices=host.privileged,
    )
    return [ops.StartUnit(request.unit, asked)]


def pull(unit: Unit) -> list[ops.Op]:
    """Into the cgroup where only systemd may move the caller's processes: at once, as it moves no other user's."""
    return [ops.JoinUnit(unit, unit.subgroup), ops.Sync("unit")] if unit.pulls else []
