"""hostname, domainname and linux.sysctl."""

from __future__ import annotations

from pathlib import Path

import pytest

from integration.harness import Bundle, Runtime, only, requires


def test_hostname(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["hostname"] = "some-name"

    assert runtime.run(bundle).report["hostname"] == "some-name"


def test_domainname(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["domainname"] = "some.domain"

    assert runtime.run(bundle).report["domainname"] == "some.domain"


def test_the_names_of_the_host_stay(runtime: Runtime, bundle: Bundle) -> None:
    before = Path("/proc/sys/kernel/hostname").read_text()
    bundle.config["hostname"] = "some-name"

    runtime.run(bundle).ok()

    assert Path("/proc/sys/kernel/hostname").read_text() == before


@pytest.mark.parametrize("key", ["hostname", "domainname"])
def test_a_name_needs_a_uts_namespace(runtime: Runtime, bundle: Bundle, key: str) -> None:
    bundle.without_namespace("uts")
    bundle.config.pop("hostname")
    bundle.config[key] = "some-name"

    runtime.create(bundle).fails("without a private UTS namespace")
    assert runtime.traces() == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kernel.shmmax", "123456"),
        ("kernel.msgmax", "9000"),
        ("kernel.sem", "250\t32000\t100\t130"),
        ("fs.mqueue.msg_max", "12"),
        ("net.ipv4.ip_forward", "1"),
        ("net/ipv4/ip_forward", "1"),
        ("net.ipv4.ping_group_range", "0\t0"),
    ],
)
def test_a_sysctl_of_a_namespace_is_set(runtime: Runtime, bundle: Bundle, key: str, value: str) -> None:
    bundle.linux["sysctl"] = {key: value}
    path = "/proc/sys/" + (key if "/" in key else key.replace(".", "/"))

    result = runtime.run(bundle.args("cat", path))

    assert result.ok().stdout.split() == value.split()


def test_the_sysctl_of_the_host_stays(runtime: Runtime, bundle: Bundle) -> None:
    before = Path("/proc/sys/kernel/shmmax").read_text()
    bundle.linux["sysctl"] = {"kernel.shmmax": "123456"}

    runtime.run(bundle).ok()

    assert Path("/proc/sys/kernel/shmmax").read_text() == before


@pytest.mark.parametrize("name", ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"])
def test_every_ipc_sysctl_may_be_set(runtime: Runtime, bundle: Bundle, name: str) -> None:
    value = Path(f"/proc/sys/kernel/{name}").read_text().strip()
    bundle.linux["sysctl"] = {f"kernel.{name}": value}

    result = runtime.run(bundle.args("cat", f"/proc/sys/kernel/{name}"))

    assert result.ok().stdout.split() == value.split()


@requires("userns")
@only("pyocirun")
def test_a_sysctl_of_a_user_namespace_needs_one(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["sysctl"] = {"user.max_mnt_namespaces": "77"}

    runtime.create(bundle).fails('sysctl "user.max_mnt_namespaces" is not in a separate kernel namespace')
    bundle.map_users(100000)
    assert runtime.run(bundle.args("cat", "/proc/sys/user/max_mnt_namespaces")).ok().stdout == "77\n"


def test_the_domainname_is_a_sysctl_too(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["sysctl"] = {"kernel.domainname": "some.domain"}

    assert runtime.run(bundle).report["domainname"] == "some.domain"


@only("pyocirun")
def test_slashes_separate_where_a_name_has_dots(runtime: Runtime, bundle: Bundle) -> None:
    """An interface may be called eth0.1."""
    bundle.linux["sysctl"] = {"net/ipv4/conf/no.such/rp_filter": "1"}

    runtime.create(bundle).fails("net/ipv4/conf/no.such/rp_filter")


@pytest.mark.parametrize("key", ["kernel.panic", "vm.swappiness", "kernel.hostname", "fs.file-max", "dev.cdrom.debug"])
def test_a_sysctl_of_the_host_is_refused(runtime: Runtime, bundle: Bundle, key: str) -> None:
    bundle.linux["sysctl"] = {key: "1"}

    runtime.create(bundle).fails(key)
    assert runtime.traces() == []


@pytest.mark.parametrize(("type", "key"), [("ipc", "kernel.shmmax"), ("network", "net.ipv4.ip_forward")])
def test_a_sysctl_needs_its_namespace(runtime: Runtime, bundle: Bundle, type: str, key: str) -> None:
    bundle.without_namespace(type)
    kept = ("tmpfs", "proc")
    bundle.config["mounts"] = [mount for mount in bundle.config["mounts"] if mount["type"] in kept]
    bundle.linux["sysctl"] = {key: "1"}

    runtime.create(bundle).fails(key)
    assert runtime.traces() == []


def test_the_network_namespace_of_the_host_by_path_is_that_of_the_host(runtime: Runtime, bundle: Bundle) -> None:
    bundle.with_namespace("network", "/proc/self/ns/net")
    bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}

    runtime.create(bundle).fails("net.ipv4.ip_forward")


@pytest.mark.parametrize(("key", "value"), [("kernel.shmmax", "123 456"), ("kernel.sem", "250 32000 32 128 5")])
def test_a_value_that_the_kernel_takes_in_part_is_an_error(
    runtime: Runtime, bundle: Bundle, key: str, value: str
) -> None:
    bundle.linux["sysctl"] = {key: value}

    runtime.create(bundle).fails(key)
    assert runtime.traces() == []


def test_a_sysctl_that_does_not_exist_is_an_error(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["sysctl"] = {"net.no_such_thing": "1"}

    runtime.create(bundle).fails("no_such_thing")
    assert runtime.traces() == []
