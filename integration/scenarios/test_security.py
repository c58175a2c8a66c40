"""Attacks that have worked on container runtimes: a hostile image, or a hostile process in the container."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from pathlib import Path

import pytest

from integration.harness import (
    PATIENCE,
    Bundle,
    Runtime,
    alive,
    eventually,
    measured,
    mount,
    mounts,
    only,
    requires,
    wait_for_orphan,
)

HUNT_SECONDS = "20"
MS_BIND_REC = 0x5000
MS_SHARED = 1 << 20


def _host_files(runtime: Runtime) -> dict[str, str]:
    """Digests of the runtime's program and of what runs it."""
    import pyocirun

    files = {runtime.command[0], os.path.realpath(runtime.command[0]), os.path.realpath(sys.executable)}
    if runtime.name == "pyocirun":
        package = Path(pyocirun.__path__[0])
        files |= {str(path) for path in package.rglob("*") if path.is_file() and path.suffix in ("", ".so")}
    return {path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in files}


# ---- a process that joins (CVE-2016-9962, CVE-2019-5736) -----------------------------------------


def _hunt(runtime: Runtime, bundle: Bundle, rounds: int, *args: str) -> dict[str, int]:
    """Run execs while the container's init attacks every process that it sees; what it has reached."""
    bundle.config["root"]["readonly"] = False
    id = runtime.new_id()
    output = runtime.create(bundle.args("hunt", HUNT_SECONDS), id=id).ok()
    runtime.start(id).ok()
    eventually(lambda: "ready" in output.stdout, "the hunt")
    pid = runtime.pid(id)
    for _ in range(rounds):
        runtime("exec", id, *args)
    runtime.kill(id, "TERM").ok()
    wait_for_orphan(pid, 30)
    found: dict[str, int] = json.loads(output.stdout.partition("\n")[2])
    return found


def test_a_joining_process_cannot_be_traced_nor_its_descriptors_read(runtime: Runtime, bundle: Bundle) -> None:
    found = _hunt(runtime, bundle, 15, "/bin/probe", "exit", "0")

    assert found["traced"] == found["listed"] == 0


def test_the_executable_of_a_joining_process_cannot_be_reached(runtime: Runtime, bundle: Bundle) -> None:
    before = _host_files(runtime)

    found = _hunt(runtime, bundle, 15, "/bin/probe", "exit", "0")

    assert (found["held"], found["written"]) == (0, 0)
    assert _host_files(runtime) == before


def test_a_program_that_points_back_at_the_runtime_cannot_change_it(runtime: Runtime, bundle: Bundle) -> None:
    """A script whose interpreter is /proc/self/exe makes execve run the runtime's own file inside the container."""
    before = _host_files(runtime)
    (bundle.rootfs / "evil").write_text("#!/proc/self/exe\n")
    os.chmod(bundle.rootfs / "evil", 0o755)

    found = _hunt(runtime, bundle, 15, "/evil")

    assert found["written"] == 0
    assert _host_files(runtime) == before


def test_init_may_not_point_back_at_the_runtime_either(runtime: Runtime, bundle: Bundle) -> None:
    before = _host_files(runtime)
    (bundle.rootfs / "evil").write_text("#!/proc/self/exe\n")
    os.chmod(bundle.rootfs / "evil", 0o755)

    runtime.run(bundle.args("/evil"))

    assert _host_files(runtime) == before


def test_the_executable_of_init_cannot_be_written_from_another_container(runtime: Runtime, bundle: Bundle) -> None:
    """Before start, init runs the runtime's own code; a process in its pid namespace tries to open it."""
    id = runtime.created(bundle)

    outcome = runtime.exec(id, "open-exe", "1").stdout.strip()

    assert outcome in ("ETXTBSY", "EACCES", "EPERM")


