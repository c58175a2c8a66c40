"""process: who it is, what it may do, where it starts."""

from __future__ import annotations

from pyocirun.linux.capabilities import mask
from pyocirun.plan import ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyocirun.spec.config import Spec
    from pyocirun.spec.linux import Linux
    from pyocirun.spec.process import Capabilities, Process, Rlimit

CAP_SYS_ADMIN = 21
DEFAULT_UMASK = 0o022
FEW_FILES = 64


def identity(
    process: Process,
    linux: Linux,
    *,
    keep_groups: bool = False,
    own_rlimits: bool = False,
    landlock: Sequence[ops.Op] = (),
) -> list[ops.Op]:
    """From root in the container's namespaces to the process's own ids and capabilities, and to its program.

    What takes privilege comes before the change of user.

    The directory is tried with both: one may see what the other cannot (NFS with root squashed, or mode 0700).

    own_rlimits: nsexec may set them itself, no user namespace being in between.
    landlock: what makes the ruleset that the process will be under.
    """
    user = process.user
    plan: list[ops.Op] = [] if process.terminal else [ops.Session()]
    plan.append(ops.Umask(DEFAULT_UMASK if user.umask is None else user.umask))
    limits = rlimits(process)
    if own_rlimits:
        plan += [ops.OwnRlimit(limit.type, limit.resource, limit.soft, limit.hard) for limit in limits]
    elif limits:
        plan += [*limits, ops.Sync("rlimits")]
    if needs_home(process):
        plan.append(ops.Home(user.uid))
    plan.append(ops.StdioOwner(user.uid))
    plan += _execution(process, linux)
    if process.apparmor_profile or process.selinux_label:
        from pyocirun.plan.lsm import labels

        plan += labels(process)
    plan += landlock
    if process.no_new_privileges:
        plan.append(ops.NoNewPrivs())
    if process.capabilities is not None:
        plan.append(ops.SetBounding(_bits(process.capabilities.bounding)))
    plan.append(ops.Cwd(process.cwd, tolerant=True))
    plan.append(ops.SetUser(user.uid, user.gid, user.additional_gids, keep_groups))
    if process.capabilities is not None:
        # Without no_new_privs only CAP_SYS_ADMIN may load a filter or restrict itself; execve takes it away again, for
        # every uid.
        restricted = linux.seccomp is not None or landlock
        kept = 1 << CAP_SYS_ADMIN if restricted and not process.no_new_privileges else 0
        plan += _capabilities(process.capabilities, kept)
    plan += [ops.Cwd(process.cwd), ops.Resolve(process.args[0], search_path(process))]
    return [*plan, *[op for op in _rlimits(process) if type(op) is ops.LowerRlimit]]


def _execution(process: Process, linux: Linux) -> list[ops.Op]:
    if not (process.scheduler or process.io_priority or linux.personality or linux.memory_policy):
        return []
    from pyocirun.plan.scheduling import domain, scheduling

    return [*scheduling(process), *domain(linux)]


def terminal(process: Process, *, console: bool) -> list[ops.Op]:
    """process.terminal, in a session of its own. The terminal goes to the process's user with 0, 1 and 2."""
    size = process.console_size
    return [ops.Session(), ops.Terminal(size.height if size else 0, size.width if size else 0, console)]


def rlimits(process: Process) -> list[ops.SetRlimit]:
    """process.rlimits. The parent sets them where a user namespace, which may not raise any, is in between; before the
    change of user, since limiting another user's process takes CAP_SYS_RESOURCE.
    """
    return [op for op in _rlimits(process) if type(op) is ops.SetRlimit]


def environment(process: Process) -> tuple[str, ...]:
    """process.env; of a name that comes twice the last one counts. Spec: config.md#process

    A HOME that is missing or empty is there with "/", for nsexec to put in its place what is looked up.
    """
    last = {entry.partition("=")[0]: entry for entry in process.env}
    if last.get("HOME", "HOME=") == "HOME=":
        last["HOME"] = "HOME=/"
    return tuple(last.values())


def needs_home(process: Process) -> bool:
    """Whether HOME is missing or empty."""
    homes = [entry for entry in process.env if entry.startswith("HOME=")]
    return not homes or homes[-1] == "HOME="


