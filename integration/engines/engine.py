"""What the common scenarios ask of an engine, in words that fit all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from integration.engines.machine import Ended, Machine, eventually


@dataclass(frozen=True)
class Wish:
    """How a container is to be run; what is left out is the engine's default.

    memory: bytes.  pids: processes.  user: "uid:gid".  seccomp: a profile as docker reads it, or "unconfined".
    """

    memory: int = 0
    pids: int = 0
    read_only: bool = False
    user: str = ""
    drop_all: bool = False
    add: tuple[str, ...] = ()
    seccomp: str = ""
    environment: tuple[str, ...] = ()
    restart: bool = False
    terminal: bool = False
    user_namespace: bool = False


DEFAULT = Wish()

Figures = dict[str, int]
"""What a container uses: bytes of "memory" and their "limit"; "working set", without what can be freed at once;
"processes" and "limit of processes"; nanoseconds of "processor", in "user" and "kernel" mode; lines of memory.stat."""


class Engine:
    """One engine that runs, with the image in it.

    lacks: what it cannot do, or not on this machine, and why: those scenarios are skipped for every runtime.
    codes: whether its client turns the words of an error into 126 and 127.
    root_outside: what the user 0 of a container with a user namespace is on the host.
    rounding: by how much of themselves its figures may be off, which are printed for people.
    """

    name = ""
    lacks: dict[str, str] = {}
    codes = True
    root_outside = 1000000
    rounding = 0.0
    user = 0
    runtime: str
    machine: Machine

    def run(self, *args: str, wish: Wish = DEFAULT) -> Ended:
        """Run a container to its end and remove it."""
        raise NotImplementedError

    def begin(self, *args: str, wish: Wish = DEFAULT) -> str:
        """The id of a new container in the background."""
        raise NotImplementedError

    def exec(self, container: str, *args: str, terminal: bool = False) -> Ended:
        raise NotImplementedError

    def status(self, container: str) -> str:
        """ "running", "paused", "exited" or "" where there is none."""
        raise NotImplementedError

    def exit_code(self, container: str) -> int:
        """Of a container that has ended."""
        raise NotImplementedError

    def output(self, container: str) -> str:
        """What it has written to stdout so far."""
        raise NotImplementedError

    def kill(self, container: str, signal: str) -> Ended:
        raise NotImplementedError

    def stop(self, container: str, seconds: int) -> Ended:
        """Ask it to end, and kill it after so many seconds."""
        raise NotImplementedError

    def pause(self, container: str) -> Ended:
        raise NotImplementedError

    def resume(self, container: str) -> Ended:
        raise NotImplementedError

    def update_memory(self, container: str, limit: int) -> Ended:
        raise NotImplementedError

    def memory(self, container: str) -> tuple[int, int]:
        """Bytes in use and the limit, as the engine tells its user."""
        raise NotImplementedError

    def figures(self, container: str) -> Figures:
        """What it tells of the container's use."""
        raise NotImplementedError

    def runtime_root(self) -> str:
        """Where it has the runtime keep its state; "" where it does not say."""
        raise NotImplementedError

    def figures_of_runtime(self, container: str) -> Figures:
        """What the runtime tells of it, with more names than any engine has."""
        root = ["--root", self.runtime_root()] if self.runtime_root() else []
        return of_events(self.machine(self.runtime, *root, "events", "--stats", container, user=self.user).ok())

    def restarts(self, container: str) -> int:
        """How often it was started again."""
        raise NotImplementedError

    def remove(self, container: str) -> Ended:
        """By force."""
        raise NotImplementedError

    def containers(self) -> list[str]:
        """All it knows, of whatever status."""
        raise NotImplementedError

    def run_at_once(self, commands: list[list[str]]) -> list[Ended]:
        """Run as many containers at the same time."""
        raise NotImplementedError

    def leftovers(self) -> list[str]:
        """What there still is of containers, processes and cgroups; nothing, if all is well."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop it, and remove everything of it."""
        self.machine.stop()

    def wait(self, container: str) -> int:
        """Wait until it has ended: its exit code."""
        eventually(lambda: self.status(container) == "exited", f"{container} has ended")
        return self.exit_code(container)


def finish(process: subprocess.Popen[str], timeout: int = 120) -> Ended:
    """Wait for a command that was begun."""
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return Ended(process.returncode, stdout, stderr)


def of_events(line: str) -> Figures:
    """The figures in what `events --stats` prints."""
    data = json.loads(line)["data"]
    memory, cpu, raw = data["memory"], data["cpu"]["usage"], data["memory"]["raw"]
    return {
        **raw,
        "memory": memory["usage"]["usage"],
        "limit": memory["usage"]["limit"],
        "working set": memory["usage"]["usage"] - raw.get("total_inactive_file", raw["inactive_file"]),
        "processes": data["pids"]["current"],
        "limit of processes": data["pids"].get("limit", 0),
        "processor": cpu["total"],
        "user": cpu["user"],
        "kernel": cpu["kernel"],
    }


def runtime_path() -> str:
    """Path of the runtime under test; "" if there is none. RUNTIME names it; else it is the installed pyocirun."""
    import shutil

    beside = Path(sys.executable).with_name("pyocirun")
    named = os.environ.get("RUNTIME") or (str(beside) if beside.exists() else "pyocirun")
    return os.path.abspath(path) if (path := shutil.which(named)) else ""
