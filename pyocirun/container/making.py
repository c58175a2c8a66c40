"""What create and restore have in common: what there is around a container, and how it is taken back."""

from __future__ import annotations

from pyocirun import files
from pyocirun.container.container import Container, empty_and_destroy
from pyocirun.errors import CgroupError, Error
from pyocirun.plan import ops
from pyocirun.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyocirun.cgroup.manager import Manager
    from pyocirun.container.factory import Factory
    from pyocirun.container.hooks import Function
    from pyocirun.container.scope import Scope
    from pyocirun.container.state import Directory, State
    from pyocirun.linux.host import Host
    from pyocirun.plan.request import Request
    from pyocirun.spec.config import Spec


_OF_CRUN = (
    "run.oci.handler",
    "run.oci.seccomp.plugins",
    "run.oci.seccomp_bpf_data",
    "run.oci.systemd.force_cgroup_v1",
)
"""Annotations by which crun does something, and we do not."""


class Making:
    """One container that is being made: its cgroup, the unit of that, its resctrl group, and the state that names them.

    What is made is in the state before it is made, so that it can be deleted even if we are killed meanwhile.
    """

    def __init__(
        self,
        factory: Factory,
        directory: Directory,
        spec: Spec,
        host: Host,
        request: Request,
        plan: ops.Plan,
        state: State,
        functions: dict[str, tuple[Function, ...]],
    ) -> None:
        self.factory = factory
        self.directory = directory
        self.spec = spec
        self.host = host
        self.request = request
        self.plan = plan
        self.state = state
        self.functions = functions
        self.rdt_made = False
        self.manager: Manager | None = None
        self.scope: Scope | None = None

    def _select_cgroup(self) -> None:
        from pyocirun.cgroup.manager import select

        for op in self.plan.ops:
            if type(op) is ops.MakeCgroup:
                unit, lenient = self.request.unit, self._may_lack_cgroups()
                manager = select(self.host, self.state.cgroup_manager, dict(op.paths), unit, lenient=lenient)
                manager.refuse_in_use()
                self.manager = manager

    def _make_surroundings(self) -> None:
        """Everything that stands before there is a process."""
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

    def _may_lack_cgroups(self) -> bool:
        """Whether cgroups that the caller may not make are passed over: of a rootless one who has named none."""
        return self.state.rootless and (self.request.unit is not None or not self.spec.linux.cgroups_path)

    def _disown_cgroup(self) -> None:
        """A cgroup that was refused is another's: nothing must ever remove it in our name."""
        self.manager = None
        self.state = replace(self.state, cgroup_paths={}, unit={})
        self.directory.save(self.state)

    def _tell_missing_cgroups(self, had: int) -> None:
        missing = len(self.request.cgroup_paths) - had
        if missing and self.factory.debug is not None:
            self.factory.debug(f"{missing} cgroup hierarchies are passed over: this caller may not make cgroups there")

    def _attach_devices(self, op: ops.AttachDevices, manager: Manager) -> None:
        try:
            manager.attach_devices(op.program)
        except CgroupError as error:
            if not op.optional:
                raise
            self.factory.warn(f"device rules are not in force: {error}")

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

    def _run_hooks(self, kind: str, pid: int) -> None:
        """Those of prestart and createRuntime: of the configuration, then of the caller."""
        from pyocirun.container.hooks import run_hooks

        hooks = getattr(self.spec.hooks, "prestart" if kind == "prestart" else "create_runtime", ())
        functions = self.functions.get(kind, ())
        shown = self._hook_state("creating", pid)
        run_hooks(kind, hooks, functions, shown, self.state.annotations, self.factory.warn)

    def _hook_state(self, status: str, pid: int) -> dict[str, object]:
        """What hooks are told while the state does not have the process yet."""
        state = replace(self.state, init_process_pid=pid)
        return Container(self.factory.root, state, None, self.factory.warn)._hook_state(status)

    def _tell_warnings(self) -> None:
        from pyocirun.cgroup.manager import ignored
        from pyocirun.plan.process import warnings

        paths = dict(self.request.cgroup_paths)
        for text in (*warnings(self.spec), *ignored(self.spec.linux.resources, paths), *self._unrestricted()):
            self.factory.warn(text)
        if self.factory.debug is not None:
            for name in _OF_CRUN:
                if name in self.spec.annotations:
                    self.factory.debug(f"the annotation {name} is ignored: it means something to crun alone")

    def _unrestricted(self) -> list[str]:
        if ops.LANDLOCK not in self.spec.annotations:
            return []
        from pyocirun.plan.landlock import warnings

        return warnings(self.spec.annotations, self.host.landlock)

    def _take_back(self, *first: Callable[[], None], ran: bool = False) -> None:
        """Everything that was done so far is undone; what fails here is a warning, the first error is what counts.

        first: how processes are ended, and what comes before that.  ran: poststop hooks are due.
        """
        if self.scope is not None:
            self.scope.close()
        steps = [*first, self._remove_cgroup, self._remove_rdt_group, self.directory.remove]
        if ran and (self.state.poststop or self.functions.get("poststop")):
            steps.append(self._run_poststop)
        for step in steps:
            try:
                step()
            except (Error, OSError) as error:
                self.factory.warn(f"while taking back the creation of {self.state.id}: {error}")

    def _remove_cgroup(self) -> None:
        if self.manager is not None:
            empty_and_destroy(self.manager)

    def _remove_rdt_group(self) -> None:
        if self.state.rdt_group:
            from pyocirun.cgroup import rdt

            if self.state.rdt_monitor:
                rdt.remove(self.state.rdt_monitor)
            if self.rdt_made:
                rdt.remove(self.state.rdt_group)

    def _run_poststop(self) -> None:
        from pyocirun.container.hooks import run_all_hooks

        hooks = getattr(self.spec.hooks, "poststop", ())
        functions = self.functions.get("poststop", ())
        shown = self._hook_state("stopped", 0)
        run_all_hooks("poststop", hooks, functions, shown, self.state.annotations, self.factory.warn)
