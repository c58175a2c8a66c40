"""Containers of an ordinary user: one id, ranges by newuidmap and newgidmap, and the root of a user namespace."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.harness import (
    PATH,
    PATIENCE,
    Bundle,
    Runtime,
    eventually,
    mount,
    namespace,
    only,
    requires,
    runtime_command,
    umount,
)

UID = 54321
RANGE = 200000
MS_BIND = 0x1000

pytestmark = requires("userns", "setpriv")


@pytest.fixture
def user(runtime: Runtime, place: Path) -> Runtime:
    """The runtime, as a user without any privilege starts it."""
    return as_user(runtime, place / "user")


def as_user(runtime: Runtime, base: Path, *inside: str) -> Runtime:
    """A runtime with a root directory of the user's. inside: a command that runs the command behind it."""
    base.mkdir()
    user = Runtime(
        [
            str(shutil.which("setpriv")),
            f"--reuid={UID}",
            f"--regid={UID}",
            "--clear-groups",
            *inside,
            *runtime_command(),
        ],
        base,
        runtime.prefix + "u",
    )
    for path in (base, user.root):
        os.chown(path, UID, UID)
    return user


@pytest.fixture
def clean(user: Runtime) -> Iterator[None]:
    """Afterwards the user's containers are deleted, and nothing is left of them."""
    yield
    user.clean()
    assert user.traces() == []


@pytest.fixture
def small(bundle: Bundle, clean: None) -> Bundle:
    """A bundle as `spec --rootless` has it: the user's id is root's."""
    rootless(bundle)
    return bundle


