"""podman as root or as a user of its own, with the runtime under test as its default and a containers.conf for it."""

from __future__ import annotations

import os
import pwd
import subprocess

from integration.engines import newer
from integration.engines.docker import IMAGE, DockerClient, bytes_of, with_line
from integration.engines.engine import Figures, Wish
from integration.engines.image import compile_box, rootfs
from integration.engines.machine import BASE, NAME, SLICE, Ended, Machine, cgroups_left
from integration.modes import in_users_cgroup

TOOLS = ("podman", "conmon", "busybox", "cc", "newuidmap", "newgidmap")
NO_CGROUPS = "users have no cgroups but those of cgroup v2 that systemd gives them"
USER = next((entry.pw_uid for entry in pwd.getpwall() if entry.pw_name == "tester"), 64322)
HOME = f"/run/user/{USER}"
OWN = "under-test"
# What podman 5.4 calls the use of memory, on cgroup v2: that of programs, without files.
USE = "anon" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "memory"

# podman 4 spells the last list without its s, whatever containers.conf(5) says. The ulimits are those that a machine
# without CAP_SYS_RESOURCE can give.
CONFIGURATION = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "{manager}"
events_logger = "file"
runtime = "{name}"
runtime_supports_json = ["{name}"]
runtime_supports_nocgroups = ["{name}"]
runtime_supports_nocgroup = ["{name}"]
{programs}
[network]
firewall_driver = "none"
[engine.runtimes]
{name} = ["{path}"]
"""

# Of the user, and of root for --userns=auto.
RANGES = "tester:1000000:65536\ncontainers:2000000:65536\n"

# Where one finds its helpers that is not installed.
PROGRAMS = """
conmon_path = ["{tree}/usr/bin/conmon"]
helper_binaries_dir = ["{tree}/usr/lib/podman", "{tree}/usr/libexec/podman", "/usr/libexec/podman"]
"""

STORAGE = """
[storage]
driver = "vfs"
graphroot = "{base}/storage"
runroot = "{base}/storage-run"
"""


class Podman(DockerClient):
    """podman for root; with `user`, for that one.

    systemd: as the manager of cgroups, through the user's own bus for a user.  service: where to listen, if anywhere.
    """

    name = "podman"
    rounding = 0.0

    def __init__(self, runtime: str, tree: str = "", user: int = 0, systemd: bool = False, service: str = "") -> None:
        self.runtime, self.user, self.systemd, self.newer = runtime, user, systemd, bool(tree)
        if user and not (systemd and os.path.exists("/sys/fs/cgroup/cgroup.controllers")):
            self.lacks = dict.fromkeys(("limits", "pause", "processes", "update"), NO_CGROUPS)
        if user:
            self.root_outside = user
        # The ranges of a user whom nobody knows are none, for what reads them by libsubid.
        accounts = f"tester:x:{USER}:{USER}::{HOME}:/bin/sh\ncontainers:x:{USER + 1}:{USER + 1}::/:/bin/false\n"
        programs = PROGRAMS.format(tree=tree) if tree else ""
        files = {
            f"{BASE}/containers.conf": CONFIGURATION.format(
                name=OWN, path=runtime, programs=programs, manager="systemd" if systemd else "cgroupfs"
            ),
            f"{BASE}/storage.conf": STORAGE.format(base=HOME if user else BASE),
            "/etc/passwd": with_line("/etc/passwd", accounts),
            "/etc/group": with_line("/etc/group", f"tester:x:{USER}:\n"),
            "/etc/subuid": RANGES,
            "/etc/subgid": RANGES,
        }
        environment = {
            "CONTAINERS_CONF": f"{BASE}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{BASE}/storage.conf",
            "HOME": HOME if user else BASE,
            "TMPDIR": HOME,
        }
        environment |= {"XDG_RUNTIME_DIR": HOME, "USER": "tester"} if user else {}
        environment |= {"PODMAN_IGNORE_CGROUPSV1_WARNING": "1"} | newer.environment(tree)
        environment |= {"DBUS_SESSION_BUS_ADDRESS": f"unix:path={HOME}/bus"} if user and systemd else {}
        self.machine = Machine(self._service(service) if service else [], files, environment, systemd)
        try:
            self.machine("install", "--directory", "--owner", str(user), "--group", str(user), HOME).ok()
            self.import_image()
        except BaseException:
            self.close()
            raise

    def _service(self, socket: str) -> list[str]:
        line = ["podman", "system", "service", "--time", "0", f"unix://{socket}"]
        # From elsewhere podman may not move anything into a unit of the user's, and does without cgroups.
        own = in_users_cgroup() if self.user and self.systemd else []
        return [*own, "setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", "--", *line]

    def command(self) -> list[str]:
        return ["podman"]

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Ended:
        return self.machine(*self.command(), *arguments, stdin=stdin, user=self.user)

    def in_terminal(self, *arguments: str) -> Ended:
        return self.machine.in_terminal(*self.command(), *arguments, user=self.user)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return self.machine.begin(*self.command(), *arguments, user=self.user)

    def import_image(self) -> None:
        layer = rootfs(compile_box(self.machine.scratch))
        change = ["--change", "ENV=PATH=/bin:/", "--change", "ENV=FROM_IMAGE=yes"]
        self("import", *change, "-", IMAGE, stdin=layer).ok()

    def options(self, wish: Wish) -> list[str]:
        options = super().options(wish)
        options += [] if self.user else ["--cgroup-parent", SLICE if self.systemd else f"/{NAME}"]
        maps = ["--uidmap", "0:1000000:65536", "--gidmap", "0:1000000:65536"]
        return options + (maps if wish.user_namespace and not self.user else [])

    def memory(self, container: str) -> tuple[int, int]:
        usage, limit = self("stats", "--no-stream", "--format", "{{.MemUsageBytes}}", container).ok().split(" / ")
        return bytes_of(usage), bytes_of(limit)

    def figures(self, container: str) -> Figures:
        names = {USE: "MemUsage", "limit": "MemLimit", "processes": "PIDs", "processor": "CPUNano"}
        form = " ".join(f"{{{{.ContainerStats.{name}}}}}" for name in names.values())
        told = self("stats", "--no-stream", "--format", form, container).ok().split()
        return dict(zip(names, map(int, told), strict=True))

    def runtime_root(self) -> str:
        return ""

    def update_memory(self, container: str, limit: int) -> Ended:
        return self("update", "--memory", str(limit), "--memory-swap", "-1", container)

    def remove(self, container: str) -> Ended:
        return self("rm", "--force", "--time", "0", container)

    def leftovers(self) -> list[str]:
        return [*(f"container {name}" for name in self.containers()), *self.traces()]

    def traces(self) -> list[str]:
        """What podman has forgotten and should not have."""
        left = [f"process {line}" for line in self.machine.processes().values() if "conmon" in line.partition(" ")[0]]
        # It leaves the empty cgroups of pods in the hierarchies that it does not use, and its monitors' to systemd.
        ours = [path for path in cgroups_left() if "libpod-" in path and "libpod-conmon-" not in path]
        left += [f"cgroup {path}" for path in ours]
        for state in ("/run/runc", "/run/pyocirun", f"{HOME}/runc", f"{HOME}/pyocirun"):
            path = self.machine.path(state)
            names = os.listdir(path) if os.path.isdir(path) else []
            left += [f"state {name}" for name in names if not name.startswith("@")]
        return left


def rootless(runtime: str, tree: str = "") -> Podman:
    """podman for an ordinary user."""
    return Podman(runtime, tree, USER)
