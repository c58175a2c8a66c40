"""apparmorProfile and selinuxLabel; and that what is written to procfs goes to procfs, whatever lies over it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.harness import Bundle, Runtime, eventually, only, requires

PROFILE = "pyocirun-scenario"


def _apparmor() -> bool:
    try:
        return Path("/sys/module/apparmor/parameters/enabled").read_text().startswith("Y")
    except OSError:
        return False


with_apparmor = pytest.mark.skipif(not _apparmor(), reason="this kernel has no AppArmor, or it is off")
without_apparmor = pytest.mark.skipif(_apparmor(), reason="AppArmor is on")
without_selinux = pytest.mark.skipif(os.path.exists("/sys/fs/selinux/enforce"), reason="SELinux is on")


@pytest.fixture
def profile(place: Path) -> Iterator[str]:
    """A profile that allows all but writing below /forbidden."""
    file = place / "profile"
    rules = "file, capability, network, mount, umount, pivot_root, ptrace, signal, unix, dbus, deny /forbidden/** w,"
    file.write_text(f"profile {PROFILE} flags=(attach_disconnected) {{ {rules} }}\n")
    subprocess.run(["apparmor_parser", "-Kr", str(file)], check=True)
    yield PROFILE
    subprocess.run(["apparmor_parser", "-KR", str(file)], check=True)


# ---- refused -------------------------------------------------------------------------------------


@without_apparmor
def test_a_profile_is_refused_where_apparmor_is_off(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["apparmorProfile"] = "any"

    runtime.create(bundle).fails("apparmor")
    assert runtime.traces() == []


@without_selinux
def test_a_label_is_refused_where_selinux_is_off(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["selinuxLabel"] = "system_u:system_r:container_t:s0"

    runtime.create(bundle).fails("selinux")
    assert runtime.traces() == []


@without_apparmor
@only("pyocirun")
def test_exec_refuses_a_profile_where_apparmor_is_off(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    runtime.exec(id, "exit", "0", options=("--apparmor", "any")).fails("AppArmor is not enabled", status=255)


@without_selinux
def test_exec_refuses_a_label_where_selinux_is_off(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    runtime.exec(id, "exit", "0", options=("--process-label", "a:b:c")).fails("selinux", status=255)


@pytest.mark.parametrize("field", ["apparmorProfile", "selinuxLabel"])
def test_an_empty_label_is_none(runtime: Runtime, bundle: Bundle, field: str) -> None:
    bundle.process[field] = ""

    runtime.run(bundle).ok()


# ---- AppArmor ------------------------------------------------------------------------------------


@with_apparmor
@pytest.mark.vm
def test_a_profile_is_in_force(runtime: Runtime, bundle: Bundle, profile: str) -> None:
    bundle.config["root"]["readonly"] = False
    (bundle.rootfs / "forbidden").mkdir(mode=0o777)
    bundle.process["apparmorProfile"] = profile
    id = runtime.running(bundle)

    assert json.loads(runtime.exec(id, "report").stdout)["label"] == f"{profile} (enforce)"
    assert runtime.exec(id, "write", "/forbidden/file", "x").stdout.strip() == "EACCES"
    assert runtime.run(bundle.args("report")).report["label"] == f"{profile} (enforce)"


@with_apparmor
@pytest.mark.vm
def test_a_profile_with_another_user_and_no_new_privileges(runtime: Runtime, bundle: Bundle, profile: str) -> None:
    bundle.process.update(apparmorProfile=profile, noNewPrivileges=True, user={"uid": 1000, "gid": 1000})

    assert runtime.run(bundle).report["label"] == f"{profile} (enforce)"


@with_apparmor
@pytest.mark.vm
def test_a_profile_in_a_user_namespace(runtime: Runtime, bundle: Bundle, profile: str) -> None:
    bundle.map_users(100000)
    bundle.process["apparmorProfile"] = profile
    id = runtime.running(bundle)

    assert json.loads(runtime.exec(id, "report").ok().stdout)["label"] == f"{profile} (enforce)"


@with_apparmor
@pytest.mark.vm
def test_a_profile_that_is_not_loaded_is_an_error_of_create(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["apparmorProfile"] = "not-loaded"

    runtime.create(bundle).fails("apparmor", "no such file or directory")
    assert runtime.traces() == []


@with_apparmor
@pytest.mark.vm
def test_exec_takes_a_profile_of_its_own(runtime: Runtime, bundle: Bundle, profile: str) -> None:
    id = runtime.running(bundle)

    result = runtime.exec(id, "report", options=("--apparmor", profile))

    assert json.loads(result.ok().stdout)["label"] == f"{profile} (enforce)"


@with_apparmor
@pytest.mark.vm
@only("pyocirun")
def test_a_mount_over_attr_turns_no_profile_away(runtime: Runtime, bundle: Bundle, profile: str) -> None:
    """The container's own /proc is covered: the label is written to a procfs that the container has no part in."""
    bundle.process["apparmorProfile"] = profile
    id = runtime.running(bundle)
    pid = runtime.pid(id)
    cover = f"mount --bind /proc/1/attr/fscreate /proc/{pid}/attr/exec; mount -t tmpfs none /proc/1/attr/apparmor; true"
    subprocess.run(["nsenter", "-t", str(pid), "-m", "-p", "--", "/bin/sh", "-c", cover], check=False)

    result = runtime.exec(id, "report")

    assert json.loads(result.ok().stdout)["label"] == f"{profile} (enforce)"