def test_a_waiting_init_cannot_be_traced(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.created(bundle)

    found = runtime.exec(id, "hunt", "0").ok().stdout.partition("\n")[2]

    assert json.loads(found) | {"seen": 1} == {"seen": 1, "traced": 0, "listed": 0, "held": 0, "written": 0}


# ---- links in the image (CVE-2019-19921, CVE-2019-18837, CVE-2021-30465, CVE-2024-45310, CVE-2026-41579) ----


@pytest.mark.parametrize("name", ["proc", "sys"])
def test_a_linked_proc_or_sys_is_refused(runtime: Runtime, bundle: Bundle, name: str) -> None:
    (bundle.rootfs / name).rmdir()
    (bundle.rootfs / "elsewhere").mkdir()
    os.symlink("/elsewhere", bundle.rootfs / name)

    runtime.create(bundle).fails("must be mounted on ordinary directory")
    assert runtime.traces() == []


def test_a_linked_destination_makes_nothing_on_the_host(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    outside = place / "outside"
    outside.mkdir()
    os.symlink(outside, bundle.rootfs / "link")
    bundle.mount("/link/made", "tmpfs")
    bundle.bind(place, "/link/also/made")

    runtime.create(bundle)

    assert list(outside.iterdir()) == []
    assert not any(str(outside) in line for line in mounts())


def test_a_linked_dev_makes_nothing_on_the_host(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    outside = place / "outside"
    outside.mkdir()
    (bundle.rootfs / "dev").rmdir()
    os.symlink(outside, bundle.rootfs / "dev")
    bundle.config["mounts"] = [
        mount for mount in bundle.config["mounts"] if not mount["destination"].startswith("/dev")
    ]

    runtime.create(bundle)

    assert list(outside.iterdir()) == []


def test_a_linked_dev_under_the_default_mounts_makes_nothing_on_the_host(
    runtime: Runtime, bundle: Bundle, place: Path
) -> None:
    outside = place / "outside"
    outside.mkdir()
    (bundle.rootfs / "dev").rmdir()
    os.symlink(outside, bundle.rootfs / "dev")

    runtime.create(bundle)

    assert list(outside.iterdir()) == []
    assert not any(str(outside) in line for line in mounts())


@only("pyocirun")  # runc 1.1 makes them there
@pytest.mark.parametrize("users", [False, True])
def test_a_linked_dev_makes_nothing_in_a_volume(runtime: Runtime, bundle: Bundle, place: Path, users: bool) -> None:
    """CVE-2026-41579: a directory of the host that the container is given, and that a link in the image leads to."""
    volume = place / "volume"
    volume.mkdir(mode=0o777)
    os.chmod(volume, 0o777)
    (bundle.rootfs / "dev").rmdir()
    os.symlink("/volume", bundle.rootfs / "dev")
    (bundle.rootfs / "volume").mkdir()
    if users:
        bundle.map_users(100000)
    bundle.config["mounts"] = [
        mount for mount in bundle.config["mounts"] if not mount["destination"].startswith("/dev")
    ]
    bundle.bind(volume, "/volume")
    bundle.linux["devices"] = [{"path": "//dev/./full", "type": "c", "major": 1, "minor": 7}]

    runtime.create(bundle).fails("/dev")

    assert list(volume.iterdir()) == []


@pytest.mark.parametrize("name", ["console", "null", "ptmx", "fd", "stdin"])
def test_a_link_in_dev_makes_nothing_on_the_host(runtime: Runtime, bundle: Bundle, place: Path, name: str) -> None:
    """Without a tmpfs on /dev the runtime works in the image's own directory."""
    outside = place / "outside"
    outside.mkdir()
    os.symlink(outside / "file", bundle.rootfs / "dev" / name)
    bundle.config["mounts"] = [
        mount for mount in bundle.config["mounts"] if not mount["destination"].startswith("/dev")
    ]

    runtime.create(bundle)

    assert list(outside.iterdir()) == []


def test_a_linked_null_changes_no_file_of_the_host(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    """CVE-2026-88265: the runtime gives its descriptors to the container's user. Where these are the null device it
    opens the container's own instead, and that may be a link to a file in a volume.
    """
    dev, data = place / "dev", place / "data"
    dev.mkdir()
    data.mkdir()
    target = data / "target"
    target.write_text("mine")
    os.chmod(target, 0o600)
    before = os.stat(target)
    os.symlink("/data/target", dev / "null")
    bundle.config["mounts"] = [
        mount for mount in bundle.config["mounts"] if not mount["destination"].startswith("/dev")
    ]
    bundle.bind(dev, "/dev")
    bundle.bind(data, "/data")
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    bundle.config["root"]["readonly"] = False
    bundle.linux["maskedPaths"] = []

    result = runtime.run(bundle.args("exit", "7"))

    after = os.stat(target)
    assert target.read_text() == "mine"
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)
    assert result.status == 7, result.stderr


def test_the_null_device_of_the_host_keeps_its_owner(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["user"] = {"uid": 1000, "gid": 1000}

    runtime.run(bundle.args("exit", "0")).ok()

    assert os.stat("/dev/null").st_uid == 0


@only("pyocirun")  # runc before 1.2.8 binds whatever is there
@pytest.mark.parametrize("null", ["link", "file", "zero"])
def test_a_null_device_that_is_none_is_no_mask(runtime: Runtime, bundle: Bundle, place: Path, null: str) -> None:
    """CVE-2025-31133: what is bound over a masked file must be the real null device. /dev is a volume, and so it is
    made by others.
    """
    volume = place / "dev"
    volume.mkdir()
    if null == "link":
        os.symlink("/proc/sys/kernel/core_pattern", volume / "null")
    elif null == "file":
        (volume / "null").write_text("not null")
    else:
        os.mknod(volume / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    bundle.config["mounts"] = [
        mount for mount in bundle.config["mounts"] if not mount["destination"].startswith("/dev")
    ]
    bundle.bind(volume, "/dev")
    (bundle.rootfs / "secret").write_text("secret")
    bundle.linux["maskedPaths"] = ["/secret"]

    runtime.create(bundle).fails("/secret")
    assert runtime.traces() == []


def test_a_linked_console_makes_nothing_on_the_host(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    os.symlink(f"../../{place.name}-console", bundle.rootfs / "dev/console")
    bundle.config["mounts"] = [
        mount for mount in bundle.config["mounts"] if not mount["destination"].startswith("/dev")
    ]

    runtime.create(bundle)

    assert not [path for path in place.parent.iterdir() if path.name.endswith("-console")]


def test_a_linked_passwd_is_not_read_from_the_host(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    (place / "passwd").write_text("root:x:0:0:root:/from-the-host:/bin/sh\n")
    (bundle.rootfs / "etc/passwd").unlink()
    os.symlink(place / "passwd", bundle.rootfs / "etc/passwd")

    assert "HOME=/" in runtime.run(bundle).report["env"]


def test_a_passwd_that_is_a_pipe_stops_nobody(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.rootfs / "etc/passwd").unlink()
    os.mkfifo(bundle.rootfs / "etc/passwd")
    bundle.save()

    result = runtime.spawn("run", "--bundle", str(bundle.path), runtime.new_id()).wait(timeout=8)

    assert result.seconds < 8


@only("pyocirun")  # others read all of it, see CVE-2026-46680
@pytest.mark.parametrize("line", ["root:x:0:0:root:/begin:/bin/sh\n", ""])
def test_a_passwd_without_end_is_read_to_a_limit(runtime: Runtime, bundle: Bundle, line: str) -> None:
    """Eight GiB of one line; with a line for the user before it, or not."""
    passwd = bundle.rootfs / "etc/passwd"
    passwd.write_text(line)
    os.truncate(passwd, 8 << 30)
    bundle.save()

    result, peak = measured(runtime, "run", "--bundle", str(bundle.path), runtime.new_id())

    assert f"HOME={'/begin' if line else '/'}" in result.report["env"]
    assert result.seconds < 5 * PATIENCE
    assert peak < 64 << 20


# ---- what belongs to the host --------------------------------------------------------------------


@requires("cgroup1", "busybox")
def test_root_of_a_user_namespace_changes_no_limit_of_its_own(runtime: Runtime, bundle: Bundle) -> None:
    """CVE-2023-25809: also where the cgroups are mounted writable, and seen as the host has them."""
    bundle.map_users(100000)
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", ("nosuid", "noexec", "nodev"))
    bundle.linux["resources"] = {"pids": {"limit": 50}}

    result = runtime.run(bundle.shell("cd /sys/fs/cgroup/pids; echo 77 >pids.max; mkdir x; busybox cat pids.max"))

    assert result.stdout == "50\n"


@only("pyocirun")  # runc 1.1 fails, and leaves a mount of the rootfs
def test_a_container_without_a_mount_namespace_changes_no_mount_of_the_host(
    runtime: Runtime, bundle: Bundle, place: Path
) -> None:
    """Nor whether it is shared, which mounts that are all private would not show."""
    bundle.without_namespace("mount")
    bundle.config["mounts"] = []
    bundle.linux["maskedPaths"] = bundle.linux["readonlyPaths"] = []
    bundle.config["root"]["readonly"] = False
    mount(str(place), place, flags=MS_BIND_REC)
    mount("", place, flags=MS_SHARED)
    before = mounts()

    id = runtime.running(bundle)
    runtime.exec(id, "exit", "0").ok()
    runtime.stop(id)

    assert mounts() == before


# ---- descriptors and the working directory (CVE-2024-21626) --------------------------------------


@pytest.mark.parametrize("number", range(3, 12))
def test_the_directory_cannot_be_a_descriptor_of_the_runtime(runtime: Runtime, bundle: Bundle, number: int) -> None:
    bundle.process["cwd"] = f"/proc/self/fd/{number}"
    bundle.config["root"]["readonly"] = False

    result = runtime.create(bundle)

    result.fails()
    assert runtime.traces() == []


@pytest.mark.parametrize("number", range(3, 12))
def test_the_directory_of_exec_cannot_be_a_descriptor_of_the_runtime(
    runtime: Runtime, bundle: Bundle, number: int
) -> None:
    id = runtime.running(bundle)

    result = runtime.exec(id, "report", options=("--cwd", f"/proc/self/fd/{number}"))

    assert result.status == 255
    assert result.stdout == ""


def test_a_link_to_a_descriptor_is_no_directory_either(runtime: Runtime, bundle: Bundle) -> None:
    for number in range(3, 12):
        os.symlink(f"/proc/self/fd/{number}", bundle.rootfs / f"fd{number}")
    id = runtime.running(bundle)

    results = [runtime.exec(id, "report", options=("--cwd", f"/fd{number}")) for number in range(3, 12)]

    assert all(result.status == 255 for result in results)


@pytest.mark.parametrize("command", ["run", "exec"])
def test_no_descriptor_of_the_runtime_reaches_the_process(
    runtime: Runtime, bundle: Bundle, place: Path, command: str
) -> None:
    (place / "host-file").write_text("x")

    if command == "run":
        report = runtime.run(bundle, fd3=place / "host-file").report
    else:
        id = runtime.running(bundle)
        report = runtime.exec(id, "report", fd3=place / "host-file").report

    assert set(report["descriptors"]) == {"0", "1", "2"}


def test_descriptors_asked_for_reach_the_process(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    (place / "host-file").write_text("asked for")
    bundle.args("cat", "/proc/self/fd/3")

    result = runtime.run(bundle, "--preserve-fds", "1", fd3=place / "host-file")

    assert result.ok().stdout == "asked for"


def test_the_process_is_dumpable_again(runtime: Runtime, bundle: Bundle) -> None:
    assert runtime.run(bundle).report["dumpable"] == 1


def test_a_waiting_init_holds_no_descriptor_of_a_host_directory(runtime: Runtime, bundle: Bundle) -> None:
    pid = runtime.pid(runtime.created(bundle))

    held = [f"/proc/{pid}/fd/{name}" for name in os.listdir(f"/proc/{pid}/fd")]
    of_the_host = [fd for fd in held if os.path.isdir(fd) and _is_the_same(fd, os.readlink(fd))]
    assert [os.readlink(fd) for fd in of_the_host] == []


def _is_the_same(path: str, other: str) -> bool:
    return os.path.exists(other) and os.path.samefile(path, other)


# ---- capabilities (CVE-2022-29162, CVE-2022-27650, CVE-2025-27612) -------------------------------


@pytest.mark.parametrize("user", ["0", "1000"])
def test_exec_gives_no_inheritable_capabilities(runtime: Runtime, bundle: Bundle, user: str) -> None:
    id = runtime.running(bundle)

    seen = runtime.exec(id, "report", options=("--user", user, "--cap", "CAP_NET_RAW")).report["capabilities"]

    assert int(seen["inheritable"], 16) == int(seen["ambient"], 16) == 0


# ---- procfs (CVE-2025-52881) ---------------------------------------------------------------------


def test_a_sysctl_is_not_written_to_a_fake_proc(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    """/proc/sys covered by a directory of the image: the value must not land there."""
    fake = bundle.rootfs / "fake"
    (fake / "kernel").mkdir(parents=True)
    (fake / "kernel/shmmax").write_text("untouched")
    bundle.linux["sysctl"] = {"kernel.shmmax": "123456"}
    bundle.bind(fake, "/proc/sys")

    runtime.create(bundle)

    assert (fake / "kernel/shmmax").read_text() == "untouched"


# ---- the state directory -------------------------------------------------------------------------


@only("pyocirun")
@pytest.mark.parametrize("command", ["state", "start", "delete", "kill"])
def test_a_linked_state_directory_is_refused(runtime: Runtime, bundle: Bundle, place: Path, command: str) -> None:
    id, alias = runtime.created(bundle), runtime.new_id()
    os.symlink(id, runtime.root / alias)

    result = runtime(command, alias)

    os.unlink(runtime.root / alias)
    assert result.status == 1
    assert runtime.status(id) == "created"


@only("pyocirun")
def test_a_root_that_everybody_may_write_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    os.chmod(runtime.root, 0o777)

    result = runtime.create(bundle)

    os.chmod(runtime.root, 0o700)
    result.fails(str(runtime.root))


@only("pyocirun")
def test_a_root_of_another_user_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    os.chown(runtime.root, 1000, 1000)

    result = runtime.create(bundle)

    os.chown(runtime.root, 0, 0)
    result.fails(str(runtime.root))


def test_a_new_root_is_closed_to_others(runtime: Runtime, bundle: Bundle) -> None:
    root, id = runtime.base / "new/root", runtime.new_id()
    bundle.save()

    runtime("create", "--bundle", str(bundle.path), id, root=root).ok()

    assert os.stat(root).st_mode & 0o077 == 0
    runtime("delete", "--force", id, root=root).ok()


@only("pyocirun")
def test_the_state_is_for_its_owner_alone(runtime: Runtime, bundle: Bundle) -> None:
    """It holds the environment, and that may hold secrets."""
    id = runtime.created(bundle)

    assert os.stat(runtime.root / id / "state.json").st_mode & 0o077 == 0


# ---- Python --------------------------------------------------------------------------------------


@only("pyocirun")
@pytest.mark.parametrize("where", ["cwd", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME"])
def test_no_foreign_module_is_imported(runtime: Runtime, bundle: Bundle, place: Path, where: str) -> None:
    evil = place / "evil"
    evil.mkdir()
    for name in ("json", "os", "stat", "errno", "signal", "struct", "pyocirun", "sitecustomize", "usercustomize", "re"):
        (evil / f"{name}.py").write_text(f"open({str(place / 'imported')!r}, 'w').write({name!r})\n")
    env = dict(os.environ)
    if where != "cwd":
        env[where] = str(evil / "json.py" if where == "PYTHONSTARTUP" else evil)

    result = runtime.run(bundle.args("exit", "5"), env=env, cwd=evil)

    assert not (place / "imported").exists()
    assert result.status == 5, result.stderr


@only("pyocirun")
def test_a_bundle_with_modules_in_it_is_only_data(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    for name in ("json", "os", "pyocirun"):
        (bundle.path / f"{name}.py").write_text(f"open({str(place / 'imported')!r}, 'w').write({name!r})\n")
        (bundle.rootfs / f"{name}.py").write_text(f"open({str(place / 'imported')!r}, 'w').write({name!r})\n")

    runtime.run(bundle.args("exit", "0"), cwd=bundle.path).ok()

    assert not (place / "imported").exists()


# ---- resources -----------------------------------------------------------------------------------


def test_a_process_that_ignores_everything_is_killed(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle, "fork", "20", "stay")
    pid = runtime.pid(id)

    runtime.delete(id, "--force").ok()

    assert not alive(pid)
    assert runtime.traces() == []
