"""create: the plan is carried out, and on any failure everything is taken back."""

from __future__ import annotations

import posix

from pyocirun import files, native
from pyocirun.container import state as states
from pyocirun.container.container import Container, empty_and_destroy
from pyocirun.container.process import Process, adopt, start_time
from pyocirun.errors import CgroupError, Error, OperationError
from pyocirun.plan import ops
from pyocirun.plan.encode import encode
from pyocirun.plan.namespaces import COURTESY
from pyocirun.record import replace
from pyocirun.spawn import effects
from pyocirun.spawn.launch import Launched, launch
from pyocirun.spawn.sync import Answer, drive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pyocirun.cgroup.manager import Manager
    from pyocirun.container.factory import Factory
    from pyocirun.container.hooks import Function
    from pyocirun.container.net import Mover
    from pyocirun.container.scope import Scope
    from pyocirun.linux.host import Host
    from pyocirun.plan.encode import Encoded
    from pyocirun.plan.request import Request
    from pyocirun.spawn.handover import Handover
    from pyocirun.spec.config import Spec


class Creation:
    """One create. The state is saved before the first side effect, so that even one that is killed can be deleted."""

    def __init__(
        self,
        factory: Factory,
        directory: states.Directory,
        spec: Spec,
        host: Host,
        request: Request,
        plan: ops.Plan,
        encoded: Encoded | None,
        state: states.State,
        functions: dict[str, tuple[Function, ...]],
        console_socket: str | None = None,
        pidfd_socket: str | None = None,
        notify: bool = False,
    ) -> None:
        self.factory = factory
        self.directory = directory
        self.spec = spec
        self.host = host
        self.request = request
        self.plan = plan
        self.encoded = encoded
        self.state = state
        self.sockets = console_socket, pidfd_socket or spec.annotations.get("run.oci.pidfd_receiver") or None
        self.notify = notify
        self.functions = functions
        self.rdt_made = False
        self.manager: Manager | None = None
        self.scope: Scope | None = None
        self.launched: Launched | None = None
        self.trees: tuple[int, ...] = ()
        self.held: Iterator[ops.HoldTree] | None = None
        self.agent = -1
        self.handover: Handover | None = None
        self.covered = -1
        self.mover: Mover | None = None
        self.before = self.prepared = state
        self.saved = b""
        self.tasks: dict[str, int] = {}

    def run(self, config: bytes, stdio: tuple[int, int, int]) -> Container:
        """Carry the plan out up to the gate. Raises Error, and leaves nothing behind then."""
        try:
            self.factory.step("encode the plan, make cgroup and state")
            encoded = self._encode()
            self._open_handover()
            # First the look at whose cgroup it is, then the state that names it: what is deleted by it is ours.
            self._select_cgroup()
            self.directory.save(self.state)
            if self.spec.hooks is not None:  # delete runs its poststop hooks, wherever we may be killed
                states.write_file(self.directory.fd, states.CONFIG, config)
            if self.notify:
                from pyocirun.container.notify import make_directory

                make_directory(self.directory.fd)
            self._before_clone()
            for name in (states.GATE, states.REPORT):
                posix.mkfifo(name, 0o600, dir_fd=self.directory.fd)
            launched = self._launch(encoded, self.handover.stdio(stdio) if self.handover else stdio, config)
            launched.close()
            master = self.handover.taken() if self.handover else -1
        except BaseException:
            self._take_back()
            raise
        finally:
            if self.handover is not None:
                self.handover.close()
            if self.mover is not None:
                self.mover.close()
        init = Process(launched.pid, launched.pidfd, master)
        adopt(self.directory.path, init)
        factory = self.factory
        return Container(
            factory.root, self.state, init, factory.warn, self.functions, factory.debug, self.saved, factory.trace
        )

    def _encode(self) -> Encoded:
        planned = self.plan
        self._compile_filter()
        if self.encoded is not None and self.plan is planned and not self._wants_stamps():
            return self.encoded
        return encode(self.plan, stamps=self._wants_stamps())

    def _compile_filter(self) -> None:
        if self.spec.linux.seccomp is not None:
            from pyocirun.spawn.seccomp import with_program

            self.plan = with_program(self.plan, self.factory.root, self.factory.debug)

    def _open_handover(self) -> None:
        terminal = self.spec.process is not None and self.spec.process.terminal
        if terminal or any(self.sockets):
            from pyocirun.spawn.handover import Handover

            self.handover = Handover(terminal, *self.sockets, "standard")

    def _launch(self, encoded: Encoded, stdio: tuple[int, int, int], config: bytes) -> Launched:
        stamps = self._make_stamps()
        self.factory.step("nsexec sets the container up")
        try:
            self._open_tasks(encoded)
            self.launched = launch(self.plan, encoded, self._open_slot, stdio, stamps, places=(self.factory.root,))
            self._prepare(config, self.launched)
            drive(self.plan, self.launched, self._effects(), self._answers(), self.factory.warn)
            return self.launched
        except OperationError as error:
            raise (self._oom_killed() if error.step == "wait" else None) or error from None
        finally:
            self._close_tasks()
            if stamps >= 0:
                from pyocirun.spawn.stamps import tell_times

                tell_times(self.plan, stamps, self.factory.debug, self.factory.trace)
            self.factory.step("finish")

    def _prepare(self, config: bytes, launched: Launched) -> None:
        """What can be done while nsexec is at work: writing what is only read, or only holds, once it is created."""
        if self.spec.hooks is None:
            states.write_file(self.directory.fd, states.CONFIG, config)
        self.before = self.state
        self.prepared = self._state_with(launched)
        self.saved = self.directory.prepare(self.prepared)

    def _state_with(self, launched: Launched) -> states.State:
        start = start_time(launched.pid)
        return replace(self.state, init_process_pid=launched.pid, init_process_start=start)

    def _wants_stamps(self) -> bool:
        return self.factory.debug is not None or self.factory.trace is not None

    def _oom_killed(self) -> Error | None:
        from pyocirun.container.oom import oom_killed

        return oom_killed(self.manager) if self.manager is not None else None

    def _make_stamps(self) -> int:
        if not self._wants_stamps():
            return -1
        from pyocirun.spawn.stamps import make_stamps

        return make_stamps()

    def _before_clone(self) -> None:
        self._tell_warnings()
        for op in self.plan.ops[: self.plan.position_of_clone()]:
            if type(op) is ops.StartUnit:
                self._start_unit(op)
            elif type(op) is ops.MakeCgroup:
                self._make_cgroup()
            elif type(op) is ops.MakeRdtGroup:
                self._make_rdt_group(op)
            elif self.manager is None:
                continue
            elif type(op) is ops.WriteCgroup:
                self.manager.write(op.writes)
            elif type(op) is ops.AttachDevices:
                self._attach_devices(op, self.manager)
            elif type(op) is ops.DelegateCgroup:
                self.manager.delegate(op.uid)

    def _make_rdt_group(self, op: ops.MakeRdtGroup) -> None:
        """The state names it before it is made. What others made is never removed in our name."""
        from pyocirun.cgroup import rdt

        own = op.own and not files.is_directory(op.path)
        self.state = replace(self.state, rdt_group=op.path, rdt_monitor=op.monitor, rdt_made=own)
        self.directory.save(self.state)
        try:
            self.rdt_made = rdt.make(op)
        except Error:
            self.state = replace(self.state, rdt_group="", rdt_monitor="", rdt_made=False)
            raise

    def _join_rdt_group(self, op: ops.JoinRdtGroup, launched: Launched) -> None:
        from pyocirun.cgroup import rdt

        rdt.join(op.path, op.monitor, launched.pid)

    def _remove_rdt_group(self) -> None:
        if self.state.rdt_group:
            from pyocirun.cgroup import rdt

            if self.state.rdt_monitor:
                rdt.remove(self.state.rdt_monitor)
            if self.rdt_made:
                rdt.remove(self.state.rdt_group)

    def _attach_devices(self, op: ops.AttachDevices, manager: Manager) -> None:
        try:
            manager.attach_devices(op.program)
        except CgroupError as error:
            if not op.optional:
                raise
            self.factory.warn(f"device rules are not in force: {error}")

    def _select_cgroup(self) -> None:
        from pyocirun.cgroup.manager import select

        for op in self.plan.ops:
            if type(op) is ops.MakeCgroup:
                lenient = self.state.rootless
                unit = self.request.unit
                manager = select(self.host, self.state.cgroup_manager, dict(op.paths), unit, lenient=lenient)
                manager.refuse_in_use()
                self.manager = manager

    def _start_unit(self, op: ops.StartUnit) -> None:
        from pyocirun.container.scope import Scope

        assert self.manager is not None
        self.scope = Scope(self.manager, self.factory.root)
        try:
            self.scope.start(op)
        except Error:
            self._disown_cgroup()
            raise

    def _make_cgroup(self) -> None:
        assert self.manager is not None
        try:
            self.manager.create()
        except Error:
            if self.scope is None:
                self._disown_cgroup()
            raise
        if self.state.rootless:
            # Those that could not be had are not the container's: exec must not look for them.
            had = {name: path for name, path in self.manager.paths.items() if files.is_directory(path)}
            self._tell_missing_cgroups(len(had))
            self.state = replace(self.state, cgroup_paths=had)

    def _disown_cgroup(self) -> None:
        """A cgroup that was refused is another's: nothing must ever remove it in our name."""
        self.manager = None
        self.state = replace(self.state, cgroup_paths={}, unit={})
        self.directory.save(self.state)

    def _tell_missing_cgroups(self, had: int) -> None:
        missing = len(self.request.cgroup_paths) - had
        if missing and self.factory.debug is not None:
            self.factory.debug(f"{missing} cgroup hierarchies are passed over: this caller may not make cgroups there")

    def _open_slot(self, slot: ops.Slot) -> int:
        if slot.kind in ("gate", "report"):
            # For reading and writing: see wait_at_gate in csrc/msg.c.
            return posix.open(slot.kind, posix.O_RDWR | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=self.directory.fd)
        if slot.kind == "output":
            return effects.open_output(slot.path)
        if slot.kind == "cgroup":
            if (fd := self.tasks.pop(slot.path, -1)) >= 0:
                return fd
            return effects.open_tasks(slot.path, lenient=self._may_lack(slot.path))
        return open_namespace(slot.path, self._type_of(slot))

    def _open_tasks(self, encoded: Encoded) -> None:
        """All files of cgroups that can be opened, in one go; for the others see _open_slot."""
        paths = [slot.path for slot in encoded.launch if slot.kind == "cgroup"]
        self.tasks = dict(zip(paths, native.each(native.OPEN, paths), strict=True))

    def _close_tasks(self) -> None:
        """Those that nobody took."""
        for fd in self.tasks.values():
            if fd >= 0:
                posix.close(fd)

    def _may_lack(self, file: str) -> bool:
        """Whether the container can do without this cgroup: it limits nothing, or the caller may not make cgroups."""
        limiting = [path for name, path in self.request.cgroup_paths if name not in COURTESY]
        return self.state.rootless or not (self.host.cgroup2_only or file.rpartition("/")[0] in limiting)

    def _type_of(self, slot: ops.Slot) -> str:
        return next(op.type for op in self.plan.ops if type(op) is ops.JoinNamespace and op.slot() == slot)

    def _effects(self) -> dict[type[ops.Op], Callable[[Any, Launched], None]]:
        return {
            ops.WriteIdMaps: self._write_id_maps,
            ops.WriteTimeOffsets: effects.write_time_offsets,
            ops.SetRlimit: effects.set_rlimit,
            ops.RunHooks: self._run_hooks,
            ops.OpenSources: self._open_sources,
            ops.ConnectAgent: self._connect_agent,
            ops.MoveNetDevices: lambda op, launched: None,  # with the socket that comes at the Sync behind it
            ops.JoinRdtGroup: self._join_rdt_group,
            ops.JoinUnit: effects.join_unit,
            ops.SaveState: self._save_state,
        }

    def _answers(self) -> dict[str, Callable[[int], Answer]]:
        uid = self.spec.process.user.uid if self.spec.process is not None else 0
        answers = self._plain_answers(uid)
        return self.handover.answers(answers, self.launched) if self.handover and self.launched else answers

    def _plain_answers(self, uid: int) -> dict[str, Callable[[int], Answer]]:
        return {
            "home": lambda fd: effects.home(fd, uid),
            "sources": lambda fd: Answer(fds=self._taken_trees()),
            "seccomp": lambda fd: self._tell_agent(),
            "copy-from": self._keep_covered,
            "map-ids": self._map_ids,
            "net-devices": self._move_net_devices,
            "copy-up": self._copy_up,
            "hooks:createContainer": lambda fd: self._state_for_hooks("creating"),
            "created": lambda fd: self._state_for_hooks("created") if self._has_start_hooks() else Answer(),
        }

    def _write_id_maps(self, op: ops.WriteIdMaps, launched: Launched) -> None:
        from pyocirun.spawn.idmap import write_maps

        factory = self.factory
        write_maps(op, launched.pid, factory.newuidmap, factory.newgidmap, factory.warn)

    def _move_net_devices(self, socket: int) -> Answer:
        from pyocirun.container.net import Mover

        self.mover = Mover(socket)
        for op in self.plan.ops:
            if type(op) is ops.MoveNetDevices:
                self.mover.move(op.devices)
        return Answer()

    def _give_devices_back(self) -> None:
        if self.mover is not None:
            self.mover.give_back()

    def _run_hooks(self, op: ops.RunHooks, launched: Launched) -> None:
        from pyocirun.container.hooks import run_hooks

        hooks = getattr(self.spec.hooks, "prestart" if op.kind == "prestart" else "create_runtime", ())
        functions = self.functions.get(op.kind, ())
        run_hooks(op.kind, hooks, functions, self._hook_state("creating"), self.state.annotations, self.factory.warn)

    def _open_sources(self, op: ops.OpenSources, launched: Launched) -> None:
        from pyocirun.spawn.sources import open_trees

        self.trees = open_trees(op.trees, launched.pid)

    def _taken_trees(self) -> tuple[int, ...]:
        trees, self.trees = self.trees, ()
        return trees

    def _map_ids(self, fd: int) -> Answer:
        from pyocirun.spawn.sources import map_held

        assert self.launched is not None
        if self.held is None:
            self.held = iter([op for op in self.plan.ops if type(op) is ops.HoldTree])
        map_held(next(self.held), fd, self.launched.pid)
        return Answer()

    def _connect_agent(self, op: ops.ConnectAgent, launched: Launched) -> None:
        from pyocirun.spawn.seccomp import connect

        self.agent = connect(op.path)

    def _tell_agent(self) -> Answer:
        from pyocirun.container.agent import introduction

        assert self.launched is not None and self.spec.linux.seccomp is not None
        agent, self.agent = self.agent, -1
        # By the time it is sent the container has been created, and started.
        state = self._hook_state("created")
        return introduction(agent, self.launched.pid, self.spec.linux.seccomp.listener_metadata, state)

    def _keep_covered(self, fd: int) -> Answer:
        self.covered = posix.dup(fd)
        return Answer()

    def _copy_up(self, fd: int) -> Answer:
        from pyocirun.linux.idmap import to_host
        from pyocirun.spawn.copyup import copy_up

        linux = self.spec.linux
        maps = linux.uid_mappings, linux.gid_mappings
        mapped = linux.namespace("user") is not None
        root = tuple([to_host(side, 0) if mapped else 0 for side in maps])
        try:
            copy_up(self.covered, fd, root, self.factory.warn)
        finally:
            self._close_covered()
        return Answer()

    def _close_covered(self) -> None:
        if self.covered >= 0:
            posix.close(self.covered)
            self.covered = -1

    def _save_state(self, op: ops.SaveState, launched: Launched) -> None:
        if self.scope is not None:
            self.scope.release()
        if self.prepared.init_process_pid == launched.pid and self.before is self.state:
            self.state = self.prepared
            self.directory.commit()
            return
        self.state = self._state_with(launched)  # it has forked, or something was found out meanwhile
        self.saved = self.directory.save(self.state)

    def _state_for_hooks(self, status: str) -> Answer:
        from pyocirun.container.hooks import state_file

        return Answer(fds=(state_file(self._hook_state(status)),))

    def _hook_state(self, status: str) -> dict[str, object]:
        assert self.launched is not None
        state = replace(self.state, init_process_pid=self.launched.pid)
        return Container(self.factory.root, state, None, self.factory.warn).hook_state(status)

    def _has_start_hooks(self) -> bool:
        return self.spec.hooks is not None and bool(self.spec.hooks.start_container)

    def _tell_warnings(self) -> None:
        from pyocirun.cgroup.manager import ignored
        from pyocirun.plan.process import warnings

        paths = dict(self.request.cgroup_paths)
        for text in (*warnings(self.spec), *ignored(self.spec.linux.resources, paths), *self._unrestricted()):
            self.factory.warn(text)

    def _unrestricted(self) -> list[str]:
        if ops.LANDLOCK not in self.spec.annotations:
            return []
        from pyocirun.plan.landlock import warnings

        return warnings(self.spec.annotations, self.host.landlock)

    def _take_back(self) -> None:
        """Everything that was done so far is undone; what fails here is a warning, the first error is what counts."""
        self._close_covered()
        if self.scope is not None:
            self.scope.close()
        for fd in (*self._taken_trees(), *([self.agent] if self.agent >= 0 else [])):
            posix.close(fd)
        ran = self.launched is not None
        steps = [
            self._give_devices_back,
            self._kill,
            self._remove_cgroup,
            self._remove_rdt_group,
            self.directory.remove,
        ]
        if ran and (self.state.poststop or self.functions.get("poststop")):
            steps.append(self._run_poststop)
        for step in steps:
            try:
                step()
            except (Error, OSError) as error:
                self.factory.warn(f"while taking back the creation of {self.state.id}: {error}")

    def _kill(self) -> None:
        if self.launched is not None:
            self.launched.close()
            effects.kill(self.launched)

    def _remove_cgroup(self) -> None:
        if self.manager is not None:
            empty_and_destroy(self.manager)

    def _run_poststop(self) -> None:
        from pyocirun.container.hooks import run_all_hooks

        hooks = getattr(self.spec.hooks, "poststop", ())
        functions = self.functions.get("poststop", ())
        state = Container(self.factory.root, self.state, None, self.factory.warn).hook_state("stopped")
        run_all_hooks("poststop", hooks, functions, state, self.state.annotations, self.factory.warn)


def open_namespace(path: str, type: str) -> int:
    """A descriptor of the namespace file at `path`. Raises OperationError if it is none of this type."""
    from pyocirun.linux.namespaces import FLAGS

    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    except OSError as error:
        text = f"cannot open the {type} namespace {path}: {error.strerror}"
        raise OperationError(text, errno=error.errno or 0, path=path, step="open") from error
    try:
        found = native.namespace_type(fd)
    except OSError:
        found = 0
    if found != FLAGS[type]:
        posix.close(fd)
        raise OperationError(
            f"cannot join the {type} namespace {path}: it is no {type} namespace", path=path, step="verify"
        )
    return fd
