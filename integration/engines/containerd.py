"""A containerd of one's own, for tests: root, state, socket, configuration, image, all of it away when it stops.

It runs in a mount and a pid namespace of its own with a tmpfs on /run, because containerd's shims and ctr use fixed
places below /run/containerd whatever the configuration says. The first process of that pid namespace is this file, run
as a program: it reaps orphans, and when it is killed the kernel ends everything below it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from typing import Any

IMAGE = "example.test/box:latest"
NAMESPACE = f"pyocirun-test-{os.getpid()}"
BASE = "/run/engine"
SOCKET = f"{BASE}/c.sock"
TIMEOUT = 60
HERE = os.path.dirname(os.path.abspath(__file__))
TOOLS = ("containerd", "ctr", "containerd-shim-runc-v2", "unshare", "nsenter", "cc")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

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
    """A running containerd with one image, whose containers are run by `runtime` (a path)."""

    def __init__(self, runtime: str) -> None:
        self.runtime = runtime
        self.scratch = tempfile.mkdtemp(prefix="pyocirun-containerd-")
        self._log = open(os.path.join(self.scratch, "log"), "w+")  # noqa: SIM115 - closed by stop
        self._outer = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
            + [sys.executable, os.path.abspath(__file__)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        try:
            eventually(lambda: self._first_process() != 0 or self._dead(), "unshare starts")
            self._pid = self._first_process()
            eventually(lambda: self._answers() or self._dead(), "containerd answers")
            self._import_image()
        except BaseException:
            self.stop()
            raise

    # ---- what tests use ----

    def ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ctr to its end."""
        argv = self._ctr(*arguments)
        return subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL)

    def ctr_begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start ctr; its output comes by pipes."""
        pipe = subprocess.PIPE
        return subprocess.Popen(self._ctr(*arguments), stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)

    def run_arguments(self, container: str, *args: str, options: tuple[str, ...] = ("--rm",)) -> list[str]:
        """Arguments of `ctr run` for a container of the image, with the runtime under test."""
        chosen = ["--runc-binary", self.runtime, "--snapshotter", "native", *options]
        return ["run", *chosen, IMAGE, container, "/box", *args]

    def run(self, container: str, *args: str, options: tuple[str, ...] = ("--rm",)) -> subprocess.CompletedProcess[str]:
        """`ctr run` of /box with args."""
        return self.ctr(*self.run_arguments(container, *args, options=options))

    def runtime_says(self, *arguments: str) -> str:
        """What the runtime prints, asked as containerd's shim asks it."""
        argv = [*self._enter(), self.runtime, "--root", f"/run/containerd/runc/{NAMESPACE}", *arguments]
        return subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT, check=True).stdout

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
        return left + [f"cgroup {path}" for path in cgroups() if os.path.basename(path) != NAMESPACE]

    def tidy(self) -> None:
        """Remove what a failed test left in the daemon."""
        for name in self.ctr("task", "ls", "-q").stdout.split():
            self.ctr("task", "delete", "--force", name)
        for name in self.ctr("container", "ls", "-q").stdout.split():
            self.ctr("container", "delete", name)

    def stop(self) -> None:
        """Kill the namespace's first process, and with it everything in there; remove cgroups and scratch."""
        if first := self._first_process():
            os.kill(first, 9)
        self._outer.kill()
        self._outer.wait()
        for path in sorted(cgroups(), key=len, reverse=True):
            eventually(lambda path=path: removed(path), f"{path} can be removed")  # type: ignore[misc]
        self._log.close()
        shutil.rmtree(self.scratch)

    # ---- inside ----

    def _ctr(self, *arguments: str) -> list[str]:
        return [*self._enter(), "ctr", "--address", SOCKET, "--namespace", NAMESPACE, *arguments]

    def _enter(self) -> list[str]:
        return ["nsenter", "--target", str(self._pid), "--mount", "--pid"]

    def _first_process(self) -> int:
        """Pid, as seen here, of the first process of the pid namespace; 0 while there is none."""
        pid = self._outer.pid
        try:
            with open(f"/proc/{pid}/task/{pid}/children") as file:
                return int((file.read().split() or ["0"])[0])
        except FileNotFoundError:
            return 0

    def _dead(self) -> bool:
        if self._outer.poll() is None:
            return False
        raise AssertionError(f"containerd ended: {self.log()}")

    def _answers(self) -> bool:
        return os.path.exists(f"/proc/{self._pid}/root{SOCKET}") and self.ctr("version").returncode == 0

    def log(self) -> str:
        """The end of what containerd wrote."""
        self._log.flush()
        with open(self._log.name) as file:
            return file.read()[-4000:]

    def _import_image(self) -> None:
        path = os.path.join(self.scratch, "image.tar")
        with open(path, "wb") as file:
            file.write(image(compile_box(self.scratch)))
        result = self.ctr("images", "import", "--snapshotter", "native", path)
        if result.returncode != 0:
            raise AssertionError(f"ctr images import: {result.stderr}{self.log()}")

    def _entries(self, path: str) -> list[str]:
        try:
            return os.listdir(f"/proc/{self._pid}/root{path}")
        except FileNotFoundError:
            return []

    def pids(self) -> list[int]:
        """The first process and what runs below it, as numbered here."""
        found, next = [], [self._pid]
        while next:
            pid = next.pop()
            found.append(pid)
            next += _children(pid)
        return found

    def mounts(self) -> list[str]:
        """What the first process sees, as lines of proc_pid_mountinfo(5)."""
        with open(f"/proc/{self._pid}/mountinfo") as file:
            return file.read().splitlines()

    def _processes(self) -> list[str]:
        """Command lines of all processes in the daemon's pid namespace; a zombie has an empty one."""
        script = "for p in /proc/[0-9]*; do tr '\\0' ' ' 2>/dev/null <$p/cmdline && echo; done"
        return subprocess.run([*self._enter(), "sh", "-c", script], capture_output=True, text=True).stdout.splitlines()


