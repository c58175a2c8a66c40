"""What docker has beyond the common scenarios: networks, health checks, build, Swarm, userns-remap and more."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from integration.engines.docker import IMAGE, OWN, TOOLS, Docker
from integration.engines.engine import DEFAULT, finish
from integration.engines.machine import BASE, Ended, eventually
from integration.engines.test_common import COUNT, LIMIT, TRAP, both, ready, runtime_with, tree
from integration.harness import NEEDS, requires

REPLICAS = 10


@pytest.fixture(scope="module", params=both())
def daemon(request: pytest.FixtureRequest) -> Iterator[Docker]:
    path = runtime_with(TOOLS)
    settings = {
        "runtimes": {OWN: {"path": path}, "wordy": {"path": path, "runtimeArgs": ["--debug"]}},
        "iptables": True,
        "live-restore": True,
        "experimental": True,
    }
    engine = Docker(path, tree(request.param), settings=settings, again=True)
    yield engine
    engine.close()


@pytest.fixture(scope="module", params=both())
def swarming(request: pytest.FixtureRequest) -> Iterator[Docker]:
    """A daemon for Swarm, which wants no live-restore."""
    engine = Docker(runtime_with(TOOLS), tree(request.param))
    yield engine
    engine.close()


@pytest.fixture(scope="module", params=both())
def remapping(request: pytest.FixtureRequest) -> Iterator[Docker]:
    engine = Docker(runtime_with(TOOLS), tree(request.param), remap=True)
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


def once(docker: Docker, *options: str, script: str) -> Ended:
    """Run a script in a container that is removed when it ends."""
    # Of a container that ends at once, docker 28 may lose the output where the machine is busy.
    network = [] if "--network" in options else ["--network", "none"]
    return docker("run", "--rm", *network, *options, IMAGE, "sh", "-c", f"trap 'sleep 0.3' EXIT; {script}")


# ---- being the runtime of docker ----


def test_it_is_the_default_runtime(docker: Docker) -> None:
    container = ready(docker, TRAP)

    assert docker("info", "--format", "{{.DefaultRuntime}}").ok() == f"{OWN}\n"
    assert docker.inspect(container, "{{.HostConfig.Runtime}}") == OWN


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


OPTIONS = {
    "sysctl": (["--sysctl", "kernel.msgmax=7777"], "cat /proc/sys/kernel/msgmax", "7777"),
    "ulimit": (["--ulimit", "nofile=77:78"], "ulimit -n; ulimit -Hn", "77 78"),
    "hostname": (["--hostname", "named", "--domainname", "far"], "cat /proc/sys/kernel/*name", "far named"),
    "shm": (["--shm-size", "3m"], "grep -o size=3072k /proc/mounts", "size=3072k"),
    "tmpfs": (["--tmpfs", "/quick:size=1m,mode=700"], "grep /quick /proc/mounts | cut -d ' ' -f 3", "tmpfs"),
    "user's tmpfs": (["--tmpfs", "/quick", "--user", "1000"], "touch /quick/mine && echo made", "made"),
    "device": (["--device", "/dev/null:/dev/nothing:rw"], "echo x >/dev/nothing && echo written", "written"),
    "device read-only": (
        ["--device", "/dev/kmsg:/dev/x:r", "--cap-add", "SYSLOG"],
        "(exec 3</dev/x) && echo read; (exec 3>/dev/x) 2>/dev/null || echo refused",
        "read refused",
    ),
    "device rule": (
        ["--device-cgroup-rule", "c 1:3 rwm", "--cap-add", "MKNOD"],
        "mknod /n c 1 3; cat /n; echo ok",
        "ok",
    ),
    "init": (["--init"], "cat /proc/1/comm", "docker-init"),
    "host's processes": (["--pid", "host"], "test $(cat /proc/1/comm) = sh || echo host", "host"),
    "host's names": (["--uts", "host"], "test $(cat /proc/sys/kernel/hostname) != x && echo host", "host"),
    "groups": (
        ["--user", "1000", "--group-add", "5", "--group-add", "7"],
        "grep Groups /proc/self/status",
        "Groups: 5 7 1000 1001",
    ),
    "directory": (["--workdir", "/made/for/it"], "readlink /proc/self/cwd", "/made/for/it"),
    "no new privileges": (
        ["--security-opt", "no-new-privileges"],
        "grep NoNewPrivs /proc/self/status",
        "NoNewPrivs: 1",
    ),
    "unmasked": (["--security-opt", "systempaths=unconfined"], "grep -c ' /proc/' /proc/self/mounts || true", "0"),
    "processors": (["--cpuset-cpus", "0"], "grep Cpus_allowed_list /proc/self/status", "Cpus_allowed_list: 0"),
    "oom score": (["--oom-score-adj", "77"], "cat /proc/self/oom_score_adj", "77"),
    "read-only": (["--read-only", "--tmpfs", "/t"], "touch /t/x; touch /x 2>/dev/null || echo refused", "refused"),
    "cgroup namespace": (["--cgroupns", "private"], "grep -c 'memory:/$' /proc/self/cgroup; true", "1"),
    "host's cgroups": (["--cgroupns", "host"], "grep -c 'memory:/$' /proc/self/cgroup; true", "0"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_of_run(docker: Docker, name: str) -> None:
    options, script, expected = OPTIONS[name]

    ended = once(docker, *options, script=script)

    assert ended.ok().split() == expected.split()


def skip_where_all_capabilities_are_too_many(docker: Docker) -> None:
    if not docker.newer and not NEEDS["resource"]():
        pytest.skip("docker 20.10 asks for all capabilities there are, and this machine may not give CAP_SYS_RESOURCE")


def test_a_privileged_container(docker: Docker) -> None:
    skip_where_all_capabilities_are_too_many(docker)

    ended = once(docker, "--privileged", script="mount -t tmpfs x /tmp && test -b /dev/vda && echo all")

    assert ended.ok() == "all\n"


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


def test_streams_of_run_and_exec(docker: Docker) -> None:
    words = ["--network", "none", IMAGE, "sh", "-c", "wc -c; sleep 0.3"]
    container = ready(docker, TRAP)

    ran = docker("run", "--rm", "--interactive", *words, stdin=b"x" * 300_000)
    beside = docker("exec", "--interactive", container, "sh", "-c", "wc -c; sleep 0.3", stdin=b"x" * 300_000)

    assert ran.ok() == "300000\n"
    assert beside.ok() == "300000\n"


def test_options_of_exec(docker: Docker) -> None:
    container = ready(docker, TRAP)
    options = ["--user", "1000:7", "--workdir", "/tmp", "--env", "GIVEN=a b"]

    fine = docker("exec", *options, container, "sh", "-c", 'id -u; id -g; pwd; echo "$GIVEN"; sleep 0.3')
    docker("exec", "--detach", container, "touch", "/tmp/detached").ok()

    assert fine.ok() == "1000\n7\n/tmp\na b\n"
    eventually(lambda: docker.exec(container, "test", "-e", "/tmp/detached").status == 0, "it ran")


def test_a_privileged_exec(docker: Docker) -> None:
    skip_where_all_capabilities_are_too_many(docker)
    container = ready(docker, TRAP)

    powerful = docker("exec", "--privileged", container, "sh", "-c", "grep CapEff /proc/self/status; sleep 0.3")

    assert int(powerful.ok().split()[1], 16) & 1 << 21


def test_many_execs_leave_nothing(docker: Docker) -> None:
    container = ready(docker, TRAP)
    pid = _pid(docker, container)
    docker.exec(container, "true").ok()

    def held() -> tuple[int, int]:
        """Processes of the machine, and descriptors of the parent of the container, which is its shim."""
        shim = docker.machine("cut", "-d", " ", "-f", "4", f"/proc/{pid}/stat").ok().strip()
        return len(docker.machine.processes()), len(docker.machine("ls", f"/proc/{shim}/fd").ok().split())

    processes, descriptors = held()

    ended = [docker.exec(container, "sh", "-c", f"exit {number}").status for number in range(20)]

    assert ended == list(range(20))
    eventually(lambda: held()[0] <= processes, "there are no more processes than before", 15)
    assert held()[1] < descriptors + 10, "no descriptor stays of each"


def _pid(docker: Docker, container: str) -> str:
    return docker.inspect(container, "{{.State.Pid}}")


def test_an_update_of_processors_and_processes(docker: Docker) -> None:
    container = ready(docker, TRAP)
    options = ["--cpus", "0.5", "--cpuset-cpus", "0", "--cpu-shares", "77", "--pids-limit", "33"]

    docker("update", *options, container).ok()

    files = {"cpu/cpu.cfs_quota_us": "50000", "cpuset/cpuset.cpus": "0", "cpu/cpu.shares": "77", "pids/pids.max": "33"}
    script = "; ".join(f"cat /sys/fs/cgroup/{file}" for file in files)
    if docker.exec(container, "test", "-e", "/sys/fs/cgroup/cgroup.controllers").status == 0:
        pytest.skip("cgroup v2: test_resources.py looks at its files")
    assert docker.exec(container, "sh", "-c", script).ok().split() == list(files.values())


def test_a_wait_ends_with_the_container(docker: Docker) -> None:
    container = ready(docker, TRAP)
    waiting = docker.start("wait", container)

    docker("stop", container).ok()

    assert finish(waiting).ok() == "3\n"


def test_the_signal_of_the_image_stops_it(docker: Docker) -> None:
    options = ["--detach", "--network", "none", "--stop-signal", "USR1"]
    container = docker("run", *options, IMAGE, "sh", "-c", TRAP.replace("TERM", "USR1")).ok().strip()
    eventually(lambda: "ready" in docker.output(container), "it is ready")

    docker("stop", container).ok()

    assert docker.exit_code(container) == 3


def test_too_much_memory_is_told_as_the_reason(docker: Docker) -> None:
    script = "(x=xxxxxxxx; while :; do x=$x$x; done); exit 4"
    container = docker("run", "--detach", "--network", "none", "--memory", "16m", IMAGE, "sh", "-c", script).ok()

    docker.wait(container.strip())

    assert docker.inspect(container.strip(), "{{.State.OOMKilled}}") == "true"


def test_changes_are_kept_as_an_image(docker: Docker) -> None:
    container = docker.begin("sh", "-c", "echo kept >/made")
    docker.wait(container)

    told = docker("diff", container).ok()
    docker("commit", container, "changed").ok()
    ended = docker("run", "--rm", "--network", "none", "changed", "sh", "-c", "cat /made; sleep 0.3")
    docker("rmi", "changed").ok()

    assert "A /made\n" in told
    assert ended.ok() == "kept\n"


# ---- the daemon is started again ----


def _again(docker: Docker, signal: str) -> None:
    """End the daemon, and wait until the next one answers."""
    first = docker.machine("cat", f"{BASE}/docker.pid").ok()
    docker.machine("kill", f"-{signal}", first).ok()
    eventually(lambda: docker.machine("cat", f"{BASE}/docker.pid").stdout not in ("", first), "there is another")
    eventually(lambda: docker("version").status == 0, "it answers")


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_containers_outlive_the_daemon(docker: Docker, signal: str) -> None:
    container = ready(docker, f"echo ready; {COUNT}")
    pid = _pid(docker, container)

    _again(docker, signal)

    assert (docker.status(container), _pid(docker, container)) == ("running", pid)
    written = docker.output(container)
    eventually(lambda: len(docker.output(container)) > len(written), "it writes on")
    assert docker.exec(container, "sh", "-c", "exit 5").status == 5
    docker.kill(container, "KILL").ok()
    assert docker.wait(container) == 137


def test_what_ends_without_a_daemon_is_known_to_the_next(docker: Docker) -> None:
    container = ready(docker, f"trap 'exit 6' TERM; {TRAP.partition('; ')[2]}")
    pid = _pid(docker, container)
    first = docker.machine("cat", f"{BASE}/docker.pid").ok()

    docker.machine("sh", "-c", f"kill -STOP {first}; kill {pid}; sleep 0.3; kill -KILL {first}").ok()

    eventually(lambda: docker("version").status == 0, "another daemon answers")
    # docker 28 takes its containerd with it, and containerd 2 does not keep a task that ended in between.
    assert docker.wait(container) == (255 if docker.newer else 6)


# ---- checkpoints ----


@requires("criu")
def test_a_container_goes_on_from_its_checkpoint(docker: Docker) -> None:
    # docker 28 looks for a network namespace of the restored container before there is one.
    network = "host" if docker.newer else "none"
    options = ["--detach", "--network", network, "--security-opt", "seccomp=unconfined"]
    container = docker("run", *options, IMAGE, "sh", "-c", COUNT.replace("echo $n", "echo $n >>/tmp/n")).ok().strip()
    eventually(lambda: docker.exec(container, "test", "-s", "/tmp/n").status == 0, "it counts")

    docker("checkpoint", "create", container, "first").ok()
    docker.wait(container)
    listed = docker("checkpoint", "ls", container).ok()
    docker("start", "--checkpoint", "first", container).ok()
    count = len(docker.exec(container, "cat", "/tmp/n").ok().split())

    eventually(lambda: len(docker.exec(container, "cat", "/tmp/n").stdout.split()) > count, "it counts on")
    numbers = docker.exec(container, "cat", "/tmp/n").ok().split()
    assert "first" in listed
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]


@requires("criu")
def test_a_checkpoint_lets_a_container_go_on(docker: Docker) -> None:
    container = ready(docker, TRAP)

    docker("checkpoint", "create", "--leave-running", container, "second").ok()

    assert docker.status(container) == "running"
    assert docker.exec(container, "sh", "-c", "exit 4").status == 4


# ---- networks ----


def test_without_a_network_there_is_only_loopback(docker: Docker) -> None:
    ended = docker.run("sh", "-c", "ls /sys/class/net; ping -c 1 -W 5 127.0.0.1 >/dev/null && echo answers")

    assert ended.ok() == "lo\nanswers\n"


SERVE = ("sh", "-c", "while :; do echo hello | nc -l -p 80; done")


def test_containers_on_a_bridge_reach_each_other(docker: Docker) -> None:
    served = docker("run", "--detach", IMAGE, *SERVE).ok().strip()
    address = docker.inspect(served, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")

    ended = once(docker, "--network", "bridge", script=f"sleep 0.3; nc -w 5 {address} 80 </dev/null")

    assert ended.ok() == "hello\n"


def test_a_port_is_published(docker: Docker) -> None:
    docker("run", "--detach", "--publish", "127.0.0.1:8080:80", IMAGE, *SERVE).ok()

    def asked() -> str:
        return docker.machine("busybox", "nc", "-w", "5", "127.0.0.1", "8080").stdout

    eventually(lambda: asked() == "hello\n", "it answers")


def test_containers_on_a_network_of_their_own_know_each_others_names(docker: Docker) -> None:
    docker("network", "create", "own").ok()
    try:
        docker("run", "--detach", "--network", "own", "--name", "served", IMAGE, *SERVE).ok()

        ended = once(docker, "--network", "own", script="sleep 0.3; nc -w 5 served 80 </dev/null")
    finally:
        docker.remove("served")
        docker("network", "rm", "own")

    assert ended.ok() == "hello\n"


def test_a_running_container_gets_another_network(docker: Docker) -> None:
    container = ready(docker, TRAP)
    docker("network", "disconnect", "none", container).ok()

    docker("network", "connect", "bridge", container).ok()

    assert docker.exec(container, "ls", "/sys/class/net").stdout == "eth0\nlo\n"


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
def swarm(swarming: Docker) -> Iterator[Docker]:
    swarming("swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1").ok()
    yield swarming
    swarming("service", "rm", "many")
    eventually(lambda: not swarming.containers(), "all tasks are gone")
    swarming("swarm", "leave", "--force").ok()
    eventually(lambda: not swarming.leftovers(), "nothing is left", 15)


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
