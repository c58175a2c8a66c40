"""linux.seccomp: which system calls the container may make."""

from __future__ import annotations

import array
import fcntl
import json
import os
import platform
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.harness import HERE, Bundle, Runtime, eventually, only, requires, wait_for_orphan

DOCKER = HERE.parent / "tests/golden/docker-default/config.json"
GETPID, SETUID, MKDIR, MOUNT, REBOOT, CLONE3 = 39, 105, 83, 165, 169, 435
I386_GETPID = 20
NEVER = 9999

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of system calls")


def rule(*names: str, action: str = "SCMP_ACT_ERRNO", **fields: Any) -> dict[str, Any]:
    return {"names": list(names), "action": action, **fields}


def deny(bundle: Bundle, *names: str, **fields: Any) -> None:
    """Allow everything but these."""
    bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule(*names, **fields)]}


def dockers(bundle: Bundle) -> None:
    """The profile that docker writes by default."""
    bundle.linux["seccomp"] = json.loads(DOCKER.read_text())["linux"]["seccomp"]


# ---- what the filter does ------------------------------------------------------------------------


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_a_process_is_under_the_filter(runtime: Runtime, bundle: Bundle, no_new_privileges: bool) -> None:
    deny(bundle, "mkdir", "mkdirat")
    bundle.process["noNewPrivileges"] = no_new_privileges

    report = runtime.run(bundle).report

    assert (report["seccomp"], report["no_new_privs"]) == (2, int(no_new_privileges))


def test_without_a_profile_there_is_no_filter(runtime: Runtime, bundle: Bundle) -> None:
    assert runtime.run(bundle).report["seccomp"] == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("call", GETPID), "ok"),
        (("call", MOUNT), "EPERM"),
        (("call", REBOOT), "EPERM"),
        (("call", CLONE3), "ENOSYS"),
        (("call", 56, 0x10000011), "EPERM"),
        (("call", NEVER), "ENOSYS"),
        (("call32", I386_GETPID), "ok"),
        (("call32", 21), "EPERM"),
    ],
)
def test_the_default_profile_of_docker(runtime: Runtime, bundle: Bundle, args: tuple[Any, ...], said: str) -> None:
    dockers(bundle)

    assert runtime.run(bundle.args(*map(str, args))).stdout.strip() == said


def test_a_whole_program_runs_under_the_default_profile_of_docker(runtime: Runtime, bundle: Bundle) -> None:
    dockers(bundle)

    assert runtime.run(bundle).report["seccomp"] == 2


def test_exec_is_under_the_filter_too(runtime: Runtime, bundle: Bundle) -> None:
    dockers(bundle)
    id = runtime.running(bundle)

    assert runtime.exec(id, "report").report["seccomp"] == 2
    assert runtime.exec(id, "call", str(MOUNT)).stdout.strip() == "EPERM"
    assert runtime.exec(id, "call", str(NEVER)).stdout.strip() == "ENOSYS"


def test_exec_of_a_process_document_is_under_the_filter(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    deny(bundle, "mkdir", errnoRet=95)
    id = runtime.running(bundle)
    process = bundle.process | {"args": ["/bin/probe", "call", str(MKDIR)], "noNewPrivileges": False}
    (place / "process.json").write_text(json.dumps(process))

    done = runtime("exec", "--process", str(place / "process.json"), id)

    assert done.stdout.strip() in ("EOPNOTSUPP", "ENOTSUP")


@pytest.mark.parametrize(
    ("action", "status", "said"),
    [
        ("SCMP_ACT_ALLOW", 0, "ok"),
        ("SCMP_ACT_LOG", 0, "ok"),
        ("SCMP_ACT_ERRNO", 1, "EPERM"),
        ("SCMP_ACT_TRACE", 1, "ENOSYS"),
        ("SCMP_ACT_TRAP", 128 + signal.SIGSYS, ""),
        ("SCMP_ACT_KILL", 128 + signal.SIGSYS, ""),
        ("SCMP_ACT_KILL_THREAD", 128 + signal.SIGSYS, ""),
        ("SCMP_ACT_KILL_PROCESS", 128 + signal.SIGSYS, ""),
    ],
)
def test_every_action(runtime: Runtime, bundle: Bundle, action: str, status: int, said: str) -> None:
    other = "SCMP_ACT_ERRNO" if action == "SCMP_ACT_ALLOW" else "SCMP_ACT_ALLOW"
    allowed = [rule("getpid", action="SCMP_ACT_ALLOW")] if other != "SCMP_ACT_ALLOW" else []
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [rule("getpgrp", action=action), *allowed],
    }

    done = runtime.run(bundle.args("call", "111"))

    assert (done.status, done.stdout.strip()) == (status, said)


