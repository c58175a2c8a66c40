"""Helpers for programs that write configurations: users of an image, capabilities, namespaces."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyocirun import caps, ns
from pyocirun.errors import Error
from pyocirun.userdb import User, find_group, find_user, read_limited

PASSWD = """root:x:0:0:root:/root:/bin/sh
# a comment
daemon:x:1:1:daemon:/usr/sbin:/bin/false
app:x:1000:1000::/home/app:/bin/sh
1000x:x:7:7::/seven:/bin/sh
2000:x:8:8::/eight:/bin/sh
broken line
"""
GROUP = "root:x:0:\ndaemon:x:1:app\napp:x:1000:\nvideo:x:44:root,app\n3000:x:9:\n"


@pytest.mark.parametrize(
    ("wanted", "user"),
    [
        ("", User(0, 0, (), "/root")),
        ("root", User(0, 0, (44,), "/root")),
        ("app", User(1000, 1000, (1, 44), "/home/app")),
        ("1000", User(1000, 1000, (1, 44), "/home/app")),
        ("app:video", User(1000, 44, (), "/home/app")),
        ("app:5", User(1000, 5, (), "/home/app")),
        ("4321", User(4321, 0)),
        ("4321:17", User(4321, 17)),
        ("1000x", User(7, 7, (), "/seven")),
    ],
)
def test_a_user_is_found_as_images_name_it(wanted: str, user: User) -> None:
    found = find_user(wanted, PASSWD, GROUP)

    assert found == (user if wanted else User(0, 0, (44,), "/root"))


def test_a_number_is_never_a_name() -> None:
    assert find_user("2000", PASSWD, GROUP) == User(2000, 0)
    assert find_group("3000", GROUP) == 3000


@pytest.mark.parametrize("wanted", ["nobody", "+1", "-1", "4294967295", "1000 ", "app:nothing"])
def test_an_unknown_user_or_group_is_an_error(wanted: str) -> None:
    with pytest.raises(Error, match=r"there is no (user|group)"):
        find_user(wanted, PASSWD, GROUP)


@pytest.mark.parametrize("gid", ["", "x", "-1", "+1", "4294967295", "10 ", None])
@pytest.mark.parametrize("wanted", ["app", "1000"])
def test_a_gid_that_cannot_be_read_is_an_error_and_not_0(wanted: str, gid: str | None) -> None:
    line = "app:x:1000" if gid is None else f"app:x:1000:{gid}::/home/app:/bin/sh"

    with pytest.raises(Error, match="the entry of 'app' in the passwd file has no number in field 4"):
        find_user(wanted, f"{line}\n", "")


@pytest.mark.parametrize("uid", ["", "x", "-0", "00000000000"])
def test_a_uid_that_cannot_be_read_is_an_error_and_not_0(uid: str) -> None:
    with pytest.raises(Error, match="in the passwd file has no number in field 3"):
        find_user("app", f"app:x:{uid}:1000::/:/bin/sh\n", "")


def test_a_group_whose_gid_cannot_be_read_is_an_error() -> None:
    with pytest.raises(Error, match="the entry of 'video' in the group file has no number in field 3"):
        find_user("0:video", "", "video:x:4x:\nvideo:x:0:\n")


@pytest.mark.parametrize("end", ["\x0b", "\x1c", "\x85", "\u2028", "\r"])
def test_a_line_ends_where_the_c_library_ends_it(end: str) -> None:
    with pytest.raises(Error, match="there is no user"):
        find_user("toor", f"app:x:1000:1000:{end}toor:x:0:0::/:/bin/sh\n", "")


def test_a_file_that_is_cut_ends_with_a_whole_line(tmp_path: Path) -> None:
    line = "app:x:1000:1000::/:/bin/sh\n"
    (tmp_path / "passwd").write_text(line * (2**20 // len(line) + 1))

    text = read_limited(str(tmp_path), "/passwd")

    assert 2**20 - len(line) < len(text) <= 2**20
    assert text.endswith(line)


def test_long_lines_do_not_count() -> None:
    assert find_user("5", f"evil:x:5:0:{'x' * 5000}:/evil:/bin/sh\n", "").home == "/"


def test_links_of_an_image_lead_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the host")
    rootfs = tmp_path / "rootfs"
    (rootfs / "etc").mkdir(parents=True)
    (rootfs / "etc/passwd").symlink_to("../../../secret")
    os.mkfifo(rootfs / "etc/group")

    assert read_limited(str(rootfs), "/etc/passwd") == ""
    assert read_limited(str(rootfs), "/etc/group") == ""
    assert read_limited(str(rootfs), "/etc/shadow") == ""


def test_a_file_of_an_image_is_read(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text(PASSWD)

    assert read_limited(str(tmp_path), "/passwd") == PASSWD


def test_capabilities_go_from_name_to_number_and_back() -> None:
    bits, unknown = caps.mask(["CAP_CHOWN", "CAP_NOTHING", "CAP_KILL"])

    assert (bits, unknown) == (0b100001, ["CAP_NOTHING"])
    assert caps.names(bits) == ["CAP_CHOWN", "CAP_KILL"]


def test_the_sets_of_a_process_have_the_names_of_the_configuration() -> None:
    sets = caps.of_process()

    assert set(sets) == {"inheritable", "permitted", "effective", "bounding", "ambient"}
    assert set(sets["effective"]) <= set(sets["permitted"]) <= set(caps.CAPABILITIES)


def test_the_namespaces_of_a_process() -> None:
    own = ns.of_process()

    assert {"pid", "mount", "uts"} <= set(own)
    assert own == ns.of_process(os.getpid())
    assert ns.same(ns.path("pid"), ns.path("pid", os.getpid()))
    assert not ns.same(ns.path("pid"), ns.path("uts"))
