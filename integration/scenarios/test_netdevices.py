"""linux.netDevices: devices of the host become the container's. The host is a network namespace of the test's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.harness import (
    Bundle,
    Running,
    Runtime,
    command_of,
    eventually,
    helper,
    namespace,
    only,
    reap,
    requires,
)
from integration.harness import children as orphans

pytestmark = [requires("busybox", "ip"), only("pyocirun")]

UP = 1


class Network:
    """A network namespace with a pair of devices, left and right, and the runtime in it."""

    def __init__(self, runtime: Runtime) -> None:
        self.holder = helper("unshare", "--net", "sleep", "300")
        eventually(lambda: namespace("net", self.holder.pid) != namespace("net"), "a new network namespace")
        self.enter = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]
        runtime.command = [*self.enter, *runtime.command]
        self.ip("link", "add", "left", "type", "veth", "peer", "name", "right")

    def ip(self, *args: str) -> str:
        done = subprocess.run([*self.enter, "ip", *args], capture_output=True, text=True, check=True, timeout=30)
        return done.stdout

    def names(self) -> set[str]:
        return {link["ifname"] for link in json.loads(self.ip("-json", "link"))}

    def addresses(self, name: str) -> set[str]:
        """Global addresses with their prefix lengths."""
        (link,) = json.loads(self.ip("-json", "addr", "show", "dev", name))
        return {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] == "global"}

    def flags(self, name: str) -> list[str]:
        (link,) = json.loads(self.ip("-json", "link", "show", "dev", name))
        flags: list[str] = link["flags"]
        return flags


@pytest.fixture
def network(runtime: Runtime) -> Iterator[Network]:
    network = Network(runtime)
    yield network
    runtime.clean()
    network.holder.kill()
    network.holder.wait()


def shown(runtime: Runtime, bundle: Bundle, devices: dict[str, Any]) -> str:
    """What `ip addr` says in a container with these devices."""
    bundle.linux["netDevices"] = devices
    if not (bundle.rootfs / "bin/ip").exists():
        os.symlink("busybox", bundle.rootfs / "bin/ip")
    return runtime.run(bundle.args("/bin/ip", "addr")).ok().stdout


def test_a_device_is_moved_and_up(runtime: Runtime, bundle: Bundle, network: Network) -> None:
    text = shown(runtime, bundle, {"left": {}})

    assert " left@" in text
    assert ",UP" in text.split(" left@")[1].split(">")[0]
    assert " right@" not in text


@pytest.mark.parametrize(("wanted", "found"), [("eth9", "eth9"), ("eth%d", "eth0")])
def test_a_device_gets_a_new_name(runtime: Runtime, bundle: Bundle, network: Network, wanted: str, found: str) -> None:
    text = shown(runtime, bundle, {"left": {"name": wanted}})

    assert f" {found}@" in text
    assert "left" not in text


def test_a_template_numbers_several_devices(runtime: Runtime, bundle: Bundle, network: Network) -> None:
    text = shown(runtime, bundle, {"right": {"name": "net%d"}, "left": {"name": "net%d"}})

    assert " net0@" in text
    assert " net1@" in text


def test_global_addresses_are_kept_and_others_are_not(runtime: Runtime, bundle: Bundle, network: Network) -> None:
    network.ip("addr", "add", "192.0.2.5/24", "brd", "192.0.2.255", "dev", "left")
    network.ip("addr", "add", "2001:db8::5/64", "dev", "left", "nodad")
    network.ip("addr", "add", "198.51.100.5/24", "dev", "left", "scope", "link")

    text = shown(runtime, bundle, {"left": {"name": "eth9"}})

    assert "inet 192.0.2.5/24 brd 192.0.2.255 scope global eth9" in text
    assert "inet6 2001:db8::5/64 scope global" in text
    assert "198.51.100.5" not in text


def test_a_device_in_a_user_namespace(runtime: Runtime, bundle: Bundle, network: Network) -> None:
    bundle.map_users(100000)
    network.ip("addr", "add", "192.0.2.5/24", "dev", "left")

    assert "inet 192.0.2.5/24" in shown(runtime, bundle, {"left": {"name": "eth9"}})


def test_a_create_runtime_hook_finds_the_device_moved(runtime: Runtime, bundle: Bundle, network: Network) -> None:
    seen = bundle.path / "seen"
    bundle.hook("createRuntime", "/bin/sh", "-c", f"{shutil.which('ip')} link >{seen}")

    shown(runtime, bundle, {"left": {}})

    assert "left" not in seen.read_text().replace("@left", "")


def test_a_sysctl_of_the_device_is_set(runtime: Runtime, bundle: Bundle, network: Network) -> None:
    bundle.linux["sysctl"] = {"net.ipv4.conf.eth9.rp_filter": "2"}
    bundle.linux["netDevices"] = {"left": {"name": "eth9"}}

    result = runtime.run(bundle.args("cat", "/proc/sys/net/ipv4/conf/eth9/rp_filter"))

    assert result.ok().stdout == "2\n"


@pytest.mark.parametrize("up", [True, False])
def test_a_failed_create_gives_the_device_back(runtime: Runtime, bundle: Bundle, network: Network, up: bool) -> None:
    network.ip("addr", "add", "192.0.2.5/24", "dev", "left")
    network.ip("link", "set", "left", "up" if up else "down")
    bundle.linux["netDevices"] = {"left": {"name": "eth9"}}

    runtime.create(bundle.args("/no/such/program")).fails("/no/such/program")

    assert network.names() == {"lo", "left", "right"}
    assert network.addresses("left") == {"192.0.2.5/24"}
    assert ("UP" in network.flags("left")) == up


def test_what_was_moved_before_a_failure_comes_back(runtime: Runtime, bundle: Bundle, network: Network) -> None:
    bundle.linux["netDevices"] = {"left": {"name": "eth9"}, "right": {"name": "eth9"}}

    runtime.create(bundle).fails("cannot move network device right: the container has a device eth9 already")

    assert network.names() == {"lo", "left", "right"}


@pytest.mark.parametrize("command", ["delete", "kill"])
def test_a_device_does_not_come_back_with_the_end(
    runtime: Runtime, bundle: Bundle, network: Network, command: str
) -> None:
    """What has no home but a namespace ends with it."""
    bundle.linux["netDevices"] = {"left": {}}
    id = runtime.running(bundle)

    if command == "kill":
        runtime.stop(id)
    runtime.delete(id, "--force").ok()

    eventually(lambda: network.names() == {"lo"}, "the pair is gone")


def test_a_device_that_is_not_there_is_refused(runtime: Runtime, bundle: Bundle, network: Network) -> None:
    bundle.linux["netDevices"] = {"nothing": {}}

    runtime.create(bundle).fails("cannot move network device nothing: there is none on the host")
    assert runtime.traces() == []


def test_the_loopback_device_cannot_be_moved(runtime: Runtime, bundle: Bundle, network: Network) -> None:
    bundle.linux["netDevices"] = {"lo": {"name": "lo7"}}

    runtime.create(bundle).fails("cannot move network device lo into the container")
    assert network.names() == {"lo", "left", "right"}


def test_a_name_that_is_taken_is_refused(runtime: Runtime, bundle: Bundle, network: Network) -> None:
    bundle.linux["netDevices"] = {"left": {"name": "lo"}}

    runtime.create(bundle).fails("the container has a device lo already")
    assert network.names() == {"lo", "left", "right"}


def test_a_network_namespace_is_needed(runtime: Runtime, bundle: Bundle, network: Network) -> None:
    bundle.without_namespace("network")
    bundle.linux["netDevices"] = {"left": {}}

    runtime.create(bundle).fails("without a NET namespace")


def test_the_network_namespace_of_the_runtime_is_none(runtime: Runtime, bundle: Bundle, network: Network) -> None:
    bundle.with_namespace("network", f"/proc/{network.holder.pid}/ns/net")
    bundle.linux["netDevices"] = {"left": {}}

    runtime.create(bundle).fails("other than the runtime's own")
    assert network.names() == {"lo", "left", "right"}


def test_a_device_moves_into_a_namespace_that_is_joined(
    runtime: Runtime, bundle: Bundle, other_bundle: Bundle, network: Network
) -> None:
    pid = runtime.pid(runtime.running(other_bundle))
    bundle.with_namespace("network", f"/proc/{pid}/ns/net")

    assert " eth9@" in shown(runtime, bundle, {"left": {"name": "eth9"}})
    assert network.names() == {"lo", "right"}


# ---- a creation that is killed -------------------------------------------------------------------


def host_as_it_was(network: Network) -> bool:
    names = network.names()
    return names == {"lo", "left", "right"} and (
        network.addresses("left") == {"192.0.2.5/24", "2001:db8::5/64"}
        and "UP" in network.flags("left")
        and "UP" not in network.flags("right")
    )


@pytest.fixture
def devices(bundle: Bundle, network: Network) -> Network:
    """Both devices are to be moved; what they are like on the host is worth keeping."""
    network.ip("addr", "add", "192.0.2.5/24", "dev", "left")
    network.ip("addr", "add", "2001:db8::5/64", "dev", "left", "nodad")
    network.ip("link", "set", "left", "up")
    bundle.linux["netDevices"] = {"left": {"name": "eth9"}, "right": {"name": "eth%d"}}
    bundle.save()
    return network


def killed_in_hook(runtime: Runtime, bundle: Bundle) -> str:
    """The id of a container whose creation was killed when its devices had been moved."""
    bundle.hook("createRuntime", "/bin/sleep", "20")
    bundle.save()
    id = runtime.new_id()
    running = runtime.spawn("create", "--bundle", str(bundle.path), id)
    eventually(lambda: "/bin/sleep 20" in below(running.process.pid), "the hook")
    running.process.kill()
    running.wait()
    eventually(no_orphan, "the end of the hook and of init", 30)
    return id


def below(pid: int) -> list[str]:
    """Commands of a process's children, and of theirs."""
    found = []
    try:
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            found += [command_of(child), *below(child)]
    except OSError:
        pass  # it has ended
    return found