def search_path(process: Process) -> str:
    """PATH of the process, "" if it has none."""
    for entry in environment(process):
        if entry.startswith("PATH="):
            return entry[5:]
    return ""


def keeps_groups(annotations: dict[str, str]) -> bool:
    """Whether the supplementary groups of the runtime's caller stay, as `podman run --group-add keep-groups` asks.

    Whoever runs a rootless container may reach files by them that no id of the user namespace stands for.
    """
    return annotations.get("run.oci.keep_original_groups") == "1"


def warnings(spec: Spec) -> list[str]:
    """What the configuration asks for that is passed over, and what it leaves to chance: worth a line, no failure."""
    texts = [f"/{name} is ignored: it is for another platform" for name in spec.foreign]
    if not spec.oci_version.startswith("1."):
        texts.append(f"/ociVersion is {spec.oci_version}: this runtime knows the specification of version 1")
    if spec.process is not None:
        texts += capability_warnings(spec.process)
        if spec.process.capabilities is None:
            texts.append("/process/capabilities is absent: the process keeps the capabilities of the runtime")
    if spec.process is not None and spec.process.user.additional_gids and keeps_groups(spec.annotations):
        texts.append("/process/user/additionalGids is ignored: run.oci.keep_original_groups keeps the caller's groups")
    resources = spec.linux.resources
    texts += [
        f'/linux/resources/devices/{index}/access: letters of "{rule.access}" other than r, w and m are ignored'
        for index, rule in enumerate(resources.devices if resources is not None else ())
        if rule.access.strip("rwm")
    ]
    texts += [
        f"/mounts/{index}/destination: {mount.destination!r} is not absolute; it counts from the container's root"
        for index, mount in enumerate(spec.mounts)
        if not mount.destination.startswith("/")
    ]
    user = spec.linux.namespace("user")
    if user is not None and user.path is not None and (spec.linux.uid_mappings or spec.linux.gid_mappings):
        field = "uidMappings" if spec.linux.uid_mappings else "gidMappings"
        texts.append(f"/linux/{field} changes nothing: the user namespace that is joined by its path has this map")
    if spec.linux.personality is not None:
        texts += [f"personality flag {flag} is ignored: none is known" for flag in spec.linux.personality.flags]
    return texts


def capability_warnings(process: Process) -> list[str]:
    """The capabilities that the process is to have and cannot get, whoever the runtime is."""
    sets = process.capabilities
    if sets is None:
        return []
    named = [name for field in type(sets)._fields for name in getattr(sets, field) or ()]
    unknown = mask(named)[1]
    had = {name for name in sets.permitted or () if name in (sets.inheritable or ())}
    return [
        *(f"unknown capability {name} is ignored" for name in dict.fromkeys(unknown)),
        *(
            f"can't raise ambient capability {name}: it must be permitted and inheritable"
            for name in dict.fromkeys(sets.ambient or ())
            if name not in had and name not in unknown
        ),
    ]


def _rlimits(process: Process) -> list[ops.SetRlimit]:
    from pyocirun.linux.rlimits import RLIMITS

    plan: list[ops.SetRlimit] = []
    for limit in process.rlimits or ():
        number = RLIMITS[limit.type]
        if not _hampers(limit):
            plan.append(ops.SetRlimit(limit.type, number, limit.soft, limit.hard))
            continue
        if limit.hard >= FEW_FILES:  # it may have to be raised, which the process itself may not
            plan.append(ops.SetRlimit(limit.type, number, FEW_FILES, limit.hard))
        plan.append(ops.LowerRlimit(limit.type, number, limit.soft, limit.hard))
    return plan


def _hampers(limit: Rlimit) -> bool:
    """Whether nsexec could not open what it needs."""
    return limit.type == "RLIMIT_NOFILE" and limit.soft < FEW_FILES


def _capabilities(sets: Capabilities, kept: int) -> list[ops.Op]:
    plan: list[ops.Op] = [
        ops.SetCapabilities(_bits(sets.effective), _bits(sets.permitted), _bits(sets.inheritable), kept),
    ]
    # What is not permitted and inheritable cannot be ambient; runc's own default asks for it all the same.
    return [*plan, ops.SetAmbient(_bits(sets.ambient) & _bits(sets.permitted) & _bits(sets.inheritable))]


def _bits(names: tuple[str, ...] | None) -> int:
    return mask(names or ())[0]
