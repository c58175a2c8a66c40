"""A containerd of one's own, driven by its own client ctr, for the common scenarios. test_containerd.py has more."""

from __future__ import annotations

import itertools
import json
import os
import re

from integration.engines import newer
from integration.engines.engine import DEFAULT, Engine, Figures, Wish, finish
from integration.engines.image import archive, compile_box, rootfs
from integration.engines.machine import BASE, NAME, SLICE, Ended, Machine, cgroups_left

TOOLS = ("containerd", "ctr", "containerd-shim-runc-v2", "busybox", "cc")
IMAGE = "example.test/box:latest"
SOCKET = f"{BASE}/containerd.sock"
STATUS = {"RUNNING": "running", "PAUSED": "paused", "STOPPED": "exited"}
NO_LIMIT = (1 << 64) - 1
# Lines of memory.stat on cgroup v2 that it tells, and that do not change while nothing runs.
STAT = (
    *("anon", "file", "shmem", "file_mapped", "slab", "inactive_anon", "active_anon", "inactive_file", "active_file"),
    *("pgfault", "pgmajfault"),
)
CONFIG = f"""
version = 2
root = "{BASE}/root"
state = "{BASE}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
[grpc]
  address = "{SOCKET}"
"""


def import_options(tree: str) -> list[str]:
    """Of `ctr images import`. The daemon of 2.x, which could do it too, has not been told of our snapshotter."""
    return ["--snapshotter", "native", *(["--local"] if tree else [])]