# ---- AppArmor and a /proc that is none (CVE-2019-16884, CVE-2023-28642, CVE-2025-52881) -----------


@pytest.fixture
def forbidden(bundle: Bundle, profile: str) -> Path:
    """The process writes a file that the profile forbids. If it is there afterwards, the process ran unconfined."""
    bundle.config["root"]["readonly"] = False
    (bundle.rootfs / "forbidden").mkdir(mode=0o777)
    bundle.process["apparmorProfile"] = profile
    bundle.linux["maskedPaths"] = bundle.linux["readonlyPaths"] = []
    bundle.args("write", "/forbidden/file", "x")
    return bundle.rootfs / "forbidden/file"


def _fake_proc(directory: Path) -> Path:
    """A directory with ordinary files where the label would be written. Returns it."""
    for thread in ("self", "thread-self", "1"):
        for attributes in ("attr", "attr/apparmor"):
            (directory / thread / attributes).mkdir(parents=True, exist_ok=True)
            for name in ("exec", "current"):
                (directory / thread / attributes / name).write_text("")
                os.chmod(directory / thread / attributes / name, 0o666)
    return directory


def _without_mount_of(bundle: Bundle, destination: str) -> None:
    bundle.config["mounts"] = [mount for mount in bundle.config["mounts"] if mount["destination"] != destination]


@with_apparmor
@pytest.mark.vm
def test_without_a_profile_the_forbidden_file_is_written(runtime: Runtime, bundle: Bundle, forbidden: Path) -> None:
    """What the tests below rely on."""
    del bundle.process["apparmorProfile"]

    runtime.run(bundle).ok()

    assert forbidden.exists()


@with_apparmor
@pytest.mark.vm
@pytest.mark.parametrize("target", ["/fake", "/volume"])
def test_a_linked_proc_turns_no_profile_away(
    runtime: Runtime, bundle: Bundle, forbidden: Path, place: Path, target: str
) -> None:
    """/proc of the image is a link to a directory of its own, or into a volume, which looks like a procfs."""
    _fake_proc(bundle.rootfs / "fake")
    bundle.config["mounts"].insert(0, {"destination": "/volume", "source": str(_fake_proc(place / "volume"))})
    bundle.config["mounts"][0] |= {"type": "bind", "options": ["bind"]}
    (bundle.rootfs / "proc").rmdir()
    os.symlink(target, bundle.rootfs / "proc")

    runtime.create(bundle).fails("must be mounted on ordinary directory")

    assert runtime.traces() == []
    assert not forbidden.exists()


@with_apparmor
@pytest.mark.vm
@pytest.mark.parametrize("place_of_proc", ["/real", ""])
def test_a_linked_proc_with_procfs_elsewhere_turns_no_profile_away(
    runtime: Runtime, bundle: Bundle, forbidden: Path, place_of_proc: str
) -> None:
    """/proc leads to files of the image. The label has to go elsewhere, or it is an error."""
    _fake_proc(bundle.rootfs / "fake")
    (bundle.rootfs / "proc").rmdir()
    os.symlink("fake", bundle.rootfs / "proc")
    _without_mount_of(bundle, "/proc")
    if place_of_proc:
        bundle.mount(place_of_proc, "proc")

    runtime.run(bundle)

    assert not forbidden.exists()


@with_apparmor
@pytest.mark.vm
@pytest.mark.parametrize("destination", ["/proc", "/proc/self/attr", "/proc/thread-self", "/link/attr"])
def test_a_volume_over_proc_turns_no_profile_away(
    runtime: Runtime, bundle: Bundle, forbidden: Path, place: Path, destination: str
) -> None:
    fake = _fake_proc(place / "fake")
    os.symlink("/proc/1", bundle.rootfs / "link")
    source = fake if destination == "/proc" else fake / "self" if destination.endswith("self") else fake / "self/attr"
    bundle.bind(source, destination)

    runtime.create(bundle).fails(destination)

    assert runtime.traces() == []
    assert not forbidden.exists()


