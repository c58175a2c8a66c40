"""exec: one more process in a container."""

from __future__ import annotations

import posix

from pyocirun import files
from pyocirun.container.process import Process as Running
from pyocirun.container.process import adopt
from pyocirun.errors import CgroupError, OperationError, SpecError, StateError
from pyocirun.linux.namespaces import FILES, FLAGS
from pyocirun.plan import ops, tenant
from pyocirun.plan.encode import encode
from pyocirun.plan.process import capability_warnings, keeps_groups
from pyocirun.plan.request import is_unified
from pyocirun.record import replace
from pyocirun.spawn import effects
from pyocirun.spawn.launch import launch
from pyocirun.spawn.probe import namespace_inode
from pyocirun.spawn.sync import await_exec, drive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyocirun.cgroup.unit import Unit
    from pyocirun.container.container import Container
    from pyocirun.plan.ops import Slot
    from pyocirun.spawn.handover import Handover
    from pyocirun.spawn.launch import Launched
    from pyocirun.spawn.sync import Answer, Effects
    from pyocirun.spec.process import Process
    from pyocirun.spec.seccomp import Seccomp


NO_ID = (1 << 32) - 1
"""What the kernel takes for "leave it as it is"."""


def wanted_process(
    container: Container,
    process: dict[str, Any] | None,
    args: list[str] | None,
    env: list[str] | tuple[str, ...],
    cwd: str | None,
    user: tuple[int, int | None] | None,
    additional_gids: list[int] | None,
    capabilities: list[str] | tuple[str, ...],
    no_new_privileges: bool,
    apparmor_profile: str | None,
    selinux_label: str | None,
) -> Process:
    """The process to start: the one given, or the container's own with changes. Raises SpecError."""
    if process is not None:
        return _given(container, process)
    base = container.spec().process
    if not args:
        raise SpecError("exec args cannot be empty", pointer="/process/args")
    if base is None:
        raise SpecError("the container has no process to take the rest from", pointer="/process")
    if env:
        from pyocirun.spec.process import check_env

        check_env(env, "/process/env")
    changes: dict[str, object] = {"args": tuple(args), "env": (*base.env, *env), "terminal": False}
    if cwd is not None:
        changes["cwd"] = cwd
    if user is not None or additional_gids is not None:
        changes["user"] = _user(base, user, additional_gids)
    if capabilities:
        changes["capabilities"] = _more_capabilities(base, tuple(capabilities))
    if no_new_privileges:
        changes["no_new_privileges"] = True
    if apparmor_profile is not None:
        changes["apparmor_profile"] = apparmor_profile
    if selinux_label is not None:
        changes["selinux_label"] = selinux_label
    return _checked(replace(base, **changes), "/process")