def test_an_architecture_that_the_profile_does_not_list_is_killed(runtime: Runtime, bundle: Bundle) -> None:
    deny(bundle, "mkdir")

    assert runtime.run(bundle.args("call32", str(I386_GETPID))).status == 128 + signal.SIGSYS


@only("pyocirun")
@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_a_filter_does_not_hamper_the_runtime_itself(runtime: Runtime, bundle: Bundle, no_new_privileges: bool) -> None:
    """What is needed to become the user, and to find and open things, is denied to the process alone."""
    deny(bundle, "setuid", "setresuid", "setgroups", "capset", "prctl", "chdir", "fchdir", "openat", "openat2", "futex")
    bundle.process["noNewPrivileges"] = no_new_privileges
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    id = runtime.running(bundle)

    assert runtime.exec(id, "call", str(SETUID), "1000").stdout.strip() == "EPERM"
    assert runtime.exec(id, "stat", "/").stdout


@pytest.fixture
def tiny(bundle: Bundle, place: Path) -> Bundle:
    """A bundle whose program makes two system calls, write and exit, and needs nothing else."""
    source = place / "tiny.c"
    source.write_text(
        """
        static long call(long n, long a, long b, long c)
        {
            long result;
            __asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
            return result;
        }
        void _start(void) { call(1, 1, (long)"tiny\\n", 5); for (;;) call(60, 7, 0, 0); }
        """
    )
    flags = ["-O2", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector"]
    subprocess.run(["cc", *flags, source, "-o", bundle.rootfs / "bin/tiny"], check=True)
    return bundle.args("/bin/tiny")


@only("pyocirun")
@pytest.mark.parametrize("no_new_privileges", [True, False])
@pytest.mark.parametrize("default", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"])
def test_a_profile_needs_nothing_for_the_runtime(
    runtime: Runtime, tiny: Bundle, default: str, no_new_privileges: bool
) -> None:
    tiny.process["noNewPrivileges"] = no_new_privileges
    allowed = rule("execve", "write", "exit", action="SCMP_ACT_ALLOW")
    tiny.linux["seccomp"] = {"defaultAction": default, "syscalls": [allowed]}

    done = runtime.run(tiny)

    assert (done.status, done.stdout) == (7, "tiny\n")


@only("pyocirun")
@pytest.mark.parametrize(
    ("default", "status"), [("SCMP_ACT_KILL_PROCESS", signal.SIGSYS), ("SCMP_ACT_ERRNO", signal.SIGILL)]
)
def test_a_profile_that_allows_nothing_ends_the_process(
    runtime: Runtime, bundle: Bundle, default: str, status: int
) -> None:
    bundle.linux["seccomp"] = {"defaultAction": default, "syscalls": []}

    assert runtime.run(bundle).status == 128 + status


def test_a_program_that_cannot_be_executed_behind_the_filter_is_told(runtime: Runtime, bundle: Bundle) -> None:
    dockers(bundle)
    (bundle.rootfs / "script").write_text("#!/no/interpreter\n")
    os.chmod(bundle.rootfs / "script", 0o755)

    runtime.run(bundle.args("/script")).fails("no such file or directory", status=1)


# ---- capabilities --------------------------------------------------------------------------------

SETS: dict[str, dict[str, list[str]]] = {
    "few": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]},
    "none": {},
    "with sys_admin": {"bounding": ["CAP_KILL", "CAP_SYS_ADMIN"], "permitted": ["CAP_KILL"], "effective": []},
    "ambient": {
        name: ["CAP_KILL", "CAP_CHOWN"] for name in ("bounding", "permitted", "effective", "inheritable", "ambient")
    },
}


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("sets", SETS)
def test_capabilities_are_what_they_are_without_a_filter(runtime: Runtime, bundle: Bundle, sets: str, uid: int) -> None:
    bundle.process.update(capabilities=SETS[sets], noNewPrivileges=False, user={"uid": uid, "gid": uid})
    plain = runtime.run(bundle).report["capabilities"]
    deny(bundle, "mkdir")

    report = runtime.run(bundle).report

    assert report["capabilities"] == plain
    assert report["seccomp"] == 2