def _children(pid: int) -> list[int]:
    """Of all its threads; what ends meanwhile has none."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += [int(child) for child in file.read().split()]
    except FileNotFoundError:
        pass
    return found


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until the condition holds; AssertionError if it does not within a minute."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, f"it took too long until {what}"
        time.sleep(0.02)


def cgroups() -> list[str]:
    """Directories of this test's containerd namespace, in all hierarchies."""
    found = []
    with open("/proc/self/mounts") as file:
        mounts = [line.split()[1] for line in file if line.split()[2] in ("cgroup", "cgroup2")]
    for hierarchy in mounts:
        for directory, _, _ in os.walk(os.path.join(hierarchy, NAMESPACE)):
            found.append(directory)
    return found


def removed(cgroup: str) -> bool:
    try:
        os.rmdir(cgroup)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


# ---- the image ----


def compile_box(directory: str) -> bytes:
    program = os.path.join(directory, "box")
    subprocess.run(["cc", "-static", "-O2", "-o", program, os.path.join(HERE, "box.c")], check=True)
    with open(program, "rb") as file:
        return file.read()


def image(program: bytes) -> bytes:
    """An OCI image layout as a tar archive: one layer that holds /box, named IMAGE for `ctr images import`."""
    layer = tar({"box": (program, 0o755)})
    environment = ["PATH=/", "FROM_IMAGE=yes"]
    config = encoded(
        {
            "architecture": ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": {"Env": environment, "Cmd": ["/box", "echo", "from the image"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
        }
    )
    manifest = encoded(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", config),
            "layers": [descriptor("layer.v1.tar", layer)],
        }
    )
    named = descriptor("manifest.v1+json", manifest)
    named["annotations"] = {"io.containerd.image.name": IMAGE, "org.opencontainers.image.ref.name": "latest"}
    files = {
        "oci-layout": (encoded({"imageLayoutVersion": "1.0.0"}), 0o644),
        "index.json": (encoded({"schemaVersion": 2, "manifests": [named]}), 0o644),
    }
    for blob in (layer, config, manifest):
        files["blobs/" + digest(blob).replace(":", "/")] = (blob, 0o644)
    return tar(files)


def descriptor(kind: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest(blob), "size": len(blob)}


def digest(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def encoded(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


def tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (content, mode) in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


# ---- the first process of the pid namespace ----


def first_process() -> int:
    """Give this mount namespace a /run of its own, start containerd, and reap until it ends."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"], check=True)
    os.makedirs(BASE)
    config = os.path.join(BASE, "config.toml")
    with open(config, "w") as file:
        file.write(CONFIG)
    containerd = subprocess.Popen(["containerd", "--config", config])
    while True:
        pid, status = os.wait()
        if pid == containerd.pid:
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(first_process())
