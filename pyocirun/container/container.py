"""A container: what its state says, and what can be done with it."""

from __future__ import annotations

import posix

from pyocirun import files
from pyocirun.container import state as states
from pyocirun.container.process import Process, await_end, child, open_process, release, shell_status
from pyocirun.errors import CgroupError, Error, StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyocirun.cgroup.events import Notices
    from pyocirun.cgroup.manager import Manager
    from pyocirun.cgroup.stats import Stats
    from pyocirun.container.criu import CriuOptions
    from pyocirun.container.events import Events
    from pyocirun.container.hooks import Function
    from pyocirun.container.state import Directory, State
    from pyocirun.spec.config import Spec
    from pyocirun.spec.hooks import Hook
    from pyocirun.trace import Trace

SIGKILL = 9
KILL_SECONDS = 10.0
KILL_ROUNDS = 40
"""How often it is tried: while one process of the container dies another may freeze a third."""


class Container:
    """A container of a Factory. Attributes are those of its saved state; what may change is asked for anew.

    id.  bundle, rootfs: absolute paths.  created: RFC 3339 with nanoseconds.  annotations.  oci_version: of its
    configuration.  init: its first process, a child of ours if we created it; None if it was loaded and has ended.
    criu: the program for checkpoint, a name or a path.
    """

    criu = "criu"

    def __init__(
        self,
        root: str,
        state: State,
        init: Process | None,
        warn: Callable[[str], None],
        functions: dict[str, tuple[Function, ...]] | None = None,
        debug: Callable[[str], None] | None = None,
        saved: bytes = b"",
        trace: Trace | None = None,
        fresh: bool = False,
    ) -> None:
        """fresh: created just now, so that nobody has started it."""
        self._saved = saved  # state.json as it was seen last: what is still the same is not parsed again
        self._functions = functions or {}
        self._root = root
        self._state = state
        self._warn = warn
        self._debug = debug
        self._trace = trace
        if init is None:
            init = child(f"{root}/{state.id}", state.init_process_pid)
        self.init = init if init is not None else open_process(state.init_process_pid, state.init_process_start)
        self._awaits_start = fresh

    @property
    def _path(self) -> str:
        return f"{self._root}/{self._state.id}"

    @property
    def id(self) -> str:
        return self._state.id

    @property
    def bundle(self) -> str:
        return self._state.bundle

    @property
    def rootfs(self) -> str:
        return self._state.rootfs

    @property
    def created(self) -> str:
        return self._state.created

    @property
    def annotations(self) -> dict[str, str]:
        return dict(self._state.annotations)

    @property
    def oci_version(self) -> str:
        return self._state.oci_version

    @property
    def owner(self) -> str:
        """The name of the user whose container it is; "#UID" where it has none."""
        uid = posix.stat(self._path, follow_symlinks=False).st_uid
        import pwd

        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return f"#{uid}"

    @property
    def pid(self) -> int:
        """Process id of init, 0 if the container has stopped."""
        return self.init.pid if self.init is not None and not self.init.ended(0) else 0

    @property
    def status(self) -> str:
        """ "creating", "created", "running", "paused" or "stopped". Spec: runtime.md#state"""
        if self._state.init_process_pid == 0:
            return "creating" if self._being_created() else "stopped"
        if not self.pid:
            return "stopped"
        if self._frozen():
            return "paused"
        return "created" if self._waits_at_gate() else "running"

    @property
    def exit_status(self) -> int | None:
        """How init ended, as `wait` has it; None while it runs, and where nobody knows.

        Who has waited for it knows it, and after `note_exit_status` everybody.
        """
        if self.init is not None and self.init.exit_status is not None:
            return self.init.exit_status
        from pyocirun.container.exit_status import noted

        return noted(self._path) if not self.pid else None

    def state(self) -> dict[str, object]:
        """The state as the specification has it, ready for JSON. Spec: runtime.md#state

        Of a stopped container, where it is known: exitStatus, with 128 + the signal that ended it.
        """
        status = self.status
        shown: dict[str, object] = {
            "ociVersion": self._state.oci_version,
            "id": self.id,
            "pid": 0 if status == "stopped" else self.pid,
            "status": status,
            "bundle": self.bundle,
            "rootfs": self.rootfs,
            "created": self.created,
        }
        if self._state.annotations:
            shown["annotations"] = self.annotations
        if status == "stopped" and (ended := self.exit_status) is not None:
            shown["exitStatus"] = shell_status(ended)
        return {**shown, "owner": ""}

    def start(self, *, notify_socket: str | None = None, notify_in_background: bool = False) -> None:
        """Let the process of a created container begin; returns when execve(2) has happened.

        notify_socket: address of a service manager's socket (sd_notify(3)), for a container that was created with
        `notify`: this returns when the process says that it is ready, or has ended. notify_in_background: a thread
        waits for that.
        Raises StateError if it is not "created", OperationError or HookError for what fails behind the gate. A
        poststart hook that fails stops and deletes the container.
        """
        notify = None
        self._step("lock the container, and look at it")
        with self._locked():
            self._refuse_start()
            if notify_socket and files.is_directory(f"{self._path}/{states.NOTIFY}"):
                from pyocirun.container.notify import Notify

                notify = Notify(self._path, self._warn)
            try:
                self._open_gate()
            except BaseException:
                if notify is not None:
                    notify.close()
                raise
        self._awaits_start = False
        self._step("finish")
        if self._state.poststart or self._functions.get("poststart"):
            self._step("poststart hooks")
            self._run_poststart()
        if notify is not None and notify_socket and self.init is not None:
            self._step("wait for READY")
            if notify_in_background:
                notify.run_in_background(notify_socket, self.init)
            else:
                notify.run(notify_socket, self.init)

    def exec(
        self,
        process: dict[str, Any] | None = None,
        *,
        args: list[str] | None = None,
        env: list[str] | tuple[str, ...] = (),
        cwd: str | None = None,
        user: tuple[int, int | None] | None = None,
        additional_gids: list[int] | None = None,
        capabilities: list[str] | tuple[str, ...] = (),
        no_new_privileges: bool = False,
        apparmor_profile: str | None = None,
        selinux_label: str | None = None,
        terminal: bool | None = None,
        console_size: tuple[int, int] | None = None,
        console_socket: str | None = None,
        pidfd_socket: str | None = None,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        preserve_fds: int = 0,
        cgroup: str | list[str] | None = None,
        ignore_paused: bool = False,
    ) -> Process:
        """Start one more process in the container; returns when execve(2) has happened.

        process: as config.json has it; None: the container's own, with what the other arguments change.
        user: (uid, gid), None for the gid leaves it as it is.  capabilities: added to bounding, effective, permitted.
        additional_gids: added to those that it has.  no_new_privileges: False leaves it as it is.
        stdin, stdout, stderr: descriptors, None for this process's own.  preserve_fds: descriptors from 3 on.
        terminal: whether it has one; None: as `process` says, else it has none.  console_size: its rows and columns.
        Its master is in the Process's `terminal`, or is sent to console_socket; a pidfd is sent to pidfd_socket.
        Raises StateError for a container that has stopped or is paused, SpecError, OperationError.
        """
        from pyocirun.container import tenant
        from pyocirun.spawn.launch import check_preserved

        check_preserved(preserve_fds)
        self._step("read the process")
        self._refuse_exec(ignore_paused)
        wanted = tenant.wanted_process(
            self,
            process,
            args,
            env,
            cwd,
            user,
            additional_gids,
            capabilities,
            no_new_privileges,
            apparmor_profile,
            selinux_label,
        )
        wanted = tenant.with_terminal(wanted, terminal, console_size)
        stdio = (0 if stdin is None else stdin, 1 if stdout is None else stdout, 2 if stderr is None else stderr)
        return tenant.start(self, wanted, stdio, preserve_fds, cgroup, console_socket, pidfd_socket)

    def kill(self, signal: int = 15, *, all: bool = False) -> None:
        """Send a signal to init; all: to every process of the container.

        SIGKILL reaches every process where they share a pid namespace with others, and ends a paused container.
        Raises StateError "container not running" if it has stopped.
        """
        shared = "pid" not in self._state.namespace_types
        if all or (signal == SIGKILL and shared):
            with self._locked():
                self._kill_all(signal)
            return
        if self.init is None:
            raise self._not_running()
        try:
            self.init.signal(signal)
        except ProcessLookupError:
            raise self._not_running() from None
        if signal == SIGKILL:
            self._thaw_killed()

    def pause(self) -> None:
        """Freeze every process of the container; returns when all stand still.

        Raises StateError unless it is created or running, CgroupError.
        """
        with self._locked():
            status = self.status
            if status == "paused":
                raise StateError(f"container {self.id!r}: container paused", id=self.id, status=status)
            if status not in ("created", "running"):
                text = f"container {self.id!r}: container not running or created: {status}"
                raise StateError(text, id=self.id, status=status)
            self.manager.freeze()

    def resume(self) -> None:
        """Let the processes of a paused container go on. Raises StateError "container not paused", CgroupError."""
        with self._locked():
            status = self.status
            if status != "paused":
                raise StateError(f"container {self.id!r}: container not paused", id=self.id, status=status)
            self.manager.thaw()

    def update(self, resources: dict[str, Any]) -> None:
        """Change limits. resources: linux.resources as config.json has it; what it does not name stays.

        Device rules are left alone. Lists by block device are changed device by device. If something cannot be
        written, all old values are back, and the saved configuration is the old one too. Spec: config-linux.md
        Raises SpecError, StateError if it has stopped, CgroupError.
        """
        from pyocirun.container.update import update

        update(self, resources)

    def checkpoint(self, options: CriuOptions | None = None) -> None:
        """Write the processes of a running or paused container to files, from which Factory.restore makes them again.

        After that the container is gone as by delete(), poststop hooks included, unless the options say otherwise
        (leave_running, pre_dump). Raises StateError, UsageError, SpecError, CriuError; then it goes on as before.
        """
        from pyocirun.container.checkpoint import dump
        from pyocirun.container.criu import CriuOptions

        options = options or CriuOptions()
        with self._locked() as directory:
            dump(self, options)
            if options.leave_running or options.pre_dump:
                return
            hooks = self._hooks("poststop") if self._state.poststop else ()
            self._destroy_locked(directory)
        self._run_poststop(hooks)

    def stats(self) -> Stats:
        """What the container uses, and has used. Raises StateError if it has stopped, CgroupError."""
        self._refuse_stopped()
        return self._readings()

    def events(self, interval: float | None = 5.0) -> Events:
        """What happens from now on until the container ends: an iterator, and an asynchronous one.

        interval: seconds between readings, None for none.  Raises StateError if it has stopped, CgroupError.
        """
        from pyocirun.container.events import Events
        from pyocirun.errors import UsageError

        if interval is not None and interval <= 0:
            raise UsageError("the interval of events must be greater than 0")
        self._refuse_stopped()
        assert self.init is not None
        return Events(self.id, self.manager, self._readings, self.init, interval, self._warn)

    def notify_oom(self) -> Notices:
        """A notice for each process that the kernel kills for lack of memory. Raises StateError, CgroupError."""
        self._refuse_stopped()
        return self.manager.oom_notices()

    def notify_memory_pressure(self, level: str = "medium") -> Notices:
        """Notices of memory pressure: "low", "medium" or "critical". Raises StateError, CgroupError.

        low: memory is reclaimed.  medium: the container waits for it.  critical: the kernel is about to kill.
        """
        self._refuse_stopped()
        return self.manager.pressure_notices(level)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of init: see Process.wait."""
        if self.init is None:
            if (noted := self.exit_status) is not None:
                return noted
            text = f"the exit status of container {self.id} is not known: it ended before it was loaded"
            raise StateError(text, id=self.id, status="stopped")
        await_end(self.init, self._path, timeout)
        return self.init.wait(0 if timeout is not None else None)

    async def wait_async(self, timeout: float | None = None) -> int:
        """The same as wait, in an asyncio task."""
        if self.init is not None:
            from pyocirun.container.tasks import await_end

            await await_end(self.init, self._path, timeout)
        return self.wait(0)

    def note_exit_status(self) -> None:
        """After `wait`: keep what it returned beside the state, until the container is deleted.

        Does nothing if it has been. Raises StateError.
        """
        from pyocirun.container.exit_status import note
        from pyocirun.errors import ContainerNotExist

        if (status := self.exit_status) is None:
            return
        try:
            with self._locked() as directory:
                note(directory, status)
        except ContainerNotExist:
            return

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        """At the end of a `with` block nothing of the container is left, whether it still runs or not."""
        from pyocirun.errors import ContainerNotExist

        try:
            self.delete(force=True)
        except ContainerNotExist:
            pass  # the block has deleted it

    async def __aenter__(self) -> Container:
        return self

    async def __aexit__(self, *_: object) -> None:
        """The same in an asyncio task: also when it is cancelled, nothing is left. The loop goes on meanwhile."""
        from pyocirun.container.tasks import to_the_end

        await to_the_end(self.__exit__)

    def delete(self, *, force: bool = False) -> None:
        """Remove what the container holds: processes, cgroup, state; then poststop hooks run.

        force: kill it first.  Without force only a stopped container goes, and a created one, as with runc. A second
        call finds nothing: ContainerNotExist. Raises StateError, CgroupError; then it can be tried again.
        """
        if force and self.init is not None and not self.init.ended(0):
            # Before the lock: who holds it may be waiting for a hook behind the gate that never ends.
            self._signal_init(self.init)
        with self._locked() as directory:
            status = self.status
            if not force and status not in ("stopped", "created"):
                why = {"running": "container still running", "paused": "container paused"}.get(status, status)
                text = f"cannot delete container {self.id} that is not stopped: {why}"
                raise StateError(text, id=self.id, status=status)
            hooks = self._hooks("poststop") if self._state.poststop else ()
            self._destroy_locked(directory)
        self._run_poststop(hooks)

    def processes(self) -> list[int]:
        """The pids of all processes of the container, in all its cgroups, ascending.

        Raises CgroupError while it runs without a cgroup: then nobody knows them.
        """
        manager = self.manager
        if not manager.paths and self.status != "stopped":
            from pyocirun.cgroup.none import nothing

            raise nothing("cannot tell the processes", self._without)
        return manager.all_pids()

    @property
    def manager(self) -> Manager:
        """The cgroup manager of the container."""
        from pyocirun.cgroup.manager import load

        state = self._state
        return load(state.cgroup_paths, state.unit, lenient=state.rootless, without=self._without)

    @property
    def _without(self) -> str:
        """The id, unless no cgroup was wanted: if there is none nevertheless, it could not be made."""
        return "" if self._state.cgroup_manager == "none" else self.id

    def spec(self) -> Spec:
        """The configuration as it was when the container was created."""
        from pyocirun.spec.bundle import read_bundle

        return read_bundle(self.bundle, f"{self._path}/{states.CONFIG}")[2]

    # What follows serves the methods above.

    def _hook_state(self, status: str) -> dict[str, object]:
        """What hooks get on stdin. Spec: runtime.md#state"""
        state = self._state
        shown: dict[str, object] = {
            "ociVersion": state.oci_version,
            "id": state.id,
            "status": status,
            "pid": 0 if status == "stopped" else state.init_process_pid,
            "bundle": state.bundle,
        }
        return {**shown, "annotations": state.annotations} if state.annotations else shown

    def _step(self, name: str) -> None:
        """For the trace: it is this that takes the time from now on."""
        if self._trace is not None:
            self._trace.step(name)

    def _locked(self) -> Directory:
        """The locked directory, if it is still this container's: another one may have its id by now."""
        directory = states.open_directory(self._root, self.id)
        assert directory is not None
        try:
            saved = states.read(directory.fd, self._root, self.id)
            if saved != self._saved and states.parse(saved, self.id).created != self.created:
                raise states.not_exist(self.id)
        except BaseException:
            directory.close()
            raise
        self._saved = saved
        return directory

    def _being_created(self) -> bool:
        """Whether somebody holds the lock: who creates it does until it is created."""
        try:
            directory = states.open_directory(self._root, self.id, wait=False)
        except StateError:
            return False
        if directory is not None:
            directory.close()
        return directory is None

    def _waits_at_gate(self) -> bool:
        try:
            fd = posix.open(f"{self._path}/{states.GATE}", posix.O_WRONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
        except OSError:
            return False
        posix.close(fd)
        return True

    def _frozen(self) -> bool:
        paths = self._state.cgroup_paths
        if "freezer" in paths:
            file = f"{paths['freezer']}/freezer.state"
        elif len(paths) == 1 and "" in paths:
            file = f"{paths['']}/cgroup.freeze"
        else:
            return False
        try:
            fd = posix.open(file, posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:
            return False
        try:
            return posix.read(fd, 16).strip() in (b"FROZEN", b"FREEZING", b"1")
        except OSError:
            return False  # it was removed meanwhile
        finally:
            posix.close(fd)

    def _refuse_start(self) -> None:
        status = self.status
        if status == "created":
            if not self._state.has_process:
                raise StateError("cannot start a container without a process in its configuration", id=self.id)
            return
        if self._awaits_start and (killed := self._oom_killed()) is not None:
            raise killed
        texts = {
            "stopped": "cannot start a container that has stopped",
            "running": "cannot start an already running container",
        }
        raise StateError(
            texts.get(status, f"cannot start a container in the {status} state"), id=self.id, status=status
        )

    def _refuse_exec(self, ignore_paused: bool) -> None:
        status = self.status
        if status in ("stopped", "creating"):
            raise StateError(f"cannot exec in a {status} container", id=self.id, status=status)
        if status == "paused" and not ignore_paused:
            text = "cannot exec in a paused container (use --ignore-paused to override)"
            raise StateError(text, id=self.id, status=status)

    def _refuse_stopped(self) -> None:
        status = self.status
        if status in ("stopped", "creating"):
            raise StateError(f"container with id {self.id} is not running", id=self.id, status=status)

    def _not_running(self) -> StateError:
        return StateError(f"container {self.id!r}: container not running", id=self.id, status="stopped")

    def _open_gate(self) -> None:
        from pyocirun.spawn.gate import open_gate

        assert self.init is not None
        self._step("open the gate")
        open_gate(self._path, self._state, self.init, self._oom_killed, self._trace)

    def _readings(self) -> Stats:
        stats = self.manager.stats()
        if not self._state.rdt_group:
            return stats
        from pyocirun.cgroup.rdt_stats import read
        from pyocirun.record import replace

        return replace(stats, rdt=read(self._state.rdt_group, self._state.rdt_monitor))

    def _oom_killed(self) -> Error | None:
        from pyocirun.container.oom import oom_killed

        return oom_killed(self.manager, self.spec)

    def _run_poststart(self) -> None:
        from pyocirun.container.hooks import run_hooks

        try:
            hooks = self._hooks("poststart") if self._state.poststart else ()
            functions = self._functions.get("poststart", ())
            run_hooks("poststart", hooks, functions, self._hook_state("running"), self._state.annotations, self._warn)
        except Error:
            self.delete(force=True)
            raise

    def _run_poststop(self, hooks: tuple[Hook, ...]) -> None:
        """The container is gone; its hooks were read before."""
        functions = self._functions.get("poststop", ())
        if hooks or functions:
            from pyocirun.container.hooks import run_all_hooks

            annotations = self._state.annotations
            run_all_hooks("poststop", hooks, functions, self._hook_state("stopped"), annotations, self._warn)

    def _hooks(self, kind: str) -> tuple[Hook, ...]:
        try:
            hooks = self.spec().hooks
        except Error as error:
            self._warn(f"the hooks of container {self.id} cannot be read: {error}")
            return ()
        return getattr(hooks, kind) if hooks is not None else ()

    def _kill_all(self, signal: int) -> None:
        manager = self.manager
        if not manager.all_pids():
            if self.init is None or self.init.ended(0):
                raise self._not_running()
            if self._without and not manager.paths and "pid" not in self._state.namespace_types:
                from pyocirun.cgroup.none import nothing

                self._warn(str(nothing("the signal reaches init alone", self._without)))
            self.init.signal(signal)
            return
        manager.kill(signal)

    def _destroy_locked(self, directory: Directory) -> None:
        """Kill what is left, then the cgroup, then the state: so that what fails can be tried again.

        For a caller that holds the lock, which is what directory stands for.
        """
        if self.init is not None and not self.init.ended(0):
            self._kill_init(self.init)
        self._destroy_cgroup()
        self._remove_rdt_group()
        if self.init is not None:
            self.init.reap()
        self._give_net_devices_back()
        directory.remove()
        release(self._path)

    def _give_net_devices_back(self) -> None:
        if files.exists(f"{self._root}/{states.NET_DEVICES}"):
            from pyocirun.container.net_undo import give_back

            give_back(self._root, self.id, self._warn)

    def _remove_rdt_group(self) -> None:
        state = self._state
        if state.rdt_made or state.rdt_monitor:
            from pyocirun.cgroup.rdt import remove

            for path in (state.rdt_monitor, state.rdt_group if state.rdt_made else ""):
                if path:
                    remove(path)

    def _destroy_cgroup(self) -> None:
        """With its init, everything in a pid namespace has ended, so there is nobody to look for in the cgroup."""
        manager = self.manager
        if "pid" in self._state.namespace_types and self._state.init_process_pid:
            try:
                manager.destroy()
                return
            except CgroupError:
                pass  # somebody put another process there
        empty_and_destroy(manager)

    def _signal_init(self, init: Process) -> None:
        try:
            init.signal(SIGKILL)
        except ProcessLookupError:
            return
        self._thaw_killed()

    def _thaw_killed(self) -> None:
        """What is frozen on cgroup v1 does not end by SIGKILL, also where the container has frozen it itself."""
        if self._frozen():
            self.manager.thaw()
        freezer = self._state.cgroup_paths.get("freezer")
        if freezer and files.has_directories(freezer):
            from pyocirun.cgroup.fs import thaw_below

            thaw_below(freezer)

    def _kill_init(self, init: Process) -> None:
        for _ in range(KILL_ROUNDS):
            self._signal_init(init)
            if await_end(init, self._path, KILL_SECONDS / KILL_ROUNDS):
                return
        text = f"container {self.id}: init (pid {init.pid}) does not end on SIGKILL"
        raise StateError(text, id=self.id, hint="is it in an uninterruptible system call? see /proc/PID/stack")


def empty_and_destroy(manager: Manager) -> None:
    """Kill what is in a cgroup and remove it. Raises CgroupError."""
    if not manager.exists():
        return
    if manager.all_pids():
        manager.kill(SIGKILL)
    manager.destroy()