@pytest.mark.parametrize("uid", [0, 1000])
def test_capabilities_of_exec_are_what_they_are_without_a_filter(
    runtime: Runtime, bundle: Bundle, other_bundle: Bundle, uid: int
) -> None:
    for one in (bundle, other_bundle):
        one.process.update(capabilities=SETS["ambient"], noNewPrivileges=False, user={"uid": uid, "gid": uid})
    deny(bundle, "mkdir")
    filtered, plain = runtime.running(bundle), runtime.running(other_bundle)

    with_filter, without = (runtime.exec(id, "report").report for id in (filtered, plain))

    assert with_filter["capabilities"] == without["capabilities"]
    assert (with_filter["seccomp"], without["seccomp"]) == (2, 0)


def test_a_process_without_capabilities_of_its_own_is_filtered(runtime: Runtime, bundle: Bundle) -> None:
    del bundle.process["capabilities"]
    bundle.process.update(noNewPrivileges=False, user={"uid": 1000, "gid": 1000})
    deny(bundle, "mkdir")

    report = runtime.run(bundle).report

    assert report["seccomp"] == 2
    assert int(report["capabilities"]["effective"], 16) == 0


@requires("userns")
def test_a_filter_in_a_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    bundle.map_users(100000)
    bundle.process["noNewPrivileges"] = False
    dockers(bundle)

    assert runtime.run(bundle).report["seccomp"] == 2


# ---- flags ---------------------------------------------------------------------------------------


