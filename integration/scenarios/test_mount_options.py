"""Every option of a mount, against mountinfo of the container."""

from __future__ import annotations

from pathlib import Path

import pytest

from integration.harness import Bundle, Runtime, mount, mount_at, only

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOATIME, MS_NODIRATIME = 1, 2, 4, 8, 1024, 2048
RESTRICTED = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME

# option -> (what mountinfo has then, what it has not); a fresh tmpfs is "rw,relatime"
PLAIN = {
    "async": ("rw", "sync"),
    "atime": ("relatime", "noatime"),
    "defaults": ("rw,relatime", "ro"),
    "dev": ("rw", "nodev"),
    "diratime": ("relatime", "nodiratime"),
    "dirsync": ("dirsync", ""),
    "exec": ("rw", "noexec"),
    "iversion": ("rw", ""),
    "lazytime": ("lazytime", ""),
    "loud": ("rw", ""),
    "mand": ("rw", ""),
    "noatime": ("noatime", "relatime"),
    "nodev": ("nodev", ""),
    "nodiratime": ("nodiratime", ""),
    "noexec": ("noexec", ""),
    "noiversion": ("rw", ""),
    "nolazytime": ("rw", "lazytime"),
    "nomand": ("rw", "mand"),
    "norelatime": ("rw", "noatime"),
    "nostrictatime": ("relatime", ""),
    "nosuid": ("nosuid", ""),
    "nosymfollow": ("nosymfollow", ""),
    "relatime": ("relatime", "noatime"),
    "ro": ("ro", "rw"),
    "rw": ("rw", "ro"),
    "silent": ("rw", ""),
    "strictatime": ("rw", "relatime,noatime"),
    "suid": ("rw", "nosuid"),
    "symfollow": ("rw", "nosymfollow"),
    "sync": ("sync", ""),
}

OPPOSITES = [
    ("ro", "rw", "ro"),
    ("nosuid", "suid", "nosuid"),
    ("nodev", "dev", "nodev"),
    ("noexec", "exec", "noexec"),
    ("noatime", "atime", "noatime"),
    ("nodiratime", "diratime", "nodiratime"),
    ("nosymfollow", "symfollow", "nosymfollow"),
    ("sync", "async", "sync"),
    ("lazytime", "nolazytime", "lazytime"),
]

# option -> what the mount and the one below it have then: of mounts that were open, and of such that were restricted
RECURSIVE_SET = {
    "rro": "ro",
    "rnosuid": "nosuid",
    "rnodev": "nodev",
    "rnoexec": "noexec",
    "rnodiratime": "nodiratime",
    "rnoatime": "noatime",
    "rnosymfollow": "nosymfollow",
}
RECURSIVE_CLEAR = {
    "rrw": "ro",
    "rsuid": "nosuid",
    "rdev": "nodev",
    "rexec": "noexec",
    "rdiratime": "nodiratime",
    "ratime": "noatime",
    "rrelatime": "noatime",
    "rstrictatime": "noatime",
    "rnoatime": "relatime",
}


def options_of(runtime: Runtime, bundle: Bundle, *targets: str) -> list[set[str]]:
    """Options of the mounts at these targets, and of their file systems."""
    report = runtime.run(bundle).report
    found = [mount_at(report, target) for target in targets]
    return [set(at["options"]) | set(at["super_options"]) for at in found]


def tree(place: Path, flags: int = 0) -> Path:
    """A directory with a tmpfs on it and another one below, mounted with these flags."""
    (place / "tree").mkdir()
    mount("tree", place / "tree", "tmpfs")
    (place / "tree/below").mkdir()
    mount("below", place / "tree/below", "tmpfs")
    if flags:
        for path in (place / "tree", place / "tree/below"):
            mount("", path, flags=flags | 32 | 4096)
    return place / "tree"