@with_apparmor
@requires("busybox")
@pytest.mark.vm
@pytest.mark.parametrize(
    "cover", ["mount --bind /fake /proc", "mount -t tmpfs none /proc && cp -r /fake/self /fake/thread-self /proc/"]
)
def test_what_the_container_mounts_over_proc_turns_no_profile_of_exec_away(
    runtime: Runtime, bundle: Bundle, forbidden: Path, cover: str
) -> None:
    """exec comes into a container whose root may mount, and has done so."""
    _fake_proc(bundle.rootfs / "fake")
    for names in bundle.process["capabilities"].values():
        names.append("CAP_SYS_ADMIN")
    id = runtime.new_id()
    output = runtime.create(bundle.shell(f"{cover} && echo done; exec sleep 60"), id=id).ok()
    runtime.start(id).ok()
    eventually(lambda: "done" in output.stdout, f"the mount: {output.stderr}")

    runtime.exec(id, "write", "/forbidden/file", "x")

    assert not forbidden.exists()


# ---- where it is written -------------------------------------------------------------------------

RUN_PLAN = """
import ctypes, os, sys
from pyocirun.errors import Error
from pyocirun.plan.encode import encode
from pyocirun.plan.ops import Attribute, Clone, Finish, Plan, PrivateProc, Sync, Sysctl
from pyocirun.spawn.effects import kill
from pyocirun.spawn.launch import launch
from pyocirun.spawn.sync import Answer, drive

libc = ctypes.CDLL(None, use_errno=True)
path, cover, flags, sysctl = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "sysctl"
uid = os.geteuid()
assert libc.unshare(0x20000) == 0
assert libc.mount(None, b"/", None, 0x44000, None) == 0
proc = os.open("/proc", os.O_RDONLY)
assert libc.mount(b"none", cover.encode(), b"tmpfs", 0, None) == 0
fake = "/proc/" + path
os.makedirs(os.path.dirname(fake), exist_ok=True)
open(fake, "w").close()
assert libc.unshare(flags) == 0, os.strerror(ctypes.get_errno())
pid = 0

def look(fd):
    file = os.open(f"{launched.pid}/comm", os.O_RDONLY, dir_fd=proc)
    print("comm", os.read(file, 100).decode().strip())
    os.close(file)
    return Answer()

write = [Sysctl(path, path, "labelled")] if sysctl else [PrivateProc(), Attribute(path, "", "labelled")]
plan = Plan((Clone(0), *write, Sync("look"), Finish()))
null = os.open("/dev/null", os.O_RDWR)
launched = launch(plan, encode(plan), lambda slot: -1, (null, null, null))
try:
    drive(plan, launched, {}, {"look": look}, print)
except Error as error:
    print("error", error.step, error.errno)
launched.close()
kill(launched)
print("fake", repr(open(fake).read()))
"""

NEW_USER_AND_MOUNTS = 0x10000000 | 0x20000


def _write(path: str, cover: str, flags: int = 0, *, what: str = "label") -> list[str]:
    """What is seen when nsexec writes to /proc/`path`, with a tmpfs that has such a file mounted on `cover`."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", RUN_PLAN, path, cover, str(flags), what],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@requires("root")
@only("pyocirun")
def test_a_filesystem_over_proc_is_not_written_to() -> None:
    assert _write("thread-self/comm", "/proc") == ["comm labelled", "fake ''"]


@requires("root", "userns")
@only("pyocirun")
def test_without_a_procfs_of_our_own_one_that_is_none_is_an_error() -> None:
    assert _write("thread-self/comm", "/proc", NEW_USER_AND_MOUNTS) == ["error verify 18", "fake ''"]


@requires("root", "userns")
@only("pyocirun")
def test_without_a_procfs_of_our_own_a_mount_on_the_way_is_an_error() -> None:
    assert _write("sys/kernel/domainname", "/proc/sys", NEW_USER_AND_MOUNTS) == ["error open 18", "fake ''"]


@requires("root")
@only("pyocirun")
@pytest.mark.parametrize(("cover", "error"), [("/proc", "error verify 18"), ("/proc/sys", "error open 18")])
def test_a_sysctl_is_written_to_no_filesystem_over_proc(cover: str, error: str) -> None:
    assert _write("sys/kernel/domainname", cover, what="sysctl") == [error, "fake ''"]
