"""A containerd of one's own, for tests by ctr, with an image that holds one program."""

from __future__ import annotations

import os
import subprocess

from integration.engines import newer
from integration.engines.image import archive, compile_box, tar
from integration.engines.machine import (
    BASE,
    NAME,
    TIMEOUT,
    Machine,
    cgroups,
    cgroups_left,
    descendants,
    eventually,
    started_again,
)

IMAGE = "example.test/box:latest"
NAMESPACE = NAME
SOCKET = f"{BASE}/c.sock"
TOOLS = ("containerd", "ctr", "containerd-shim-runc-v2", "unshare", "nsenter", "cc")

CONFIG = f"""
version = 2
root = "{BASE}/root"
state = "{BASE}/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.erofs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "{SOCKET}"
"""


class Containerd:
    """A running containerd with one image, whose containers are run by `runtime` (a path).

    tree: that of newer engines, or "".  again: the daemon is started again whenever it ends.
    """

    def __init__(self, runtime: str, tree: str = "", again: bool = False) -> None:
        self.runtime, self.newer = runtime, bool(tree)
        config = f"{BASE}/config.toml"
        daemon = ["containerd", "--config", config]
        daemon = started_again(daemon) if again else daemon
        self.machine = Machine(daemon, {config: CONFIG}, newer.environment(tree))
        self._environment = os.environ | self.machine.environment
        try:
            self.machine.wait_for(lambda: self.ctr("version").returncode == 0, "containerd answers")
            self._import_image()
        except BaseException:
            self.stop()
            raise

    # ---- what tests use ----

    def ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ctr to its end."""
        argv = self._ctr(*arguments)
        return subprocess.run(
            argv, capture_output=True, text=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL, env=self._environment
        )

    def ctr_begin(self, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """Start ctr; its output comes by pipes."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self._ctr(*arguments), stdin=stdin, stdout=pipe, stderr=pipe, text=True, env=self._environment
        )

    def run_arguments(self, container: str, *args: str, options: tuple[str, ...] = ("--rm",)) -> list[str]:
        """Arguments of `ctr run` for a container of the image, with the runtime under test."""
        chosen = ["--runc-binary", self.runtime, "--snapshotter", "native", *options]
        return ["run", *chosen, IMAGE, container, "/box", *args]

    def run(self, container: str, *args: str, options: tuple[str, ...] = ("--rm",)) -> subprocess.CompletedProcess[str]:
        """`ctr run` of /box with args. stdout: all that the container wrote; stderr: what ctr wrote.

        The shim writes it to a file, and has written it when it answers that the task is deleted. Through ctr's pipes
        some of it can be lost, whatever the runtime: before 1.6.22 and 1.7.3 ctr closes them when it hears that the
        container has ended, and does not ask whether the shim has copied everything into them by then.
        """
        log = self.machine.write(f"{BASE}/logs/{container}", "")
        done = self.ctr(*self.run_arguments(container, *args, options=(*options, "--log-uri", f"file://{log}")))
        with open(self.machine.path(log)) as file:
            written = file.read()
        os.unlink(self.machine.path(log))
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout + written, done.stderr)

    def tasks(self) -> dict[str, str]:
        """Status (RUNNING, STOPPED, ...) by container, as `ctr task ls` prints it."""
        rows = [line.split() for line in self.ctr("task", "ls").stdout.splitlines()[1:]]
        return {row[0]: row[-1] for row in rows}

    def cgroup_files(self, container: str, *names: str) -> list[str]:
        """Paths of those files that the container's cgroups have."""
        own = [path for path in cgroups() if os.path.basename(path) == container]
        return [path for path in (f"{cgroup}/{name}" for cgroup in own for name in names) if os.path.exists(path)]

    def leftovers(self) -> list[str]:
        """Everything of a container that is still there: records, shims, runtime state, mounts, cgroups."""
        left = [f"container {name}" for name in self.ctr("container", "ls", "-q").stdout.split()]
        left += [f"task {name}" for name in self.ctr("task", "ls", "-q").stdout.split()]
        left += [f"process {line}" for line in self._processes() if "containerd-shim" in line or "/box" in line]
        for directory in ("engine/state/io.containerd.runtime.v2.task/", "containerd/runc/"):
            left += [f"state {path}" for path in self._entries(f"/run/{directory}{NAMESPACE}") if path[:1] != "@"]
        left += [f"mount {line}" for line in self.mounts() if NAMESPACE in line]
        return left + [f"cgroup {path}" for path in cgroups_left()]

    def tidy(self) -> None:
        """Remove what a failed test left in the daemon."""
        for name in self.ctr("task", "ls", "-q").stdout.split():
            self.ctr("task", "delete", "--force", name)
        for name in self.ctr("container", "ls", "-q").stdout.split():
            self.ctr("container", "delete", name)

    def pids(self) -> list[int]:
        """The first process and what runs below it, as numbered here."""
        return [self.machine.pid, *descendants(self.machine.pid)]

    def mounts(self) -> list[str]:
        """What the first process sees, as lines of proc_pid_mountinfo(5)."""
        return self.machine.mounts()

    def stop(self) -> None:
        """Everything of it ends; cgroups and files are removed."""
        self.machine.stop()

    # ---- inside ----

    def _ctr(self, *arguments: str) -> list[str]:
        return self.machine.entered(["ctr", "--address", SOCKET, "--namespace", NAMESPACE, *arguments])

    def _import_image(self) -> None:
        image = archive(tar({"box": (compile_box(self.machine.scratch), 0o755)}), IMAGE)
        path = self.machine.write(f"{BASE}/image.tar", image)
        result = self.ctr("images", "import", *(["--local"] if self.newer else []), "--snapshotter", "native", path)
        if result.returncode != 0:
            raise AssertionError(f"ctr images import: {result.stderr}{self.machine.log()}")

    def _entries(self, path: str) -> list[str]:
        try:
            return os.listdir(self.machine.path(path))
        except FileNotFoundError:
            return []

    def _processes(self) -> list[str]:
        """Command lines of all processes below the daemon; a zombie has an empty one."""
        return list(self.machine.processes().values())


__all__ = ["TOOLS", "Containerd", "eventually"]
