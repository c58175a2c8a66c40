"""Which process of the launch makes or joins which namespaces."""

from __future__ import annotations

import pytest

from pyocirun.linux.host import Host
from pyocirun.linux.idmap import IDMapping
from pyocirun.linux.namespaces import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
)
from pyocirun.plan.namespaces import Stages, setgroups_denied, stages
from pyocirun.record import replace
from pyocirun.spec.linux import Namespace
from tests.support import HOST_NESTED, HOST_NEW, HOST_USER, HOST_V1_ROOT, minimal_spec

MAP = (IDMapping(0, 1, 1),)
OWN = (IDMapping(0, 1000, 1),)
HOST_DENIED = replace(HOST_NESTED, groups_denied=True)
NET = Namespace("network", "/n")
PID = Namespace("pid", "/p")
MNT = Namespace("mount", "/m")
USR = Namespace("user", "/u")


@pytest.mark.parametrize(
    ("namespaces", "host", "wanted"),
    [
        ((), HOST_V1_ROOT, Stages(0, own_mounts=False)),
        (("mount", "pid"), HOST_V1_ROOT, Stages(CLONE_NEWNS | CLONE_NEWPID)),
        (("mount", "cgroup"), HOST_V1_ROOT, Stages(CLONE_NEWNS)),
        (("mount", NET), HOST_V1_ROOT, Stages(CLONE_NEWNS, (("network", "/n"),))),
        ((MNT, "ipc"), HOST_V1_ROOT, Stages(CLONE_NEWIPC, (("mount", "/m"),), own_mounts=False)),
        (("mount", PID), HOST_NEW, Stages(CLONE_NEWNS, late_pid="/p")),
        (("mount", PID), HOST_V1_ROOT, Stages(0, (("pid", "/p"),), 0, CLONE_NEWNS)),
        ((MNT, PID), HOST_NEW, Stages(0, (("pid", "/p"), ("mount", "/m")), 0, 0, own_mounts=False)),
        (("user", "mount"), HOST_V1_ROOT, Stages(0, (), CLONE_NEWUSER, CLONE_NEWNS)),
        (("user",), HOST_V1_ROOT, Stages(0, (), CLONE_NEWUSER, 0, own_mounts=False)),
        (("user", "mount", NET), HOST_USER, Stages(0, (("network", "/n"),), CLONE_NEWUSER, CLONE_NEWNS)),
        ((USR, "mount", NET), HOST_V1_ROOT, Stages(0, (("network", "/n"), ("user", "/u")), 0, CLONE_NEWNS)),
        ((USR, "mount", NET), HOST_USER, Stages(0, (("user", "/u"), ("network", "/n")), 0, CLONE_NEWNS)),
        (("mount", "time"), HOST_V1_ROOT, Stages(0, (), CLONE_NEWTIME, CLONE_NEWNS)),
        (("mount", "time", "user"), HOST_USER, Stages(0, (), CLONE_NEWTIME | CLONE_NEWUSER, CLONE_NEWNS)),
        (("mount", Namespace("time", "/t")), HOST_V1_ROOT, Stages(CLONE_NEWNS, (("time", "/t"),))),
        ((USR, "mount", "network"), HOST_NESTED, Stages(0, (("user", "/u"),), 0, CLONE_NEWNS | CLONE_NEWNET)),
    ],
)
def test_stages(namespaces: tuple[str | Namespace, ...], host: Host, wanted: Stages) -> None:
    new_user = "user" in namespaces
    spec = minimal_spec(
        namespaces=namespaces, uid_mappings=MAP if new_user else (), gid_mappings=MAP if new_user else ()
    )

    assert stages(spec, host) == wanted


def test_mount_namespace_is_joined_last_since_it_takes_the_paths_away() -> None:
    spaces = [Namespace(type, f"/{type}") for type in ("mount", "pid", "cgroup", "network", "uts", "ipc")]

    found = stages(minimal_spec(namespaces=spaces), HOST_V1_ROOT)

    assert [type for type, _ in found.joined] == ["ipc", "uts", "network", "cgroup", "pid", "mount"]


@pytest.mark.parametrize(("host", "wanted"), [(HOST_V1_ROOT, True), (HOST_USER, False), (HOST_NESTED, False)])
def test_privileged_is_root_of_the_machine(host: Host, wanted: bool) -> None:
    assert host.privileged == wanted


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        (HOST_V1_ROOT, True),
        (HOST_USER, False),
        (HOST_NESTED, False),
        (replace(HOST_NESTED, owns_mounts=True), True),
        (replace(HOST_NESTED, owns_mounts=True, euid=1000), False),
    ],
)
def test_sources_are_handed_over_by_the_root_who_owns_the_mounts(host: Host, wanted: bool) -> None:
    assert host.hands_over == wanted


@pytest.mark.parametrize(
    ("namespaces", "maps", "host", "wanted"),
    [
        (("user",), OWN, HOST_USER, True),
        (("user",), MAP, HOST_USER, False),
        (("user",), (*OWN, *MAP), HOST_USER, False),
        (("user",), OWN, HOST_V1_ROOT, False),
        ((USR,), (), HOST_USER, False),
        ((USR,), (), HOST_DENIED, False),
        ((), (), HOST_USER, False),
        ((), (), HOST_DENIED, True),
        (("user",), MAP, HOST_DENIED, True),
    ],
)
def test_where_setgroups_is_denied(
    namespaces: tuple[str | Namespace, ...], maps: tuple[IDMapping, ...], host: Host, wanted: bool
) -> None:
    assert setgroups_denied(minimal_spec(namespaces=namespaces, gid_mappings=maps), host) == wanted
