"""The factory: containers of one root directory are created, loaded and listed here."""

from __future__ import annotations

import posix
import time

from pyocirun import files
from pyocirun.container import state as states
from pyocirun.container.container import Container
from pyocirun.errors import Error, IDInUse, StateError
from pyocirun.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from pyocirun.cgroup.bus import Shared
    from pyocirun.cgroup.unit import Unit
    from pyocirun.container.criu import CriuOptions
    from pyocirun.container.hooks import Function
    from pyocirun.container.inspection import Inspection
    from pyocirun.linux.host import Host
    from pyocirun.plan.encode import Encoded
    from pyocirun.plan.ops import Plan
    from pyocirun.plan.request import Request
    from pyocirun.spec.config import Spec
    from pyocirun.trace import Trace

DEFAULT_ROOT = "/run/pyocirun"

_has_created = False
"""Whether this process has made a container: a command makes one, and needs nothing that serves the next."""


class Factory:
    """Creates and loads containers whose states lie below `root`.

    root: absolute or relative path, None for /run/pyocirun.  cgroup_manager: "cgroupfs", "systemd" or "none".
    rootless: cgroups that may not be made are passed over, but for one that cgroupsPath names; None: as the caller's
    privileges are.  root_on_tmpfs: mount a tmpfs on `root` if it is not one.  newuidmap, newgidmap: programs that map
    ids for a caller who may not, looked up in PATH.  criu: the program for checkpoint and restore, a name or a path.
    warn, debug: get one line each; None: warnings go to the `warnings` module, debug nowhere.  trace: is told the steps
    of `create`, start and exec as they begin, and when nsexec did what.

    Safe to use from many threads at once; it leaves the working directory, umask, signal handlers, environment and
    other children of the process alone.
    """

    def __init__(
        self,
        root: str | None = None,
        *,
        cgroup_manager: str = "cgroupfs",
        rootless: bool | None = None,
        root_on_tmpfs: bool = False,
        criu: str = "criu",
        newuidmap: str = "newuidmap",
        newgidmap: str = "newgidmap",
        warn: Callable[[str], None] | None = None,
        debug: Callable[[str], None] | None = None,
        trace: Trace | None = None,
    ) -> None:
        self.root = files.absolute(root or DEFAULT_ROOT)
        self.cgroup_manager = cgroup_manager
        self.rootless = rootless
        self.root_on_tmpfs = root_on_tmpfs
        self.criu = criu
        self.newuidmap = newuidmap
        self.newgidmap = newgidmap
        self.warn = warn or _warn
        self.debug = debug
        self.trace = trace
        self._prepared = False
        self._bases: tuple[Host, tuple[tuple[str, str], ...]] | None = None

    def create(
        self,
        id: str,
        bundle: str | None = None,
        *,
        config: dict[str, Any] | str | None = None,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        preserve_fds: int = 0,
        no_pivot: bool = False,
        no_new_keyring: bool = False,
        terminal: bool | None = None,
        console_size: tuple[int, int] | None = None,
        console_socket: str | None = None,
        pidfd_socket: str | None = None,
        notify: bool = False,
        change: Callable[[Spec], Spec] | None = None,
        hooks: Mapping[str, Sequence[Function]] | None = None,
    ) -> Container:
        """A container in the state "created": all is set up, and its process waits for start().

        bundle: directory with config.json, None for the current one.  config: a document, or the path of another
        config.json.  stdin, stdout, stderr: descriptors for the process; None: this process's own.  preserve_fds: how
        many descriptors from 3 on the process keeps.  no_pivot: for a root on a ramfs.
        terminal: whether the process has one, None: as the configuration says; its master is in `init.terminal`, or is
        sent to console_socket.  console_size: its rows and columns, None: as the configuration says.  pidfd_socket: a
        pidfd of init is sent there.  Both are paths of stream sockets that somebody listens on.
        notify: it gets a NOTIFY_SOCKET, that Container.start listens on.
        change: gets the configuration, and returns the one to follow; exec takes its process from the first one.
        hooks: functions by kind (prestart, createRuntime, poststart, poststop), called with the state after the hooks
        of the configuration; those of the last two belong to the Container that is returned, and to no other.
        Raises InvalidID, IDInUse, SpecError, OperationError, HookError, CgroupError; then nothing is left behind.
        """
        from pyocirun.container.creation import Creation
        from pyocirun.spawn.launch import check_preserved

        states.check_id(id)
        if preserve_fds:
            check_preserved(preserve_fds)
        self._prepare()
        if notify:
            change = _with_notify(f"{self.root}/{id}", change)
        if terminal is not None or console_size is not None:
            change = _with_terminal(terminal, console_size, change)
        functions = _functions(hooks)
        with self._one_connection():
            data, spec, host, request = self._request(
                id, bundle, config, None, preserve_fds, no_pivot, no_new_keyring, change, functions
            )
            plan, encoded = self._plan(spec, host, request)
            if not files.is_directory(request.rootfs):
                raise rootfs_missing(request.rootfs)
            directory = states.make_directory(self.root, id)
            if directory is None:
                raise IDInUse(f"container with given ID already exists: {id}", id=id, path=f"{self.root}/{id}")
            stdio = (0 if stdin is None else stdin, 1 if stdout is None else stdout, 2 if stderr is None else stderr)
            with directory:
                state = self._state(spec, request, host, plan)
                creation = Creation(self, directory, spec, host, request, plan, state, functions)
                container = creation.run(
                    data, stdio, encoded, console_socket=console_socket, pidfd_socket=pidfd_socket, notify=notify
                )
        container.criu = self.criu
        return container

    def restore(
        self,
        id: str,
        image_path: str | None = None,
        bundle: str | None = None,
        options: CriuOptions | None = None,
        *,
        config: dict[str, Any] | str | None = None,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        console_socket: str | None = None,
    ) -> Container:
        """A container that goes on from where Container.checkpoint left it, running. Its init is our child.

        image_path: directory of the checkpoint's images, None for that of the options.  bundle, config: as for
        `create`; it must have the mounts of the checkpoint.  stdin, stdout, stderr: take the place of pipes that the
        process had there.  console_socket: gets the master of its terminal, which is else in `init.terminal`.
        prestart and createRuntime hooks run; those of other kinds have run before the checkpoint.
        Raises InvalidID, IDInUse, SpecError, CriuError, HookError, CgroupError; then nothing is left behind.
        """
        from pyocirun.container.criu import CriuOptions
        from pyocirun.container.restore import restore

        states.check_id(id)
        self._prepare()
        options = options or CriuOptions()
        if image_path is not None:
            options = replace(options, image_path=image_path)
        stdio = (0 if stdin is None else stdin, 1 if stdout is None else stdout, 2 if stderr is None else stderr)
        with self._one_connection():
            return restore(self, id, bundle, config, options, stdio, console_socket)

    def run(self, id: str, bundle: str | None = None, **wishes: Any) -> Container:
        """Create a container and start it: see create, which knows the wishes. If it does not start, nothing is left.

        `with factory.run(...) as container:` deletes it at the end of the block.
        """
        container = self.create(id, bundle, **wishes)
        try:
            container.start()
        except BaseException:
            container.__exit__()
            raise
        return container

    async def run_async(self, id: str, bundle: str | None = None, **wishes: Any) -> Container:
        """The same as run, in an asyncio task. If the task is cancelled meanwhile, nothing is left of the container."""
        from asyncio import CancelledError

        from pyocirun.container.tasks import to_the_end

        made: list[Container] = []
        try:
            await to_the_end(lambda: made.append(self.run(id, bundle, **wishes)))
        except CancelledError:
            for container in made:
                await container.__aexit__()
            raise
        return made[0]

    def load(self, id: str) -> Container:
        """The container with this id. Raises InvalidID, ContainerNotExist, StateError for a state that is damaged."""
        states.check_id(id)
        states.check_root(self.root)
        self._step("load the state")
        state = states.load(self.root, id)
        container = Container(self.root, state, None, self.warn, None, self.debug, trace=self.trace)
        container.criu = self.criu
        return container

    def list(self) -> list[Container]:
        """All containers, by id. One whose state cannot be read is a warning. Raises StateError if root is missing."""
        try:
            names = sorted(posix.listdir(self.root))
        except FileNotFoundError:
            raise StateError(f"the root directory {self.root} does not exist", path=self.root) from None
        if states.NET_DEVICES in names:
            self._give_net_devices_back()
        found = []
        for name in names:
            if name.startswith("@") or not files.is_directory(f"{self.root}/{name}"):
                continue
            try:
                found.append(self.load(name))
            except Error as error:
                self.warn(f"load container {name}: {error}")
        return found

    def plan(
        self,
        bundle: str | None = None,
        *,
        config: dict[str, Any] | str | None = None,
        host: Host | None = None,
        id: str = "explained",
        preserve_fds: int = 0,
        no_pivot: bool = False,
        no_new_keyring: bool = False,
    ) -> Plan:
        """What `create` and `start` would do, without doing any of it. host: None for this machine.

        Raises InvalidID, SpecError.
        """
        states.check_id(id)
        from pyocirun.plan.build import build

        return build(*self._request(id, bundle, config, host, preserve_fds, no_pivot, no_new_keyring)[1:])

    def validate(self, bundle: str | None = None, *, config: dict[str, Any] | str | None = None) -> Inspection:
        """Every fault of a configuration at once, and what this machine cannot do of it. Nothing is made or started.

        bundle, config: as for `create`. A file that cannot be read, or is no JSON, is the only fault then.
        """
        from pyocirun.container.inspection import inspect

        return inspect(bundle or ".", config, lambda document, host: self.plan(bundle, config=document, host=host))

    def remove_leftovers(self, id: str) -> bool:
        """Remove what is left of a container whose creation was cut short or whose state is damaged.

        False if there is nothing. Its processes and cgroup are found by the kept configuration, if that can be read.
        """
        from pyocirun.container.process import release

        states.check_id(id)
        states.check_root(self.root)
        try:
            directory = states.open_directory(self.root, id)
        except StateError:
            return False
        assert directory is not None
        with directory:
            try:
                container = self.load(id)
            except StateError:
                self._remove_cgroup(id)
                self._give_net_devices_back(id)
                directory.remove()
            else:
                container._destroy_locked(directory)
        release(f"{self.root}/{id}")
        return True

    def _remove_cgroup(self, id: str) -> None:
        """The cgroup of a container that has a configuration but no usable state."""
        from pyocirun.cgroup.manager import select
        from pyocirun.container.container import empty_and_destroy
        from pyocirun.spawn.probe import probe
        from pyocirun.spec.bundle import read_bundle

        try:
            spec = read_bundle(self.root, f"{self.root}/{id}/{states.CONFIG}")[2]
        except Error:
            return
        host = probe()
        found, unit = self._cgroup(id, spec, host)
        paths = dict(found)
        if any(container._state.cgroup_paths == paths for container in self.list() if container.id != id):
            return  # it is the other one's
        empty_and_destroy(select(host, self.cgroup_manager, paths, unit, lenient=self.is_rootless(host)))

    def _one_connection(self) -> _Nothing | Shared:
        """For a with statement: what is asked of systemd meanwhile, is asked on one connection."""
        if self.cgroup_manager != "systemd":
            return _Nothing()
        from pyocirun.cgroup.bus import Shared

        return Shared()

    def _step(self, name: str) -> None:
        """For the trace: it is this that takes the time from now on."""
        if self.trace is not None:
            self.trace.step(name)

    def _prepare(self) -> None:
        """The root directory is there, and safe."""
        if not self._prepared:
            states.check_root(self.root, make=True)
            if self.root_on_tmpfs:
                from pyocirun.spawn.tmpfs import mount_tmpfs

                mount_tmpfs(self.root)
            self._prepared = True
        self._give_net_devices_back()

    def _give_net_devices_back(self, id: str = "") -> None:
        """What creations that were killed have moved: of this container, or of all that are not alive."""
        if files.exists(f"{self.root}/{states.NET_DEVICES}"):
            from pyocirun.container.net_undo import give_all_back, give_back

            if id:
                give_back(self.root, id, self.warn)
            else:
                give_all_back(self.root, self.warn)

    def _plan(self, spec: Spec, host: Host, request: Request) -> tuple[Plan, Encoded | None]:
        """The plan, and its bytes if they are there already: from this process's second container on."""
        global _has_created
        if _has_created:
            from pyocirun.plan.recent import plan_and_bytes

            return plan_and_bytes(spec, host, request)
        from pyocirun.plan.build import build

        _has_created = True
        return build(spec, host, request), None

    def _request(
        self,
        id: str,
        bundle: str | None,
        config: dict[str, Any] | str | None,
        host: Host | None,
        preserve_fds: int,
        no_pivot: bool,
        no_new_keyring: bool,
        change: Callable[[Spec], Spec] | None = None,
        functions: dict[str, tuple[Function, ...]] | None = None,
    ) -> tuple[bytes, Spec, Host, Request]:
        from pyocirun.plan.ops import LANDLOCK
        from pyocirun.plan.request import Request
        from pyocirun.spawn.probe import namespace_inode, probe
        from pyocirun.spec.bundle import read_bundle, rootfs_path

        self._step("read the configuration")
        absolute, data, spec = read_bundle(bundle or ".", config)
        if change is not None:
            spec = change(spec)
        self._step("look at the machine, and make the plan")
        user = spec.linux.namespace("user") if host is None else None
        if user is not None and user.path and (spec.linux.uid_mappings or spec.linux.gid_mappings):
            from pyocirun.spawn.idmap import refuse_other_maps

            refuse_other_maps(user.path, spec.linux.uid_mappings, spec.linux.gid_mappings)
        if host is None:
            process = spec.process
            labelled = bool(spec.linux.mount_label or (process and (process.apparmor_profile or process.selinux_label)))
            host = probe(
                whole=bool(spec.linux.sysctl or spec.linux.rootfs_propagation or spec.linux.net_devices),
                security=labelled,
                rdt=spec.linux.intel_rdt is not None,
                landlock=LANDLOCK in spec.annotations,
            )
        paths, unit = self._cgroup(id, spec, host)
        request = Request(
            id,
            absolute,
            files.real(rootfs_path(absolute, spec)),
            paths,
            preserve_fds,
            no_pivot,
            no_new_keyring,
            tuple((space.type, namespace_inode(space.path)) for space in spec.linux.namespaces if space.path),
            tuple((kind, len(wanted)) for kind, wanted in (functions or {}).items()),
            unit,
        )
        return data, spec, host, request

    def _cgroup(self, id: str, spec: Spec, host: Host) -> tuple[tuple[tuple[str, str], ...], Unit | None]:
        """(controller, directory), and the unit, if systemd is to make it."""
        if self.cgroup_manager == "none":
            return (), None
        if self.cgroup_manager == "systemd":
            from pyocirun.cgroup.systemd import place

            unit, directories = place(spec.linux.cgroups_path, id, spec.annotations, host)
            return tuple(directories.items()), unit
        bases = self._bases
        if bases is not None and bases[0] is host and not spec.linux.cgroups_path:
            return tuple([(controller, base + id) for controller, base in bases[1]]), None
        from pyocirun.cgroup.manager import select
        from pyocirun.cgroup.path import cgroup_paths

        paths = cgroup_paths(spec.linux.cgroups_path, id, host)
        chosen = select(host, self.cgroup_manager, paths, lenient=self.is_rootless(host)).paths.items()
        if not spec.linux.cgroups_path and all(path.endswith(f"/{id}") for _, path in chosen):
            # The next container of this host, by the same manager, differs in the last name alone.
            self._bases = host, tuple([(controller, path[: -len(id)]) for controller, path in chosen])
        return tuple(chosen), None

    def is_rootless(self, host: Host) -> bool:
        """Whether cgroups that may not be made are passed over."""
        return not host.privileged if self.rootless is None else self.rootless

    def _state(self, spec: Spec, request: Request, host: Host, plan: Plan) -> states.State:
        """What is saved of a container before anything is made."""
        start = plan.position("start")
        return states.State(
            states.VERSION,
            request.id,
            spec.oci_version,
            request.bundle,
            request.rootfs,
            now(),
            rootless=self.is_rootless(host),
            cgroup_manager=self.cgroup_manager,
            cgroup_paths=dict(request.cgroup_paths),
            unit={name: getattr(request.unit, name) for name in type(request.unit)._fields} if request.unit else {},
            namespace_types=tuple(namespace.type for namespace in spec.linux.namespaces),
            annotations=spec.annotations,
            start_index=start,
            total=len(plan.ops),
            behind_gate=behind_gate(plan, start),
            has_process=spec.process is not None,
            exec_reads_config=_is_for_all(spec),
            poststart=spec.hooks is not None and bool(spec.hooks.poststart),
            poststop=spec.hooks is not None and bool(spec.hooks.poststop),
        )


