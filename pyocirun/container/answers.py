"""What nsexec asks of its parent while it sets a container up: work at some operations, answers where it waits."""

from __future__ import annotations

import posix

from pyocirun.plan import ops
from pyocirun.spawn import effects
from pyocirun.spawn.sync import NOTHING, Answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pyocirun.container.factory import Factory
    from pyocirun.container.net import Mover
    from pyocirun.spawn.launch import Launched
    from pyocirun.spec.config import Spec


class Answers:
    """For the container with this id. It owns what it holds: close it.

    hook_state: gives what hooks are told, by status and pid.
    """

    def __init__(
        self, factory: Factory, id: str, spec: Spec, plan: ops.Plan, hook_state: Callable[[str, int], dict[str, object]]
    ) -> None:
        self.factory = factory
        self.id = id
        self.spec = spec
        self.plan = plan
        self.hook_state = hook_state
        self.trees: tuple[int, ...] = ()
        self.held: Iterator[ops.HoldTree] | None = None
        self.agent = -1
        self.covered = -1
        self.mover: Mover | None = None

    def effects(self) -> dict[type[ops.Op], Callable[[Any, Launched], None]]:
        """By operation, what the parent does at it."""
        return {
            ops.WriteIdMaps: self._write_id_maps,
            ops.WriteTimeOffsets: effects.write_time_offsets,
            ops.SetRlimit: effects.set_rlimit,
            ops.OpenSources: self._open_sources,
            ops.ConnectAgent: self._connect_agent,
            ops.MoveNetDevices: lambda op, launched: None,  # with the socket that comes at the Sync behind it
            ops.JoinRdtGroup: effects.join_rdt_group,
            ops.JoinUnit: effects.join_unit,
        }

    def answers(self, launched: Launched) -> dict[str, Callable[[int], Answer]]:
        """By point of a Sync, what is sent along with GO. Each gets the descriptor that came, or -1."""
        uid = self.spec.process.user.uid if self.spec.process is not None else 0
        return {
            "home": lambda fd: effects.home(fd, uid),
            "sources": lambda fd: Answer(fds=self._taken_trees()),
            "seccomp": lambda fd: self._tell_agent(launched.pid),
            "copy-from": self._keep_covered,
            "map-ids": lambda fd: self._map_ids(fd, launched.pid),
            "net-devices": self._move_net_devices,
            "copy-up": self._copy_up,
            "hooks:createContainer": lambda fd: self._state_for_hooks("creating", launched.pid),
            "created": lambda fd: self._state_for_start_hooks(launched.pid),
        }

    def give_back(self) -> None:
        """What was taken from the host returns to it. Raises OperationError."""
        if self.mover is not None:
            self.mover.give_back()

    def keep(self) -> None:
        """What was taken from the host is the container's for good. Raises OSError."""
        if self.mover is not None:
            self.mover.keep()

    def close(self) -> None:
        """Close what nobody has taken."""
        for fd in (*self._taken_trees(), self.agent, self.covered):
            if fd >= 0:
                posix.close(fd)
        self.agent = self.covered = -1
        if self.mover is not None:
            self.mover.close()

    def _write_id_maps(self, op: ops.WriteIdMaps, launched: Launched) -> None:
        from pyocirun.spawn.idmap import write_maps

        factory = self.factory
        write_maps(op, launched.pid, factory.newuidmap, factory.newgidmap, factory.warn)

    def _open_sources(self, op: ops.OpenSources, launched: Launched) -> None:
        from pyocirun.spawn.sources import open_trees

        self.trees = open_trees(op.trees, launched.pid)

    def _taken_trees(self) -> tuple[int, ...]:
        trees, self.trees = self.trees, ()
        return trees

    def _map_ids(self, fd: int, pid: int) -> Answer:
        from pyocirun.spawn.sources import map_held

        if self.held is None:
            self.held = iter([op for op in self.plan.ops if type(op) is ops.HoldTree])
        map_held(next(self.held), fd, pid)
        return NOTHING

    def _connect_agent(self, op: ops.ConnectAgent, launched: Launched) -> None:
        from pyocirun.spawn.seccomp import connect

        self.agent = connect(op.path)

    def _tell_agent(self, pid: int) -> Answer:
        from pyocirun.container.agent import introduction

        assert self.spec.linux.seccomp is not None
        agent, self.agent = self.agent, -1
        # By the time it is sent the container has been created, and started.
        state = self.hook_state("created", pid)
        return introduction(agent, pid, self.spec.linux.seccomp.listener_metadata, state)

    def _move_net_devices(self, socket: int) -> Answer:
        from pyocirun.container.net import Mover
        from pyocirun.container.net_undo import Undo

        self.mover = Mover(socket, Undo(self.factory.root, self.id), self.factory.warn)
        for op in self.plan.ops:
            if type(op) is ops.MoveNetDevices:
                self.mover.move(op.devices)
        return NOTHING

    def _keep_covered(self, fd: int) -> Answer:
        self.covered = posix.dup(fd)
        return NOTHING

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
            posix.close(self.covered)
            self.covered = -1
        return NOTHING

    def _state_for_start_hooks(self, pid: int) -> Answer:
        hooks = self.spec.hooks
        return self._state_for_hooks("created", pid) if hooks is not None and hooks.start_container else NOTHING

    def _state_for_hooks(self, status: str, pid: int) -> Answer:
        from pyocirun.container.hooks import state_file

        return Answer(fds=(state_file(self.hook_state(status, pid)),))
