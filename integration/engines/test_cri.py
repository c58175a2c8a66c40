"""What kubelet asks of containerd and cri-o beyond the common scenarios: pods, streams, statistics, namespaces."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cri_api.v1 import api_pb2 as api

from integration.engines import crio, stream
from integration.engines.cri import CONTAINER, HANDLER, NODE, POD, TOOLS, Cri
from integration.engines.engine import Wish
from integration.engines.machine import BASE, eventually
from integration.engines.test_common import TRAP, asks, both, ready, runtime_with, skip_what_it_lacks, tree
from integration.harness import requires

NAMESPACES = "for n in net ipc uts pid; do readlink /proc/self/ns/$n; done"


@pytest.fixture(scope="module", params=[*both(), pytest.param(None, id="cri-o", marks=requires("cri-o"))])
def daemon(request: pytest.FixtureRequest) -> Iterator[Cri]:
    if request.param is None:
        engine: Cri = crio.Crio(runtime_with(crio.TOOLS))
    else:
        engine = Cri(runtime_with(TOOLS), tree(request.param))
    yield engine
    engine.close()


@pytest.fixture
def cri(daemon: Cri, request: pytest.FixtureRequest) -> Iterator[Cri]:
    """The daemon without a pod, before and after the test."""
    skip_what_it_lacks(daemon, request)
    yield daemon
    for pod in daemon.pods():
        daemon.remove_pod(pod)
    eventually(lambda: not daemon.leftovers(), "nothing is left", 15)


def _run(cri: Cri, pod: str, script: str, wish: Wish | None = None, **options: Any) -> str:
    """What a container of the pod writes."""
    container = cri.container(pod, "sh", "-c", script, wish=wish or Wish(), **options)
    cri.start_container(container)
    assert cri.wait(container) == 0, cri.output(container, "stderr")
    return cri.output(container)


@asks("handler")
def test_the_handler_runs_the_pod(cri: Cri) -> None:
    pod = cri.pod()

    request = api.PodSandboxStatusRequest(pod_sandbox_id=pod, verbose=True)
    status = cri.service.PodSandboxStatus(request)

    assert status.status.state == api.SANDBOX_READY
    assert status.status.runtime_handler == HANDLER
    assert cri.runtime in status.info["info"]


def test_containers_of_a_pod_share_its_namespaces(cri: Cri) -> None:
    pod = cri.pod()

    one, two = (_run(cri, pod, NAMESPACES).split() for _ in range(2))

    assert one[:3] == two[:3]
    assert "pid:" in one[3]


def test_a_pod_has_an_address(cri: Cri) -> None:
    pod = cri.pod()

    address = cri.service.PodSandboxStatus(api.PodSandboxStatusRequest(pod_sandbox_id=pod)).status.network.ip
    seen = _run(cri, pod, "ip -4 addr show dev eth0")

    assert address.startswith("10.77.0.")
    assert f"{address}/24" in seen


@asks("namespaces of the host")
def test_a_pod_in_the_hosts_namespaces(cri: Cri) -> None:
    options = api.NamespaceOption(network=NODE, pid=NODE, ipc=NODE)
    pod = cri.pod(security_context=api.LinuxSandboxSecurityContext(namespace_options=options))

    seen = _run(cri, pod, NAMESPACES, namespaces=options)

    assert seen == cri.machine("sh", "-c", NAMESPACES).stdout


@asks("pid namespace of the pod")
def test_a_shared_pid_namespace_and_its_end(cri: Cri) -> None:
    options = api.NamespaceOption(pid=POD)
    pod = cri.pod(security_context=api.LinuxSandboxSecurityContext(namespace_options=options))
    container = cri.container(pod, "sh", "-c", "sleep 4331 & sleep 4332", namespaces=options)
    cri.start_container(container)
    other = cri.container(pod, "sh", "-c", TRAP, namespaces=options)
    cri.start_container(other)
    eventually(lambda: "sleep 4331" in cri.exec(other, "ps").stdout, "both see each other")

    cri.stop(container, 0).ok()

    eventually(lambda: "sleep 433" not in cri.exec(other, "ps").stdout, "all of it has ended")
    assert cri.status(other) == "running"


def test_sysctls_of_a_pod(cri: Cri) -> None:
    pod = cri.pod(sysctls={"kernel.msgmax": "7776", "net.ipv4.ip_unprivileged_port_start": "77"})

    seen = _run(cri, pod, "cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_unprivileged_port_start")

    assert seen.split() == ["7776", "77"]


def test_groups_of_a_user(cri: Cri) -> None:
    pod = cri.pod()

    seen = _run(cri, pod, "grep Groups /proc/self/status; id -u; id -g", Wish(user="1000:1000"))

    assert seen.split() == ["Groups:", "1000", "1001", "1000", "1000"]


def test_a_stop_of_the_pod_ends_its_containers(cri: Cri) -> None:
    pod = cri.pod()
    container = cri.container(pod, "sh", "-c", TRAP)
    cri.start_container(container)

    cri.service.StopPodSandbox(api.StopPodSandboxRequest(pod_sandbox_id=pod))

    assert cri.wait(container) in (137, 3)  # containerd kills them, cri-o asks first


@asks("statistics of pods")
def test_statistics_of_containers_and_pods(cri: Cri) -> None:
    container = ready(cri, TRAP, Wish(memory=64 << 20))

    stats = cri.service.ListContainerStats(api.ListContainerStatsRequest()).stats
    pods = cri.service.ListPodSandboxStats(api.ListPodSandboxStatsRequest()).stats

    assert [each.attributes.id for each in stats] == [container]
    assert stats[0].cpu.usage_core_nano_seconds.value > 0
    assert 0 < stats[0].memory.working_set_bytes.value < 64 << 20
    assert pods[0].linux.process.process_count.value >= 2


def test_a_read_only_bind_mount(cri: Cri) -> None:
    cri.machine.write(f"{BASE}/volume/file", "shown\n")
    mount = api.Mount(container_path="/volume", host_path=f"{BASE}/volume", readonly=True)

    seen = _run(cri, cri.pod(), "cat /volume/file; touch /volume/x || echo read-only", mounts=[mount])

    assert seen == "shown\nread-only\n"


def test_mounts_of_a_container_reach_the_host_where_that_is_asked_for(cri: Cri) -> None:
    cri.machine.write(f"{BASE}/volume/file", "")
    # A mount of its own: that on which cri-o has the root file systems becomes a private one in the container.
    cri.machine("mount", "-t", "tmpfs", "tmpfs", f"{BASE}/volume").ok()
    propagation = api.MountPropagation.PROPAGATION_BIDIRECTIONAL
    mount = api.Mount(container_path="/volume", host_path=f"{BASE}/volume", propagation=propagation)
    cri.machine.write(f"{BASE}/volume/below/file", "")

    script = "mount -t tmpfs reached /volume/below"
    _run(
        cri, cri.pod(), script, Wish(add=("SYS_ADMIN",), seccomp='{"defaultAction": "SCMP_ACT_ALLOW"}'), mounts=[mount]
    )

    assert any(" - tmpfs reached" in line for line in cri.machine.mounts())
    cri.machine("umount", f"{BASE}/volume/below", f"{BASE}/volume").ok()


def _new_enough(cri: Cri, *version: int) -> None:
    if type(cri) is Cri and cri.version() < version:
        pytest.skip(f"containerd {cri.version()} is too old: it came with {version}")


@pytest.mark.short
def test_a_pod_with_a_user_namespace(cri: Cri) -> None:
    _new_enough(cri, 1, 7)
    ids = [api.IDMapping(container_id=0, host_id=1000000, length=65536)]
    users = api.UserNamespace(mode=POD, uids=ids, gids=ids)
    options = api.NamespaceOption(pid=CONTAINER, userns_options=users)
    pod = cri.pod(security_context=api.LinuxSandboxSecurityContext(namespace_options=options))

    seen = _run(cri, pod, "cat /proc/self/uid_map", namespaces=options)

    assert seen.split() == ["0", "1000000", "65536"]


@pytest.mark.short
def test_a_recursive_read_only_mount(cri: Cri) -> None:
    _new_enough(cri, 2, 0)
    cri.machine.write(f"{BASE}/volume/below/file", "")
    cri.machine("mount", "-t", "tmpfs", "tmpfs", f"{BASE}/volume/below").ok()
    mount = api.Mount(container_path="/volume", host_path=f"{BASE}/volume", readonly=True, recursive_read_only=True)

    seen = _run(cri, cri.pod(), "touch /volume/below/x || echo read-only", mounts=[mount])
    cri.machine("umount", f"{BASE}/volume/below").ok()

    assert seen == "read-only\n"


# ---- streams ----


def _stream(cri: Cri, url: str, stdin: str = "", until: str = "") -> dict[str, str]:
    """What came by the stream: "1" stdout, "2" stderr, "3" how it ended, in JSON."""
    done = cri.machine(sys.executable, os.path.abspath(stream.__file__), url, stdin, until)
    received: dict[str, str] = json.loads(done.ok())
    return received


def test_a_stream_of_exec(cri: Cri) -> None:
    container = ready(cri, TRAP)
    command = ["sh", "-c", "read line; echo got $line; echo wrong >&2; exit 5"]
    request = api.ExecRequest(container_id=container, cmd=command, stdin=True, stdout=True, stderr=True)

    received = _stream(cri, cri.service.Exec(request).url, "words\n")

    assert (received["1"], received["2"]) == ("got words\n", "wrong\n")
    assert '"message":"5"' in received["3"]


def test_a_stream_of_exec_with_a_terminal(cri: Cri) -> None:
    container = ready(cri, TRAP)
    command = ["sh", "-c", "tty; sleep 1"]  # cri-o may lose what is written at the end, under any runtime
    request = api.ExecRequest(container_id=container, cmd=command, tty=True, stdin=True, stdout=True)

    received = _stream(cri, cri.service.Exec(request).url)

    assert received["1"].startswith("/dev/pts/")


def test_a_stream_of_attach(cri: Cri) -> None:
    script = "while read line; do echo got $line; done"
    container = cri.container(cri.pod(), "sh", "-c", script, stdin=True)
    cri.start_container(container)
    request = api.AttachRequest(container_id=container, stdin=True, stdout=True, stderr=True)

    received = _stream(cri, cri.service.Attach(request).url, "words\n", until="got words\n")

    assert received["1"] == "got words\n"


def test_a_stream_of_attach_to_a_terminal(cri: Cri) -> None:
    container = cri.container(cri.pod(), "sh", "-c", "while read line; do tty; done", stdin=True, tty=True)
    cri.start_container(container)
    request = api.AttachRequest(container_id=container, stdin=True, stdout=True, tty=True)

    received = _stream(cri, cri.service.Attach(request).url, "words\n", until="/dev/")

    assert "/dev/pts/0" in received["1"] or "/dev/console" in received["1"]
