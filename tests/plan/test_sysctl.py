"""Which kernel parameters a container may set."""

from __future__ import annotations

import pytest

from pyocirun.errors import SpecError
from pyocirun.linux.idmap import IDMapping
from pyocirun.plan import sysctl
from pyocirun.plan.ops import Sysctl
from pyocirun.spec.linux import Namespace
from tests.support import HOST_V1_ROOT, build, every, minimal_spec

OWN = {"uid_mappings": (IDMapping(0, 1, 1),), "gid_mappings": (IDMapping(0, 1, 1),)}


@pytest.mark.parametrize(
    ("key", "namespace", "path"),
    [
        ("kernel.msgmax", "ipc", "sys/kernel/msgmax"),
        ("kernel.shm_rmid_forced", "ipc", "sys/kernel/shm_rmid_forced"),
        ("kernel/sem", "ipc", "sys/kernel/sem"),
        ("fs.mqueue.queues_max", "ipc", "sys/fs/mqueue/queues_max"),
        ("net.ipv4.ip_forward", "network", "sys/net/ipv4/ip_forward"),
        ("net/ipv4/conf/eth0.1/forwarding", "network", "sys/net/ipv4/conf/eth0.1/forwarding"),
        ("net.ipv4.conf.eth0/1.forwarding", "network", "sys/net/ipv4/conf/eth0.1/forwarding"),
        ("kernel.domainname", "uts", "sys/kernel/domainname"),
        ("user.max_user_namespaces", "user", "sys/user/max_user_namespaces"),
    ],
)
def test_parameter_of_an_own_namespace_is_written(key: str, namespace: str, path: str) -> None:
    maps = OWN if namespace == "user" else {}
    spec = minimal_spec(namespaces=("mount", namespace), sysctl={key: "1"}, **maps)

    plan = build(spec)

    assert every(plan, Sysctl) == [Sysctl(key, path, "1")]


@pytest.mark.parametrize(
    "key",
    [
        "kernel.msgmax",
        "fs.mqueue.queues_max",
        "net.ipv4.ip_forward",
        "net/ipv4/ip_forward",
        "kernel.domainname",
        "user.max_user_namespaces",
    ],
)
def test_parameter_of_the_hosts_namespace_is_refused(key: str) -> None:
    spec = minimal_spec(namespaces=("mount",), sysctl={key: "1"})

    with pytest.raises(SpecError, match=f'sysctl "{key}" is not in a separate kernel namespace'):
        build(spec)


@pytest.mark.parametrize(
    "key",
    [
        "kernel.core_pattern",
        "vm.swappiness",
        "fs.file-max",
        "kernel.msgmaxx",
        "fs.mqueuex.a",
        "net",
    ],
)
def test_parameter_of_the_machine_is_refused(key: str) -> None:
    everything = ("mount", "ipc", "network", "uts", "pid", "user")
    spec = minimal_spec(namespaces=everything, sysctl={key: "1"}, **OWN)

    with pytest.raises(SpecError, match="is not in a separate kernel namespace"):
        build(spec)


@pytest.mark.parametrize(
    "key",
    [
        *("net/../vm/swappiness", "net.//.vm.swappiness", "net/./../vm/x", "fs.mqueue.//.//.vm.swappiness"),
        *("", ".", "/", ".net.a", "/net/a", "net..a", "net.", "net/a/"),
    ],
)
def test_key_that_is_no_name_cannot_lead_out_of_its_namespace(key: str) -> None:
    spec = minimal_spec(namespaces=("mount", "ipc", "network"), sysctl={key: "1"})

    with pytest.raises(SpecError, match="is no name of a kernel parameter"):
        build(spec)


@pytest.mark.parametrize("key", ["kernel.hostname", "kernel/hostname"])
def test_hostname_has_a_property_of_its_own(key: str) -> None:
    spec = minimal_spec(namespaces=("mount", "uts"), sysctl={key: "x"})

    with pytest.raises(SpecError, match="conflicts with hostname"):
        build(spec)


def test_pointer_is_escaped() -> None:
    spec = minimal_spec(sysctl={"vm/a~b": "1"})

    with pytest.raises(SpecError) as caught:
        build(spec)

    assert caught.value.pointer == "/linux/sysctl/vm~1a~0b"


def test_joined_namespace_that_is_the_hosts_is_refused() -> None:
    host = dict(HOST_V1_ROOT.namespaces)["network"]
    spec = minimal_spec(
        namespaces=("mount", Namespace("network", "/proc/1/ns/net")), sysctl={"net.core.somaxconn": "1"}
    )

    with pytest.raises(SpecError, match="is not in a separate kernel namespace"):
        build(spec, joined=(("network", host),))


def test_joined_namespace_of_another_container_is_written() -> None:
    spec = minimal_spec(namespaces=("mount", Namespace("network", "/run/netns/a")), sysctl={"net.core.somaxconn": "1"})

    plan = build(spec, joined=(("network", 1234),))

    assert every(plan, Sysctl)


@pytest.mark.parametrize(
    ("key", "dotted"),
    [("a.b.c", "a.b.c"), ("a/b.c/d", "a.b/c.d"), ("a.b/c.d", "a.b/c.d"), ("a", "a"), ("", "")],
)
def test_first_separator_decides(key: str, dotted: str) -> None:
    assert sysctl.dotted(key) == dotted