class _Nothing:
    """For a with statement that needs none."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def _is_for_all(spec: Spec) -> bool:
    """Whether something in the configuration is for all processes of the container, those of exec among them."""
    process = spec.process
    common = process and (process.exec_cpu_affinity or process.apparmor_profile or process.selinux_label)
    return bool(common or spec.linux.personality or spec.linux.memory_policy or spec.linux.seccomp)


def behind_gate(plan: Plan, start: int) -> tuple[tuple[int, str, str, int], ...]:
    """What `start` must know of the operations behind the gate, for messages: (index, kind, text, timeout)."""
    from pyocirun.plan.ops import Exec, LandlockRestrict, LoadSeccomp, RunHook

    found: list[tuple[int, str, str, int]] = []
    for index, op in enumerate(plan.ops[start + 1 :], start + 1):
        if isinstance(op, RunHook):
            found.append((index, "hook", op.path, op.timeout or 0))
        elif isinstance(op, Exec):
            found.append((index, "exec", op.args[0], 0))
        elif isinstance(op, LoadSeccomp):
            found.append((index, "seccomp", "", 0))
        elif isinstance(op, LandlockRestrict):
            found.append((index, "landlock", "", 0))
    return tuple(found)


def _with_notify(directory: str, change: Callable[[Spec], Spec] | None) -> Callable[[Spec], Spec]:
    """`change`, and after it what with_notify adds."""
    from pyocirun.container.notify import with_notify

    return lambda spec: with_notify(change(spec) if change is not None else spec, directory)


def _with_terminal(
    terminal: bool | None, size: tuple[int, int] | None, change: Callable[[Spec], Spec] | None
) -> Callable[[Spec], Spec]:
    """`change`, and after it these two of process."""
    from pyocirun.spec.process import with_terminal

    def both(spec: Spec) -> Spec:
        spec = change(spec) if change is not None else spec
        if spec.process is None:
            return spec
        return replace(spec, process=with_terminal(spec.process, terminal, size))

    return both


def _functions(hooks: Mapping[str, Sequence[Function]] | None) -> dict[str, tuple[Function, ...]]:
    if not hooks:
        return {}
    from pyocirun.container.hooks import check_functions

    return check_functions(hooks)


def rootfs_missing(path: str) -> Error:
    """The error for a root.path that is no directory."""
    from pyocirun.errors import SpecError

    text = f"/root/path: the rootfs {path} is not there, or no directory: no such file or directory"
    return SpecError(text, pointer="/root/path", errno=2, path=path)


def now() -> str:
    """The time, as RFC 3339 with nanoseconds in UTC."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds:09d}Z"


def _warn(message: str) -> None:
    import warnings

    warnings.warn(message, stacklevel=3)