def no_orphan() -> bool:
    reap()
    return not orphans()


def leftovers(runtime: Runtime) -> list[str]:
    """Records of devices, and what keeps namespaces."""
    found = [str(path) for path in runtime.root.rglob("@netdevices/*")]
    return found + [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "@netdevices" in line]


@pytest.mark.parametrize("command", ["delete", "list", "create"])
def test_devices_come_back_by_the_next_command_after_a_create_was_killed(
    runtime: Runtime, bundle: Bundle, other_bundle: Bundle, devices: Network, command: str
) -> None:
    id = killed_in_hook(runtime, bundle)
    assert devices.names() == {"lo"}

    if command == "delete":
        runtime.delete(id, "--force").ok()
    elif command == "list":
        runtime.list().ok()
    else:
        runtime.created(other_bundle)

    assert host_as_it_was(devices)
    assert leftovers(runtime) == []


def test_a_device_whose_name_is_taken_comes_back_under_another(
    runtime: Runtime, bundle: Bundle, devices: Network
) -> None:
    id = killed_in_hook(runtime, bundle)
    devices.ip("link", "add", "left", "type", "veth", "peer", "name", "other")

    runtime.delete(id, "--force").ok()

    assert devices.names() == {"lo", "left", "other", "right", "dev0"}
    assert devices.addresses("dev0") == {"192.0.2.5/24", "2001:db8::5/64"}


