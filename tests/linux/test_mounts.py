"""Mount options: each of them, and how they add up."""

from __future__ import annotations

import pytest

from pyocirun.linux import mounts
from pyocirun.linux.mounts import MountOptions, attributes, flag_names, parse_options

SETTING = {
    "bind": 0x1000,
    "defaults": 0,
    "dirsync": 0x80,
    "iversion": 0x800000,
    "lazytime": 0x2000000,
    "mand": 0x40,
    "noatime": 0x400,
    "nodev": 0x4,
    "nodiratime": 0x800,
    "noexec": 0x8,
    "nosuid": 0x2,
    "nosymfollow": 0x100,
    "rbind": 0x5000,
    "relatime": 0x200000,
    "remount": 0x20,
    "ro": 0x1,
    "silent": 0x8000,
    "strictatime": 0x1000000,
    "sync": 0x10,
}

OPPOSITES = {
    "async": "sync",
    "atime": "noatime",
    "dev": "nodev",
    "diratime": "nodiratime",
    "exec": "noexec",
    "loud": "silent",
    "noiversion": "iversion",
    "nolazytime": "lazytime",
    "nomand": "mand",
    "norelatime": "relatime",
    "nostrictatime": "strictatime",
    "rw": "ro",
    "suid": "nosuid",
    "symfollow": "nosymfollow",
}

RECURSIVE = {
    "rro": ("rrw", 0x1),
    "rnosuid": ("rsuid", 0x2),
    "rnodev": ("rdev", 0x4),
    "rnoexec": ("rexec", 0x8),
    "rnodiratime": ("rdiratime", 0x80),
    "rnosymfollow": ("rsymfollow", 0x200000),
}


@pytest.mark.parametrize("option", SETTING)
def test_option_sets_its_flag(option: str) -> None:
    assert parse_options([option]) == MountOptions(flags=SETTING[option])


@pytest.mark.parametrize("option", OPPOSITES)
def test_option_clears_its_flag(option: str) -> None:
    flag = SETTING[OPPOSITES[option]]

    assert parse_options([OPPOSITES[option], option]) == MountOptions(cleared=flag)


@pytest.mark.parametrize("option", OPPOSITES)
def test_later_option_takes_a_clearing_back(option: str) -> None:
    flag = SETTING[OPPOSITES[option]]

    assert parse_options([option, OPPOSITES[option]]) == MountOptions(flags=flag)


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        (["noatime", "relatime"], mounts.MS_RELATIME),
        (["relatime", "noatime"], mounts.MS_NOATIME),
        (["noatime", "strictatime"], mounts.MS_STRICTATIME),
        (["strictatime", "norelatime"], mounts.MS_STRICTATIME),
        (["noatime", "nodiratime", "relatime"], mounts.MS_RELATIME | mounts.MS_NODIRATIME),
    ],
)
def test_last_of_the_access_time_options_holds(options: list[str], flags: int) -> None:
    assert parse_options(options).flags == flags


@pytest.mark.parametrize("kind", ["shared", "slave", "private", "unbindable"])
def test_propagation_is_kept_in_order(kind: str) -> None:
    flag = {"shared": 1 << 20, "slave": 1 << 19, "private": 1 << 18, "unbindable": 1 << 17}[kind]

    assert parse_options([kind, "r" + kind]) == MountOptions(propagation=(flag, flag | mounts.MS_REC))


@pytest.mark.parametrize("option", RECURSIVE)
def test_recursive_option_sets_and_clears(option: str) -> None:
    opposite, attribute = RECURSIVE[option]

    assert parse_options([option]) == MountOptions(rec_set=attribute)
    assert parse_options([option, opposite]) == MountOptions(rec_clear=attribute)
    assert parse_options([opposite, option]) == MountOptions(rec_set=attribute)


@pytest.mark.parametrize(
    ("options", "rec_set"),
    [
        (["rnoatime"], 0x10),
        (["rstrictatime"], 0x20),
        (["rrelatime"], 0),
        (["ratime"], 0),
        (["rnorelatime"], 0),
        (["rnostrictatime"], 0),
        (["rnoatime", "ratime"], 0),
        (["rstrictatime", "rnostrictatime"], 0),
        (["rstrictatime", "ratime"], 0x20),
        (["rnoatime", "rstrictatime"], 0x20),
        (["rnoatime", "rrelatime"], 0),
    ],
)
def test_recursive_access_time_clears_the_whole_field_first(options: list[str], rec_set: int) -> None:
    assert parse_options(options) == MountOptions(rec_set=rec_set, rec_clear=mounts.MOUNT_ATTR__ATIME)


def test_idmap_ridmap_and_tmpcopyup_are_no_flags() -> None:
    assert parse_options(["idmap"]) == MountOptions(idmap="idmap")
    assert parse_options(["ridmap"]) == MountOptions(idmap="ridmap")
    assert parse_options(["tmpcopyup"]) == MountOptions(tmpcopyup=True)


def test_other_options_are_data_in_their_order() -> None:
    options = parse_options(["nosuid", "mode=755", "acl", "size=64k", ""])

    assert options == MountOptions(flags=mounts.MS_NOSUID, data="mode=755,acl,size=64k")


def test_attributes_translate_per_mount_flags_only() -> None:
    flags = parse_options(["ro", "nosuid", "nodev", "noexec", "nosymfollow", "nodiratime", "noatime", "sync"]).flags

    assert attributes(flags) == 0x20009F
    assert attributes(mounts.MS_RELATIME) == 0
    assert attributes(mounts.MS_STRICTATIME) == 0x20


def test_flag_names_are_those_of_the_header() -> None:
    assert flag_names(0) == []
    assert flag_names(mounts.MS_BIND | mounts.MS_REC | mounts.MS_RDONLY) == ["MS_RDONLY", "MS_BIND", "MS_REC"]
    assert flag_names(1 << 40 | 1) == ["MS_RDONLY", "0x10000000000"]
