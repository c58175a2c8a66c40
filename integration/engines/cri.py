"""A containerd of one's own, driven by its CRI plugin as kubelet does it, through Python's client of that interface.

The runtime under test has a handler of its own, which is what a RuntimeClass names. Containers of the common scenarios
are in one pod, that is made when the first of them is.
"""

from __future__ import annotations

import itertools
import json
import os
from typing import Any

import grpc
from cri_api.v1 import api_pb2 as api
from cri_api.v1.api_pb2_grpc import RuntimeServiceStub

from integration.engines import newer
from integration.engines.ctr import import_options
from integration.engines.engine import DEFAULT, Engine, Figures, Wish
from integration.engines.image import archive, compile_box, rootfs
from integration.engines.machine import BASE, NAME, SLICE, Ended, Machine, cgroups_left

TOOLS = ("containerd", "ctr", "containerd-shim-runc-v2", "busybox", "cc")
IMAGE = "example.test/box:latest"
PAUSE = "example.test/pause:latest"
HANDLER = "under-test"
SOCKET = f"{BASE}/containerd.sock"
LOGS = f"{BASE}/logs"
STATUS = {api.CONTAINER_RUNNING: "running", api.CONTAINER_EXITED: "exited", api.CONTAINER_CREATED: "created"}
NODE = api.NamespaceMode.NODE
POD = api.NamespaceMode.POD
CONTAINER = api.NamespaceMode.CONTAINER

CONFIG = f"""
version = 2
root = "{BASE}/root"
state = "{BASE}/state"
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{BASE}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    default_runtime_name = "{HANDLER}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{HANDLER}]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{HANDLER}.options]
        BinaryName = "{{runtime}}"
        SystemdCgroup = {{systemd}}
"""

NETWORK = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "pods0",
            "isGateway": True,
            "ipam": {"type": "host-local", "subnet": "10.77.0.0/24", "dataDir": f"{BASE}/cni-data"},
        }
    ],
}