class Ctr(Engine):
    """containerd by ctr; `runtime` is an option of every run. systemd: as its driver of cgroups."""

    name = "ctr"
    codes = False
    lacks = {
        "capabilities": "ctr cannot drop all",
        "processes": "ctr has no option for it",
        "restart": "ctr leaves that to containerd, which looks every ten seconds",
        "stop": "ctr only kills",
        "update": "ctr cannot",
    }

    def __init__(self, runtime: str, tree: str = "", systemd: bool = False) -> None:
        self.runtime, self.systemd = runtime, systemd
        if not tree:
            self.lacks = self.lacks | {"user": "ctr 1.6 has no option for it"}
        config = f"{BASE}/config.toml"
        daemon = ["containerd", "--config", config]
        self.machine = Machine(daemon, {config: CONFIG}, newer.environment(tree), systemd)
        self._numbers = itertools.count(1)
        self._codes: dict[str, int] = {}
        self._logs: dict[str, str] = {}
        try:
            self.machine.wait_for(lambda: self("version").status == 0, "containerd answers")
            image = archive(rootfs(compile_box(self.machine.scratch)), IMAGE)
            self("images", "import", *import_options(tree), "-", stdin=image).ok()
        except BaseException:
            self.close()
            raise

    def command(self) -> list[str]:
        return ["ctr", "--address", SOCKET, "--namespace", NAME]

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Ended:
        return self.machine(*self.command(), *arguments, stdin=stdin)

    def _run(self, *args: str, options: tuple[str, ...], wish: Wish = DEFAULT) -> tuple[str, list[str]]:
        """The id of a container, and the arguments that run it."""
        name = f"container-{next(self._numbers)}"
        line = ["run", "--runc-binary", self.runtime, "--snapshotter", "native", "--seccomp", *options]
        if not (wish.user_namespace and os.path.exists("/sys/fs/cgroup/cgroup.controllers")):
            # ctr makes no cgroup namespace, and without one runc cannot mount cgroup v2 in a user namespace.
            line += ["--mount", "type=cgroup,src=cgroup,dst=/sys/fs/cgroup,options=ro"]
        line += ["--runc-systemd-cgroup", "--cgroup", f"{SLICE}:ctr:{name}"] if self.systemd else []
        line += ["--memory-limit", str(wish.memory)] if wish.memory else []
        line += ["--read-only"] if wish.read_only else []
        line += ["--tty"] if wish.terminal else []
        line += ["--user", wish.user] if wish.user else []
        line += [part for each in wish.environment for part in ("--env", each)]
        if wish.seccomp:
            line += ["--seccomp-profile", self.machine.write(f"{BASE}/profile.json", wish.seccomp)]
        if wish.user_namespace:
            line += ["--uidmap", "0:1000000:65536", "--gidmap", "0:1000000:65536"]
        return name, [*line, IMAGE, name, *args]

    def run(self, *args: str, wish: Wish = DEFAULT) -> Ended:
        _, line = self._run(*args, options=("--rm",), wish=wish)
        return self.machine.in_terminal(*self.command(), *line) if wish.terminal else self(*line)

    def begin(self, *args: str, wish: Wish = DEFAULT) -> str:
        log = f"{BASE}/logs/{next(self._numbers)}"
        self.machine.write(log, "")
        name, line = self._run(*args, options=("--detach", "--log-uri", f"file://{log}"), wish=wish)
        self(*line).ok()
        self._logs[name] = log
        return name

    def exec(self, container: str, *args: str, terminal: bool = False) -> Ended:
        line = ["task", "exec", "--exec-id", f"exec-{next(self._numbers)}"]
        if terminal:
            return self.machine.in_terminal(*self.command(), *line, "--tty", container, *args)
        return self(*line, container, *args)

    def status(self, container: str) -> str:
        rows = [line.split() for line in self("task", "ls").ok().splitlines()[1:]]
        return next((STATUS.get(row[-1], "") for row in rows if row[0] == container), "")

    def exit_code(self, container: str) -> int:
        """Told once, when the task is deleted."""
        if container not in self._codes:
            told = self("task", "delete", container).stderr
            found = re.search(r"exit code (\d+)", told)
            self._codes[container] = int(found[1]) if found else 0
        return self._codes[container]

    def output(self, container: str) -> str:
        return self.machine("cat", self._logs[container]).ok()

    def kill(self, container: str, signal: str) -> Ended:
        return self("task", "kill", "--signal", signal, container)

    def pause(self, container: str) -> Ended:
        return self("task", "pause", container)

    def resume(self, container: str) -> Ended:
        return self("task", "resume", container)

    def memory(self, container: str) -> tuple[int, int]:
        told = self.figures(container)
        return told["memory"], told["limit"]

    def figures(self, container: str) -> Figures:
        told = json.loads(self("task", "metrics", "--format", "json", container).ok())
        memory, cpu = told["memory"], told["cpu"]
        limit = told["pids"].get("limit", 0)
        figures = {"processes": told["pids"]["current"], "limit of processes": 0 if limit == NO_LIMIT else limit}
        if isinstance(memory["usage"], dict):  # cgroup v1
            times, uses = cpu["usage"], memory["usage"]
            figures |= {"memory": uses["usage"], "limit": uses["limit"], "processor": times["total"]}
            return figures | {"user": times.get("user", 0), "kernel": times.get("kernel", 0)}
        figures |= {name: value for name, value in memory.items() if name in STAT}
        figures |= {"memory": memory["usage"], "limit": memory["usage_limit"]}
        times = ("processor", "usage_usec"), ("user", "user_usec"), ("kernel", "system_usec")
        return figures | {name: 1000 * int(cpu.get(key, 0)) for name, key in times}

    def runtime_root(self) -> str:
        return f"/run/containerd/runc/{NAME}"

    def remove(self, container: str) -> Ended:
        self("task", "delete", "--force", container)
        return self("container", "delete", container)

    def containers(self) -> list[str]:
        return self("container", "ls", "--quiet").ok().split()

    def run_at_once(self, commands: list[list[str]]) -> list[Ended]:
        lines = [self._run(*command, options=("--rm",))[1] for command in commands]
        return [finish(each) for each in [self.machine.begin(*self.command(), *line) for line in lines]]

    def leftovers(self) -> list[str]:
        left = [f"container {name}" for name in self.containers()]
        left += [f"process {line}" for line in self.machine.processes().values() if "containerd-shim" in line]
        left += [f"cgroup {path}" for path in cgroups_left()]
        state = self.machine.path(f"/run/containerd/runc/{NAME}")
        names = os.listdir(state) if os.path.isdir(state) else []
        return left + [f"state {name}" for name in names if not name.startswith("@")]


def with_systemd(runtime: str, tree: str = "") -> Ctr:
    """ctr run --runc-systemd-cgroup."""
    return Ctr(runtime, tree, systemd=True)
