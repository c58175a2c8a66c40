"""A container whose root may mount, rename itself and move about, against the commands that deal with it later."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from integration.harness import PATIENCE, Bundle, Result, Runtime, eventually, mounts, only, requires

pytestmark = requires("busybox")


@pytest.fixture
def hostile(bundle: Bundle) -> Bundle:
    """Its root has CAP_SYS_ADMIN, and may write to its image."""
    for names in bundle.process["capabilities"].values():
        names.append("CAP_SYS_ADMIN")
    bundle.config["root"]["readonly"] = False
    return bundle


def _prepared(runtime: Runtime, bundle: Bundle, script: str) -> str:
    """A running container whose init has done this."""
    id = runtime.new_id()
    output = runtime.create(bundle.shell(f"{{ {script}; }} && echo done; exec sleep 60"), id=id).ok()
    runtime.start(id).ok()
    eventually(lambda: "done" in output.stdout, f"what init does: {output.stderr}")
    return id


def _exec_with_terminal(runtime: Runtime, id: str) -> Result:
    return runtime("exec", "--tty", id, "/bin/probe", "exit", "0", timeout=15 * PATIENCE)


# ---- terminals (CVE-2025-52565) -----------------------------------------------------------------


@pytest.mark.parametrize("made", ["mkfifo /dev/pts/ptmx", "ln -s /dev/null /dev/pts/ptmx", "touch /dev/pts/ptmx"])
def test_a_terminal_is_not_made_of_what_the_container_put_there(runtime: Runtime, hostile: Bundle, made: str) -> None:
    id = _prepared(runtime, hostile, f"mount -t tmpfs none /dev/pts && {made}")

    result = _exec_with_terminal(runtime, id)

    assert result.status == 255
    assert result.seconds < 10 * PATIENCE


def test_a_terminal_takes_no_device_bound_over_the_multiplexer(runtime: Runtime, hostile: Bundle) -> None:
    id = _prepared(runtime, hostile, "mount -o bind /dev/null /dev/pts/ptmx")

    result = _exec_with_terminal(runtime, id)

    assert result.status == 255


def test_console_and_ptmx_of_the_container_are_not_used_for_a_terminal_of_exec(
    runtime: Runtime, hostile: Bundle, place: Path
) -> None:
    (place / "host-file").write_text("untouched")
    hostile.bind(place, "/host")
    id = _prepared(runtime, hostile, "rm -f /dev/ptmx && ln -s /host/host-file /dev/ptmx && ln -s /host/x /dev/console")

    _exec_with_terminal(runtime, id).ok()

    assert (place / "host-file").read_text() == "untouched"
    assert sorted(os.listdir(place)).count("x") == 0


# ---- joining ------------------------------------------------------------------------------------


def test_a_process_joins_what_init_has_moved_to(runtime: Runtime, hostile: Bundle) -> None:
    before = mounts()
    hostile.shell("exec unshare -m /bin/sh -c 'mount -t tmpfs none /etc && echo there > /etc/mark && exec sleep 60'")
    id = runtime.created(hostile)
    runtime.start(id).ok()
    eventually(lambda: runtime.exec(id, "cat", "/etc/mark").stdout == "there\n", "the new namespace")

    assert mounts() == before


def test_a_procfs_that_is_covered_leads_exec_to_no_other_file(runtime: Runtime, hostile: Bundle, place: Path) -> None:
    """What is written to /proc/self for the new process must not land in a file of the container's choice."""
    (place / "target").write_text("untouched")
    hostile.bind(place, "/host")
    hostile.process["oomScoreAdj"] = 100
    trap = "mkdir -p /proc/self /proc/thread-self; for d in self thread-self; do for f in oom_score_adj setgroups; do"
    id = _prepared(runtime, hostile, f"mount -t tmpfs none /proc && {trap} ln -s /host/target /proc/$d/$f; done; done")

    result = runtime.exec(id, "exit", "4")

    assert result.status == 4, result.stderr
    assert (place / "target").read_text() == "untouched"


@pytest.mark.parametrize("name", [") R 1 1 1 1", "a\\nb", "((((", "\\033[2J"])
def test_a_name_of_init_confuses_no_command(runtime: Runtime, hostile: Bundle, name: str) -> None:
    id = _prepared(runtime, hostile, f"printf '{name}' > /proc/self/comm; echo done; sleep 60; false")

    status = runtime.status(id)
    runtime.exec(id, "exit", "0").ok()
    runtime.kill(id, "KILL").ok()

    assert status == "running"
    eventually(lambda: runtime.status(id) == "stopped")


# ---- hooks, logs, ids -----------------------------------------------------------------------------


def test_a_start_container_hook_that_the_image_links_away_runs_nothing_of_the_host(
    runtime: Runtime, bundle: Bundle, place: Path
) -> None:
    evil = place / "evil"
    evil.write_text(f"#!/bin/sh\ntouch {place}/ran\n")
    evil.chmod(0o755)
    os.symlink(evil, bundle.rootfs / "bin/hook")
    bundle.hook("startContainer", "/bin/hook")
    id = runtime.created(bundle)

    runtime.start(id)

    assert not (place / "ran").exists()


@only("pyocirun")
def test_a_name_in_a_message_forges_no_line_of_the_log(runtime: Runtime, bundle: Bundle) -> None:
    forged = '/no\n{"level":"error","msg":"forged"}\r\x1b[2J\u2028'
    bundle.process["args"] = [forged]

    result = runtime.create(bundle)

    assert [line["level"] for line in result.log].count("error") == 1
    assert forged[1:4] in result.error
    assert "\x1b" not in result.stderr
    assert "forged" not in json.dumps([line["msg"] for line in result.log if line["msg"].startswith("forged")])


@only("pyocirun")
@pytest.mark.parametrize("user", ["+1", "1_0", "\uff11", "0x1", "1:+1", "4294967295", "1 "])
def test_a_user_of_exec_is_decimal_digits_or_an_error(runtime: Runtime, bundle: Bundle, user: str) -> None:
    """CVE-2026-30892: a text that is read as uid 0."""
    id = runtime.running(bundle)

    result = runtime.exec(id, "report", options=(f"--user={user}",))

    assert result.status in (1, 255)
    assert '"uid"' not in result.stdout


def test_an_empty_user_of_exec_is_the_one_of_the_configuration(runtime: Runtime, bundle: Bundle) -> None:
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    id = runtime.running(bundle)

    assert runtime.exec(id, "report", options=("--user=",)).report["uid"] == 1000
