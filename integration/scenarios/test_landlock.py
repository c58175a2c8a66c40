"""The annotation org.pyocirun.landlock: what a process may no longer do, whoever it is."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from integration.harness import Bundle, Runtime, eventually, only, requires, wait_for_orphan

WRITING = ["write_file", "make_reg", "make_dir", "make_sym", "remove_file", "remove_dir", "truncate", "refer"]

pytestmark = [only("pyocirun"), requires("landlock")]


def restrict(bundle: Bundle, **ruleset: Any) -> None:
    bundle.config.setdefault("annotations", {})["org.pyocirun.landlock"] = json.dumps(ruleset)


@pytest.fixture
def readonly(bundle: Bundle) -> Bundle:
    """A bundle whose processes may write beneath /data alone."""
    bundle.config["root"]["readonly"] = False
    for name in ("data", "other"):
        (bundle.rootfs / name).mkdir(mode=0o777)
        (bundle.rootfs / name).chmod(0o777)
    restrict(bundle, handledAccessFS=WRITING, pathBeneath=[{"paths": ["/data"], "allowedAccess": WRITING}])
    return bundle


# ---- what it does --------------------------------------------------------------------------------


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_only_what_a_rule_allows_can_be_done(
    runtime: Runtime, readonly: Bundle, no_new_privileges: bool, uid: int
) -> None:
    readonly.process.update(noNewPrivileges=no_new_privileges, user={"uid": uid, "gid": uid})

    inside = runtime.run(readonly.args("write", "/data/file", "x")).stdout.strip()
    outside = runtime.run(readonly.args("write", "/other/file", "x")).stdout.strip()

    assert (inside, outside) == ("ok", "EACCES")


def test_a_process_of_exec_is_restricted_too(runtime: Runtime, readonly: Bundle) -> None:
    id = runtime.running(readonly)

    assert runtime.exec(id, "write", "/data/file", "x").stdout.strip() == "ok"
    assert runtime.exec(id, "write", "/other/file", "x").stdout.strip() == "EACCES"


def test_capabilities_are_what_they_are_without_it(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["noNewPrivileges"] = False
    plain = runtime.run(bundle).report["capabilities"]
    restrict(bundle, scoped=["signal"])

    assert runtime.run(bundle).report["capabilities"] == plain


def test_it_goes_with_a_seccomp_profile_that_allows_no_call_of_it(runtime: Runtime, readonly: Bundle) -> None:
    calls = ["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "prctl", "capset"]
    rule = {"names": calls, "action": "SCMP_ACT_KILL_PROCESS"}
    readonly.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    readonly.process["noNewPrivileges"] = False

    assert runtime.run(readonly.args("write", "/other/file", "x")).stdout.strip() == "EACCES"


@requires("userns")
def test_it_holds_in_a_user_namespace(runtime: Runtime, readonly: Bundle) -> None:
    readonly.map_users(100000)
    readonly.process["noNewPrivileges"] = False

    assert runtime.run(readonly.args("write", "/other/file", "x")).stdout.strip() == "EACCES"


def test_hooks_in_the_container_are_not_restricted(runtime: Runtime, readonly: Bundle) -> None:
    readonly.hook("startContainer", "/bin/probe", "write", "/other/by-the-hook", "x")

    runtime.run(readonly.args("exit", "0")).ok()

    assert (readonly.rootfs / "other/by-the-hook").read_text() == "x"


def test_a_file_may_be_named_beside_directories(runtime: Runtime, readonly: Bundle) -> None:
    (readonly.rootfs / "other/file").touch(mode=0o666)
    restrict(
        readonly,
        handledAccessFS=WRITING,
        pathBeneath=[{"paths": ["/data", "/other/file"], "allowedAccess": WRITING}],
    )

    assert runtime.run(readonly.args("write", "/other/file", "x")).stdout.strip() == "ok"
    assert runtime.run(readonly.args("write", "/other/new", "x")).stdout.strip() == "EACCES"


@requires("busybox")
def test_ports(runtime: Runtime, bundle: Bundle) -> None:
    """wget is refused the connection by Landlock before anybody could refuse it at the port."""
    rules = [{"ports": [8080], "allowedAccess": ["connect_tcp"]}]
    restrict(bundle, handledAccessNet=["connect_tcp"], netPort=rules)

    done = runtime.run(bundle.shell("for p in 8080 8081; do wget -q -O- http://127.0.0.1:$p/ 2>&1; done"))

    allowed, denied = done.stdout.splitlines()
    assert "Connection refused" in allowed
    assert "Permission denied" in denied


def test_a_program_that_may_not_be_executed_is_an_error_of_start(runtime: Runtime, bundle: Bundle) -> None:
    restrict(bundle, handledAccessFS=["execute"])

    runtime.run(bundle).fails("exec /bin/probe: permission denied")


# ---- what is refused -----------------------------------------------------------------------------


def test_a_path_that_is_missing_is_an_error_unless_it_is_optional(runtime: Runtime, bundle: Bundle) -> None:
    rule = {"paths": ["/missing"], "allowedAccess": ["write_file"]}
    restrict(bundle, handledAccessFS=["write_file"], pathBeneath=[rule])

    runtime.create(bundle).fails("allow write_file beneath /missing", "No such file or directory")
    assert runtime.traces() == []
    restrict(bundle, handledAccessFS=["write_file"], pathBeneath=[rule | {"optional": True}])
    runtime.run(bundle.args("exit", "0")).ok()


def test_a_misspelt_right_is_an_error(runtime: Runtime, bundle: Bundle) -> None:
    restrict(bundle, handledAccessFS=["write"])

    runtime.create(bundle).fails("/annotations/org.pyocirun.landlock", '"write" is not one of')
    assert runtime.traces() == []


def test_a_checkpoint_is_refused(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    restrict(bundle, scoped=["signal"])
    id = runtime.running(bundle)

    runtime("checkpoint", "--image-path", str(place / "images"), id).fails("Landlock")


# ---- attacks -------------------------------------------------------------------------------------


@requires("busybox")
def test_root_with_every_capability_does_not_get_out(runtime: Runtime, readonly: Bundle) -> None:
    """By another name of the file, by a mount, by another root, and by the root of another process."""
    everything = [
        f"CAP_{name}" for name in ("SYS_ADMIN", "SYS_CHROOT", "DAC_OVERRIDE", "SYS_PTRACE", "MKNOD", "FOWNER")
    ]
    sets = ("bounding", "effective", "permitted")
    readonly.process.update(capabilities=dict.fromkeys(sets, everything), noNewPrivileges=False)
    (readonly.rootfs / "other/file").write_text("")
    (readonly.rootfs / "data/link").symlink_to("/other/file")
    script = """
        echo x > /data/link
        ln /other/file /data/hard && echo x > /data/hard
        mkdir /data/m && mount -t tmpfs none /data/m
        mount --bind /other /data/m && echo x > /data/m/file
        chroot /other /bin/sh -c 'echo x > /file'
        echo x > /proc/self/root/other/file
        cd /other && echo x > file
        unshare -m /bin/sh -c 'mount --bind /other /data/m && echo x > /data/m/file'
        /bin/sh -c 'echo x > /other/file'
        mv /other/file /data/file && echo x > /data/file
        true
    """

    runtime.run(readonly.shell(script)).ok()

    assert (readonly.rootfs / "other/file").read_text() == ""


def test_a_link_of_the_image_leads_no_rule_out_of_the_root(runtime: Runtime, readonly: Bundle, place: Path) -> None:
    """What is allowed is a path in the container, and not what the link would mean on the host."""
    outside = place / "outside"
    outside.mkdir()
    (readonly.rootfs / "way").symlink_to(outside)
    restrict(
        readonly, handledAccessFS=WRITING, pathBeneath=[{"paths": ["/way"], "allowedAccess": WRITING, "optional": True}]
    )
    readonly.bind(outside, "/data")

    assert runtime.run(readonly.args("write", "/data/file", "x")).stdout.strip() == "EACCES"


def test_scoped_processes_reach_no_abstract_socket_of_the_host(runtime: Runtime, bundle: Bundle) -> None:
    name = f"pyocirun-landlock-{os.getpid()}"
    bundle.without_namespace("network")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(f"\0{name}")
        bundle.process["env"].append(f"NOTIFY_SOCKET=@{name}")
        restrict(bundle, scoped=["abstract_unix_socket"])

        done = runtime.run(bundle.args("notify", "hello", "0"))

    assert done.stdout.strip() == "EPERM"


def test_a_scoped_process_signals_nobody_outside(runtime: Runtime, bundle: Bundle) -> None:
    bundle.without_namespace("pid")
    restrict(bundle, scoped=["signal"])
    other = subprocess.Popen(["sleep", "60"])

    try:
        said = runtime.run(bundle.args("call", "62", str(other.pid), "9")).stdout.strip()

        assert said == "EPERM"
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_nothing_of_the_ruleset_is_left_to_the_container(runtime: Runtime, readonly: Bundle) -> None:
    assert set(runtime.run(readonly).report["descriptors"]) == {"0", "1", "2"}


def test_the_runtime_still_rules_over_it(runtime: Runtime, readonly: Bundle) -> None:
    restrict(readonly, handledAccessFS=WRITING, scoped=["signal", "abstract_unix_socket"])
    id = runtime.running(readonly)
    pid = runtime.pid(id)

    runtime.kill(id, "KILL").ok()

    assert wait_for_orphan(pid) != 0
    eventually(lambda: runtime.status(id) == "stopped", "the end")
