"""What docker has beyond the common scenarios: networks, health checks, build, Swarm, userns-remap and more."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from integration.engines.docker import IMAGE, TOOLS, Docker
from integration.engines.engine import DEFAULT
from integration.engines.machine import BASE, eventually
from integration.engines.test_common import LIMIT, TRAP, ready, runtime_with

REPLICAS = 10


@pytest.fixture(scope="module")
def daemon() -> Iterator[Docker]:
    path = runtime_with(TOOLS)
    engine = Docker(path, settings={"runtimes": {"under-test": {"path": path}, "wordy": _with_arguments(path)}})
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def remapping() -> Iterator[Docker]:
    engine = Docker(runtime_with(TOOLS), remap=True)
    yield engine
    engine.close()


@pytest.fixture
def docker(daemon: Docker) -> Iterator[Docker]:
    yield from empty(daemon)


@pytest.fixture
def remapped(remapping: Docker) -> Iterator[Docker]:
    yield from empty(remapping)


def empty(engine: Docker) -> Iterator[Docker]:
    """A daemon without a container, before and after the test."""
    yield engine
    for name in engine.containers():
        engine.remove(name)
    eventually(lambda: not engine.leftovers(), "nothing is left", 15)


def _with_arguments(path: str) -> dict[str, object]:
    return {"path": path, "runtimeArgs": ["--debug"]}


# ---- being the runtime of docker ----


def test_it_is_the_default_runtime(docker: Docker) -> None:
    container = ready(docker, TRAP)

    assert docker("info", "--format", "{{.DefaultRuntime}}").ok() == "under-test\n"
    assert docker.inspect(container, "{{.HostConfig.Runtime}}") == "under-test"


def test_arguments_of_the_runtime_in_daemon_json(docker: Docker) -> None:
    container = docker("run", "--detach", "--network", "none", "--runtime", "wordy", IMAGE, "sleep", "60").ok().strip()

    log = docker.machine("cat", f"{docker.tasks}/{container}/log.json")
    assert '"level":"debug"' in log.ok().replace('": "', '":"')
    assert docker.exec(container, "echo", "fine").stdout == "fine\n"


def test_a_container_is_started_again_by_hand(docker: Docker) -> None:
    container = docker.begin("sh", "-c", "echo run >>/tmp/runs; cat /tmp/runs")
    first = docker.wait(container)

    second = docker("start", "--attach", container)

    assert first == 0
    assert second.ok() == "run\nrun\n"


def test_top_lists_the_processes(docker: Docker) -> None:
    container = ready(docker, "sleep 77 & echo ready; wait")

    ended = docker("top", container, "-o", "pid,args")

    assert "sleep 77" in ended.ok()


def test_files_are_copied_in_and_out(docker: Docker) -> None:
    container = ready(docker, TRAP)
    docker.machine.write(f"{BASE}/given", "given\n")

    docker("cp", f"{BASE}/given", f"{container}:/tmp/given").ok()
    docker.exec(container, "sh", "-c", "cat /tmp/given /tmp/given >/tmp/twice").ok()
    docker("cp", f"{container}:/tmp/twice", f"{BASE}/twice").ok()

    assert docker.machine("cat", f"{BASE}/twice").stdout == "given\ngiven\n"


def test_a_volume_a_tmpfs_and_a_bind_mount(docker: Docker) -> None:
    docker.machine.write(f"{BASE}/shown/file", "shown\n")
    mounts = ["--volume", f"{BASE}/shown:/shown:ro", "--volume", "kept:/kept", "--tmpfs", "/quick:size=1m,mode=700"]
    script = (
        "cat /shown/file; touch /shown/x || echo read-only; echo kept >/kept/file; grep -c ' /quick tmpfs' /proc/mounts"
    )

    first = docker("run", "--rm", "--network", "none", *mounts, IMAGE, "sh", "-c", script)
    second = docker("run", "--rm", "--network", "none", *mounts, IMAGE, "cat", "/kept/file")
    docker("volume", "rm", "kept").ok()

    assert first.ok() == "shown\nread-only\n1\n"
    assert second.ok() == "kept\n"


def test_sysctls_limits_names_and_devices(docker: Docker) -> None:
    options = ["--sysctl", "kernel.msgmax=7777", "--ulimit", "nofile=77:78", "--hostname", "named"]
    options += ["--shm-size", "3m", "--device", "/dev/null:/dev/nothing"]
    script = "cat /proc/sys/kernel/msgmax; ulimit -n; cat /proc/sys/kernel/hostname; grep -o size=3072k /proc/mounts"

    ended = docker("run", "--rm", "--network", "none", *options, IMAGE, "sh", "-c", f"{script}; test -c /dev/nothing")

    assert ended.ok() == "7777\n77\nnamed\nsize=3072k\n"


def test_namespaces_of_another_container(docker: Docker) -> None:
    options = ["--detach", "--network", "none", "--ipc", "shareable"]
    host = docker("run", *options, IMAGE, "sleep", "60").ok().strip()
    joined = [part for kind in ("pid", "ipc", "network") for part in (f"--{kind}", f"container:{host}")]
    script = "for n in pid ipc net; do readlink /proc/self/ns/$n; done"

    ended = docker("run", "--rm", *joined, IMAGE, "sh", "-c", script)

    assert ended.ok() == docker.exec(host, "sh", "-c", script).stdout
    assert docker.status(host) == "running"


def test_all_processes_end_with_a_container_in_the_pid_namespace_of_another(docker: Docker) -> None:
    host = ready(docker, TRAP)
    options = ["--detach", "--network", "none", "--pid", f"container:{host}"]
    guest = docker("run", *options, IMAGE, "sh", "-c", "sleep 4321 & exec sleep 4322").ok().strip()
    eventually(lambda: "sleep 4321" in docker.exec(host, "ps").stdout, "both run")

    docker.kill(guest, "KILL").ok()
    docker.wait(guest)

    eventually(lambda: "432" not in docker.exec(host, "ps").stdout, "both have ended")


# ---- networks ----


def test_without_a_network_there_is_only_loopback(docker: Docker) -> None:
    ended = docker.run("sh", "-c", "ls /sys/class/net; ping -c 1 -W 5 127.0.0.1 >/dev/null && echo answers")

    assert ended.ok() == "lo\nanswers\n"


def test_containers_on_a_bridge_reach_each_other(docker: Docker) -> None:
    served = docker("run", "--detach", IMAGE, "sh", "-c", "echo hello | nc -l -p 80").ok().strip()
    address = docker.inspect(served, "{{.NetworkSettings.IPAddress}}")

    ended = docker("run", "--rm", IMAGE, "sh", "-c", f"sleep 0.3; nc -w 5 {address} 80 </dev/null")

    assert ended.ok() == "hello\n"
    assert docker.wait(served) == 0


# ---- health, build ----


def test_a_health_check(docker: Docker) -> None:
    check = ["--health-cmd", "test -e /tmp/fine", "--health-interval", "300ms", "--health-retries", "2"]
    options = ["--detach", "--network", "none", *check]
    container = docker("run", *options, IMAGE, "sh", "-c", f"touch /tmp/fine; {TRAP}").ok().strip()
    eventually(lambda: docker.inspect(container, "{{.State.Health.Status}}") == "healthy", "it is healthy")

    docker.exec(container, "sh", "-c", "busybox rm /tmp/fine").ok()

    eventually(lambda: docker.inspect(container, "{{.State.Health.Status}}") == "unhealthy", "it is not")


def test_a_build_runs_its_commands(docker: Docker) -> None:
    docker.machine.write(f"{BASE}/context/Dockerfile", f"FROM {IMAGE}\nRUN echo built >/made\nCMD cat /made\n")
    words = ["build", "--network", "none", "--tag", "made", f"{BASE}/context"]

    built = docker.machine("env", "DOCKER_BUILDKIT=0", *docker.command(), *words)
    ended = docker("run", "--rm", "--network", "none", "made")
    docker("rmi", "made")

    built.ok()
    assert ended.ok() == "built\n"


def test_a_build_fails_with_its_command(docker: Docker) -> None:
    docker.machine.write(f"{BASE}/context/Dockerfile", f"FROM {IMAGE}\nRUN exit 5\n")

    built = docker.machine(
        "env", "DOCKER_BUILDKIT=0", *docker.command(), "build", "--network", "none", f"{BASE}/context"
    )

    assert built.status != 0
    assert "returned a non-zero code: 5" in built.stderr


# ---- Swarm ----


@pytest.fixture
def swarm(docker: Docker) -> Iterator[Docker]:
    docker("swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1").ok()
    yield docker
    docker("service", "rm", "many")
    eventually(lambda: not docker.containers(), "all tasks are gone")
    docker("swarm", "leave", "--force").ok()


def test_a_service_is_scaled_and_updated(swarm: Docker) -> None:
    options = ["--detach", "--name", "many", "--network", "host", "--no-resolve-image", "--stop-grace-period", "2s"]
    swarm("service", "create", *options, "--env", "COLOUR=red", IMAGE, "sh", "-c", f"echo $COLOUR; {TRAP}").ok()

    swarm("service", "scale", "--detach", f"many={REPLICAS}").ok()
    eventually(lambda: _tasks(swarm, "red") == REPLICAS, "all run")
    swarm("service", "update", "--detach", "--update-parallelism", "5", "--env-add", "COLOUR=blue", "many").ok()
    eventually(lambda: _tasks(swarm, "blue") == REPLICAS, "all are new", 180)
    swarm("service", "scale", "--detach", "many=2").ok()

    eventually(lambda: len(swarm("ps", "--quiet").ok().split()) == 2, "two are left")


def _tasks(swarm: Docker, colour: str) -> int:
    """How many containers run whose environment has this colour."""
    running = swarm("ps", "--quiet").ok().split()
    if not running:
        return 0
    listed = swarm("inspect", "--format", "{{.Config.Env}}", *running).stdout
    return listed.count(f"COLOUR={colour}")


# ---- user namespaces ----


def test_root_is_somebody_else_outside(remapped: Docker) -> None:
    container = ready(remapped, "echo mine >/root/file; id -u; cat /proc/self/uid_map; " + TRAP)

    words = remapped.output(container).split()
    owner = remapped.machine("stat", "--format", "%u", _outside(remapped, container)).ok()

    assert words[:4] == ["0", "0", "1000000", "65536"]
    assert owner == "1000000\n"


def _outside(docker: Docker, container: str) -> str:
    """A process of the container in the /proc that the daemon sees."""
    return f"/proc/{docker.inspect(container, '{{.State.Pid}}')}"


def test_exec_kill_and_a_terminal_with_user_namespaces(remapped: Docker) -> None:
    container = ready(remapped, TRAP)

    beside = remapped.exec(container, "sh", "-c", "id -u; cat /proc/self/uid_map", terminal=True)
    remapped.kill(container, "TERM").ok()

    assert beside.ok().split()[:3] == ["0", "0", "1000000"]
    assert remapped.wait(container) == 3


def test_a_bridge_with_user_namespaces(remapped: Docker) -> None:
    ended = remapped("run", "--rm", IMAGE, "ls", "/sys/class/net")

    assert ended.ok() == "eth0\nlo\n"


def test_limits_and_users_with_user_namespaces(remapped: Docker) -> None:
    script = f"id -u; {LIMIT}; true"

    ended = remapped("run", "--rm", "--network", "none", "--user", "1000", "--memory", "32m", IMAGE, "sh", "-c", script)

    assert ended.ok() == f"1000\n{32 << 20}\n"


def test_a_container_without_the_daemons_user_namespace(remapped: Docker) -> None:
    ended = remapped("run", "--rm", "--userns", "host", "--network", "none", IMAGE, "cat", "/proc/self/uid_map")

    assert ended.ok().split() == ["0", "0", "4294967295"]


def test_twenty_at_once_with_user_namespaces(remapped: Docker) -> None:
    ended = remapped.run_at_once([["echo", str(number)] for number in range(20)])

    assert [each.stdout for each in ended] == [f"{number}\n" for number in range(20)]
    assert remapped.run("true", wish=DEFAULT).status == 0
