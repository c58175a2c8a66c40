"""What podman has beyond the common scenarios, for root and for a user: pods, build, containers without cgroups."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from integration.engines.docker import IMAGE
from integration.engines.engine import DEFAULT
from integration.engines.machine import BASE, NAME, eventually, working_criu
from integration.engines.podman import TOOLS, USER, Podman, rootless
from integration.engines.test_common import TRAP, both, ready, runtime_with, tree

not_runc = pytest.mark.skipif(
    os.path.basename(os.environ.get("RUNTIME", "")) == "runc", reason="runc 1.1 cannot do this under podman"
)


@pytest.fixture(scope="module", params=[Podman, rootless], ids=["root", "rootless"])
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
    if podman.newer and os.path.isdir("/sys/fs/cgroup/memory"):
        pytest.skip("podman 5 wants to remove cgroups of hierarchies that are not mounted")
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


@not_runc
def test_a_container_without_cgroups(podman: Podman) -> None:
    container = podman("run", "--detach", "--cgroups", "disabled", "--network", "none", IMAGE, "sh", "-c", TRAP).ok()
    container = container.strip()
    eventually(lambda: "ready" in podman.output(container), "it runs")

    beside = podman.exec(container, "sh", "-c", "cat /proc/self/cgroup")
    podman.stop(container, 10).ok()

    assert container not in beside.ok()
    assert podman.exit_code(container) == 3


@pytest.mark.parametrize("isolation", ["oci", "rootless", "chroot"])
def test_a_build_runs_its_commands(podman: Podman, isolation: str) -> None:
    if isolation == "rootless" and not podman.user:
        pytest.skip("for users")
    podman.machine.write(f"{BASE}/context/Containerfile", f"FROM {IMAGE}\nRUN echo built >/made; id -u >>/made\n")
    network = "host" if isolation == "chroot" else "none"
    words = ["--isolation", isolation, "--network", network, "--tag", "made", f"{BASE}/context"]

    built = podman("build", *words)
    ended = podman("run", "--rm", "--network", "none", "made", "cat", "/made")
    podman("rmi", "made")

    built.ok()
    assert ended.ok() == "built\n0\n"


@pytest.mark.skipif(shutil.which("buildah") is None, reason="needs buildah")
def test_buildah_runs_a_command(podman: Podman) -> None:
    if podman.newer:
        pytest.skip("the installed buildah is older than this podman, and knows nothing of its images")
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


def test_the_callers_id_is_kept(podman: Podman) -> None:
    if not podman.user:
        pytest.skip("for users")

    ended = podman.machine(
        *["podman", "run", "--rm", "--userns", "keep-id", *podman.options(DEFAULT), IMAGE, "id", "-u"], user=podman.user
    )

    assert ended.ok() == f"{USER}\n"


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
    if podman.user:
        pytest.skip("users need slirp4netns")

    ended = podman("run", "--rm", "--cgroup-parent", f"/{NAME}", IMAGE, "ls", "/sys/class/net")

    assert ended.ok() == "eth0\nlo\n"


@pytest.mark.skipif(not working_criu(), reason="needs criu 4")
def test_a_container_goes_on_where_it_was(podman: Podman) -> None:
    if podman.user:
        pytest.skip("criu is for root")
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


@pytest.mark.skipif(not working_criu(), reason="needs criu 4")
def test_a_checkpoint_is_taken_elsewhere(podman: Podman) -> None:
    if podman.user:
        pytest.skip("criu is for root")
    script = "i=0; while :; do i=$((i+1)); echo $i >/tmp/n; sleep 0.1; done"
    name = podman("run", "--detach", *podman.options(DEFAULT), IMAGE, "sh", "-c", script).ok().strip()
    eventually(lambda: podman.exec(name, "test", "-s", "/tmp/n").status == 0, "it counts")
    podman("container", "checkpoint", "--export", f"{BASE}/taken.tar.gz", name).ok()
    podman.remove(name).ok()

    podman("container", "restore", "--import", f"{BASE}/taken.tar.gz", "--name", "elsewhere").ok()

    first = int(podman.exec("elsewhere", "cat", "/tmp/n").ok())
    eventually(lambda: int(podman.exec("elsewhere", "cat", "/tmp/n").ok() or 0) > first, "it counts on")
