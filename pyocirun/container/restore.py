"""restore: a container comes back from the images of a checkpoint, with a new cgroup and the mounts it had."""

from __future__ import annotations

import json
import posix

from pyocirun import files
from pyocirun.container import criu_rpc as rpc
from pyocirun.container import external
from pyocirun.container import state as states
from pyocirun.container.checkpoint import DESCRIPTORS, EXTERNAL_KEYS, EXTERNAL_SINCE
from pyocirun.container.container import Container
from pyocirun.container.criu import Criu, CriuOptions, Refused, Run, check, common, open_directory, with_log
from pyocirun.container.making import Making
from pyocirun.container.process import Process, adopt, start_time
from pyocirun.errors import CriuError
from pyocirun.linux.namespaces import FILES
from pyocirun.plan import criu as plans
from pyocirun.plan.ops import JoinRdtGroup, passed_number
from pyocirun.record import replace
from pyocirun.spawn import effects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

    from pyocirun.container.criu_rpc import Field, Value
    from pyocirun.container.external import Entry
    from pyocirun.container.factory import Factory

LOG = "restore.log"
LSM_SINCE = 31600


class Restoration(Making):
    """One restore. What there is around a container is made as create makes it, and taken back as there."""

    options: CriuOptions
    init: Process | None = None
    images: int = -1
    work: int = -1
    console: socket | None = None
    master: int = -1
    told: list[tuple[int, str]]
    found: list[Entry]

    def restore(
        self, config: bytes, stdio: tuple[int, int, int], options: CriuOptions, console_socket: str | None
    ) -> Container:
        """The container, running. Raises Error, and leaves nothing behind then."""
        self.options = options
        try:
            if console_socket:
                from pyocirun.spawn.handover import connect

                self.console = connect(console_socket, "console socket")
            criu = self._criu()
            self._read_images()
            self._select_cgroup()
            self.directory.save(self.state)
            states.write_file(self.directory.fd, states.CONFIG, config)
            self._tell_warnings()
            self._make_surroundings()
            self._make_mount_points()
            self._ask(criu, stdio)
        except BaseException:
            self._take_back(self._kill)
            raise
        finally:
            for fd in (self.images, self.work, self.master):
                if fd >= 0:
                    posix.close(fd)
            if self.console is not None:
                self.console.close()
        assert self.init is not None
        adopt(self.directory.path, self.init)
        return Container(
            self.factory.root, self.state, self.init, self.factory.warn, self.functions, self.factory.debug
        )

    def _criu(self) -> Criu:
        options = self.options
        check(options)
        plans.refuse_unrestorable(self.spec)
        criu = Criu(self.factory.criu, self.factory.warn)
        criu.require(30000, "a restore")
        if options.lsm_profile:
            criu.require(LSM_SINCE, "--lsm-profile")
        if options.lsm_mount_context:
            criu.require(LSM_SINCE, "--lsm-mount-context")
        if options.lazy_pages:
            criu.require_feature(rpc.LAZY_PAGES, "a restore with lazy pages")
        return criu

    def _read_images(self) -> None:
        options = self.options
        self.images = open_directory(options.image_path)
        self.work = open_directory(options.work_path, make=0o700) if options.work_path else -1
        document = self._document(external.MOUNTS)
        self.found = external.from_document(document, f"{options.image_path}/{external.MOUNTS}")
        paths = dict(self.request.cgroup_paths)
        self.told = external.sources(self.found, self.spec, self.request.bundle, paths)
        external.refuse_links(self.found, self.request.rootfs)

    def _document(self, name: str) -> Any:
        path = f"{self.options.image_path}/{name}"
        try:
            fd = posix.open(name, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW, dir_fd=self.images)
        except OSError as error:
            text = f"cannot read {path}: {posix.strerror(error.errno or 0).lower()}"
            hint = "a checkpoint is restored by the runtime that made it, and not from a pre-dump"
            raise CriuError(text, errno=error.errno or 0, path=path, hint=hint) from error
        with open(fd, encoding="utf-8") as file:
            try:
                return json.load(file)
            except ValueError as error:
                raise CriuError(f"{path} is damaged: {error}", path=path) from None

    def _make_mount_points(self) -> None:
        from pyocirun.plan.encode import encode
        from pyocirun.spawn.effects import kill
        from pyocirun.spawn.launch import launch
        from pyocirun.spawn.sync import drive

        plan = plans.mount_points(self.spec, self.host, self.request)
        nothing = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
        try:
            launched = launch(plan, encode(plan), lambda slot: -1, (nothing, nothing, nothing))
        finally:
            posix.close(nothing)
        try:
            drive(plan, launched, {}, {}, self.factory.warn)
        finally:
            launched.close()
            kill(launched)

    def _ask(self, criu: Criu, stdio: tuple[int, int, int]) -> None:
        descriptors = self._document(DESCRIPTORS)
        inherited, joined = self._namespaces(criu)
        inherited_fds = tuple([(f"the {name} namespace", fd) for name, fd in inherited])
        # criu itself is in the cgroup, for whatever it does not move. Its answer is that the restored process runs.
        try:
            with Run(criu, stdio, inherited_fds, self.request.rootfs, self.spec.root.readonly) as run:
                if self.manager is not None:
                    self.manager.join(run.pid)
                self._enter_directories(run.pid)
                passed = [(EXTERNAL_KEYS[name][1], passed_number(1 + i)) for i, (name, _) in enumerate(inherited)]
                passed += [(text, fd) for fd, text in enumerate(descriptors) if str(text).startswith("pipe:")]
                values = self._options(_cgroup_roots(run.pid), passed, joined)
                request: list[Field] = [(rpc.REQUEST_TYPE, rpc.RESTORE), (rpc.REQUEST_OPTIONS, rpc.options(values))]
                run.ask(request, self._notified)
        except Refused as error:
            raise with_log(error, self.options.work_path or self.options.image_path, LOG) from error

    def _enter_directories(self, pid: int) -> None:
        """The same directories as criu's own mount namespace has them: it mounts in there, by our descriptors."""
        self.images, old = _as_seen_by(pid, self.options.image_path), self.images
        posix.close(old)
        if self.work >= 0:
            self.work, old = _as_seen_by(pid, self.options.work_path), self.work
            posix.close(old)

    def _options(
        self, cgroups: list[tuple[str, str]], passed: list[tuple[str, int]], joined: list[tuple[str, str]]
    ) -> dict[str, Value | tuple[Value, ...]]:
        options = self.options
        return {
            **common(options, self.spec.annotations, LOG),
            "images_dir_fd": self.images,
            "work_dir_fd": self.work if self.work >= 0 else None,
            "root": self.request.rootfs,
            "evasive_devices": True,
            "rst_sibling": True,
            "lsm_profile": options.lsm_profile or None,
            "lsm_mount_context": options.lsm_mount_context or None,
            "cg_root": tuple([(1, name), (2, path)] for name, path in cgroups),
            "inherit_fd": tuple([(1, name), (2, fd)] for name, fd in passed),
            "join_ns": tuple([(1, file), (2, path)] for file, path in joined),
            "ext_mnt": tuple([(1, external.key(index)), (2, source)] for index, source in self.told),
            "veths": tuple([(1, inside), (2, outside)] for inside, outside in options.veth_pairs),
        }

    def _namespaces(self, criu: Criu) -> tuple[list[tuple[str, int]], list[tuple[str, str]]]:
        """(type, descriptor) of those that criu is given, and (file, path) of those that it joins by itself."""
        given: list[tuple[str, int]] = []
        joined: list[tuple[str, str]] = []
        try:
            for space in self.spec.linux.namespaces:
                if space.path is None:
                    continue
                if space.type in EXTERNAL_KEYS:
                    criu.require(EXTERNAL_SINCE[space.type], f"a restore into a {space.type} namespace of others")
                    given.append((space.type, effects.open_namespace(space.path, space.type)))
                else:
                    joined.append((FILES[space.type], space.path))
        except BaseException:
            for _, fd in given:
                posix.close(fd)
            raise
        return given, joined

    def _notified(self, script: str, pid: int, fd: int) -> None:
        if script == "setup-namespaces":
            for kind in ("prestart", "createRuntime"):
                self._run_hooks(kind, pid)
        elif script == "orphan-pts-master" and fd >= 0:
            self._hand_over(fd)
        elif script == "post-restore":
            self._restored(pid)

    def _hand_over(self, fd: int) -> None:
        if self.console is not None:
            from pyocirun.spawn.handover import MASTER, send_descriptor

            send_descriptor(self.console, MASTER, fd, "console socket")
        elif self.master < 0:
            from pyocirun.spawn.terminal import keep_newlines

            self.master = posix.dup(fd)
            posix.set_inheritable(self.master, False)
            keep_newlines(self.master)

    def _restored(self, pid: int) -> None:
        """All is there, and nothing runs yet: the last moment to refuse."""
        init = Process(pid, posix.pidfd_open(pid), self.master)
        self.master = -1
        self.init = init
        external.compare(self.found, self.told, pid)
        if self.scope is not None:
            self.scope.release()
        self._join_group(pid)
        start = start_time(pid)
        self.state = replace(self.state, init_process_pid=pid, init_process_start=start)
        self.directory.save(self.state)

    def _join_group(self, pid: int) -> None:
        for op in self.plan.ops:
            if type(op) is JoinRdtGroup:
                from pyocirun.cgroup import rdt

                rdt.join(op.path, op.monitor, pid)

    def _kill(self) -> None:
        if self.init is not None:
            try:
                self.init.signal(9)
            except ProcessLookupError:
                pass
            self.init.ended(10.0)
            self.init.reap()