def rootless(bundle: Bundle) -> None:
    bundle.map_users(UID, size=1)
    bundle.without_namespace("network")
    del bundle.linux["resources"]
    for entry in bundle.config["mounts"]:
        entry["options"] = [option for option in entry.get("options", []) if not option.startswith("gid=")]
        if entry["destination"] == "/sys":
            entry |= {"type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]}


@pytest.fixture
def ranges(place: Path) -> Iterator[Path]:
    """The user has a name and, in a file of this test, a range of ids. That file comes back."""
    given = place / "ranges"
    given.write_text(f"someuser:{RANGE}:1000\n")
    passwd = place / "passwd"
    passwd.write_text(Path("/etc/passwd").read_text() + f"someuser:x:{UID}:{UID}::/:/bin/sh\n")
    covers = [(passwd, "/etc/passwd"), (given, "/etc/subuid"), (given, "/etc/subgid")]
    for source, target in covers:
        mount(str(source), target, flags=MS_BIND)
    yield given
    for _, target in covers:
        umount(target)


def map_range(bundle: Bundle, start: int = RANGE, size: int = 1000) -> None:
    """0 is the user, what follows comes from the range."""
    for key in ("uidMappings", "gidMappings"):
        bundle.linux[key] = [
            {"containerID": 0, "hostID": UID, "size": 1},
            {"containerID": 1, "hostID": start, "size": size},
        ]


def test_a_life_from_create_to_delete(user: Runtime, small: Bundle) -> None:
    id = user.created(small.args("sleep", "60"))
    pid = user.pid(id)

    assert user.status(id) == "created"
    user.start(id).ok()
    assert user.status(id) == "running"
    assert user.exec(id).report["uid"] == 0
    user.stop(id)
    assert user.status(id) == "stopped"
    user.delete(id).ok()
    assert not os.path.exists(f"/proc/{pid}")
    assert user.traces() == []


@only("pyocirun")
@requires("landlock")
@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_a_landlock_ruleset_holds(user: Runtime, small: Bundle, no_new_privileges: bool) -> None:
    small.process["noNewPrivileges"] = no_new_privileges
    rule = {"paths": ["/dev"], "allowedAccess": ["write_file"]}
    ruleset = {"handledAccessFS": ["write_file", "make_reg"], "pathBeneath": [rule]}
    small.config["annotations"] = {"org.pyocirun.landlock": json.dumps(ruleset)}
    small.mount("/tmp", "tmpfs")

    said = [user.run(small.args("write", path, "x")).stdout.strip() for path in ("/tmp/file", "/dev/null")]

    assert said == ["EACCES", "ok"]


def test_root_of_the_container_is_the_user(user: Runtime, small: Bundle, place: Path) -> None:
    shared = place / "shared"
    shared.mkdir()
    os.chown(shared, UID, UID)
    small.bind(shared, "/tmp")

    report = user.run(small.args("write", "/tmp/made", "x")).ok()

    assert report.status == 0
    assert (shared / "made").stat().st_uid == UID


def test_ids_capabilities_and_namespaces(user: Runtime, small: Bundle) -> None:
    report = user.run(small).report

    assert (report["uid"], report["gid"], report["groups"]) == (0, 0, [])
    assert report["namespaces"]["user"] != namespace("user")
    assert report["namespaces"]["net"] == namespace("net")
    assert report["capabilities"]["effective"] == f"{1 << 5 | 1 << 10 | 1 << 29:016x}"


def test_the_devices_of_the_host_are_bound(user: Runtime, small: Bundle) -> None:
    dev = user.run(small).report["dev"]

    assert (dev["null"]["major"], dev["null"]["minor"]) == (1, 3)
    assert user.run(small.args("write", "/dev/null", "x")).ok().stdout == "ok\n"


@only("pyocirun")
def test_what_the_host_has_mounted_below_sys_is_read_only(user: Runtime, small: Bundle) -> None:
    report = user.run(small).report

    below = [line.split() for line in report["mounts"] if line.split()[4].startswith("/sys/")]
    assert below
    assert all("ro" in fields[5].split(",") for fields in below)


def test_no_environment_is_needed(user: Runtime, small: Bundle) -> None:
    user.command = ["/usr/bin/env", "-i", *user.command]

    assert user.run(small).report["uid"] == 0


def test_the_configuration_of_spec_runs_as_it_is(user: Runtime, bundle: Bundle, clean: None) -> None:
    os.chown(bundle.path, UID, UID)
    user("spec", "--rootless", "--bundle", str(bundle.path)).ok()
    bundle.config = json.loads((bundle.path / "config.json").read_text())
    bundle.process["terminal"] = False

    report = user.run(bundle.args("report")).report

    assert report["uid"] == 0


def test_states_lie_in_the_directory_of_the_user(user: Runtime, small: Bundle, place: Path) -> None:
    small.args("sleep", "60")
    small.save()
    home = place / "xdg"
    home.mkdir(mode=0o700)
    os.chown(home, UID, UID)
    id = user.new_id()
    root = home / user.name

    created = plain(user, home, "create", "--bundle", str(small.path), id)

    assert created == 0
    assert root.stat().st_mode & 0o7777 == 0o1700
    assert (root / id).is_dir()
    assert plain(user, home, "delete", "--force", id) == 0


def plain(user: Runtime, home: Path, *args: str) -> int:
    """The exit status of a command without --root; its output goes to a file."""
    environment = {"XDG_RUNTIME_DIR": str(home), "PATH": PATH}
    with open(user.base / "plain.out", "ab") as out:
        done = subprocess.run(
            [*user.command, *args],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            timeout=30 * PATIENCE,
        )
    return done.returncode


@pytest.mark.parametrize("key", ["uidMappings", "gidMappings"])
def test_the_id_of_another_is_not_mapped(user: Runtime, small: Bundle, ranges: Path, key: str) -> None:
    small.linux[key] = [{"containerID": 0, "hostID": UID + 1, "size": 1}]

    user.create(small).fails()
    assert user.traces() == []


def test_additional_groups_need_a_range(user: Runtime, small: Bundle) -> None:
    small.process["user"] = {"uid": 0, "gid": 0, "additionalGids": [0]}

    user.create(small).fails()
    assert user.traces() == []


@requires("uidmap")
def test_ranges_are_mapped_by_the_helpers(user: Runtime, small: Bundle, ranges: Path) -> None:
    map_range(small)
    id = user.running(small)

    pid = user.pid(id)

    for file in ("uid_map", "gid_map"):
        lines = Path(f"/proc/{pid}/{file}").read_text().split()
        assert lines == ["0", str(UID), "1", "1", str(RANGE), "1000"]
    assert Path(f"/proc/{pid}/setgroups").read_text() == "allow\n"


@requires("uidmap")
def test_users_and_groups_of_a_range(user: Runtime, small: Bundle, ranges: Path) -> None:
    map_range(small)
    small.process["user"] = {"uid": 7, "gid": 8, "additionalGids": [9, 10]}

    report = user.run(small).report

    assert (report["uid"], report["gid"], report["groups"]) == (7, 8, [9, 10])


@requires("uidmap")
def test_a_user_of_a_range_is_another_one_outside(user: Runtime, small: Bundle, ranges: Path) -> None:
    map_range(small)
    small.process["user"] = {"uid": 7, "gid": 8}

    id = user.running(small)

    status = Path(f"/proc/{user.pid(id)}/status").read_text()
    assert f"Uid:\t{RANGE + 6}\t{RANGE + 6}" in status
    assert f"Gid:\t{RANGE + 7}\t{RANGE + 7}" in status
    user("kill", id, "KILL").ok()


@requires("uidmap")
def test_exec_in_a_container_with_ranges(user: Runtime, small: Bundle, ranges: Path) -> None:
    map_range(small)
    id = user.running(small)

    report = user.exec(id, options=("--user", "5:6")).report

    assert (report["uid"], report["gid"]) == (5, 6)


@requires("uidmap")
@only("pyocirun")
def test_helpers_need_neither_path_nor_home(user: Runtime, small: Bundle, ranges: Path) -> None:
    map_range(small)
    user.command = ["/usr/bin/env", "-i", *user.command]

    assert user.run(small).report["uid"] == 0


@requires("uidmap")
def test_a_range_that_was_not_given_is_refused(user: Runtime, small: Bundle, ranges: Path) -> None:
    map_range(small, size=1001)

    result = user.create(small)

    result.fails()
    assert any("newuid" in line["msg"] for line in result.log)
    assert user.traces() == []


@only("pyocirun")
def test_a_helper_that_is_missing_is_named(user: Runtime, small: Bundle, place: Path) -> None:
    map_range(small)

    result = user.create(small, env={"PATH": str(place)})

    result.fails("newuidmap is not in PATH")
    assert user.traces() == []


@requires("cgroup1")
def test_a_limit_without_a_cgroup_is_refused(user: Runtime, small: Bundle) -> None:
    small.linux["resources"] = {"memory": {"limit": 64 << 20}}

    user.create(small).fails("memory")
    assert user.traces() == []


def test_a_cgroup_that_is_named_and_may_not_be_made_is_refused(user: Runtime, small: Bundle) -> None:
    small.linux["cgroupsPath"] = f"/{user.prefix}/named"

    result = user.create(small).fails()

    assert "permission denied" in result.error.lower()
    assert user.traces() == []


@requires("cgroup1")
@pytest.mark.parametrize("command", ["pause", "ps --format json", "ps", "events --stats", "update --pids-limit 8"])
def test_what_takes_a_cgroup_says_that_there_is_none(user: Runtime, small: Bundle, command: str) -> None:
    id = user.running(small)

    result = user(*command.split(), id)

    result.fails()
    if user.name == "pyocirun":
        assert "cgroup not exist: " in result.error
        assert f"{id!r} may not make /sys/fs/cgroup/" in result.error
    assert user.status(id) == "running"


@requires("cgroup1")
def test_a_stopped_container_without_a_cgroup_has_no_processes(user: Runtime, small: Bundle) -> None:
    id = user.running(small)
    user.stop(id)

    assert json.loads(user("ps", "--format", "json", id).ok().stdout) is None


@only("pyocirun")
@requires("cgroup1")
def test_without_a_cgroup_a_signal_for_all_is_said_to_reach_init_alone(user: Runtime, small: Bundle) -> None:
    small.without_namespace("pid")
    for entry in small.config["mounts"]:
        if entry["destination"] == "/proc":
            entry |= {"type": "none", "source": "/proc", "options": ["rbind"]}
    id = user.running(small)

    result = user("kill", "--all", id, "KILL").ok()

    assert any("the signal reaches init alone" in line["msg"] for line in result.log)
    assert eventually(lambda: user.status(id) == "stopped", "it has ended")


@pytest.mark.parametrize("command", ["checkpoint", "restore"])
def test_criu_for_a_user_is_a_warning(user: Runtime, small: Bundle, command: str) -> None:
    id = user.running(small)

    result = user(command, id, cwd=small.path)

    assert result.status == 1
    assert any("untested with rootless" in line["msg"] for line in result.log if line["level"] == "warning")


def test_the_root_of_a_user_namespace_starts_containers(runtime: Runtime, place: Path, bundle: Bundle) -> None:
    """So podman does it: the runtime is root there, and makes one more user namespace below."""
    rootless(bundle)
    nested = as_user(runtime, place / "nested", str(shutil.which("unshare")), "--user", "--map-root-user")
    for key in ("uidMappings", "gidMappings"):
        bundle.linux[key] = [{"containerID": 0, "hostID": 0, "size": 1}]

    report = nested.run(bundle).report

    assert report["uid"] == 0
    assert nested.traces() == []


def test_the_root_of_a_user_namespace_binds_what_the_containers_root_cannot_reach(
    runtime: Runtime, place: Path, bundle: Bundle, ranges: Path
) -> None:
    """The runtime is root of a user namespace with its own mounts, and the container's root is another id of it."""
    rootless(bundle)
    whole = [str(shutil.which("unshare")), "--user", "--mount", "--map-root-user", "--map-auto"]
    nested = as_user(runtime, place / "nested", *whole)
    (place / "closed/source").mkdir(parents=True)
    (place / "closed/source/note").write_text("through")
    os.chown(place / "closed", UID, UID)
    (place / "closed").chmod(0o700)
    (bundle.rootfs / "mnt").mkdir()
    bundle.bind(place / "closed/source", "/mnt")
    for key in ("uidMappings", "gidMappings"):
        bundle.linux[key] = [{"containerID": 0, "hostID": 1, "size": 500}]

    result = nested.run(bundle.args("cat", "/mnt/note"))

    assert result.ok().stdout == "through"
    assert nested.traces() == []


@pytest.mark.parametrize(("name", "expected"), [("", True), ("someuser", True), ("root", False)])
def test_the_root_of_a_user_namespace_keeps_its_states_with_the_user(
    runtime: Runtime, place: Path, bundle: Bundle, name: str, expected: bool
) -> None:
    """USER tells the root of a whole (nested) system from the user who is called so in a namespace only."""
    home = place / "xdg"
    home.mkdir(mode=0o700)
    os.chown(home, UID, UID)
    rootless(bundle)
    bundle.save()
    nested = as_user(
        runtime,
        place / "nested",
        "env",
        f"USER={name}" if name else "-uUSER",
        str(shutil.which("unshare")),
        "--user",
        "--map-root-user",
    )

    plain(nested, home, "run", "--bundle", str(bundle.path), nested.new_id())

    assert (home / nested.name).is_dir() == expected


def test_the_namespaces_of_another_container_are_joined(user: Runtime, small: Bundle) -> None:
    first = user.running(small)
    pid = user.pid(first)
    types = {"user": "user", "ipc": "ipc", "uts": "uts"}
    small.without_namespace(*types)
    for type, file in types.items():
        small.with_namespace(type, f"/proc/{pid}/ns/{file}")
    del small.linux["uidMappings"], small.linux["gidMappings"]

    second = user.running(small)

    assert all(namespace(kind, user.pid(second)) == namespace(kind, pid) for kind in types.values())
    assert user.exec(second, "report").report["uid"] == 0


@requires("busybox")
def test_a_network_namespace_of_a_surrounding_user_namespace_is_joined(
    runtime: Runtime, place: Path, bundle: Bundle
) -> None:
    """The root of a user namespace has power over what belongs to it, and loses that in a user namespace of its own."""
    rootless(bundle)
    bundle.with_namespace("network", "/proc/self/ns/net")
    nested = as_user(runtime, place / "nested", str(shutil.which("unshare")), "--user", "--net", "--map-root-user")
    for key in ("uidMappings", "gidMappings"):
        bundle.linux[key] = [{"containerID": 0, "hostID": 0, "size": 1}]

    report = nested.run(bundle).report

    assert report["namespaces"]["net"] != namespace("net")


def test_root_joins_the_user_namespace_of_a_user(
    runtime: Runtime, user: Runtime, small: Bundle, other_bundle: Bundle
) -> None:
    """setgroups(2) is denied there, whoever comes."""
    pid = user.pid(user.running(small))
    other_bundle.map_users(UID, size=1)
    del other_bundle.process["rlimits"]  # those of another's process may be root's to raise, and root's alone
    other_bundle.with_namespace("user", f"/proc/{pid}/ns/user")
    for entry in other_bundle.config["mounts"]:
        entry["options"] = [option for option in entry.get("options", []) if not option.startswith("gid=")]

    report = runtime.run(other_bundle).report

    assert report["namespaces"]["user"] == namespace("user", pid)
    assert report["uid"] == 0


def test_without_a_user_namespace_there_is_a_hint(user: Runtime, small: Bundle) -> None:
    small.without_namespace("user")
    del small.linux["uidMappings"], small.linux["gidMappings"]

    user.create(small).fails()
    assert user.traces() == []


def test_many_users_containers_side_by_side(user: Runtime, small: Bundle) -> None:
    ids = [user.running(small) for _ in range(3)]

    listed = json.loads(user.list("--format", "json").ok().stdout)

    assert {entry["id"] for entry in listed} == set(ids)
    assert {entry["status"] for entry in listed} == {"running"}
    for id in ids:
        user.delete(id, "--force").ok()
    eventually(lambda: not user.traces(), "nothing left")


@only("pyocirun")  # runc reads what any user wrote
def test_a_root_directory_of_another_user_is_refused_with_its_owner(user: Runtime, place: Path) -> None:
    (place / "other").mkdir(mode=0o755)

    result = user("state", "x", root=place / "other")

    result.fails("is not safe")
    assert f"{place}/other is of user 0: --root names another directory" in result.stderr