def start(
    container: Container,
    wanted: Process,
    stdio: tuple[int, int, int],
    preserve_fds: int,
    cgroup: str | list[str] | None,
    console_socket: str | None,
    pidfd_socket: str | None,
) -> Running:
    """Start `wanted` in the container."""
    init = container.init
    for text in capability_warnings(wanted):
        container._warn(text)
    if init is None:
        raise StateError("cannot exec in a stopped container", id=container.id, status="stopped")
    container._step("look at the container, and make the plan")
    namespaces = _foreign_namespaces(init)
    if init.ended(0):  # then these were of nobody, or of somebody else, and what is to be joined is not the container
        raise StateError("cannot exec in a stopped container", id=container.id, status="stopped")
    linux = container.spec().linux if container._state.exec_reads_config else tenant.DEFAULT
    cgroups = _cgroups(container, init, cgroup)
    unit = _pulling_unit(container, cgroup)
    if unit is not None:
        cgroups = ()
    plan = tenant.build(
        wanted,
        container.id,
        namespaces,
        linux=linux,
        cgroups=cgroups,
        cgroup_required=is_unified(cgroups),
        preserve_fds=preserve_fds,
        rdt_group=(container._state.rdt_group, container._state.rdt_monitor),
        unit=unit,
        landlock=_landlock(container),
        keep_groups=keeps_groups(container.annotations) or _setgroups_denied(init.pid),
    )
    if linux.seccomp is not None:
        from pyocirun.spawn.seccomp import with_program

        plan = with_program(plan, container._root, container._debug)

    handover = _handover(wanted.terminal, console_socket, pidfd_socket)
    agent = _Agent(container, linux.seccomp)
    container._step("nsexec enters the container")
    stamps = _make_stamps() if container._debug is not None or container._trace is not None else -1
    try:
        stdio = handover.stdio(stdio) if handover is not None else stdio
        encoded = encode(plan, stamps=stamps >= 0)
        launched = launch(plan, encoded, lambda slot: _open_slot(slot, init), stdio, stamps)
        try:
            answers = {"home": lambda fd: effects.home(fd, wanted.user.uid), "seccomp": lambda fd: agent.tell(launched)}
            answers = handover.answers(answers, launched) if handover is not None else answers
            parent: Effects = {
                ops.SetRlimit: effects.set_rlimit,
                ops.ConnectAgent: agent.connect,
                ops.JoinRdtGroup: effects.join_rdt_group,
                ops.JoinUnit: effects.join_unit,
            }
            drive(plan, launched, parent, answers, container._warn)
            await_exec(launched, plan)
        except OperationError as error:
            effects.kill(launched)
            raise _explained(error, container, init, dict(cgroups)) from None
        except BaseException:
            effects.kill(launched)
            raise
        finally:
            launched.close()
        process = Running(launched.pid, launched.pidfd, handover.taken() if handover is not None else -1)
    finally:
        agent.close()
        if stamps >= 0:
            from pyocirun.spawn.stamps import tell_times

            tell_times(plan, stamps, container._debug, container._trace)
        container._step("finish")
        if handover is not None:
            handover.close()
    adopt(container._path, process)
    return process


def _landlock(container: Container) -> list[ops.Op]:
    """What makes the container's Landlock ruleset: each process has a copy of its own."""
    if ops.LANDLOCK not in container.annotations:
        return []
    from pyocirun import native
    from pyocirun.plan.landlock import ruleset

    return ruleset(container.annotations, native.landlock_abi())


def _make_stamps() -> int:
    from pyocirun.spawn.stamps import make_stamps

    return make_stamps()


def _explained(
    error: OperationError, container: Container, init: Running, cgroups: dict[str, str]
) -> OperationError | StateError:
    """`error`, or what it comes of: the container has ended meanwhile, or lacks memory.

    cgroups: which the process was to join, as Manager.paths; {} where systemd moves it.
    Where init ends, the kernel kills who has entered its pid namespace, and lets nobody enter it or fork there.
    """
    if _is_ending(init):
        return StateError("cannot exec in a stopped container", id=container.id, status="stopped")
    if error.step == "wait":
        from pyocirun.cgroup.manager import load

        # Cgroup v1 counts in the very cgroup alone.
        manager = load(cgroups) if cgroups else container.manager
        if manager.oom_kill_count():
            return OperationError(f"{error.message} (possibly OOM-killed)", step=error.step, hint=error.hint)
    return error


def with_terminal(process: Process, terminal: bool | None, size: tuple[int, int] | None) -> Process:
    """`process` with or without a terminal of this size; None: as it is. Raises SpecError."""
    if terminal is None and size is None:
        return process
    from pyocirun.spec.process import with_terminal

    return with_terminal(process, terminal, size)


def _handover(terminal: bool, console_socket: str | None, pidfd_socket: str | None) -> Handover | None:
    if not (terminal or console_socket or pidfd_socket):
        return None
    from pyocirun.spawn.handover import Handover

    return Handover(terminal, console_socket, pidfd_socket, "setns")