def _as_seen_by(pid: int, path: str) -> int:
    """A descriptor of a directory in the mount namespace of another process; a link would lead back to ours."""
    return open_directory(f"/proc/{pid}/root{files.real(files.absolute(path))}")


def _cgroup_roots(pid: int) -> list[tuple[str, str]]:
    """(controller, path in its hierarchy) of the cgroups that a process is in: see cgroups(7)."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    return [(name, path) for _, names, path in lines for name in names.split(",")]


def restore(
    factory: Factory,
    id: str,
    bundle: str | None,
    config: dict[str, Any] | str | None,
    options: CriuOptions,
    stdio: tuple[int, int, int],
    console_socket: str | None,
) -> Container:
    """See Factory.restore."""
    from pyocirun.container.factory import rootfs_missing
    from pyocirun.errors import IDInUse
    from pyocirun.plan.build import build

    data, spec, host, request = factory._request(id, bundle, config, None, 0, False, False)
    plan = build(spec, host, request)
    if not files.is_directory(request.rootfs):
        raise rootfs_missing(request.rootfs)
    directory = states.make_directory(factory.root, id)
    if directory is None:
        raise IDInUse(f"container with given ID already exists: {id}", id=id, path=f"{factory.root}/{id}")
    with directory:
        state = replace(factory._state(spec, request, host, plan), behind_gate=(), start_index=-1)
        made = Restoration(factory, directory, spec, host, request, plan, state, {})
        container = made.restore(data, stdio, options, console_socket)
    container.criu = factory.criu
    return container
