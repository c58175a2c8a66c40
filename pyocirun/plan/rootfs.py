"""The root file system: from the host's view to the container's own."""

from __future__ import annotations

from pyocirun.linux.mounts import (
    MOUNT_ATTR_RDONLY,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
    PROPAGATION,
)
from pyocirun.plan import devices, mounts, ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.linux.host import Host
    from pyocirun.plan.namespaces import Stages
    from pyocirun.plan.request import Request
    from pyocirun.spec.config import Spec


def prepare(spec: Spec, host: Host, request: Request, stages: Stages) -> list[ops.Op]:
    """Mounts and devices beneath the rootfs, which is a mount by then. Nothing of it reaches the host."""
    wanted = PROPAGATION[spec.linux.rootfs_propagation] if spec.linux.rootfs_propagation else MS_SLAVE | MS_REC
    # Only sharing is taken at its word: of the others, nothing that the container mounts may reach the host.
    before = wanted if wanted & MS_SHARED else (MS_PRIVATE if wanted & MS_PRIVATE else MS_SLAVE) | MS_REC
    context = mounts.Context.of(spec, host, request, stages)
    inside = [
        *mounts.mounts(spec, context),
        *devices.devices(spec, context),
    ]
    top: list[ops.Op] = [ops.Propagation("/", before)]
    if before & MS_SHARED:
        top.append(ops.Propagation(mounts.mountpoint_of(request.rootfs, host), MS_PRIVATE))
    handed = context.handed
    wanting = [ops.Rootfs(request.rootfs, handed), *inside]
    sources = list(dict.fromkeys([slot for op in wanting if (slot := op.slot()) and slot.late]))
    for start in range(0, len(sources), ops.TREES_AT_ONCE):
        top += [ops.OpenSources(tuple(sources[start : start + ops.TREES_AT_ONCE])), ops.Sync("sources")]
    return [*top, ops.Rootfs(request.rootfs, handed), *inside]


def close(spec: Spec, request: Request, unified: bool) -> list[ops.Op]:
    """Each tmpfs that could not be read-only before, for what was to be made inside. unified: cgroup v2 alone."""
    return [
        ops.Attributes(target, MOUNT_ATTR_RDONLY, origin=f"mounts[{index}]")
        for index, target in mounts.late_readonly(spec, request.rootfs, unified)
    ]


def change(request: Request) -> list[ops.Op]:
    """The container's root becomes the root."""
    return [ops.MoveRoot() if request.no_pivot else ops.PivotRoot()]


def propagation(spec: Spec) -> list[ops.Op]:
    """What rootfsPropagation says of the container's own root. It comes last: what is unbindable cannot be masked."""
    wanted = PROPAGATION[spec.linux.rootfs_propagation] if spec.linux.rootfs_propagation else 0
    return [ops.RootPropagation(wanted)] if wanted & (MS_SHARED | MS_UNBINDABLE) else []
