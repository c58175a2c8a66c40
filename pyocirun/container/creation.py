"""create: the plan is carried out, and on any failure everything is taken back."""

from __future__ import annotations

import posix

from pyocirun import native
from pyocirun.container import state as states
from pyocirun.container.answers import Answers
from pyocirun.container.container import Container
from pyocirun.container.making import Making
from pyocirun.container.process import Process, adopt, start_time
from pyocirun.errors import Error, OperationError
from pyocirun.plan import ops
from pyocirun.plan.encode import encode
from pyocirun.plan.namespaces import COURTESY
from pyocirun.record import replace
from pyocirun.spawn import effects
from pyocirun.spawn.launch import Launched, launch
from pyocirun.spawn.sync import drive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyocirun.plan.encode import Encoded
    from pyocirun.spawn.handover import Handover


class Creation(Making):
    """One create. The state is saved before the first side effect, so that even one that is killed can be deleted."""

    answers: Answers | None = None
    launched: Launched | None = None
    handover: Handover | None = None
    saved = b""

    def run(
        self,
        config: bytes,
        stdio: tuple[int, int, int],
        encoded: Encoded | None = None,
        *,
        console_socket: str | None = None,
        pidfd_socket: str | None = None,
        notify: bool = False,
    ) -> Container:
        """Carry the plan out up to the gate. Raises Error, and leaves nothing behind then.

        config: of the bundle, as it was read.  encoded: the plan's bytes, if they are there already.
        """
        self.before = self.prepared = self.state
        self.tasks: dict[str, int] = {}
        try:
            self.factory._step("encode the plan, make cgroup and state")
            encoded = self._encode(encoded)
            self.answers = answers = Answers(self.factory, self.state.id, self.spec, self.plan, self._hook_state)
            self._open_handover(console_socket, pidfd_socket)
            # First the look at whose cgroup it is, then the state that names it: what is deleted by it is ours.
            self._select_cgroup()
            self.directory.save(self.state)
            if self.spec.hooks is not None:  # delete runs its poststop hooks, wherever we may be killed
                states.write_file(self.directory.fd, states.CONFIG, config)
            if notify:
                from pyocirun.container.notify import make_directory

                make_directory(self.directory.fd)
            self._tell_warnings()
            self._make_surroundings()
            for name in (states.GATE, states.REPORT):
                posix.mkfifo(name, 0o600, dir_fd=self.directory.fd)
            launched = self._launch(encoded, self.handover.stdio(stdio) if self.handover else stdio, config, answers)
            launched.close()
            master = self.handover.taken() if self.handover else -1
            answers.keep()
        except BaseException:
            first = [self.answers.give_back] if self.answers is not None else []
            self._take_back(*first, self._kill, ran=self.launched is not None)
            raise
        finally:
            for held in (self.handover, self.answers):
                if held is not None:
                    held.close()
        init = Process(launched.pid, launched.pidfd, master)
        adopt(self.directory.path, init)
        return Container(
            self.factory.root,
            self.state,
            init,
            self.factory.warn,
            self.functions,
            self.factory.debug,
            self.saved,
            self.factory.trace,
            fresh=True,
        )

    def _encode(self, encoded: Encoded | None) -> Encoded:
        planned = self.plan
        self._compile_filter()
        if encoded is not None and self.plan is planned and not self._wants_stamps():
            return encoded
        return encode(self.plan, stamps=self._wants_stamps())

    def _compile_filter(self) -> None:
        if self.spec.linux.seccomp is not None:
            from pyocirun.spawn.seccomp import with_program

            self.plan = with_program(self.plan, self.factory.root, self.factory.debug)

    def _open_handover(self, console_socket: str | None, pidfd_socket: str | None) -> None:
        pidfd_socket = pidfd_socket or self.spec.annotations.get("run.oci.pidfd_receiver")
        terminal = self.spec.process is not None and self.spec.process.terminal
        if terminal or console_socket or pidfd_socket:
            from pyocirun.spawn.handover import Handover

            self.handover = Handover(terminal, console_socket, pidfd_socket, "standard")

    def _launch(self, encoded: Encoded, stdio: tuple[int, int, int], config: bytes, answers: Answers) -> Launched:
        stamps = self._make_stamps()
        self.factory._step("nsexec sets the container up")
        try:
            self._open_tasks(encoded)
            self.launched = launch(self.plan, encoded, self._open_slot, stdio, stamps, places=(self.factory.root,))
            self._prepare(config, self.launched)
            self._follow(self.launched, answers)
            return self.launched
        except OperationError as error:
            raise (self._oom_killed() if error.step == "wait" else None) or error from None
        finally:
            self._close_tasks()
            if stamps >= 0:
                from pyocirun.spawn.stamps import tell_times

                tell_times(self.plan, stamps, self.factory.debug, self.factory.trace)
            self.factory._step("finish")

    def _follow(self, launched: Launched, answers: Answers) -> None:
        """The launch up to the gate."""
        own: dict[type[ops.Op], Callable[[Any, Launched], None]] = {
            ops.RunHooks: lambda op, launched: self._run_hooks(op.kind, launched.pid),
            ops.SaveState: self._save_state,
        }
        replies = answers.answers(launched)
        if self.handover is not None:
            replies = self.handover.answers(replies, launched)
        drive(self.plan, launched, {**answers.effects(), **own}, replies, self.factory.warn)

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

    def _save_state(self, op: ops.SaveState, launched: Launched) -> None:
        if self.scope is not None:
            self.scope.release()
        if self.prepared.init_process_pid == launched.pid and self.before is self.state:
            self.state = self.prepared
            self.directory.commit()
            return
        self.state = self._state_with(launched)  # it has forked, or something was found out meanwhile
        self.saved = self.directory.save(self.state)

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
        return effects.open_namespace(slot.path, self._type_of(slot))

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
        return self._may_lack_cgroups() or not (self.host.cgroup2_only or file.rpartition("/")[0] in limiting)

    def _type_of(self, slot: ops.Slot) -> str:
        return next(op.type for op in self.plan.ops if type(op) is ops.JoinNamespace and op.slot() == slot)

    def _wants_stamps(self) -> bool:
        return self.factory.debug is not None or self.factory.trace is not None

    def _make_stamps(self) -> int:
        if not self._wants_stamps():
            return -1
        from pyocirun.spawn.stamps import make_stamps

        return make_stamps()

    def _oom_killed(self) -> Error | None:
        from pyocirun.container.oom import oom_killed

        return oom_killed(self.manager, lambda: self.spec) if self.manager is not None else None

    def _kill(self) -> None:
        if self.launched is not None:
            self.launched.close()
            effects.kill(self.launched)
