"""Cgroup v2: what is made before there is a process, and when the process is in it.

The kernel charges the memory of the set-up to the cgroup of whoever causes it, and moving a process takes a lock over
all processes. So a container whose memory or pids are limited enters its cgroup last, and any other one starts in it.
Two things need it earlier: a new cgroup namespace has the cgroup as its root that the process is in when it is made,
and prestart hooks look for the cgroup of the process that they are told of.
"""

from __future__ import annotations

from pyocirun.plan import ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.linux.host import Host
    from pyocirun.plan.request import Request
    from pyocirun.spec.config import Spec
    from pyocirun.spec.resources import Resources

PROCS = "cgroup.procs"
_SCARCE = ("memory.max", "memory.high", "pids.max")


def make(spec: Spec, host: Host, request: Request) -> list[ops.Op]:
    """The cgroup with its limits, device rules and owner."""
    from pyocirun.cgroup.v2 import writes

    plan: list[ops.Op] = [ops.MakeCgroup(request.cgroup_paths)]
    if limits := tuple(writes(spec.linux.resources)):
        plan.append(ops.WriteCgroup(limits))
    # Where devices cannot be made, there are none to keep from the container.
    if host.privileged:
        plan += _devices(spec)
        uid = _owner(spec)
        plan += [ops.DelegateCgroup(uid)] if uid else []
    return plan


def clone(flags: int, spec: Spec, host: Host, request: Request) -> ops.Clone:
    """The launch: in the cgroup, or outside of it."""
    directory = dict(request.cgroup_paths)[""]
    if is_pulled(request) or (comes_late(spec) and not _own_namespace(spec)):
        return ops.Clone(flags)
    from pyocirun.cgroup.v2 import writes

    # Who may not make cgroups does without, unless there are limits to obey.
    return ops.Clone(flags, directory, host.privileged or bool(writes(spec.linux.resources)))


def after_unshare(spec: Spec, host: Host, request: Request) -> list[ops.Op]:
    """Out of the cgroup again, now that it is the root of a cgroup namespace, if the set-up is not to be charged.

    Linux before 5.16 judges by the namespace that the process is in by now, and refuses: then it stays.
    """
    from pyocirun.cgroup.path import own_directory

    if is_pulled(request) or not comes_late(spec) or host.unified is None:
        return []
    return [ops.LeaveCgroup((own_directory(host.unified),), True, PROCS)]


def before_hooks(spec: Spec, request: Request) -> list[ops.Op]:
    """Hooks in the runtime's namespaces are about to run."""
    return _join(request) if comes_late(spec) and not is_pulled(request) else []


def at_last(spec: Spec, request: Request) -> list[ops.Op]:
    """The set-up is done."""
    if request.unit is not None and request.unit.delegated:
        return [ops.JoinCgroup((f"{dict(request.cgroup_paths)['']}/{request.unit.delegated}",), file=PROCS)]
    late = comes_late(spec) and not is_pulled(request)
    return _join(request) if late and not _has_runtime_hooks(spec) else []


def is_pulled(request: Request) -> bool:
    """Whether only systemd may move a process into the cgroup."""
    return request.unit is not None and request.unit.pulls


def comes_late(spec: Spec) -> bool:
    """Whether something is limited that the set-up would use of."""
    return spec.linux.resources is not None and _is_scarce(spec.linux.resources)


def _is_scarce(resources: Resources) -> bool:
    memory = resources.memory.limit if resources.memory is not None else None
    pids = resources.pids.limit if resources.pids is not None else None
    return (
        (memory is not None and memory > 0)
        or (pids is not None and pids >= 0)
        or any(name in resources.unified for name in _SCARCE)
    )


def _join(request: Request) -> list[ops.Op]:
    return [ops.JoinCgroup((dict(request.cgroup_paths)[""],), file=PROCS)]


def _devices(spec: Spec) -> list[ops.Op]:
    """Rules that deny nothing, or stand for a user namespace, which can make no device, may fail to come into force."""
    from pyocirun.cgroup.ebpf import permits_everything, program

    rules = spec.linux.resources.devices if spec.linux.resources is not None else ()
    code = program(rules)
    optional = permits_everything(rules) and bool(rules)
    return [ops.AttachDevices(code, optional or spec.linux.namespace("user") is not None)] if code else []


def _owner(spec: Spec) -> int:
    """The host's uid of the container's root, if the cgroup becomes its own; else 0.

    It does if it sees nothing but its own cgroup, and may write to it.
    """
    user = spec.linux.namespace("user")
    if user is None or user.path is not None or not _own_namespace(spec):
        return 0
    writable = [mount for mount in spec.mounts if mount.type in ("cgroup", "cgroup2") and "ro" not in mount.options]
    if not writable:
        return 0
    from pyocirun.linux.idmap import to_host

    return to_host(spec.linux.uid_mappings, 0) or 0


def _own_namespace(spec: Spec) -> bool:
    namespace = spec.linux.namespace("cgroup")
    return namespace is not None and namespace.path is None


def _has_runtime_hooks(spec: Spec) -> bool:
    return spec.hooks is not None and bool(spec.hooks.prestart or spec.hooks.create_runtime)