def test_a_device_that_is_gone_is_not_missed(runtime: Runtime, bundle: Bundle, devices: Network) -> None:
    id = killed_in_hook(runtime, bundle)
    (record,) = runtime.root.glob("@netdevices/*")
    subprocess.run(["nsenter", f"--net={record}/inside", "ip", "link", "del", "eth9"], check=True, timeout=30)

    result = runtime.delete(id, "--force").ok()

    assert devices.names() == {"lo"}
    assert result.log == []
    assert leftovers(runtime) == []


def test_devices_of_a_container_that_lives_stay_with_it(
    runtime: Runtime, bundle: Bundle, other_bundle: Bundle, devices: Network
) -> None:
    runtime.created(bundle)

    runtime.created(other_bundle)
    runtime.list().ok()

    assert devices.names() == {"lo"}
    assert leftovers(runtime) == []


CALLS = [
    *[("sendto", number) for number in range(1, 18)],
    *[("mount", number) for number in (1, 2)],
    *[("renameat", number) for number in (1, 2, 3, 4)],
]
"""System calls of create, and which of them is the last: of netlink, and of the record."""
EVERY = float(os.environ.get("PYOCIRUN_KILL_ROUNDS", "1")) > 1


def traced(runtime: Runtime, bundle: Bundle, place: Path, calls: str, number: int) -> tuple[str, Running]:
    """The id of a container, and the `create` of it that is killed at a system call: the number-th of these."""
    id = runtime.new_id()
    plain = runtime.command
    inject = ["strace", "-f", "-o", str(place / "trace"), "-e", f"trace={calls}"]
    runtime.command = [*plain[:2], *inject, "-e", f"inject={calls}:signal=KILL:when={number}", *plain[2:]]
    running = runtime.spawn("create", "--bundle", str(bundle.path), id)
    runtime.command = plain
    return id, running


@requires("strace")
@pytest.mark.parametrize(("calls", "number"), CALLS if EVERY else CALLS[2::6])
def test_devices_come_back_wherever_create_is_killed(
    runtime: Runtime, bundle: Bundle, devices: Network, place: Path, calls: str, number: int
) -> None:
    id, running = traced(runtime, bundle, place, calls, number)
    eventually(lambda: running.process.poll() is not None, "the end of create", 30)

    runtime.delete(id, "--force").ok()

    assert running.process.returncode == -9
    assert host_as_it_was(devices)
    assert leftovers(runtime) == []


@requires("strace")
@pytest.mark.parametrize(("calls", "number"), [("unlink", 1), ("unlink", 3), ("rmdir", 1)])
def test_a_container_whose_create_was_killed_at_its_end_can_be_used(
    runtime: Runtime, bundle: Bundle, devices: Network, place: Path, calls: str, number: int
) -> None:
    """The devices are its own by then; until the record is gone they come back at its end."""
    bundle.args("sleep", "60").save()
    id, running = traced(runtime, bundle, place, calls, number)
    children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children")
    eventually(lambda: (runtime.root / id / "gate").exists() and not children.read_text(), "the end of create", 30)

    runtime.start(id).ok()
    moved = devices.names()
    runtime.delete(id, "--force").ok()

    assert moved == {"lo"}
    assert devices.names() == {"lo"} if number > 1 or calls == "rmdir" else host_as_it_was(devices)
    assert leftovers(runtime) == []