def _pulling_unit(container: Container, wanted: str | list[str] | None) -> Unit | None:
    """The unit, if only systemd may move this caller's processes into it. wanted: a cgroup below, as for _cgroups."""
    if not container._state.unit.get("user"):
        return None
    from pyocirun.cgroup.systemd import pulls
    from pyocirun.cgroup.unit import Unit

    unit = Unit(**container._state.unit)
    if not pulls(unit.user):
        return None
    below = [entry.rpartition(":")[2].strip("/") for entry in ([wanted] if isinstance(wanted, str) else wanted or [])]
    return replace(unit, pulls=True, subgroup="/".join(part for part in (unit.subgroup, *below[:1]) if part))


class _Agent:
    """The connection to the agent that answers system calls of the new process."""

    def __init__(self, container: Container, seccomp: Seccomp | None) -> None:
        self.container = container
        self.seccomp = seccomp
        self.fd = -1

    def connect(self, op: ops.ConnectAgent, launched: Launched) -> None:
        from pyocirun.spawn.seccomp import connect

        self.fd = connect(op.path)

    def tell(self, launched: Launched) -> Answer:
        from pyocirun.container.agent import introduction

        assert self.seccomp is not None
        fd, self.fd = self.fd, -1
        state = self.container._hook_state("running")
        return introduction(fd, launched.pid, self.seccomp.listener_metadata, state)

    def close(self) -> None:
        if self.fd >= 0:
            posix.close(self.fd)


def _given(container: Container, process: dict[str, Any]) -> Process:
    """The process of a document; labels and CPU affinity of the container are for those that have none of their own."""
    from pyocirun.spec.bundle import checked
    from pyocirun.spec.process import parse_process

    given = checked(process, lambda document: parse_process(document, ""), "process")
    base = container.spec().process if container._state.exec_reads_config else None
    if base is not None:
        names = ("exec_cpu_affinity", "apparmor_profile", "selinux_label")
        given = replace(given, **{name: getattr(base, name) for name in names if not getattr(given, name)})
    return _checked(given, "")


def _checked(process: Process, at: str) -> Process:
    """What this version, or this machine, cannot obey is refused. at: JSON pointer of the process."""
    if process.apparmor_profile or process.selinux_label:
        from pyocirun.plan.lsm import refuse_absent
        from pyocirun.spawn.probe import security_modules

        refuse_absent(process, security_modules(), at)
    if not process.cwd.startswith("/"):
        raise SpecError("Cwd must be an absolute path", pointer="/cwd")
    return process


def _user(base: Process, user: tuple[int, int | None] | None, additional_gids: list[int] | None) -> object:
    uid, gid = user if user is not None else (base.user.uid, base.user.gid)
    groups = (*base.user.additional_gids, *(additional_gids or ()))
    for id in (uid, *groups, *([] if gid is None else [gid])):
        if not 0 <= id < NO_ID:
            raise SpecError(f"{id} is no uid or gid: they go from 0 to {NO_ID - 1}", pointer="/process/user")
    return replace(base.user, uid=uid, gid=base.user.gid if gid is None else gid, additional_gids=groups)


def _more_capabilities(base: Process, more: tuple[str, ...]) -> object:
    """Added to bounding, effective and permitted; to ambient only where the configuration has inheritable ones.

    Never to inheritable: a program with file capabilities would get them too (CVE-2022-29162).
    """
    from pyocirun.spec.process import Capabilities

    sets = base.capabilities or Capabilities()
    changes = {name: (getattr(sets, name) or ()) + more for name in ("bounding", "effective", "permitted")}
    if sets.inheritable:
        changes["ambient"] = (sets.ambient or ()) + more
    return replace(sets, **changes)