@only("pyocirun")
@requires("strace")
@pytest.mark.parametrize(
    ("flags", "called"),
    [
        (None, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
        ([], "0"),
        (["SECCOMP_FILTER_FLAG_TSYNC"], "0"),
        (["SECCOMP_FILTER_FLAG_LOG"], "SECCOMP_FILTER_FLAG_LOG"),
    ],
)
def test_flags_reach_the_kernel(
    runtime: Runtime, bundle: Bundle, place: Path, flags: list[str] | None, called: str
) -> None:
    deny(bundle, "mkdir")
    bundle.linux["seccomp"] |= {} if flags is None else {"flags": flags}
    trace = place / "trace"
    runtime.command = ["strace", "-f", "-e", "trace=seccomp", "-o", str(trace), *runtime.command]

    runtime.run(bundle.args("exit", "0")).ok()

    calls = [
        line for line in trace.read_text().splitlines() if "SECCOMP_SET_MODE_FILTER, " in line and "NULL" not in line
    ]
    assert len(calls) == 1
    assert f"SECCOMP_SET_MODE_FILTER, {called}, {{" in calls[0]


# ---- kept filters --------------------------------------------------------------------------------


@only("pyocirun")
def test_compiled_filters_are_no_containers(runtime: Runtime, bundle: Bundle) -> None:
    dockers(bundle)
    id = runtime.created(bundle)

    assert len(list((runtime.root / "@seccomp").iterdir())) == 1
    assert runtime.list("--quiet").ok().stdout.split() == [id]


# ---- agents --------------------------------------------------------------------------------------

RECEIVE, SEND = 0xC0502100, 0xC0182101
EDOM = 33


class Agent:
    """Answers every system call that it is asked about with EDOM. told: what it was told of each process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.told: list[dict[str, Any]] = []
        self.numbers: list[int] = []
        self.listeners: list[int] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(str(path))
        self.socket.listen()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join(10)
        self.socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._meet, args=(connection,), daemon=True).start()

    def _meet(self, connection: socket.socket) -> None:
        data, control, _, _ = connection.recvmsg(1 << 20, socket.CMSG_SPACE(64))
        fds = array.array("i")
        for level, kind, payload in control:
            assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            fds.frombytes(payload)
        while data and not _is_whole(data):
            more, control, _, _ = connection.recvmsg(1 << 20, socket.CMSG_SPACE(64))
            assert not control, "descriptors come with the first bytes alone"
            data += more
        if data:
            self.told.append(json.loads(data) | {"descriptors": len(fds)})
            self._answer(fds[0])
        connection.close()

    def _answer(self, listener: int) -> None:
        try:
            while True:
                asked = bytearray(80)
                fcntl.ioctl(listener, RECEIVE, asked)
                id, _, _, number = struct.unpack_from("QIIi", asked)
                self.numbers.append(number)
                fcntl.ioctl(listener, SEND, bytearray(struct.pack("QqiI", id, 0, -EDOM, 0)))
        except OSError:
            os.close(listener)  # the last process under the filter is gone


def _is_whole(data: bytes) -> bool:
    try:
        return bool(json.loads(data))
    except ValueError:
        return False


@pytest.fixture
def agent(place: Path) -> Iterator[Agent]:
    agent = Agent(place / "agent")
    yield agent
    agent.close()


def ask(bundle: Bundle, path: Path, *names: str, **fields: Any) -> None:
    """Have an agent answer these."""
    deny(bundle, *(names or ("mkdir",)), action="SCMP_ACT_NOTIFY")
    bundle.linux["seccomp"] |= {"listenerPath": str(path), **fields}


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_an_agent_answers_system_calls(runtime: Runtime, bundle: Bundle, agent: Agent, no_new_privileges: bool) -> None:
    ask(bundle, agent.path)
    bundle.process["noNewPrivileges"] = no_new_privileges

    done = runtime.run(bundle.args("mkdir", "/tmp/x"))

    assert done.stdout.strip() == "EDOM"
    assert agent.numbers == [MKDIR]


@only("pyocirun")
def test_an_annotation_names_the_agent_of_a_profile_without_one(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    deny(bundle, "mkdir", action="SCMP_ACT_NOTIFY")
    bundle.config["annotations"] = {"run.oci.seccomp.receiver": str(agent.path)}
    id = runtime.running(bundle)

    assert runtime.exec(id, "mkdir", "/tmp/x").stdout.strip() == "EDOM"
    assert len(agent.told) == 2


@only("pyocirun")
def test_an_annotation_refuses_a_system_call_that_nobody_knows(runtime: Runtime, bundle: Bundle) -> None:
    deny(bundle, "no_such_call")
    bundle.config["annotations"] = {"run.oci.seccomp_fail_unknown_syscall": "1"}

    runtime.create(bundle).fails("does not know no_such_call")
    assert runtime.traces() == []


@only("pyocirun")
def test_an_agent_may_ask_that_only_a_kill_interrupts_it(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    ask(bundle, agent.path, flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])

    assert runtime.run(bundle.args("mkdir", "/tmp/x")).stdout.strip() == "EDOM"


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_hooks_in_the_container_are_under_the_filter(runtime: Runtime, bundle: Bundle, no_new_privileges: bool) -> None:
    deny(bundle, "mkdir")
    bundle.process["noNewPrivileges"] = no_new_privileges
    bundle.hook("startContainer", "/bin/probe", "mkdir", "/tmp/x")

    done = runtime.run(bundle)

    assert done.status == 1
    assert "hook #0: exit status 1, stdout: EPERM" in done.stderr.replace("error running hook: ", "")
    assert runtime.traces() == []


def test_a_hook_that_the_filter_kills_fails_the_start(runtime: Runtime, bundle: Bundle) -> None:
    deny(bundle, "mkdir", action="SCMP_ACT_KILL_PROCESS")
    bundle.hook("startContainer", "/bin/probe", "mkdir", "/tmp/x")

    done = runtime.run(bundle)

    assert done.status == 1
    assert "signal: bad system call" in done.stderr
    assert runtime.traces() == []


@only("pyocirun")
def test_the_filter_need_not_allow_what_running_a_hook_takes(runtime: Runtime, bundle: Bundle) -> None:
    deny(bundle, "clone", "clone3", "wait4", "ppoll", "pipe2", "setpgid", "dup3", "close_range", "memfd_create")
    bundle.hook("startContainer", "/bin/probe", "mkdir", "/tmp/by-the-hook")
    bundle.mount("/tmp", "tmpfs")

    done = runtime.run(bundle.args("ls", "/tmp"))

    assert "by-the-hook" in done.stdout


@only("pyocirun")
def test_a_hook_gets_no_answer_from_an_agent(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    ask(bundle, agent.path)
    bundle.hook("startContainer", "/bin/probe", "mkdir", "/tmp/x")

    runtime.run(bundle).fails("startContainer hook #0: exit status 1, stdout: ENOSYS")
    assert agent.told == []


def test_an_agent_is_told_of_the_process(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    ask(bundle, agent.path, listenerMetadata="about it")
    bundle.config["annotations"] = {"a": "b"}
    id = runtime.running(bundle)

    (told,) = eventually(lambda: agent.told, "the agent")

    pid = runtime.pid(id)
    assert (told["fds"], told["descriptors"], told["pid"], told["metadata"]) == (["seccompFd"], 1, pid, "about it")
    assert told["state"] | {"status": "", "ociVersion": ""} == {
        "ociVersion": "",
        "id": id,
        "status": "",
        "pid": pid,
        "bundle": str(bundle.path),
        "annotations": {"a": "b"},
    }
    assert told["state"]["status"] in ("creating", "created")


def test_an_agent_is_told_of_each_process_of_exec(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    ask(bundle, agent.path)
    id = runtime.running(bundle)

    said = [runtime.exec(id, "mkdir", "/tmp/x").stdout.strip() for _ in range(2)]

    assert said == ["EDOM", "EDOM"]
    eventually(lambda: len(agent.told) == 3, "the agent")
    assert [told["state"]["status"] for told in agent.told[1:]] == ["running", "running"]
    assert {told["state"]["pid"] for told in agent.told} == {runtime.pid(id)}
    assert len({told["pid"] for told in agent.told}) == 3


def test_a_long_introduction_arrives_whole(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    ask(bundle, agent.path, listenerMetadata="m" * 700_000)
    runtime.running(bundle)

    (told,) = eventually(lambda: agent.told, "the agent")

    assert told["metadata"] == "m" * 700_000


def test_without_a_call_to_ask_about_nobody_is_connected_to(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    deny(bundle, "mkdir")
    bundle.linux["seccomp"]["listenerPath"] = str(place / "nobody")

    assert runtime.run(bundle).report["seccomp"] == 2


def test_an_agent_that_is_not_there_is_an_error(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    ask(bundle, place / "nobody")

    runtime.create(bundle).fails("no such file or directory" if runtime.name == "runc" else "No such file or directory")
    assert runtime.traces() == []


@only("pyocirun")
def test_an_agent_that_has_gone_before_start_is_an_error(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    gone = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    gone.bind(str(place / "gone"))
    gone.listen()
    ask(bundle, place / "gone")
    id = runtime.created(bundle)
    gone.accept()[0].close()
    gone.close()
    pid = runtime.pid(id)

    runtime.start(id).fails("cannot load the seccomp filter: sendmsg: Broken pipe")

    assert wait_for_orphan(pid) != 0
    assert runtime.status(id) == "stopped"


@only("pyocirun")
def test_an_agent_may_answer_for_execve(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    """It has the listener before the first call that it has to answer."""
    ask(bundle, agent.path, "execve")

    runtime.run(bundle).fails("numerical argument out of domain")

    assert agent.numbers == [59]


@only("pyocirun")
def test_a_profile_with_an_agent_needs_nothing_for_the_runtime(runtime: Runtime, tiny: Bundle, agent: Agent) -> None:
    allowed = rule("execve", "write", "exit", action="SCMP_ACT_ALLOW")
    asked = rule("mkdir", action="SCMP_ACT_NOTIFY")
    tiny.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_KILL_PROCESS",
        "listenerPath": str(agent.path),
        "syscalls": [allowed, asked],
    }

    done = runtime.run(tiny)

    assert (done.status, done.stdout) == (7, "tiny\n")
    assert len(agent.told) == 1


# ---- attacks -------------------------------------------------------------------------------------


def test_nothing_of_the_listener_is_left_to_the_container(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    ask(bundle, agent.path)

    report = runtime.run(bundle).report

    assert set(report["descriptors"]) == {"0", "1", "2"}


def test_who_sends_the_listener_is_gone_before_the_container_begins(
    runtime: Runtime, bundle: Bundle, agent: Agent
) -> None:
    ask(bundle, agent.path)

    for _ in range(5):
        tasks = json.loads(runtime.run(bundle.args("tasks")).ok().stdout)

        assert tasks == [1]


def test_who_sends_the_listener_of_exec_cannot_be_reached(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    """The container's init attacks every process that it sees while others are sent in."""
    ask(bundle, agent.path)
    id = runtime.new_id()
    output = runtime.create(bundle.args("hunt", "20"), id=id).ok()
    runtime.start(id).ok()
    eventually(lambda: "ready" in output.stdout, "the hunt")
    pid = runtime.pid(id)

    for _ in range(10):
        runtime.exec(id, "mkdir", "/tmp/x")

    runtime.kill(id, "TERM").ok()
    wait_for_orphan(pid, 30)
    found = json.loads(output.stdout.partition("\n")[2])
    assert (found["traced"], found["listed"], found["held"], found["written"]) == (0, 0, 0, 0)
