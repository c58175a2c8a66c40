"""What podman has beyond the common scenarios, for root and for a user: pods, build, containers without cgroups."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from integration.engines.docker import IMAGE
from integration.engines.engine import DEFAULT
from integration.engines.machine import BASE, NAME, eventually
from integration.engines.podman import TOOLS, USER, Podman, rootless
from integration.engines.test_common import TRAP, both, ready, runtime_with, tree
from integration.harness import requires

# For one of the two alone: see conftest.py.
for_root = pytest.mark.of("root")
for_users = pytest.mark.of("user")

not_runc = pytest.mark.skipif(
    os.path.basename(os.environ.get("RUNTIME", "")) == "runc", reason="runc 1.1 cannot do this under podman"
)


@pytest.fixture(scope="module", params=[Podman, rootless], ids=["root", "user"])
def make(request: pytest.FixtureRequest) -> Callable[[str, str], Podman]:
    made: Callable[[str, str], Podman] = request.param
    return made


@pytest.fixture(scope="module", params=both())
def installed(make: Callable[[str, str], Podman], request: pytest.FixtureRequest) -> Iterator[Podman]:
    engine = make(runtime_with(TOOLS), tree(request.param))
    yield engine
    engine.close()


@pytest.fixture
def podman(installed: Podman) -> Iterator[Podman]:
    """podman without a container and a pod, before and after the test."""
    yield installed
    installed("pod", "rm", "--force", "--all", "--time", "0")
    for name in installed.containers():
        installed.remove(name)
    eventually(lambda: not installed.leftovers(), "nothing is left", 15)


def test_it_is_the_runtime_of_podman(podman: Podman) -> None:
    info = podman("info", "--format", "{{.Host.OCIRuntime.Path}} {{.Host.OCIRuntime.Version}}").ok()

    assert info.startswith(f"{podman.runtime} {os.path.basename(podman.runtime)} version ")


def test_who_root_is_outside(podman: Podman) -> None:
    ended = podman.run("cat", "/proc/self/uid_map")

    first = ended.ok().splitlines()[0].split()
    assert first == (["0", str(USER), "1"] if podman.user else ["0", "0", "4294967295"])


def test_containers_of_a_pod_share_their_namespaces(podman: Podman) -> None:
    _pod(podman, "shared")
    script = "for n in net ipc uts; do readlink /proc/self/ns/$n; done"

    one = podman("run", "--rm", "--pod", "shared", IMAGE, "sh", "-c", script).ok().split()
    two = podman("run", "--rm", "--pod", "shared", IMAGE, "sh", "-c", script).ok().split()

    assert one == two
    assert len(set(one)) == 3


def test_a_pod_is_stopped_started_and_paused_as_a_whole(podman: Podman) -> None:
    if podman.newer:
        skip_where_cgroups_of_pods_stay(podman)
    _pod(podman, "whole")
    container = podman("run", "--detach", "--pod", "whole", IMAGE, "sh", "-c", TRAP).ok().strip()

    podman("pod", "stop", "--time", "5", "whole").ok()
    stopped = podman.status(container), podman.exit_code(container)
    podman("pod", "start", "whole").ok()
    started = podman.status(container)

    assert stopped == ("exited", 3)
    assert started == "running"
    if not podman.user:
        podman("pod", "pause", "whole").ok()
        assert podman.status(container) == "paused"
        podman("pod", "unpause", "whole").ok()


def _parent(podman: Podman) -> list[str]:
    return [] if podman.user else ["--cgroup-parent", f"/{NAME}"]


def _pod(podman: Podman, name: str) -> None:
    infra = ["--infra-image", IMAGE, "--infra-command", "sleep 1000"]
    podman("pod", "create", "--name", name, "--network", "none", *_parent(podman), *infra).ok()


def skip_where_cgroups_of_pods_stay(podman: Podman) -> None:
    """podman makes directories of a pod for each controller of the kernel, whether its hierarchy is mounted or not."""
    unmounted = os.path.isdir("/sys/fs/cgroup/memory") and not os.path.ismount("/sys/fs/cgroup/hugetlb")
    if unmounted and not podman.user:
        pytest.skip("podman cannot remove what it made where hugetlb's hierarchy would be, which is not mounted here")


def test_a_pod_is_played_from_kubernetes_words(podman: Podman) -> None:
    skip_where_cgroups_of_pods_stay(podman)
    security = {"readOnlyRootFilesystem": True, "runAsUser": 1000, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "box",
        "image": f"localhost/{IMAGE}:latest",
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", TRAP],
        "env": [{"name": "GIVEN", "value": "a b"}],
        "securityContext": security,
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "played"}, "spec": {"containers": [container]}}
    path = podman.machine.write(f"{BASE}/pod.json", json.dumps(pod))

    podman("play", "kube", "--network", "none", path).ok()
    script = 'id -u; echo "$GIVEN"; touch /file 2>/dev/null || echo read-only; grep CapEff /proc/self/status'
    inside = podman("exec", "played-box", "sh", "-c", script)
    podman("play", "kube", "--down", path).ok()

    assert inside.ok().split() == ["1000", "a", "b", "read-only", "CapEff:", f"{0:016x}"]
    assert podman.containers() == []


@not_runc
def test_a_container_without_cgroups(podman: Podman) -> None:
    container = podman("run", "--detach", "--cgroups", "disabled", "--network", "none", IMAGE, "sh", "-c", TRAP).ok()
    container = container.strip()
    eventually(lambda: "ready" in podman.output(container), "it runs")

    beside = podman.exec(container, "sh", "-c", "cat /proc/self/cgroup")
    podman.stop(container, 10).ok()

    assert container not in beside.ok()
    assert podman.exit_code(container) == 3


@pytest.mark.parametrize("isolation", ["oci", pytest.param("rootless", marks=for_users), "chroot"])
def test_a_build_runs_its_commands(podman: Podman, isolation: str) -> None:
    podman.machine.write(f"{BASE}/context/Containerfile", f"FROM {IMAGE}\nRUN echo built >/made; id -u >>/made\n")
    network = "host" if isolation == "chroot" else "none"
    words = ["--isolation", isolation, "--network", network, "--tag", "made", f"{BASE}/context"]

    built = podman("build", *words)
    ended = podman("run", "--rm", "--network", "none", "made", "cat", "/made")
    podman("rmi", "made")

    built.ok()
    assert ended.ok() == "built\n0\n"


def test_buildah_runs_a_command(podman: Podman) -> None:
    words = ["buildah", "--storage-driver", "vfs"]
    made = podman.machine(*words, "from", "--pull-never", IMAGE, user=podman.user).ok().strip()
    run = [*words, "run", "--isolation", "oci", "--runtime", podman.runtime, "--network", "none", made, "--"]

    fine = podman.machine(*run, "sh", "-c", "echo out; exit 6", user=podman.user)
    podman.machine(*words, "rm", made, user=podman.user).ok()

    assert (fine.status, fine.stdout) == (6, "out\n")


def test_a_root_file_system_without_an_image(podman: Podman) -> None:
    root = f"{podman.machine.environment['TMPDIR']}/rootfs"
    podman.machine("mkdir", "-p", f"{root}/bin", user=podman.user).ok()
    podman.machine("cp", shutil.which("busybox") or "", f"{root}/bin/sh", user=podman.user).ok()

    ended = podman(
        "run", "--rm", "--network", "none", *_parent(podman), "--rootfs", root, "sh", "-c", "echo from a directory"
    )

    assert ended.ok() == "from a directory\n"


def test_descriptors_are_handed_on(podman: Podman) -> None:
    line = " ".join(["podman run --rm --preserve-fds 1", *podman.options(DEFAULT), IMAGE, "cat /proc/self/fd/3"])
    podman.machine.write(f"{BASE}/third", "third\n")

    ended = podman.machine("sh", "-c", f"{line} 3<{BASE}/third", user=podman.user)

    assert ended.ok() == "third\n"


def test_namespaces_of_the_host(podman: Podman) -> None:
    options = [part for kind in ("pid", "uts", "network") for part in (f"--{kind}", "host")]
    script = "for n in pid uts net; do readlink /proc/self/ns/$n; done"

    ended = podman("run", "--rm", *options, *_parent(podman), IMAGE, "sh", "-c", script)

    assert ended.ok() == podman.machine("sh", "-c", script).stdout


def test_all_processes_end_with_a_container_in_the_hosts_pid_namespace(podman: Podman) -> None:
    script = f"sleep 4323 & {TRAP}"
    container = (
        podman("run", "--detach", "--pid", "host", *podman.options(DEFAULT), IMAGE, "sh", "-c", script).ok().strip()
    )
    eventually(lambda: "ready" in podman.output(container), "it runs")

    podman.remove(container).ok()

    if not podman.user:  # without cgroups nobody knows whose they are
        eventually(lambda: "sleep 4323" not in podman.machine.processes().values(), "all have ended")
    for pid, line in podman.machine.processes().items():
        if line == "sleep 4323":
            os.kill(pid, 9)


def test_a_health_check(podman: Podman) -> None:
    container = podman(
        "run", "--detach", "--health-cmd", "test -e /tmp/fine", *podman.options(DEFAULT), IMAGE, "sh", "-c", TRAP
    )
    name = container.ok().strip()

    before = podman("healthcheck", "run", name)
    podman.exec(name, "touch", "/tmp/fine").ok()
    after = podman("healthcheck", "run", name)

    assert (before.status, after.status) == (1, 0)


def test_volumes_of_every_kind(podman: Podman) -> None:
    podman.machine.write(f"{BASE}/shown/file", "shown\n")
    mounts = ["--volume", f"{BASE}/shown:/shown:ro", "--volume", "kept:/kept", "--tmpfs", "/quick:size=1m"]
    script = (
        "cat /shown/file; touch /shown/x || echo read-only; echo kept >/kept/file; grep -c ' /quick tmpfs' /proc/mounts"
    )

    ended = podman("run", "--rm", *podman.options(DEFAULT), *mounts, IMAGE, "sh", "-c", script)
    podman("volume", "rm", "kept").ok()

    assert ended.ok() == "shown\nread-only\n1\n"


def test_descriptors_are_handed_on_to_an_exec(podman: Podman) -> None:
    container = ready(podman, TRAP)
    podman.machine.write(f"{BASE}/third", "third\n")

    line = f"podman exec --preserve-fds 1 {container} cat /proc/self/fd/3 3<{BASE}/third"
    ended = podman.machine("sh", "-c", line, user=podman.user)

    assert ended.ok() == "third\n"


@for_users
def test_the_callers_id_is_kept(podman: Podman) -> None:
    ended = podman.machine(
        *["podman", "run", "--rm", "--userns", "keep-id", *podman.options(DEFAULT), IMAGE, "id", "-u"], user=podman.user
    )

    assert ended.ok() == f"{USER}\n"


def test_a_user_namespace_of_whatever_ids_are_free(podman: Podman) -> None:
    ended = podman(
        "run", "--rm", "--userns", "auto:size=5000", *podman.options(DEFAULT), IMAGE, "cat", "/proc/self/uid_map"
    )

    first, outside, size = ended.ok().split()
    assert (first, size) == ("0", "5000")
    assert int(outside) > 0


OPTIONS = {
    "sysctl": (["--sysctl", "kernel.msgmax=7777"], "cat /proc/sys/kernel/msgmax", "7777"),
    "ulimit": (["--ulimit", "nofile=77:78", "--ulimit", "nproc=99:99"], "ulimit -n; ulimit -Hn", "77 78"),
    "shm": (["--shm-size", "3m"], "grep -o size=3072k /proc/mounts", "size=3072k"),
    "user's tmpfs": (["--tmpfs", "/quick", "--user", "1000"], "touch /quick/mine && echo made", "made"),
    "device": (["--device", "/dev/null:/dev/nothing"], "echo x >/dev/nothing && echo written", "written"),
    "init": (["--init"], "cat /proc/1/comm", "podman-init"),
    "host's names": (["--uts", "host"], "test -n $(cat /proc/sys/kernel/hostname) && echo named", "named"),
    "unmasked": (["--security-opt", "unmask=ALL"], "grep -c ' /proc/' /proc/self/mounts || true", "0"),
    "umask": (["--umask", "0077"], "umask", "0077"),
    "read-only": (["--read-only", "--read-only-tmpfs=false"], "touch /tmp/x 2>/dev/null || echo refused", "refused"),
    "groups": (
        ["--user", "1000", "--group-add", "5"],
        "grep Groups /proc/self/status",
        "Groups: 5 1000 1001",
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_of_run(podman: Podman, name: str) -> None:
    options, script, expected = OPTIONS[name]

    # podman 4 may lose what a container writes that ends before all of podman is awake.
    script = f"trap 'sleep 0.3' EXIT; {script}"
    ended = podman("run", "--rm", *podman.options(DEFAULT), *options, IMAGE, "sh", "-c", script)

    assert ended.ok().split() == expected.split()


def test_privileged(podman: Podman) -> None:
    ended = podman(
        "run", "--rm", "--privileged", *podman.options(DEFAULT), IMAGE, "sh", "-c", "mount -t tmpfs x /tmp && echo fine"
    )

    assert ended.ok() == "fine\n"


def test_top_and_stop_with_the_clients_own_signals(podman: Podman) -> None:
    container = ready(podman, "sleep 66 & " + TRAP)

    top = podman("top", container, "args")
    podman("stop", "--time", "10", container).ok()

    assert "sleep 66" in top.ok()
    assert podman.exit_code(container) == 3


def test_a_bridge(podman: Podman) -> None:
    ended = podman("run", "--rm", *_parent(podman), "--network", "bridge", IMAGE, "ls", "/sys/class/net")

    assert ended.ok() == "eth0\nlo\n"


@for_users
@pytest.mark.parametrize("program", ["slirp4netns", "pasta"])
def test_a_users_network_and_a_port_that_is_published(podman: Podman, program: str) -> None:
    if program == "pasta" and not podman.newer:
        pytest.skip("podman 4.3 does not know it")
    options = ["--detach", "--network", program, "--publish", "127.0.0.1:8080:80"]
    container = podman("run", *options, IMAGE, "sh", "-c", "while :; do echo hello | nc -l -p 80; done").ok().strip()

    def asked() -> str:
        return podman.machine("busybox", "nc", "-w", "5", "127.0.0.1", "8080", user=podman.user).stdout

    assert podman.exec(container, "ls", "/sys/class/net").ok() == "lo\ntap0\n"
    eventually(lambda: asked() == "hello\n", "it answers")


@for_root
@requires("criu")
def test_a_container_goes_on_where_it_was(podman: Podman) -> None:
    script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done"
    name = podman("run", "--detach", *podman.options(DEFAULT), IMAGE, "sh", "-c", script).ok().strip()
    eventually(lambda: len(podman.output(name).splitlines()) > 2, "it counts")

    podman("container", "checkpoint", name).ok()
    before = podman.status(name), len(podman.output(name).splitlines())
    podman("container", "restore", name).ok()

    eventually(lambda: len(podman.output(name).splitlines()) > before[1] + 2, "it counts on")
    numbers = [int(line) for line in podman.output(name).splitlines()]
    assert before[0] == "exited"
    assert numbers == list(range(1, len(numbers) + 1))


@for_root
@requires("criu")
def test_a_checkpoint_is_taken_elsewhere(podman: Podman) -> None:
    script = "i=0; while :; do i=$((i+1)); echo $i >/tmp/n; sleep 0.1; done"
    name = podman("run", "--detach", *podman.options(DEFAULT), IMAGE, "sh", "-c", script).ok().strip()
    eventually(lambda: podman.exec(name, "test", "-s", "/tmp/n").status == 0, "it counts")
    podman("container", "checkpoint", "--export", f"{BASE}/taken.tar.gz", name).ok()
    podman.remove(name).ok()

    podman("container", "restore", "--import", f"{BASE}/taken.tar.gz", "--name", "elsewhere").ok()

    first = int(podman.exec("elsewhere", "cat", "/tmp/n").ok())
    eventually(lambda: int(podman.exec("elsewhere", "cat", "/tmp/n").ok() or 0) > first, "it counts on")