def _foreign_namespaces(init: Running) -> int:
    """CLONE_NEW* of the namespaces in which init is and we are not."""
    flags = 0
    for type, file in FILES.items():
        try:
            theirs = namespace_inode(f"/proc/{init.pid}/ns/{file}")
        except PermissionError as error:
            raise _no_way_in(init, error) from None
        if theirs and theirs != namespace_inode(f"/proc/thread-self/ns/{file}"):
            flags |= FLAGS[type]
    return flags


def _setgroups_denied(pid: int) -> bool:
    try:
        return files.read(f"/proc/{pid}/setgroups").strip() == b"deny"
    except OSError:
        return False


def _open_slot(slot: Slot, init: Running) -> int:
    if slot.kind == "pidfd":
        return posix.dup(init.pidfd)
    if slot.kind == "cgroup":
        return effects.open_tasks(slot.path)
    try:
        root = posix.open(f"/proc/{init.pid}/root", posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError as error:
        raise _no_way_in(init, error) from None
    if init.ended(0):  # the pid may be another's by now
        posix.close(root)
        raise StateError("cannot exec in a stopped container", status="stopped")
    return root


def _no_way_in(init: Running, error: OSError) -> StateError:
    """For a link in init's directory of procfs: one of a process that is just being reaped says EACCES."""
    if _is_ending(init):
        return StateError("cannot exec in a stopped container", status="stopped")
    text = f"cannot enter the container: {error.filename}: {posix.strerror(error.errno or 0)}"
    hint = "it takes the privileges with which the container was created"
    return StateError(text, errno=error.errno or 0, path=str(error.filename), step="open", hint=hint)


def _is_ending(init: Running) -> bool:
    """Whether it has ended, or has given its root up: it may then wait long for others of its pid namespace."""
    try:
        posix.readlink(f"/proc/{init.pid}/root")
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return init.ended(0)


def _cgroups(container: Container, init: Running, wanted: str | list[str] | None) -> tuple[tuple[str, str], ...]:
    """(controller, directory) of the cgroups to join.

    wanted: "[CONTROLLER[,CONTROLLER]:]PATH" each, below the container's own.

    Raises CgroupError for a path that leads out of the container's cgroup, compared part by part, and for a
    controller named twice.
    """
    targets: dict[str, str] = {}
    for entry in [wanted] if isinstance(wanted, str) else wanted or []:
        names, colon, path = entry.rpartition(":")
        for name in names.split(",") if colon else [""]:
            if name in targets:
                raise CgroupError(f"--cgroup: controller {name!r} comes twice", controller=name)
            if ".." in path.split("/"):
                raise CgroupError(f"--cgroup: bad sub cgroup path: {path!r} is not a sub cgroup path", path=path)
            targets[name] = path.strip("/")
    known = container.manager.paths
    for name in targets:
        if name and name not in known:
            raise CgroupError(
                f"--cgroup: unknown controller {name!r}: the container has no cgroup of it", controller=name
            )
    if set(known) == {""} and not wanted:
        delegated = container._state.unit.get("delegated")
        return _unified(f"{known['']}/{delegated}" if delegated else known[""], init.pid)
    below = {name: targets.get(name, targets.get("", "")) for name in known}
    return tuple((name, f"{path}/{below[name]}" if below[name] else path) for name, path in known.items())


def _unified(directory: str, init: int) -> tuple[tuple[str, str], ...]:
    """The container's cgroup v2, or where its processes have made cgroups below, and so none can be in it, init's.

    () for a container that has none.
    """
    from pyocirun.cgroup.tree import BY_DESCRIPTOR, GONE, failed, processes_in, read_file, subtree

    control = f"{directory}/cgroup.subtree_control"
    try:
        if not read_file(control).split():
            return (("", directory),)
    except OSError as error:
        if error.errno in GONE:
            return ()
        raise failed(error, "cannot read", control, "") from error
    for below in subtree(directory):
        if init in processes_in(below):
            if below.startswith(BY_DESCRIPTOR):
                raise CgroupError("cannot join the cgroup of init: its path is too long", path=directory)
            return (("", below),)
    return ()
