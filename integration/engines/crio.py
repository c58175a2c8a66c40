"""A cri-o of one's own, driven as kubelet does it, like containerd's CRI plugin.

Debian has no cri-o: CRIO is the path of one, and `pinns` is beside it. conmon and podman, which makes the image, are
Debian's.
"""

from __future__ import annotations

import json
import os

from integration.engines.cri import HANDLER, IMAGE, NETWORK, SOCKET, Cri
from integration.engines.engine import DEFAULT, Figures, Wish
from integration.engines.machine import BASE, Ended, Machine

TOOLS = ("conmon", "podman", "busybox", "cc")
STORAGE = f"{BASE}/storage"

CONFIG = f"""
[crio]
root = "{STORAGE}"
runroot = "{STORAGE}-run"
storage_driver = "vfs"
log_dir = "{BASE}/pod-logs"
version_file = "{BASE}/version"
clean_shutdown_file = "{BASE}/clean.shutdown"
[crio.api]
listen = "{SOCKET}"
[crio.runtime]
default_runtime = "{HANDLER}"
cgroup_manager = "cgroupfs"
conmon_cgroup = "pod"
namespaces_dir = "{BASE}/namespaces"
pinns_path = "{{pinns}}"
container_exits_dir = "{BASE}/exits"
container_attach_socket_dir = "{BASE}/attach"
[crio.runtime.runtimes.{HANDLER}]
runtime_path = "{{runtime}}"
runtime_type = "oci"
runtime_root = "{BASE}/runtime"
monitor_path = "/usr/bin/conmon"
monitor_cgroup = "pod"
[crio.image]
pause_image = "{IMAGE}"
pause_command = "/box wait"
signature_policy = "{BASE}/policy.json"
[crio.network]
network_dir = "{BASE}/cni"
plugin_dirs = ["/usr/lib/cni"]
"""


def path() -> str:
    """Of cri-o; "" where nobody has named one."""
    return os.environ.get("CRIO", "")


class Crio(Cri):
    """cri-o, with `runtime` under the handler HANDLER."""

    name = "cri-o"
    lacks = Cri.lacks | {
        "handler": "its status does not tell it",
        "namespaces of the host": "the UTS namespace is always one of the pod",
        "pid namespace of the pod": "its first process wants an oom_score_adj below 0",
        "statistics of pods": "it counts no processes",
    }
    root = f"{BASE}/runtime"

    def _machine(self) -> Machine:
        pinns = os.path.join(os.path.dirname(path()), "pinns")
        files = {
            f"{BASE}/crio.conf": CONFIG.format(runtime=self.runtime, pinns=pinns),
            f"{BASE}/policy.json": json.dumps({"default": [{"type": "insecureAcceptAnything"}]}),
            f"{BASE}/cni/10-pods.conflist": json.dumps(NETWORK),
        }
        return Machine([path(), "--config", f"{BASE}/crio.conf", "--config-dir", ""], files)

    def run(self, *args: str, wish: Wish = DEFAULT) -> Ended:
        ended = super().run(*args, wish=wish)
        return Ended(ended.status, ended.stdout, ended.stderr.replace('\\"', '"'))  # it hands on a line of a log

    def figures(self, container: str) -> Figures:
        """Without page faults: it says 0 for both."""
        return {name: value for name, value in super().figures(container).items() if "fault" not in name}

    def _import_images(self, layer: bytes) -> None:
        podman = ["podman", "--root", STORAGE, "--runroot", f"{STORAGE}-run", "--storage-driver", "vfs"]
        change = ["--change", "ENV=PATH=/bin:/", "--change", "ENV=FROM_IMAGE=yes"]
        self.machine(*podman, "import", *change, "-", IMAGE, stdin=layer).ok()
