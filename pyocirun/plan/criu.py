"""The plans around criu: it is executed by nsexec, as everything is; for a restore in a mount namespace of its own."""

from __future__ import annotations

from pyocirun.errors import SpecError
from pyocirun.linux.mounts import MOUNT_ATTR_RDONLY, MS_PRIVATE, MS_REC, MS_SLAVE
from pyocirun.linux.namespaces import CLONE_NEWNS
from pyocirun.plan import mounts, namespaces, ops
from pyocirun.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.linux.host import Host
    from pyocirun.plan.request import Request
    from pyocirun.spec.config import Spec
    from pyocirun.spec.mounts import Mount

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def swrk(
    program: str, passed: tuple[str, ...], env: tuple[str, ...], rootfs: str = "", *, readonly: bool = False
) -> ops.Plan:
    """criu, to be asked over the socket that is the first of the descriptors passed on.

    program: a name or a path.  rootfs: where it is to restore a container, as a mount in a namespace of its own, so
    that nothing of it is ever seen outside; "" for all other requests.  readonly: of the rootfs, which criu restores
    as it finds it.
    """
    path = next((value.partition("=")[2] for value in env if value.startswith("PATH=")), "") or DEFAULT_PATH
    apart: list[ops.Op] = []
    if rootfs:
        apart = [ops.Propagation("/", MS_SLAVE | MS_REC), ops.Rootfs(rootfs)]
        apart += [ops.Attributes("/", MOUNT_ATTR_RDONLY)] if readonly else []
    return ops.Plan(
        (
            ops.Clone(CLONE_NEWNS if rootfs else 0),
            *[ops.Pass(what) for what in passed],
            *apart,
            ops.Resolve(program, path),
            ops.Sync("exec"),
            ops.Exec((program, "swrk", str(ops.passed_number(0))), env),
        )
    )


def mount_points(spec: Spec, host: Host, request: Request) -> ops.Plan:
    """Make what is missing in the rootfs of the places that mounts go to, as create does it: by mounting.

    The mounts themselves vanish with nsexec; criu makes them anew. What lies in a file system that is mounted fresh
    comes back with its content.
    """
    kept = tuple(_plain(mount) for mount in spec.mounts if mount.type not in ("cgroup", "cgroup2"))
    plain = replace(spec, mounts=kept, linux=replace(spec.linux, namespaces=(), mount_label=None))
    context = mounts.Context.of(plain, host, request, namespaces.Stages(CLONE_NEWNS))
    return ops.Plan(
        (
            ops.Clone(CLONE_NEWNS),
            ops.Propagation("/", MS_PRIVATE | MS_REC),
            ops.Rootfs(request.rootfs),
            *mounts.mounts(plain, context),
            ops.Finish(),
        )
    )


def _plain(mount: Mount) -> Mount:
    """For its place alone: no ids are mapped, nothing is copied."""
    left = tuple(option for option in mount.options if option not in ("idmap", "ridmap", "tmpcopyup"))
    return replace(mount, options=left, uid_mappings=(), gid_mappings=())


def refuse_unrestorable(spec: Spec) -> None:
    """Raises SpecError for what criu would silently leave out of the container that it restores."""
    for index, mount in enumerate(spec.mounts):
        if mount.uid_mappings or "idmap" in mount.options or "ridmap" in mount.options:
            pointer = f"/mounts/{index}"
            raise SpecError(f"{pointer}: criu cannot restore id-mapped mounts", pointer=pointer)
    for index, space in enumerate(spec.linux.namespaces):
        if space.type == "cgroup" and space.path is not None:
            pointer = f"/linux/namespaces/{index}"
            raise SpecError(f"{pointer}: criu cannot restore into the cgroup namespace of others", pointer=pointer)
    if ops.LANDLOCK in spec.annotations:
        pointer = f"/annotations/{ops.LANDLOCK}"
        raise SpecError(f"{pointer}: criu restores processes without their Landlock ruleset", pointer=pointer)
