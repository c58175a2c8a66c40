"""Engines that speak docker's interface, by Python's client of it: dockerd, and podman's service.

Their own clients are what users have, and docker.py and podman.py run them; but each call of one is a process, which
costs seconds in the guest of integration/vm.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import docker as client
from docker.errors import APIError, NotFound

from integration.engines import docker, podman
from integration.engines.engine import DEFAULT, Engine, Figures, Wish
from integration.engines.machine import BASE, NAME, SLICE, Ended, eventually

# Lines of memory.stat that Linux 5.9 has split; docker still tells them, as 0.
OLD_NAMES = ("workingset_refault", "workingset_activate")
# Its service has conmon wait for so many seconds after an exec.
EXEC_LINGERS = "--exit-delay 300"


class Api(Engine):
    """What both have in common. `connection`: of docker's client, to the engine in the machine."""

    connection: Any

    def connect(self, socket: str) -> None:
        """Wait until the engine answers there."""
        path = self.machine.path(socket)
        self.machine.wait_for(lambda: os.path.exists(path), "there is a socket")
        self.connection = client.APIClient(base_url=f"unix://{path}", timeout=600, max_pool_size=32)
        eventually(self._answers, "the engine answers")

    def _answers(self) -> bool:
        try:
            return bool(self.connection.ping())
        except Exception:  # whatever the client's own libraries make of a closed socket
            return False

    def host_config(self, wish: Wish) -> dict[str, Any]:
        """What of a wish is about the machine and not about the process."""
        options: dict[str, Any] = {"network_mode": "none", "read_only": wish.read_only, "cap_add": list(wish.add)}
        options["cap_drop"] = ["ALL"] if wish.drop_all else []
        options |= {"mem_limit": wish.memory} if wish.memory else {}
        options |= {"pids_limit": wish.pids} if wish.pids else {}
        options |= {"restart_policy": {"Name": "on-failure", "MaximumRetryCount": 2}} if wish.restart else {}
        options |= {"security_opt": [f"seccomp={self.profile(wish.seccomp)}"]} if wish.seccomp else {}
        made: dict[str, Any] = self.connection.create_host_config(**options)
        return made

    def profile(self, profile: str) -> str:
        """As the interface wants it: docker's has what is in the file."""
        return profile

    def create(self, *args: str, wish: Wish = DEFAULT) -> str:
        """The id of a container that was not started."""
        config = {"environment": list(wish.environment), "user": wish.user or None, "tty": wish.terminal}
        made = self.connection.create_container(docker.IMAGE, list(args), host_config=self.host_config(wish), **config)
        return str(made["Id"])

    def run(self, *args: str, wish: Wish = DEFAULT) -> Ended:
        container = self.create(*args, wish=wish)
        try:
            self.connection.start(container)
            if wish.terminal:
                self.connection.resize(container, height=30, width=100)
            status = self.connection.wait(container)["StatusCode"]
            return Ended(status, self.output(container), self.output(container, "stderr"))
        except APIError as error:
            return Ended(self.exit_code(container) or 125, "", str(error.explanation))
        finally:
            self.remove(container)

    def begin(self, *args: str, wish: Wish = DEFAULT) -> str:
        container = self.create(*args, wish=wish)
        self.connection.start(container)
        return container

    def exec(self, container: str, *args: str, terminal: bool = False) -> Ended:
        made = self.connection.exec_create(container, list(args), tty=terminal)["Id"]
        try:
            said = self.connection.exec_start(made, tty=terminal, demux=not terminal)
        except APIError as error:
            return Ended(self.connection.exec_inspect(made)["ExitCode"] or 126, "", str(error.explanation))
        stdout, stderr = (said, b"") if terminal else said
        status = self.connection.exec_inspect(made)["ExitCode"]
        return Ended(status, (stdout or b"").decode(), (stderr or b"").decode())

    def inspect(self, container: str) -> dict[str, Any]:
        found: dict[str, Any] = self.connection.inspect_container(container)
        return found

    def status(self, container: str) -> str:
        try:
            return str(self.inspect(container)["State"]["Status"])
        except NotFound:
            return ""

    def exit_code(self, container: str) -> int:
        return int(self.inspect(container)["State"]["ExitCode"])

    def output(self, container: str, stream: str = "stdout") -> str:
        written: bytes = self.connection.logs(container, stdout=stream == "stdout", stderr=stream == "stderr")
        return written.decode()

    def kill(self, container: str, signal: str) -> Ended:
        return _attempt(self.connection.kill, container, signal)

    def stop(self, container: str, seconds: int) -> Ended:
        return _attempt(self.connection.stop, container, seconds)

    def pause(self, container: str) -> Ended:
        return _attempt(self.connection.pause, container)

    def resume(self, container: str) -> Ended:
        return _attempt(self.connection.unpause, container)

    def update_memory(self, container: str, limit: int) -> Ended:
        return _attempt(self.connection.update_container, container, mem_limit=limit, memswap_limit=-1)

    def memory(self, container: str) -> tuple[int, int]:
        told = self.connection.stats(container, stream=False)["memory_stats"]
        return int(told["usage"]), int(told["limit"])

    def figures(self, container: str) -> Figures:
        told = self.connection.stats(container, stream=False)
        memory, cpu, processes = told["memory_stats"], told["cpu_stats"]["cpu_usage"], told["pids_stats"]
        stat = {name: value for name, value in memory.get("stats", {}).items() if name not in OLD_NAMES}
        return {
            **stat,
            "memory": memory["usage"],
            "limit": memory["limit"],
            "processes": processes["current"],
            "processor": cpu["total_usage"],
            "user": cpu["usage_in_usermode"],
            "kernel": cpu["usage_in_kernelmode"],
        }

    def restarts(self, container: str) -> int:
        return int(self.inspect(container)["RestartCount"])

    def remove(self, container: str) -> Ended:
        return _attempt(self.connection.remove_container, container, force=True, v=True)

    def containers(self) -> list[str]:
        return [each["Id"] for each in self.connection.containers(all=True)]

    def run_at_once(self, commands: list[list[str]]) -> list[Ended]:
        with ThreadPoolExecutor(len(commands)) as pool:
            return list(pool.map(lambda command: self.run(*command), commands))


