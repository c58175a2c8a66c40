"""Spec + Host -> Plan. The order below is the order of set-up, and a security property: read it as such."""

from __future__ import annotations

from pyocirun.errors import SpecError
from pyocirun.plan import namespaces, ops
from pyocirun.plan.request import is_unified

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.linux.host import Host
    from pyocirun.plan.request import Request
    from pyocirun.spec.config import Spec


def build(spec: Spec, host: Host, request: Request) -> ops.Plan:
    """The plan that creates a container and starts its process.

    Raises SpecError for a value that contradicts another one or the host, or that this version cannot obey.
    """
    namespaces.refuse_unmapped(spec, host)
    _refuse_absent_modules(spec, host)
    if spec.hooks is not None:
        _refuse_relative_outputs(spec.annotations)
    stages = namespaces.stages(spec, host)
    landlock = _landlock(spec, host)
    plan = [
        *cgroup(spec, host, request),
        *_rdt_group(spec, host, request),
        *namespaces.enter(spec, host, request, stages),
        *cgroup_namespace(spec, host, request),
        *net_devices(spec, host, request),
        *root(spec, host, request, stages),
        *(_identity(spec, host, landlock) if spec.process else ()),
        *wait_for_start(spec, host, request, restrict=bool(landlock)),
    ]
    return ops.Plan(tuple(plan), request.preserve_fds)


def cgroup(spec: Spec, host: Host, request: Request) -> list[ops.Op]:
    """The cgroup stands, with its limits, before there is a process to put into it."""
    if not request.cgroup_paths:
        return []
    if is_unified(request.cgroup_paths):
        from pyocirun.plan import unified

        return [*_start_unit(spec, host, request), *unified.make(spec, host, request)]
    from pyocirun.cgroup.v1 import writes

    # Where devices cannot be made, there are none to keep from the container.
    limits = tuple(writes(spec.linux.resources, devices=host.privileged))
    made: list[ops.Op] = [*_start_unit(spec, host, request), ops.MakeCgroup(request.cgroup_paths)]
    return [*made, ops.WriteCgroup(limits)] if limits else made


def cgroup_namespace(spec: Spec, host: Host, request: Request) -> list[ops.Op]:
    """A new cgroup namespace has the cgroups as its root that the process is in when it is made: be in all of them."""
    namespace = spec.linux.namespace("cgroup")
    if namespace is None or namespace.path is not None:
        return []
    from pyocirun.linux.namespaces import CLONE_NEWCGROUP

    unshare = ops.Unshare(CLONE_NEWCGROUP)
    if is_unified(request.cgroup_paths):
        from pyocirun.plan import unified

        return [unshare, *unified.after_unshare(spec, host, request)]
    charged = namespaces.join_cgroups(request.cgroup_paths, spec.process, charged=True)
    if not charged:
        return [unshare]
    return [*charged, unshare, ops.LeaveCgroup(own_cgroups(host))]


def own_cgroups(host: Host) -> tuple[str, ...]:
    """The caller's own cgroups of the controllers that charge."""
    from pyocirun.cgroup.path import own_directory

    charging = [tree for tree in host.hierarchies if set(tree.controllers) & set(namespaces.CHARGED)]
    return tuple(dict.fromkeys(own_directory(tree) for tree in charging))


def root(spec: Spec, host: Host, request: Request, stages: namespaces.Stages) -> list[ops.Op]:
    """Everything that concerns the file system, up to the point where only the container's own is left."""
    from pyocirun.plan import paths, rootfs

    if not stages.own_mounts:
        made = terminal(spec, console=False)
        # Nothing is mounted in this root: the terminal is one of the devpts that everybody here shares.
        chroot = [*([ops.Chroot("/"), *made] if made else []), ops.Chroot(request.rootfs)]
        return [*runtime_hooks(spec, request), *sysctls(spec, host, request), *chroot, *names(spec)]
    return [
        *rootfs.prepare(spec, host, request, stages),
        *runtime_hooks(spec, request),
        *sysctls(spec, host, request),
        *rootfs.change(request),
        *namespaces.after_pivot(stages),
        ops.ReopenNull(),
        *terminal(spec, console=True),
        *([ops.MakeCwd(spec.process.cwd)] if spec.process else []),
        *rootfs.close(spec, request, host.cgroup2_only),
        *([ops.Attributes("/", 1)] if spec.root.readonly else []),
        *names(spec),
        *paths.protect(spec),
        *rootfs.propagation(spec),
    ]


def net_devices(spec: Spec, host: Host, request: Request) -> list[ops.Op]:
    """Before the hooks and sysctls, which may be about these devices. Spec: config-linux.md#network-devices"""
    wanted = spec.linux.net_devices
    if not wanted:
        return []
    pointer = "/linux/netDevices"
    if host.euid != 0:
        raise SpecError(f"{pointer}: network devices are not supported for rootless containers", pointer=pointer)
    if dict(request.joined).get("network") == dict(host.namespaces).get("network", 0):
        text = "network devices need a network namespace other than the runtime's own"
        raise SpecError(f"{pointer}: {text}", pointer=pointer)
    pairs = [(name, device.name or name) for name, device in wanted.items()]
    return [ops.MoveNetDevices(tuple(pairs)), ops.Sync("net-devices")]


def terminal(spec: Spec, *, console: bool) -> list[ops.Op]:
    """Once only the container's own devpts can be seen; before anything becomes read-only, for /dev/console."""
    if spec.process is None or not spec.process.terminal:
        return []
    from pyocirun.plan import process

    return process.terminal(spec.process, console=console)


