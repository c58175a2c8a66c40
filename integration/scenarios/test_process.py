"""config.json's process: directory, environment, program, user, capabilities, limits."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.harness import PATH, Bundle, Runtime, only, requires
from integration.modes import UNLIMITED, Managed

_NAMES = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
    SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
    MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
CAPABILITIES = [f"CAP_{name}" for name in _NAMES.split()]
CAPABILITY_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


# ---- directory -----------------------------------------------------------------------------------


def test_the_process_begins_in_its_directory(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["cwd"] = "/etc"

    assert runtime.run(bundle).report["cwd"] == "/etc"


def test_a_missing_directory_is_made(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["root"]["readonly"] = False
    bundle.process["cwd"] = "/made/for/it"

    assert runtime.run(bundle).report["cwd"] == "/made/for/it"
    assert os.stat(bundle.rootfs / "made/for/it").st_mode & 0o777 == 0o755


def test_a_directory_may_be_a_link_within_the_root(runtime: Runtime, bundle: Bundle) -> None:
    os.symlink("/etc", bundle.rootfs / "link")
    bundle.process["cwd"] = "/link"

    assert runtime.run(bundle).report["cwd"] == "/etc"


@pytest.mark.parametrize("cwd", ["relative", ""])
def test_a_directory_must_be_absolute(runtime: Runtime, bundle: Bundle, cwd: str) -> None:
    bundle.process["cwd"] = cwd

    runtime.create(bundle).fails()
    assert runtime.traces() == []


def test_a_directory_that_only_the_user_may_enter(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.rootfs / "closed").mkdir(mode=0o700)
    os.chown(bundle.rootfs / "closed", 1000, 1000)
    bundle.process["cwd"] = "/closed"
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    bundle.process["capabilities"] = {}

    assert runtime.run(bundle).report["cwd"] == "/closed"


@pytest.mark.parametrize("command", ["run", "exec"])
def test_a_directory_that_the_user_may_not_enter(runtime: Runtime, bundle: Bundle, command: str) -> None:
    """It is entered before the change of user, as one on a network that knows no root is afterwards."""
    (bundle.rootfs / "closed").mkdir(mode=0o700)
    os.chown(bundle.rootfs / "closed", 1000, 1000)
    bundle.process["cwd"] = "/closed"
    bundle.process["user"] = {"uid": 1001 if command == "run" else 1000, "gid": 1001}
    bundle.process["capabilities"] = {}

    if command == "run":
        result = runtime.run(bundle)
    else:
        result = runtime.exec(runtime.running(bundle), "report", options=("--user", "0"))

    assert result.report["cwd"] == "/closed"


# ---- environment ---------------------------------------------------------------------------------


def test_the_environment_is_that_of_the_config_and_home(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["env"] = [f"PATH={PATH}", "EMPTY=", "EQUALS=a=b", "SPACE= x "]

    env = runtime.run(bundle).report["env"]

    assert sorted(env) == sorted([f"PATH={PATH}", "EMPTY=", "EQUALS=a=b", "SPACE= x ", "HOME=/root"])


@pytest.mark.parametrize(("uid", "home"), [(0, "/root"), (1000, "/home/user"), (4321, "/")])
def test_home_comes_from_the_passwd_of_the_container(runtime: Runtime, bundle: Bundle, uid: int, home: str) -> None:
    bundle.process["user"] = {"uid": uid, "gid": 0}

    assert f"HOME={home}" in runtime.run(bundle).report["env"]


def test_home_of_the_config_stays(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["env"].append("HOME=/elsewhere")

    env = runtime.run(bundle).report["env"]

    assert [entry for entry in env if entry.startswith("HOME=")] == ["HOME=/elsewhere"]


def test_home_without_a_passwd_is_the_root(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.rootfs / "etc/passwd").unlink()

    assert "HOME=/" in runtime.run(bundle).report["env"]


def test_the_last_of_two_entries_wins(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["env"] = [f"PATH={PATH}", "A=1", "A=2"]

    env = runtime.run(bundle).report["env"]

    assert [entry for entry in env if entry.startswith("A=")][-1:] == ["A=2"]


def test_nothing_comes_from_the_environment_of_the_runtime(runtime: Runtime, bundle: Bundle) -> None:
    result = runtime.run(bundle, env={"PATH": os.environ["PATH"], "SECRET": "1", "PYTHONPATH": "/x"})

    assert not any(entry.startswith(("SECRET", "PYTHON")) for entry in result.report["env"])


# ---- program -------------------------------------------------------------------------------------


def test_arguments_arrive_as_they_are(runtime: Runtime, bundle: Bundle) -> None:
    args = ["report", "", "two words", "'quoted'", "back\\slash", "new\nline", "$HOME", "-x", "--"]

    assert runtime.run(bundle.args(*args)).report["args"] == ["/bin/probe", *args]


def test_a_program_is_found_in_the_path_of_the_container(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["env"] = ["PATH=/etc:/nowhere:/bin"]
    bundle.process["args"] = ["probe", "exit", "3"]

    assert runtime.run(bundle).status == 3


def test_a_file_in_the_path_that_cannot_run_is_passed_over(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.rootfs / "etc/probe").write_text("no program")
    bundle.process["env"] = ["PATH=/etc:/bin"]
    bundle.process["args"] = ["probe", "exit", "3"]

    assert runtime.run(bundle).status == 3


def test_a_program_is_found_from_the_directory_of_the_process(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["cwd"] = "/bin"
    bundle.process["args"] = ["./probe", "exit", "3"]

    assert runtime.run(bundle).status == 3


@requires("busybox")
def test_a_script_runs(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.rootfs / "script").write_text("#!/bin/sh\nexit 4\n")
    os.chmod(bundle.rootfs / "script", 0o755)

    assert runtime.run(bundle.args("/script")).status == 4


# ---- user ----------------------------------------------------------------------------------------


def test_user_and_groups(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["user"] = {"uid": 1000, "gid": 2000, "additionalGids": [5, 6]}

    report = runtime.run(bundle).report

    assert (report["uid"], report["euid"], report["gid"], report["egid"]) == (1000, 1000, 2000, 2000)
    assert report["groups"] == [5, 6]


def test_no_groups_of_the_runtime_stay(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["user"] = {"uid": 1000, "gid": 1000}

    assert set(runtime.run(bundle).report["groups"]) <= {1000}


@pytest.fixture
def groups() -> Iterator[list[int]]:
    """The runtime is started with these groups."""
    before, wanted = os.getgroups(), [4001, 4002]
    os.setgroups(wanted)
    yield wanted
    os.setgroups(before)


@only("pyocirun")
def test_an_annotation_keeps_the_groups_of_the_caller(runtime: Runtime, bundle: Bundle, groups: list[int]) -> None:
    bundle.config["annotations"] = {"run.oci.keep_original_groups": "1"}
    bundle.process["user"] = {"uid": 1000, "gid": 2000, "additionalGids": [5]}

    result = runtime.run(bundle)

    assert result.report["groups"] == groups
    assert any(line["level"] == "warning" and "additionalGids" in line["msg"] for line in result.log)


@only("pyocirun")
def test_exec_keeps_the_groups_of_its_caller_by_the_same_annotation(
    runtime: Runtime, bundle: Bundle, groups: list[int]
) -> None:
    bundle.config["annotations"] = {"run.oci.keep_original_groups": "1"}
    id = runtime.running(bundle)

    assert json.loads(runtime.exec(id, "report").ok().stdout)["groups"] == groups


@pytest.mark.usefixtures("groups")
@pytest.mark.parametrize("value", ["0", "", "true"])
def test_any_other_value_of_the_annotation_keeps_none(runtime: Runtime, bundle: Bundle, value: str) -> None:
    bundle.config["annotations"] = {"run.oci.keep_original_groups": value}

    assert set(runtime.run(bundle).report["groups"]) <= {0}


@pytest.mark.parametrize(("umask", "expected"), [(None, 0o022), (0o077, 0o077), (0, 0)])
def test_umask(runtime: Runtime, bundle: Bundle, umask: int | None, expected: int) -> None:
    if umask is not None:
        bundle.process["user"]["umask"] = umask
    before = os.umask(0o027)

    report = runtime.run(bundle).report

    os.umask(before)
    assert report["umask"] == expected


@only("pyocirun")  # runc 1.1 leaves a mount of the rootfs
def test_umask_without_a_mount_namespace(runtime: Runtime, bundle: Bundle) -> None:
    bundle.without_namespace("mount")
    bundle.config["mounts"] = []
    bundle.config["root"]["readonly"] = False
    bundle.linux["maskedPaths"] = bundle.linux["readonlyPaths"] = []
    bundle.process["user"]["umask"] = 0o077
    bundle.args("write", "/tmp/new", "x")
    before = os.umask(0o027)

    runtime.run(bundle).ok()

    os.umask(before)
    assert (bundle.rootfs / "tmp/new").stat().st_mode & 0o777 == 0o600


def test_another_user_may_write_to_the_output(runtime: Runtime, bundle: Bundle) -> None:
    """The runtime gives the descriptors to the user: a program may open /dev/stdout again."""
    read, write = os.pipe()
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    bundle.args("reopen", "0")

    with os.fdopen(write, "wb") as pipe:
        result = runtime.run(bundle, stdin=pipe)

    os.close(read)
    assert result.ok().stdout == "ok\n"


# ---- capabilities --------------------------------------------------------------------------------


def _own_bounding_set() -> int:
    return int(Path("/proc/self/status").read_text().partition("CapBnd:")[2].split()[0], 16)


def _capabilities(runtime: Runtime, bundle: Bundle, sets: dict[str, list[str]] | None, uid: int = 0) -> dict[str, int]:
    bundle.process["user"] = {"uid": uid, "gid": 0}
    bundle.process["capabilities"] = sets
    seen: dict[str, Any] = runtime.run(bundle).report["capabilities"]
    return {name: int(value, 16) for name, value in seen.items()}


def test_the_sets_of_root_are_exact(runtime: Runtime, bundle: Bundle) -> None:
    names = ["CAP_CHOWN", "CAP_NET_ADMIN"]

    seen = _capabilities(runtime, bundle, dict.fromkeys(("bounding", "effective", "permitted"), names))

    both = 1 << 0 | 1 << 12
    assert seen == {"bounding": both, "permitted": both, "effective": both, "inheritable": 0, "ambient": 0}


def test_root_may_have_a_wider_bounding_set(runtime: Runtime, bundle: Bundle) -> None:
    """execve(2) of uid 0 fills permitted and effective from the bounding set."""
    seen = _capabilities(
        runtime, bundle, {"bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]}
    )

    both = 1 << 0 | 1 << 5
    assert seen["bounding"] == both
    assert seen["inheritable"] == seen["ambient"] == 0


def test_another_user_has_only_what_is_ambient(runtime: Runtime, bundle: Bundle) -> None:
    sets = {name: ["CAP_CHOWN", "CAP_KILL"] for name in ("bounding", "effective", "permitted", "inheritable")}

    seen = _capabilities(runtime, bundle, sets | {"ambient": ["CAP_KILL"]}, uid=1000)

    both, kill = 1 << 0 | 1 << 5, 1 << 5
    assert seen == {"bounding": both, "inheritable": both, "ambient": kill, "permitted": kill, "effective": kill}


def test_another_user_without_ambient_ones_has_none(runtime: Runtime, bundle: Bundle) -> None:
    sets = {name: ["CAP_CHOWN"] for name in ("bounding", "effective", "permitted")}

    seen = _capabilities(runtime, bundle, sets, uid=1000)

    assert seen == {"bounding": 1, "permitted": 0, "effective": 0, "inheritable": 0, "ambient": 0}


@pytest.mark.parametrize("uid", [0, 1000])
def test_an_empty_object_means_none(runtime: Runtime, bundle: Bundle, uid: int) -> None:
    seen = _capabilities(runtime, bundle, {}, uid)

    assert seen == dict.fromkeys(CAPABILITY_SETS, 0)


def test_without_the_object_root_keeps_those_of_the_runtime(runtime: Runtime, bundle: Bundle) -> None:
    del bundle.config["process"]["capabilities"]
    own = _own_bounding_set()

    seen = runtime.run(bundle).report["capabilities"]

    assert int(seen["bounding"], 16) == own


def test_all_capabilities(runtime: Runtime, bundle: Bundle) -> None:
    own = _own_bounding_set()
    names = [name for number, name in enumerate(CAPABILITIES) if own >> number & 1]

    seen = _capabilities(runtime, bundle, dict.fromkeys(("bounding", "effective", "permitted"), names))

    assert seen["bounding"] == seen["effective"] == own & (1 << len(CAPABILITIES)) - 1


def test_an_unknown_capability_is_a_warning(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["capabilities"] = {name: ["CAP_KILL", "CAP_FLY"] for name in ("bounding", "permitted", "effective")}

    result = runtime.run(bundle)

    assert int(result.report["capabilities"]["bounding"], 16) == 1 << 5
    assert any(line["level"] == "warning" and "CAP_FLY" in line["msg"] for line in result.log)


def test_an_ambient_capability_that_cannot_be_raised_is_a_warning(runtime: Runtime, bundle: Bundle) -> None:
    sets = {name: ["CAP_KILL", "CAP_CHOWN"] for name in ("bounding", "permitted", "effective", "ambient")}
    bundle.process["capabilities"] = {**sets, "inheritable": ["CAP_KILL"]}

    result = runtime.run(bundle)

    assert int(result.report["capabilities"]["ambient"], 16) == 1 << 5
    assert any("can't raise ambient capability CAP_CHOWN: " in line["msg"] for line in result.log)


# ---- privileges and limits -----------------------------------------------------------------------


@pytest.mark.parametrize("value", [True, False])
def test_no_new_privileges(runtime: Runtime, bundle: Bundle, value: bool) -> None:
    bundle.process["noNewPrivileges"] = value

    assert runtime.run(bundle).report["no_new_privs"] == int(value)


def test_limits(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_CPU", "soft": 1000, "hard": 2000},
    ]

    seen = runtime.run(bundle).report["rlimits"]

    assert (seen["RLIMIT_NOFILE"], seen["RLIMIT_CORE"], seen["RLIMIT_CPU"]) == ([100, 200], [0, 0], [1000, 2000])


def test_an_unlimited_limit(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["rlimits"] = [{"type": "RLIMIT_CORE", "soft": (1 << 64) - 1, "hard": (1 << 64) - 1}]

    assert runtime.run(bundle).report["rlimits"]["RLIMIT_CORE"] == [-1, -1]


def test_a_limit_that_is_absent_is_left_alone(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["rlimits"] = []

    seen = runtime.run(bundle).report["rlimits"]

    for name in ("RLIMIT_STACK", "RLIMIT_MEMLOCK", "RLIMIT_NPROC"):
        assert tuple(seen[name]) == resource.getrlimit(getattr(resource, name))


def test_the_file_limit_of_the_runtime_is_left_alone(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["rlimits"] = []

    seen = runtime.run(bundle).report["rlimits"]["RLIMIT_NOFILE"]

    assert tuple(seen) == resource.getrlimit(resource.RLIMIT_NOFILE)


def test_an_unknown_limit_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["rlimits"] = [{"type": "RLIMIT_PATIENCE", "soft": 1, "hard": 1}]

    runtime.create(bundle).fails("RLIMIT_PATIENCE")
    assert runtime.traces() == []


def test_a_soft_limit_above_the_hard_one_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 200, "hard": 100}]

    runtime.create(bundle).fails()
    assert runtime.traces() == []


def test_a_limit_that_stands_twice_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["rlimits"] *= 2

    runtime.create(bundle).fails("RLIMIT_NOFILE")


@pytest.mark.parametrize("value", [0, 500, 1000])
def test_oom_score_adj(runtime: Runtime, bundle: Bundle, value: int) -> None:
    bundle.process["oomScoreAdj"] = value

    assert runtime.run(bundle).report["oom_score_adj"] == str(value)


def test_oom_score_adj_is_left_alone_where_it_is_absent(runtime: Runtime, bundle: Bundle) -> None:
    own = Path("/proc/self/oom_score_adj").read_text().strip()

    assert runtime.run(bundle).report["oom_score_adj"] == own


# ---- what the process inherits -------------------------------------------------------------------


def test_the_process_leads_its_session_and_group(runtime: Runtime, bundle: Bundle) -> None:
    report = runtime.run(bundle).report

    assert (report["pid"], report["ppid"], report["sid"], report["pgid"]) == (1, 0, 1, 1)


def test_no_signal_is_blocked_or_ignored(runtime: Runtime, bundle: Bundle) -> None:
    report = runtime.run(bundle).report

    assert report["signals"] == {"blocked": [], "ignored": []}


def test_no_death_signal_is_set(runtime: Runtime, bundle: Bundle) -> None:
    assert runtime.run(bundle).report["pdeathsig"] == 0


@requires("keyring")
def test_the_process_has_a_session_keyring_of_its_own(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.new_id()

    assert runtime.run(bundle, id=id).report["keyring"] == f"_ses.{id}"


@requires("keyring")
def test_the_keyring_of_the_runtime_can_be_kept(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.new_id()

    assert runtime.run(bundle, "--no-new-keyring", id=id).report["keyring"] != f"_ses.{id}"


# ---- what is absent is not what is zero ---------------------------------------------------------


@pytest.mark.parametrize("pids", [{}, {"limit": None}])
def test_a_limit_of_processes_that_is_absent_is_none(runtime: Managed, bundle: Bundle, pids: dict[str, None]) -> None:
    bundle.linux["resources"] = {"pids": pids} if pids else {}
    id = runtime.running(bundle)

    assert runtime.limit(id, "pids.limit") == UNLIMITED


def test_oom_score_adj_of_null_is_left_alone(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["oomScoreAdj"] = None
    own = Path("/proc/self/oom_score_adj").read_text().strip()

    assert runtime.run(bundle).report["oom_score_adj"] == own


@pytest.mark.parametrize("limits", [None, []])
def test_no_limits_are_no_limits_of_zero(runtime: Runtime, bundle: Bundle, limits: list[Any] | None) -> None:
    bundle.process["rlimits"] = limits

    assert tuple(runtime.run(bundle).report["rlimits"]["RLIMIT_NOFILE"]) == resource.getrlimit(resource.RLIMIT_NOFILE)


def test_a_root_that_is_not_said_to_be_read_only_is_not(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["root"]["readonly"] = None

    assert runtime.run(bundle.args("write", "/made", "x")).stdout.strip() == "ok"


@only("pyocirun")
def test_create_without_a_process_parks_the_container(runtime: Runtime, bundle: Bundle) -> None:
    del bundle.config["process"]
    id = runtime.created(bundle)

    assert runtime.status(id) == "created"
    runtime.start(id).fails()
