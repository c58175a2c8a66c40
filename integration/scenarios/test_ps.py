"""ps: the processes of a container."""

from __future__ import annotations

import json
import os
import signal

from integration.harness import Bundle, eventually, requires, wait_for_orphan
from integration.modes import ROOT, Managed, modes

pytestmark = [requires("root"), modes()]


def pids(runtime: Managed, id: str) -> list[int]:
    found: list[int] = json.loads(runtime("ps", "--format", "json", id).ok().stdout)
    return found


def test_json_has_the_ids_of_all_processes(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle, "fork", "3", "stay")

    found = eventually(lambda: found if len(found := pids(runtime, id)) == 4 else [], "four processes")

    assert found == sorted(found)
    assert runtime.pid(id) in found


def test_the_table_is_that_of_the_hosts_ps(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    pid = runtime.pid(id)

    header, *lines = runtime("ps", id).ok().stdout.splitlines()

    assert header.split()[:2] == ["UID", "PID"]
    assert [line.split()[1] for line in lines] == [str(pid)]


def test_ps_gets_the_options_behind_the_id(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    lines = runtime("ps", id, "-e", "-o", "comm,pid").ok().stdout.splitlines()

    assert [line.split() for line in lines] == [["COMMAND", "PID"], ["probe", str(runtime.pid(id))]]


def test_a_table_without_process_ids_is_refused(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    runtime("ps", id, "-e", "-o", "comm").fails("couldn't find PID field in ps output")


def test_an_unknown_format_is_refused(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    runtime("ps", "-f", "yaml", id).fails("invalid format option")


def test_a_stopped_container_has_no_processes(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    runtime.stop(id)

    assert runtime("ps", "-f", "json", id).ok().stdout == "null\n"
    assert len(runtime("ps", id).ok().stdout.splitlines()) == 1


def test_an_unknown_container_has_none_either(runtime: Managed) -> None:
    runtime("ps", "nobody").fails("container does not exist")


def test_processes_of_exec_are_listed(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    runtime("exec", "--detach", id, "/bin/probe", "sleep", "60").ok()

    init, other = pids(runtime, id)

    assert init == runtime.pid(id)
    os.kill(other, signal.SIGKILL)
    wait_for_orphan(other)


@modes(*ROOT)
def test_processes_in_cgroups_below_are_listed(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    pid = runtime.pid(id)
    below = runtime.cgroup(id, "devices") / "below"
    below.mkdir()
    (below / "cgroup.procs").write_text(str(pid))

    assert pids(runtime, id) == [pid]