class Cri(Engine):
    """containerd's CRI plugin, with `runtime` under the handler HANDLER. systemd: as its driver of cgroups."""

    name = "CRI"
    codes = False
    lacks = {
        "kill": "kubelet only stops containers",
        "pause": "kubelet does not pause",
        "restart": "it is kubelet that restarts",
        "terminal": "a terminal needs a stream: see test_cri.py",
        "exec with a terminal": "a terminal needs a stream: see test_cri.py",
        "processes": "the limit is one of kubelet's",
        "user namespace": "it is one of the pod: see test_cri.py",
    }

    root = "/run/containerd/runc/k8s.io"

    def __init__(self, runtime: str, tree: str = "", systemd: bool = False) -> None:
        self.runtime, self._tree, self._systemd = runtime, tree, systemd
        self.machine = self._machine()
        self._numbers = itertools.count(1)
        self._pod = ""
        self._configs: dict[str, Any] = {}
        self._channel = grpc.insecure_channel(f"unix://{self.machine.path(SOCKET)}")
        self.service: Any = RuntimeServiceStub(self._channel)  # type: ignore[no-untyped-call]
        try:
            self.machine.wait_for(self._answers, "it answers")
            self._import_images(rootfs(compile_box(self.machine.scratch)))
        except BaseException:
            self.close()
            raise

    def _machine(self) -> Machine:
        """With the daemon in it."""
        driver = "true" if self._systemd else "false"
        files = {f"{BASE}/config.toml": CONFIG.format(runtime=self.runtime, systemd=driver), **self._network()}
        daemon = ["containerd", "--config", f"{BASE}/config.toml"]
        return Machine(daemon, files, newer.environment(self._tree), self._systemd)

    def _network(self) -> dict[str, str]:
        """The file that says how pods are connected."""
        return {f"{BASE}/cni/10-pods.conflist": json.dumps(NETWORK)}

    def _import_images(self, layer: bytes) -> None:
        """One for containers and one for the pods' own processes, from the files of an image."""
        self._import(archive(layer, IMAGE))
        self._import(archive(layer, PAUSE, ("/box", "wait")))

    def _answers(self) -> bool:
        try:
            status = self.service.Status(api.StatusRequest()).status
        except grpc.RpcError:
            return False
        return all(condition.status for condition in status.conditions)

    def _import(self, image: bytes) -> None:
        options = ["--address", SOCKET, "--namespace", "k8s.io"]
        self.machine("ctr", *options, "images", "import", *import_options(self._tree), "-", stdin=image).ok()

    def close(self) -> None:
        self._channel.close()
        super().close()

    def version(self) -> tuple[int, int]:
        """Of the daemon."""
        first, second, *_ = self.service.Version(api.VersionRequest()).runtime_version.lstrip("v").split(".")
        return int(first), int(second)

    # ---- pods and containers ----

    def pod(self, **options: Any) -> str:
        """The id of a new pod. options: of LinuxPodSandboxConfig; without them each container has its pid namespace."""
        own = api.LinuxSandboxSecurityContext(namespace_options=api.NamespaceOption(pid=CONTAINER))
        options.setdefault("security_context", own)
        config = self._pod_config(**options)
        pod: str = self.service.RunPodSandbox(
            api.RunPodSandboxRequest(config=config, runtime_handler=HANDLER)
        ).pod_sandbox_id
        self._configs[pod] = config
        return pod

    def _pod_config(self, **options: Any) -> Any:
        name = f"pod-{next(self._numbers)}"
        os.makedirs(self.machine.path(LOGS), exist_ok=True)
        namespaces = options["security_context"].namespace_options if "security_context" in options else None
        host = namespaces is not None and namespaces.network == NODE  # it keeps its name
        return api.PodSandboxConfig(
            metadata=api.PodSandboxMetadata(name=name, uid=name, namespace="tests"),
            hostname="" if host else name,
            log_directory=LOGS,
            linux=api.LinuxPodSandboxConfig(cgroup_parent=SLICE if self._systemd else f"/{NAME}", **options),
        )

    def container(self, pod: str, *args: str, wish: Wish = DEFAULT, **options: Any) -> str:
        """The id of a new container that was not started. options: of ContainerConfig."""
        name = f"container-{next(self._numbers)}"
        security: dict[str, Any] = {}
        if wish.user:
            uid, gid = wish.user.split(":")
            security = {"run_as_user": api.Int64Value(value=int(uid)), "run_as_group": api.Int64Value(value=int(gid))}
        capabilities = api.Capability(
            add_capabilities=list(wish.add), drop_capabilities=["ALL"] if wish.drop_all else []
        )
        namespaces = options.pop("namespaces", api.NamespaceOption(pid=CONTAINER))
        config = api.ContainerConfig(
            metadata=api.ContainerMetadata(name=name),
            image=api.ImageSpec(image=IMAGE, user_specified_image=IMAGE),
            command=list(args),
            envs=[
                api.KeyValue(key=key, value=value)
                for key, _, value in (each.partition("=") for each in wish.environment)
            ],
            log_path=f"{name}.log",
            linux=api.LinuxContainerConfig(
                resources=api.LinuxContainerResources(memory_limit_in_bytes=wish.memory),
                security_context=api.LinuxContainerSecurityContext(
                    readonly_rootfs=wish.read_only,
                    capabilities=capabilities,
                    namespace_options=namespaces,
                    seccomp=self._profile(wish.seccomp),
                    **security,
                ),
            ),
            **options,
        )
        request = api.CreateContainerRequest(pod_sandbox_id=pod, config=config, sandbox_config=self._configs[pod])
        container: str = self.service.CreateContainer(request).container_id
        return container

    def _profile(self, profile: str) -> Any:
        if not profile:
            return api.SecurityProfile(profile_type=api.SecurityProfile.RuntimeDefault)
        path = self.machine.write(f"{BASE}/profile.json", profile)
        return api.SecurityProfile(profile_type=api.SecurityProfile.Localhost, localhost_ref=path)

    def start_container(self, container: str) -> None:
        self.service.StartContainer(api.StartContainerRequest(container_id=container))

    def remove_pod(self, pod: str) -> None:
        self.service.StopPodSandbox(api.StopPodSandboxRequest(pod_sandbox_id=pod))
        self.service.RemovePodSandbox(api.RemovePodSandboxRequest(pod_sandbox_id=pod))

    def pods(self) -> list[str]:
        return [pod.id for pod in self.service.ListPodSandbox(api.ListPodSandboxRequest()).items]

    # ---- what every engine has ----

    def begin(self, *args: str, wish: Wish = DEFAULT) -> str:
        if self._pod not in self.pods():
            self._pod = self.pod()
        container = self.container(self._pod, *args, wish=wish)
        self.start_container(container)
        return container

    def run(self, *args: str, wish: Wish = DEFAULT) -> Ended:
        try:
            container = self.begin(*args, wish=wish)
        except grpc.RpcError as error:
            return Ended(128, "", error.details() or "")
        return self._ended(container)

    def _ended(self, container: str) -> Ended:
        status = self.wait(container)
        ended = Ended(status, self.output(container), self.output(container, "stderr"))
        self.remove(container).ok()
        return ended

    def exec(self, container: str, *args: str, terminal: bool = False) -> Ended:
        try:
            done = self.service.ExecSync(api.ExecSyncRequest(container_id=container, cmd=args, timeout=60))
        except grpc.RpcError as error:
            return Ended(128, "", error.details() or "")
        return Ended(done.exit_code, done.stdout.decode(), done.stderr.decode())

    def _status(self, container: str, verbose: bool = False) -> Any:
        return self.service.ContainerStatus(api.ContainerStatusRequest(container_id=container, verbose=verbose))

    def status(self, container: str) -> str:
        return STATUS[self._status(container).status.state]

    def exit_code(self, container: str) -> int:
        code: int = self._status(container).status.exit_code
        return code

    def output(self, container: str, stream: str = "stdout") -> str:
        """From the log, whose lines say when, which stream, and whether the line is whole (F) or goes on (P)."""
        text = ""
        with open(self.machine.path(self._status(container).status.log_path)) as file:
            for line in file:
                _, name, kind, rest = line.split(" ", 3)
                if name == stream:
                    text += rest if kind == "F" else rest.rstrip("\n")
        return text

    def stop(self, container: str, seconds: int) -> Ended:
        return self._attempt(
            self.service.StopContainer, api.StopContainerRequest(container_id=container, timeout=seconds)
        )

    def update_memory(self, container: str, limit: int) -> Ended:
        resources = api.LinuxContainerResources(memory_limit_in_bytes=limit)
        request = api.UpdateContainerResourcesRequest(container_id=container, linux=resources)
        return self._attempt(self.service.UpdateContainerResources, request)

    def figures(self, container: str) -> Figures:
        told = self.service.ContainerStats(api.ContainerStatsRequest(container_id=container)).stats
        memory = told.memory
        figures = {"working set": memory.working_set_bytes.value, "processor": told.cpu.usage_core_nano_seconds.value}
        more = {"memory": "usage_bytes", "pgfault": "page_faults", "pgmajfault": "major_page_faults"}  # since 1.7
        return figures | {name: getattr(memory, key).value for name, key in more.items() if memory.HasField(key)}

    def runtime_root(self) -> str:
        return self.root

    def memory(self, container: str) -> tuple[int, int]:
        stats = self.service.ContainerStats(api.ContainerStatsRequest(container_id=container)).stats
        info = json.loads(self._status(container, verbose=True).info["info"])
        limit: int = info["runtimeSpec"]["linux"]["resources"]["memory"]["limit"]
        return stats.memory.working_set_bytes.value, limit

    def remove(self, container: str) -> Ended:
        return self._attempt(self.service.RemoveContainer, api.RemoveContainerRequest(container_id=container))

    def _attempt(self, method: Any, request: Any) -> Ended:
        try:
            method(request)
        except grpc.RpcError as error:
            return Ended(1, "", error.details() or "")
        return Ended(0, "")

    def containers(self) -> list[str]:
        return [each.id for each in self.service.ListContainers(api.ListContainersRequest()).containers]

    def run_at_once(self, commands: list[list[str]]) -> list[Ended]:
        if self._pod not in self.pods():
            self._pod = self.pod()
        made = [self.container(self._pod, *command) for command in commands]
        started = [self.service.StartContainer.future(api.StartContainerRequest(container_id=each)) for each in made]
        for each in started:
            each.result()
        return [self._ended(each) for each in made]

    def leftovers(self) -> list[str]:
        """The pod of the common scenarios may stay."""
        kept = self.pods()
        left = [f"container {name}" for name in self.containers()]
        left += [f"pod {name}" for name in kept if name != self._pod]
        below = [path for path in cgroups_left() if not any(pod in path for pod in kept)]
        left += [f"cgroup {path}" for path in below]
        state = self.machine.path(self.root)
        names = os.listdir(state) if os.path.isdir(state) else []
        return left + [f"state {name}" for name in names if name not in kept and not name.startswith("@")]


def with_systemd(runtime: str, tree: str = "") -> Cri:
    """SystemdCgroup = true."""
    return Cri(runtime, tree, systemd=True)
