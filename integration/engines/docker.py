"""A dockerd of one's own: data, state, socket and network namespace, with the runtime under test as its default.

It brings its own containerd. Containers are in a cgroup of the test's name. iptables is left alone: a bridge and the
containers on it need none.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from typing import Any

from integration.engines import newer
from integration.engines.engine import DEFAULT, Engine, Figures, Wish, finish
from integration.engines.image import compile_box, rootfs
from integration.engines.machine import BASE, NAME, PATIENCE, SLICE, Ended, Machine, cgroups_left, started_again

TOOLS = ("dockerd", "docker", "containerd", "containerd-shim-runc-v2", "busybox", "cc")
# Beside Debian's daemon Debian's client, whatever comes first on PATH.
CLIENT = "/usr/bin/docker" if os.path.exists("/usr/bin/docker") else "docker"
SOCKET = f"unix://{BASE}/docker.sock"
IMAGE = "box"
UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
OWN = "under-test"
CONTAINERD = f"""
version = 2
root = "{BASE}/containerd"
state = "{BASE}/containerd-state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{BASE}/containerd.sock"
"""


class DockerClient(Engine):
    """An engine with a command line such as docker's."""

    network = ("--network", "none")
    rounding = 0.001

    def command(self) -> list[str]:
        """The client, and where its engine is."""
        raise NotImplementedError

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Ended:
        """Run the client to its end."""
        return self.machine(*self.command(), *arguments, stdin=stdin)

    def in_terminal(self, *arguments: str) -> Ended:
        """Run the client in a terminal."""
        return self.machine.in_terminal(*self.command(), *arguments)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the client."""
        return self.machine.begin(*self.command(), *arguments)

    def import_image(self) -> None:
        layer = rootfs(compile_box(self.machine.scratch))
        self("import", "--change", "ENV PATH=/bin:/ FROM_IMAGE=yes", "-", IMAGE, stdin=layer).ok()

    def run(self, *args: str, wish: Wish = DEFAULT) -> Ended:
        arguments = ["run", "--rm", *self.options(wish), IMAGE, *args]
        if wish.terminal:
            return self.in_terminal(*arguments)
        return self(*arguments)

    def begin(self, *args: str, wish: Wish = DEFAULT) -> str:
        return self("run", "--detach", *self.options(wish), IMAGE, *args).ok().strip()

    def options(self, wish: Wish) -> list[str]:
        """Options of `docker run`. Without a network of its own, which the scenarios about networks ask for."""
        options = list(self.network)
        options += ["--memory", str(wish.memory)] if wish.memory else []
        options += ["--pids-limit", str(wish.pids)] if wish.pids else []
        options += ["--read-only"] if wish.read_only else []
        options += ["--user", wish.user] if wish.user else []
        options += ["--cap-drop", "ALL"] if wish.drop_all else []
        options += [part for name in wish.add for part in ("--cap-add", name)]
        options += ["--restart", "on-failure:2"] if wish.restart else []
        options += ["--tty"] if wish.terminal else []
        options += [part for each in wish.environment for part in ("--env", each)]
        return options + (["--security-opt", f"seccomp={self._profile(wish.seccomp)}"] if wish.seccomp else [])

    def _profile(self, profile: str) -> str:
        return profile if profile == "unconfined" else self.machine.write(f"{BASE}/profile.json", profile)

    def exec(self, container: str, *args: str, terminal: bool = False) -> Ended:
        if terminal:
            return self.in_terminal("exec", "--tty", container, *args)
        return self("exec", container, *args)

    def inspect(self, container: str, template: str) -> str:
        """One value of `docker inspect`, by a Go template; "" if there is no such container."""
        return self("inspect", "--format", template, container).stdout.strip()

    def status(self, container: str) -> str:
        return self.inspect(container, "{{.State.Status}}")

    def exit_code(self, container: str) -> int:
        return int(self.inspect(container, "{{.State.ExitCode}}"))

    def output(self, container: str) -> str:
        return self("logs", container).ok()

    def kill(self, container: str, signal: str) -> Ended:
        return self("kill", "--signal", signal, container)

    def stop(self, container: str, seconds: int) -> Ended:
        return self("stop", "--time", str(seconds), container)

    def pause(self, container: str) -> Ended:
        return self("pause", container)

    def resume(self, container: str) -> Ended:
        return self("unpause", container)

    def update_memory(self, container: str, limit: int) -> Ended:
        return self("update", "--memory", str(limit), "--memory-swap", "-1", container)

    def memory(self, container: str) -> tuple[int, int]:
        usage, limit = self("stats", "--no-stream", "--format", "{{.MemUsage}}", container).ok().split(" / ")
        return bytes_of(usage), bytes_of(limit)

    def figures(self, container: str) -> Figures:
        form = "{{.MemUsage}} / {{.PIDs}}"
        usage, limit, processes = self("stats", "--no-stream", "--format", form, container).ok().split(" / ")
        return {"working set": bytes_of(usage), "limit": bytes_of(limit), "processes": int(processes)}

    def restarts(self, container: str) -> int:
        return int(self.inspect(container, "{{.RestartCount}}"))

    def remove(self, container: str) -> Ended:
        return self("rm", "--force", "--volumes", container)

    def containers(self) -> list[str]:
        return self("ps", "--all", "--quiet").ok().split()

    def run_at_once(self, commands: list[list[str]]) -> list[Ended]:
        line = ["run", "--rm", *self.options(DEFAULT), IMAGE]
        return [finish(each) for each in [self.start(*line, *command) for command in commands]]


class Docker(DockerClient):
    """dockerd with `runtime` under the name OWN, and as its default.

    remap: with userns-remap; first_on_path: a directory where its programs are looked for first; systemd: as the driver
    of cgroups.  tasks: below what directory containerd keeps files of containers.  again: dockerd is started again
    whenever it ends.
    """

    name = "docker"

    def __init__(
        self,
        runtime: str,
        tree: str = "",
        remap: bool = False,
        settings: Mapping[str, Any] | None = None,
        first_on_path: str = "",
        systemd: bool = False,
        again: bool = False,
    ) -> None:
        self.runtime, self.newer, self._remap = runtime, bool(tree), remap
        self._client = f"{tree}/usr/bin/docker" if tree else CLIENT
        self.lacks = {} if remap else {"user namespace": "it has them for all containers or none: see test_docker.py"}
        written: dict[str, Any] = {
            "data-root": f"{BASE}/data",
            "exec-root": f"{BASE}/exec",
            "pidfile": f"{BASE}/docker.pid",
            "hosts": [SOCKET],
            "cgroup-parent": SLICE if systemd else f"/{NAME}",
            "exec-opts": [f"native.cgroupdriver={'systemd' if systemd else 'cgroupfs'}"],
            "iptables": False,
            "ip6tables": False,
            "runtimes": {OWN: {"path": runtime}},
            "default-runtime": OWN,
            **(settings or {}),
        }
        plugins = {"cliPluginsExtraDirs": [f"{tree}/usr/libexec/docker/cli-plugins"]} if tree else {}
        files = {f"{BASE}/daemon.json": "", f"{BASE}/client/config.json": json.dumps(plugins)}
        if remap:
            written["userns-remap"] = "mapped:mapped"
            files |= {
                "/etc/passwd": with_line("/etc/passwd", "mapped:x:64321:64321::/:/bin/false\n"),
                "/etc/group": with_line("/etc/group", "mapped:x:64321:\n"),
                "/etc/subuid": "mapped:1000000:65536\n",
                "/etc/subgid": "mapped:1000000:65536\n",
            }
        files[f"{BASE}/daemon.json"] = json.dumps(written)
        daemon = ["dockerd", "--config-file", f"{BASE}/daemon.json"]
        self.tasks = f"{BASE}/exec/containerd/daemon/io.containerd.runtime.v2.task/moby"
        if systemd or PATIENCE > 1:
            self.tasks = f"{BASE}/containerd-state/io.containerd.runtime.v2.task/moby"
            # dockerd waits 15 s for a containerd that it starts itself, which may be too little under emulation.
            files[f"{BASE}/containerd.toml"] = CONTAINERD
            beside = f"containerd --config {BASE}/containerd.toml &"
            daemon = ["sh", "-c", f"{beside} exec {' '.join(daemon)} --containerd {BASE}/containerd.sock"]
        daemon = started_again(daemon) if again else daemon
        path = f"{first_on_path}:{newer.path(tree)}".strip(":")
        self.machine = Machine(daemon, files, {"DOCKER_CONFIG": f"{BASE}/client", "PATH": path}, systemd)
        try:
            self.machine.wait_for(lambda: self("version").status == 0, "dockerd answers")
            self.import_image()
        except BaseException:
            self.close()
            raise

    def command(self) -> list[str]:
        return [self._client, "--host", SOCKET]

    def runtime_root(self) -> str:
        namespace = "moby-1000000.1000000" if self._remap and self.newer else "moby"
        return f"{BASE}/exec/runtime-runc/{namespace}"

    def run(self, *args: str, wish: Wish = DEFAULT) -> Ended:
        if self.newer and args[:2] == ("sh", "-c"):
            # Of a container that ends at once, docker 28 may lose the output where the machine is busy.
            args = ("sh", "-c", f"trap 'sleep 0.3' EXIT; {args[2]}")
        return super().run(*args, wish=wish)

    def leftovers(self) -> list[str]:
        return [*(f"container {name}" for name in self.containers()), *self.traces()]

    def traces(self) -> list[str]:
        """What the daemon has forgotten and should not have."""
        left = [f"process {line}" for line in self.machine.processes().values() if "containerd-shim" in line]
        left += [f"cgroup {path}" for path in cgroups_left()]
        state = self.machine.path(self.runtime_root())
        for name in os.listdir(state) if os.path.isdir(state) else []:
            left += [f"state {name}"] if not name.startswith("@") else []
        return left


def remapped(runtime: str, tree: str = "") -> Docker:
    """dockerd whose containers all have a user namespace."""
    return Docker(runtime, tree, remap=True)


def bytes_of(text: str) -> int:
    """Of a figure as `docker stats` prints it: 31.5MiB."""
    found = re.fullmatch(r"([0-9.]+)([KMG]?i?B)", text.strip())
    assert found, text
    return round(float(found[1]) * UNITS[found[2]])


def with_line(path: str, line: str) -> str:
    """The content of a file of the host, and one more line."""
    with open(path) as file:
        return file.read() + line