def runtime_hooks(spec: Spec, request: Request) -> list[ops.Op]:
    """prestart and createRuntime in the runtime's namespaces, then createContainer in the container's; no pivot yet."""
    hooks = spec.hooks
    if hooks is None and not request.callables:
        return []
    counts = dict(request.callables)
    plan: list[ops.Op] = []
    for kind, field in (("prestart", "prestart"), ("createRuntime", "create_runtime")):
        count = len(getattr(hooks, field, ())) + counts.get(kind, 0)
        if count:
            plan.append(ops.RunHooks(kind, count))
    if plan:
        plan = [*_into_unified(spec, request), *plan, ops.Sync("hooks:createRuntime")]
    if hooks is not None and hooks.create_container:
        plan += [ops.Sync("hooks:createContainer"), *container_hooks("createContainer", spec)]
    return plan


def container_hooks(kind: str, spec: Spec) -> list[ops.Op]:
    """The hooks that nsexec itself runs, being in the container's namespaces."""
    hooks = spec.hooks
    if hooks is None:
        return []
    if kind == "createContainer":
        return [*ops.run_hooks(kind, hooks.create_container, spec.annotations)]
    # The specification is silent about a hook without env; in the container, runc gives it that of the process.
    # Its program comes from the image, so the filter is for it, too; nsexec itself stays outside until its end.
    filtered = spec.linux.seccomp is not None
    return [*ops.run_hooks(kind, hooks.start_container, spec.annotations, _environment(spec), filtered=filtered)]


def sysctls(spec: Spec, host: Host, request: Request) -> list[ops.Op]:
    """After the hooks, which may bring a network device along; before pivot_root, by the host's own /proc."""
    if not spec.linux.sysctl:
        return []
    from pyocirun.plan import sysctl

    return sysctl.writes(spec, host, dict(request.joined))


def names(spec: Spec) -> list[ops.Op]:
    """hostname and domainname"""
    plan: list[ops.Op] = []
    if spec.hostname is not None:
        plan.append(ops.Hostname(spec.hostname))
    if spec.domainname is not None:
        plan.append(ops.Domainname(spec.domainname))
    return plan


def wait_for_start(spec: Spec, host: Host, request: Request, *, restrict: bool = False) -> list[ops.Op]:
    """The end of create, the gate, and what lies behind it: next to nothing. restrict: by a Landlock ruleset."""
    plan = _join_at_last(spec, request)
    for op in _rdt_group(spec, host, request):
        plan.append(ops.JoinRdtGroup(op.path, op.monitor))
    gate: list[ops.Op] = [ops.SaveState(), ops.Sync("created"), ops.Sync("start")]
    if spec.process is None:
        return [*plan, *gate]
    end: list[ops.Op] = [ops.Exec(spec.process.args, _environment(spec))]
    if spec.linux.seccomp is not None:
        from pyocirun.plan.seccomp import agent, load

        plan += agent(spec.linux.seccomp)
        end = [*load(spec.linux.seccomp, host.kernel), *end]
    restricted = [ops.LandlockRestrict()] if restrict else []
    return [*plan, *gate, *container_hooks("startContainer", spec), *restricted, ops.Sync("exec"), *end]


def _refuse_absent_modules(spec: Spec, host: Host) -> None:
    process = spec.process
    if process is not None and (process.apparmor_profile or process.selinux_label):
        from pyocirun.plan.lsm import refuse_absent

        refuse_absent(process, host.security_modules)


def _start_unit(spec: Spec, host: Host, request: Request) -> list[ops.Op]:
    if request.unit is None:
        return []
    from pyocirun.plan import unit

    return unit.start(spec, host, request)


def _rdt_group(spec: Spec, host: Host, request: Request) -> list[ops.MakeRdtGroup]:
    if spec.linux.intel_rdt is None:
        return []
    from pyocirun.plan.rdt import make

    return [make(spec.linux.intel_rdt, host, request.id)]


def _into_unified(spec: Spec, request: Request) -> list[ops.Op]:
    """Hooks of the prestart kind look for the cgroup of the process that they are told of."""
    if not is_unified(request.cgroup_paths):
        return []
    from pyocirun.plan import unified

    return unified.before_hooks(spec, request)


def _join_at_last(spec: Spec, request: Request) -> list[ops.Op]:
    if not is_unified(request.cgroup_paths):
        return namespaces.join_cgroups(request.cgroup_paths, spec.process, charged=True)
    from pyocirun.plan import unified

    return unified.at_last(spec, request)


def _refuse_relative_outputs(annotations: dict[str, str]) -> None:
    for name in ops.HOOK_OUTPUTS:
        if not annotations.get(name, "/").startswith("/"):
            pointer = f"/annotations/{name}"
            raise SpecError(f"{pointer}: the path of a file for the output of hooks must be absolute", pointer=pointer)


def _landlock(spec: Spec, host: Host) -> list[ops.Op]:
    if ops.LANDLOCK not in spec.annotations:
        return []
    from pyocirun.plan.landlock import ruleset

    return ruleset(spec.annotations, host.landlock)


def _identity(spec: Spec, host: Host, landlock: list[ops.Op]) -> list[ops.Op]:
    from pyocirun.plan import process

    assert spec.process is not None
    keep_groups = namespaces.setgroups_denied(spec, host) or process.keeps_groups(spec.annotations)
    own_rlimits = spec.linux.namespace("user") is None
    return process.identity(
        spec.process, spec.linux, keep_groups=keep_groups, own_rlimits=own_rlimits, landlock=landlock
    )


def _environment(spec: Spec) -> tuple[str, ...]:
    from pyocirun.plan import process

    assert spec.process is not None
    return process.environment(spec.process)