@pytest.mark.parametrize("option", PLAIN)
def test_an_option_of_a_file_system(runtime: Runtime, bundle: Bundle, option: str) -> None:
    present, absent = (set(filter(None, text.split(","))) for text in PLAIN[option])
    bundle.mount("/mnt", "tmpfs", "tmpfs", (option,))

    (found,) = options_of(runtime, bundle, "/mnt")

    # The file system is "rw" as well, unless it is "ro" itself.
    assert present <= found
    assert not found & absent or (option == "ro" and absent == {"rw"})


@pytest.mark.parametrize(("on", "off", "name"), OPPOSITES)
def test_the_later_of_two_opposites_holds(runtime: Runtime, bundle: Bundle, on: str, off: str, name: str) -> None:
    bundle.mount("/on", "tmpfs", "tmpfs", (off, on))
    bundle.mount("/off", "tmpfs", "tmpfs", (on, off))

    there, gone = options_of(runtime, bundle, "/on", "/off")

    assert name in there
    assert name not in gone


@pytest.mark.parametrize("option", ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow"])
def test_an_option_of_a_bind_mount_is_for_it_alone(runtime: Runtime, bundle: Bundle, place: Path, option: str) -> None:
    bundle.bind(tree(place), "/mnt", "rbind", option)

    report = runtime.run(bundle).report

    assert option in mount_at(report, "/mnt")["options"]
    assert option not in mount_at(report, "/mnt/below")["options"]


@pytest.mark.parametrize("option", ["ro", "nosuid", "nodev", "noexec"])
def test_a_bind_mount_with_an_option_has_those_that_are_named(
    runtime: Runtime, bundle: Bundle, place: Path, option: str
) -> None:
    bundle.bind(tree(place, RESTRICTED), "/mnt", "rbind", option)

    report = runtime.run(bundle).report

    kept = {"noatime", "nodiratime"}
    assert set(mount_at(report, "/mnt")["options"]) - {"rw"} == {option} | kept
    assert {"ro", "nosuid", "nodev", "noexec"} | kept <= set(mount_at(report, "/mnt/below")["options"])


@only("pyocirun")  # runc 1.1 passes over an option that sets nothing
@pytest.mark.parametrize("option", ["rw", "suid", "dev", "exec", "atime", "diratime", "symfollow"])
def test_an_option_of_a_bind_mount_that_takes_away_does_so_for_all(
    runtime: Runtime, bundle: Bundle, place: Path, option: str
) -> None:
    bundle.bind(tree(place, RESTRICTED), "/mnt", "rbind", option)

    found = set(mount_at(runtime.run(bundle).report, "/mnt")["options"])

    taken = {"ro", "nosuid", "nodev", "noexec", f"no{option}"}
    assert not found & taken
    assert {"noatime", "nodiratime"} - taken <= found


@pytest.mark.parametrize(
    ("option", "there", "gone"), [("nodiratime", "relatime", "noatime"), ("relatime", "", "noatime")]
)
def test_an_access_time_of_a_bind_mount_takes_the_place_of_all_others(
    runtime: Runtime, bundle: Bundle, place: Path, option: str, there: str, gone: str
) -> None:
    bundle.bind(tree(place, MS_NOATIME), "/mnt", "rbind", option)

    found = mount_at(runtime.run(bundle).report, "/mnt")["options"]

    assert option in found
    assert there in found or not there
    assert gone not in found


def test_a_bind_mount_without_an_option_is_as_its_source(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    bundle.bind(tree(place, RESTRICTED), "/mnt", "rbind", "rprivate")

    found = set(mount_at(runtime.run(bundle).report, "/mnt")["options"])

    assert {"ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"} <= found


@pytest.mark.parametrize("option", RECURSIVE_SET)
def test_a_recursive_option_sets(runtime: Runtime, bundle: Bundle, place: Path, option: str) -> None:
    bundle.bind(tree(place), "/mnt", "rbind", option)

    report = runtime.run(bundle).report

    for target in ("/mnt", "/mnt/below"):
        assert RECURSIVE_SET[option] in mount_at(report, target)["options"]


@pytest.mark.parametrize("option", RECURSIVE_CLEAR)
def test_a_recursive_option_clears(runtime: Runtime, bundle: Bundle, place: Path, option: str) -> None:
    flags = 0 if option == "rnoatime" else RESTRICTED
    bundle.bind(tree(place, flags), "/mnt", "rbind", option)

    report = runtime.run(bundle).report

    for target in ("/mnt", "/mnt/below"):
        assert RECURSIVE_CLEAR[option] not in mount_at(report, target)["options"]


@only("pyocirun")
def test_a_recursive_option_comes_after_the_plain_one(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    bundle.bind(tree(place, RESTRICTED), "/mnt", "rbind", "ro", "rrw", "rnosuid")

    report = runtime.run(bundle).report

    assert "rw" in mount_at(report, "/mnt")["options"]
    assert {"rw", "nosuid"} <= set(mount_at(report, "/mnt/below")["options"])


@only("pyocirun")
def test_a_recursive_option_of_a_file_system(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/mnt", "tmpfs", "tmpfs", ("rro", "rnoexec", "size=64k", "mode=700"))

    found = mount_at(runtime.run(bundle).report, "/mnt")

    assert {"ro", "noexec", "relatime"} <= set(found["options"])
    assert {"size=64k", "mode=700"} <= set(found["super_options"])


@pytest.mark.parametrize(
    ("option", "expected"), [("private", ""), ("shared", "shared:"), ("rshared", "shared:"), ("unbindable", "unbind")]
)
def test_propagation_of_a_file_system(runtime: Runtime, bundle: Bundle, option: str, expected: str) -> None:
    bundle.mount("/mnt", "tmpfs", "tmpfs", ("nosuid", "noatime", "ro", "size=64k", option))

    found = mount_at(runtime.run(bundle).report, "/mnt")

    assert {"ro", "nosuid", "noatime"} <= set(found["options"])
    assert "size=64k" in found["super_options"]
    assert any(field.startswith(expected) for field in found["propagation"]) if expected else not found["propagation"]


# ---- remount -------------------------------------------------------------------------------------


def test_remount_changes_a_mount_that_is_there(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    (place / "source").mkdir()
    bundle.bind(place / "source", "/mnt")
    bundle.mount("/mnt", "bind", str(place / "source"), ("bind", "remount", "ro", "nosuid"))

    (found,) = options_of(runtime, bundle, "/mnt")

    assert {"ro", "nosuid"} <= found


@only("pyocirun")
def test_remount_of_a_file_system_with_its_options(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/mnt", "tmpfs", "tmpfs", ("size=64k", "nosuid"))
    bundle.mount("/mnt", "tmpfs", "", ("remount", "size=128k", "nodev"))

    (found,) = options_of(runtime, bundle, "/mnt")

    assert {"size=128k", "nodev"} <= found


# ---- user namespaces -----------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["rw", "suid", "dev", "exec", "strictatime"])
def test_in_a_user_namespace_nothing_that_the_host_forbids_is_allowed(
    runtime: Runtime, bundle: Bundle, place: Path, option: str
) -> None:
    bundle.map_users(100000)
    bundle.bind(tree(place, RESTRICTED), "/mnt", option)

    runtime.create(bundle).fails("/mnt", "peration not permitted")
    assert runtime.traces() == []


@only("pyocirun")
@pytest.mark.parametrize("option", ["ro", "nosuid", "nodev", "noexec", "noatime", "rro", "rnosuid"])
def test_in_a_user_namespace_more_may_be_forbidden(runtime: Runtime, bundle: Bundle, place: Path, option: str) -> None:
    bundle.map_users(100000)
    flags = MS_NODEV | MS_NOATIME
    bundle.bind(tree(place, flags), "/mnt", "rbind", option)

    found = set(mount_at(runtime.run(bundle).report, "/mnt")["options"])

    assert {"nodev", "noatime", option.removeprefix("r") if option.startswith("rn") else option[-2:]} & found
    assert {"nodev", "noatime"} <= found