def _attempt(method: Any, *args: Any, **options: Any) -> Ended:
    try:
        method(*args, **options)
    except APIError as error:
        return Ended(1, "", str(error.explanation))
    return Ended(0, "")


class Docker(Api):
    """dockerd as docker.Docker starts it."""

    name = "docker"

    def __init__(self, runtime: str, tree: str = "", systemd: bool = False) -> None:
        engine = docker.Docker(runtime, tree, systemd=systemd)
        self.runtime, self.machine, self.lacks = runtime, engine.machine, engine.lacks
        self._daemon = engine
        self.connect(docker.SOCKET.removeprefix("unix://"))

    def runtime_root(self) -> str:
        return self._daemon.runtime_root()

    def leftovers(self) -> list[str]:
        return [*(f"container {name}" for name in self.containers()), *self._daemon.traces()]


class Podman(Api):
    """podman's service, for root or a user."""

    name = "podman"
    codes = False

    def __init__(self, runtime: str, tree: str = "", user: int = 0, systemd: bool = False) -> None:
        socket = f"{podman.HOME if user else BASE}/service.sock"
        self._podman = podman.Podman(runtime, tree, user, systemd=systemd, service=socket)
        self.runtime, self.machine, self.user = runtime, self._podman.machine, user
        self.root_outside = self._podman.root_outside
        self.lacks = self._podman.lacks | {"user namespace": "docker's interface knows no maps: see test_podman.py"}
        self.connect(socket)
        if int(self.connection.version()["Version"].split(".")[0]) < 5:
            self.lacks["update"] = "its service has that since podman 5"

    def host_config(self, wish: Wish) -> dict[str, Any]:
        parent = {} if self.user else {"CgroupParent": SLICE if self._podman.systemd else f"/{NAME}"}
        return super().host_config(wish) | parent

    def figures(self, container: str) -> Figures:
        told = super().figures(container)
        told[podman.USE] = told.pop("memory")
        # On cgroup v1 from a file that counts nanoseconds, not ticks; on v2 microseconds under the name of nanoseconds.
        del told["user"], told["kernel"]
        return told

    def runtime_root(self) -> str:
        return self._podman.runtime_root()

    def profile(self, profile: str) -> str:
        return profile if profile == "unconfined" else self.machine.write(f"{BASE}/profile.json", profile)

    def leftovers(self) -> list[str]:
        left = [*(f"container {name}" for name in self.containers()), *self._podman.traces()]
        return [trace for trace in left if EXEC_LINGERS not in trace]


def with_systemd(runtime: str, tree: str = "") -> Docker:
    """dockerd whose driver of cgroups is systemd."""
    return Docker(runtime, tree, systemd=True)


def podman_with_systemd(runtime: str, tree: str = "") -> Podman:
    """podman whose manager of cgroups is systemd."""
    return Podman(runtime, tree, systemd=True)


def rootless_with_systemd(runtime: str, tree: str = "") -> Podman:
    """podman for a user with a systemd of their own."""
    return Podman(runtime, tree, podman.USER, systemd=True)
