"""The command lines of engines, each on a real container and in the surroundings that an engine's call has.

tests/cli/test_engines.py has what the parsers make of them, integration/engines the engines themselves.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from string import Template
from typing import IO, Any

import pytest

from integration.harness import (
    TIMEOUT,
    Bundle,
    Runtime,
    _is_cgroup2,
    alive,
    cgroup_of,
    eventually,
    mount,
    only,
    requires,
    umount,
    wait_for_orphan,
)
from integration.terminal import Receiver, runtime_live

SHIM = "--root $root --log $bundle/log.json --log-format json "
CONMON = "--log-format=json --log $bundle/log.json "
PODMAN = ""  # also buildah: the default root, and no log
BUILDKIT = "--log $bundle/log.json --log-format json "
CRIO = "--root=$root "  # and conmon for it

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)

Listen = Callable[[Path], Receiver]


class Engine:
    """Calls the runtime as an engine does.

    The working directory is the bundle, the environment is empty, SIGUSR1 is blocked, SIGPIPE ignored, a socket and a
    pipe of the caller's are open, and the runtime is killed when its caller ends. create, exec and restore have the
    container's own descriptors 0, 1 and 2; the others have /dev/null and one pipe. The default root is that of the
    test: $root is mounted there.
    """

    def __init__(self, runtime: Runtime, bundle: Bundle) -> None:
        self.runtime, self.bundle = runtime, bundle
        self.id = runtime.new_id()
        self.default_root = f"/run/{runtime.name}"
        os.makedirs(self.default_root, exist_ok=True)
        mount(str(runtime.root), self.default_root, flags=4096)  # MS_BIND
        self._strays = [*os.pipe(), *(each.detach() for each in socket.socketpair())]
        self._calls = 0

    def close(self) -> None:
        umount(self.default_root)
        for descriptor in self._strays:
            os.close(descriptor)

    def __call__(
        self, line: str, stdin: str = "", files: tuple[int, ...] = (), env: dict[str, str] | None = None
    ) -> Ended:
        """Call this line to its end. files: what becomes descriptor 3 and so on."""
        self._calls += 1
        out = self.runtime.base / f"call-{self._calls}"
        with open(out, "wb") as stream:
            process = self.begin(line, stream, files, env)
        try:
            said, _ = process.communicate(stdin.encode(), TIMEOUT)
        finally:
            self.end(process)
        if process.stdout:
            out.write_bytes(said)
        return Ended(process.args, process.returncode, out)

    def begin(
        self, line: str, stream: IO[bytes] | None = None, files: tuple[int, ...] = (), env: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Begin this call; stream: for the container's own output."""
        self.bundle.save()
        words = Template(line).substitute(bundle=self.bundle.path, root=self.runtime.root, id=self.id).split()
        process = subprocess.Popen(
            [*self.runtime.command, *words],
            stdin=subprocess.PIPE if {"-", "--resources=-"}.intersection(words) else subprocess.DEVNULL,
            stdout=stream if {"create", "exec", "restore", "run"}.intersection(words) else subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.bundle.path,
            env=env or {},
            close_fds=False,
            restore_signals=False,
            preexec_fn=lambda: self._surround(files),
        )
        runtime_live()[process.pid] = process
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        runtime_live().pop(process.pid)

    def _surround(self, files: tuple[int, ...]) -> None:
        """In the child, before the runtime is executed."""
        for descriptor in self._strays:
            os.set_inheritable(descriptor, True)
        for number, descriptor in enumerate(files, 3):
            os.dup2(descriptor, number)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    # ---- what the lines under test need before and after them ----

    def running(self, *args: str) -> int:
        """The pid of a new container; without args, of one that has said that it waits for a signal."""
        self.bundle.args(*(args or ("trap",)))
        created = self(SHIM + "create --bundle $bundle --pid-file $bundle/init.pid $id").ok()
        self(SHIM + "start $id").ok()
        eventually(lambda: args or "ready" in created.output, "it is ready")
        return self.pid()

    def pid(self, file: str = "init.pid") -> int:
        """From a pid file, which has no newline at its end."""
        text = (self.bundle.path / file).read_text()
        assert text == text.strip()
        return int(text)

    @property
    def status(self) -> str:
        return self.runtime.status(self.id)

    @property
    def errors(self) -> list[str]:
        """Messages of level error in the log."""
        log = self.bundle.path / "log.json"
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [line["msg"] for line in lines if line["level"] == "error"]

    def process(self, *args: str, terminal: bool = False) -> None:
        """Write the file process.json, for exec."""
        value = self.bundle.process | {"args": ["/bin/probe", *args], "terminal": terminal}
        (self.bundle.path / "process.json").write_text(json.dumps(value))


class Ended:
    """The end of a call. output: what it, and the container that has its descriptors, has written so far."""

    def __init__(self, argv: object, status: int, out: Path) -> None:
        self.argv, self.status, self._out = argv, status, out

    @property
    def output(self) -> str:
        return self._out.read_text()

    def ok(self) -> Ended:
        assert self.status == 0, f"{self.argv}: status {self.status}: {self.output}"
        return self

    def report(self) -> dict[str, Any]:
        """The probe's, once it is there."""
        eventually(lambda: self.output.endswith("}\n"), "the report is there")
        report: dict[str, Any] = json.loads(self.output)
        return report


@pytest.fixture
def engine(runtime: Runtime, bundle: Bundle) -> Iterator[Engine]:
    engine = Engine(runtime, bundle)
    yield engine
    engine.close()


def lines(*lines: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("line", lines, ids=lambda line: line.strip())


# ---- create and start ----


@lines(
    SHIM + "create --bundle $bundle --pid-file $bundle/init.pid $id",
    SHIM + "create --bundle $bundle --pid-file $bundle/init.pid --no-new-keyring $id",
    SHIM + "create --bundle $bundle --pid-file $bundle/init.pid --no-pivot $id",
    SHIM + "--rootless=false create --bundle $bundle --pid-file $bundle/init.pid $id",
    SHIM + "--rootless=true create --bundle $bundle --pid-file $bundle/init.pid $id",
    "--debug " + SHIM + "create --bundle $bundle --pid-file $bundle/init.pid $id",
    CONMON + "create --bundle $bundle --pid-file $bundle/init.pid $id",
    PODMAN + "create --bundle $bundle --pid-file $bundle/init.pid $id",
    CRIO + "create --bundle $bundle --pid-file $bundle/init.pid $id",
)
def test_create(engine: Engine, line: str) -> None:
    engine.bundle.args("report")

    ended = engine(line).ok()

    assert alive(engine.pid())
    assert engine.status == "created"
    assert (ended.output, engine.errors) == ("", [])


@lines(
    SHIM + "create --bundle $bundle --pid-file $bundle/init.pid --console-socket $bundle/tty.sock $id",
    CONMON + "create --bundle $bundle --pid-file $bundle/init.pid --console-socket $bundle/tty.sock $id",
)
def test_create_with_a_console_socket(engine: Engine, line: str, receivers: Listen) -> None:
    receiver = receivers(engine.bundle.path / "tty.sock")
    engine.bundle.process["terminal"] = True
    engine.bundle.args("report")

    engine(line).ok()
    receiver.received()
    engine(SHIM + "start $id").ok()

    assert '"sid":1' in receiver.read_until("}\r\n").replace(" ", "")


@lines(
    SHIM + "create --bundle $bundle --pid-file $bundle/init.pid --preserve-fds 1 $id",
    CONMON + "create --bundle $bundle --pid-file $bundle/init.pid --preserve-fds 1 $id",
)
def test_create_with_a_descriptor_to_preserve(engine: Engine, line: str) -> None:
    (engine.bundle.path / "third").write_text("third\n")
    engine.bundle.args("cat", "/proc/self/fd/3")
    third = os.open(engine.bundle.path / "third", os.O_RDONLY)

    ended = engine(line, files=(third,)).ok()
    os.close(third)
    engine(SHIM + "start $id").ok()

    eventually(lambda: ended.output == "third\n", "it is the file")


@only("pyocirun")
def test_create_with_a_pidfd_socket(engine: Engine, receivers: Listen) -> None:
    receiver = receivers(engine.bundle.path / "pidfd.sock")
    engine.bundle.args("report")

    engine(SHIM + "create --bundle $bundle --pidfd-socket $bundle/pidfd.sock $id").ok()

    information = Path(f"/proc/self/fdinfo/{receiver.received()}").read_text()
    assert f"Pid:\t{engine.runtime.pid(engine.id)}\n" in information


@lines(SHIM + "start $id", PODMAN + "start $id")
def test_start(engine: Engine, line: str) -> None:
    engine.bundle.args("report")
    created = engine(SHIM + "create --bundle $bundle --pid-file $bundle/init.pid $id").ok()

    started = engine(line).ok()

    assert created.report()["pid"] == 1
    assert started.output == ""


def test_nothing_of_the_callers_surroundings_is_the_containers(engine: Engine) -> None:
    engine.bundle.args("report")
    ended = engine(SHIM + "create --bundle $bundle --pid-file $bundle/init.pid $id").ok()

    engine(SHIM + "start $id").ok()

    report = ended.report()
    assert set(report["descriptors"]) == {"0", "1", "2"}
    assert (report["signals"]["ignored"], report["pdeathsig"]) == ([], 0)
    assert report["env"] == [*engine.bundle.process["env"], "HOME=/root"]


def test_the_callers_signal_mask_is_not_the_containers(engine: Engine) -> None:
    engine.bundle.args("report")
    ended = engine(SHIM + "create --bundle $bundle --pid-file $bundle/init.pid $id").ok()

    engine(SHIM + "start $id").ok()

    assert ended.report()["signals"]["blocked"] == []


def test_the_callers_signal_mask_is_not_that_of_an_exec(engine: Engine) -> None:
    engine.running()
    engine.process("report")

    ended = engine(SHIM + "exec --process $bundle/process.json --detach --pid-file $bundle/e1.pid $id").ok()

    assert wait_for_orphan(engine.pid("e1.pid")) == 0
    assert ended.report()["signals"]["blocked"] == []


# ---- exec ----


@lines(
    SHIM + "exec --process $bundle/process.json --detach --pid-file $bundle/e1.pid $id",
    CONMON + "exec --pid-file $bundle/e1.pid --process $bundle/process.json --detach $id",
    PODMAN + "exec --pid-file $bundle/e1.pid --process $bundle/process.json --detach $id",
    CRIO + "exec --pid-file $bundle/e1.pid --process $bundle/process.json --detach $id",
)
def test_exec(engine: Engine, line: str) -> None:
    engine.running()
    engine.process("report")

    report = engine(line).ok().report()

    assert wait_for_orphan(engine.pid("e1.pid")) == 0
    assert set(report["descriptors"]) == {"0", "1", "2"}
    assert (report["signals"]["ignored"], report["pdeathsig"]) == ([], 0)
    assert engine.errors == []


@lines(
    SHIM + "exec --process $bundle/process.json --console-socket $bundle/tty.sock --detach --pid-file $bundle/e1.pid"
    " $id",
    CONMON + "exec --pid-file $bundle/e1.pid --process $bundle/process.json --detach --tty"
    " --console-socket $bundle/tty.sock $id",
)
def test_exec_with_a_console_socket(engine: Engine, line: str, receivers: Listen) -> None:
    engine.running()
    engine.process("report", terminal=True)
    receiver = receivers(engine.bundle.path / "tty.sock")

    engine(line).ok()
    receiver.received()

    assert '"args"' in receiver.read_until("}\r\n")
    assert wait_for_orphan(engine.pid("e1.pid")) == 0


@lines(
    SHIM + "exec --process $bundle/process.json --detach --pid-file $bundle/e1.pid $id",
    CONMON + "exec --pid-file $bundle/e1.pid --process $bundle/process.json --detach $id",
)
def test_exec_of_what_is_not_there(engine: Engine, line: str) -> None:
    engine.running()
    (engine.bundle.path / "process.json").write_text(json.dumps(engine.bundle.process | {"args": ["/nope"]}))

    ended = engine(line)

    assert ended.status == 255
    assert 'exec: "/nope": stat /nope: no such file or directory' in engine.errors[-1]


def test_create_of_what_is_not_there(engine: Engine) -> None:
    engine.bundle.process["args"] = ["/nope"]

    ended = engine(SHIM + "create --bundle $bundle --pid-file $bundle/init.pid $id")

    assert ended.status == 1
    assert 'exec: "/nope": stat /nope: no such file or directory' in engine.errors[-1]


# ---- run ----


@lines(BUILDKIT + "run --bundle $bundle --keep $id", BUILDKIT + "run --bundle $bundle $id")
def test_run(engine: Engine, line: str) -> None:
    engine.bundle.args("exit", "5")

    ended = engine(line)

    kept = engine(BUILDKIT + "delete $id").status == 0
    assert ended.status == 5
    assert kept == ("--keep" in line)


# ---- kill ----


@lines(SHIM + "kill $id 15", PODMAN + "kill $id 15", SHIM + "kill $id 9")
def test_kill(engine: Engine, line: str) -> None:
    pid = engine.running()

    engine(line).ok()

    assert wait_for_orphan(pid) == (-9 if line.endswith(" 9") else 0)


@lines(SHIM + "kill --all $id 9", PODMAN + "kill --all $id 9")
def test_kill_of_all_in_a_pid_namespace_that_is_shared(engine: Engine, line: str) -> None:
    engine.bundle.without_namespace("pid")
    pid = engine.running()
    engine.process("sleep", "60")
    engine(SHIM + "exec --process $bundle/process.json --detach --pid-file $bundle/e1.pid $id").ok()

    engine(line).ok()

    assert [wait_for_orphan(each) for each in (pid, engine.pid("e1.pid"))] == [-9, -9]


@lines(SHIM + "kill $id 15", SHIM + "kill --all $id 9")
def test_kill_of_what_has_ended(engine: Engine, line: str) -> None:
    pid = engine.running("exit", "0")
    wait_for_orphan(pid)

    ended = engine(line)

    assert ended.status == 0 or "container not running" in engine.errors[-1]
    assert "--all" in line or ended.status == 1


@lines(SHIM + "kill $id 15")
def test_kill_of_what_is_not_there(engine: Engine, line: str) -> None:
    ended = engine(line)

    assert ended.status == 1
    assert "does not exist" in engine.errors[-1]


# ---- what is asked of a container that runs ----


@lines(SHIM + "ps --format json $id")
def test_ps(engine: Engine, line: str) -> None:
    pid = engine.running()

    ended = engine(line).ok()

    assert json.loads(ended.output) == [pid]


@lines(SHIM + "ps --format table $id")
def test_ps_as_a_table(engine: Engine, line: str) -> None:
    pid = engine.running()

    ended = engine(line, env={"PATH": os.environ["PATH"]}).ok()

    head, row = ended.output.splitlines()
    assert "PID" in head
    assert str(pid) in row.split()


@pytest.mark.parametrize("before", [SHIM, PODMAN], ids=["shim", "podman"])
def test_pause_and_resume(engine: Engine, before: str) -> None:
    engine.running()

    engine(before + "pause $id").ok()
    paused = engine.status
    engine(before + "resume $id").ok()

    assert (paused, engine.status) == ("paused", "running")


@lines(
    SHIM + "update --resources - $id",
    SHIM + "update --resources=- $id",
    PODMAN + "update --resources=$bundle/resources.json $id",
)
def test_update(engine: Engine, line: str) -> None:
    pid = engine.running()
    wanted = json.dumps({"pids": {"limit": 77}})
    (engine.bundle.path / "resources.json").write_text(wanted)

    engine(line, stdin=wanted).ok()

    assert (cgroup_of(pid, "" if _is_cgroup2() else "pids") / "pids.max").read_text() == "77\n"


@lines(SHIM + "state $id", PODMAN + "state $id")
def test_state(engine: Engine, line: str) -> None:
    pid = engine.running()

    state = json.loads(engine(line).ok().output)

    assert (state["id"], state["pid"], state["status"]) == (engine.id, pid, "running")
    assert state["bundle"] == str(engine.bundle.path)


@lines(SHIM + "list --format=json")
def test_list(engine: Engine, line: str) -> None:
    pid = engine.running()

    listed = json.loads(engine(line).ok().output)

    assert [(each["id"], each["pid"]) for each in listed] == [(engine.id, pid)]


@lines(SHIM + "events --stats $id")
def test_events_once(engine: Engine, line: str) -> None:
    engine.running()

    event = json.loads(engine(line).ok().output)

    assert (event["type"], event["id"]) == ("stats", engine.id)
    assert event["data"]["pids"]["current"] == 1


@lines(SHIM + "events --interval=1s $id")
def test_events_again_and_again(engine: Engine, line: str) -> None:
    engine.running()

    process = engine.begin(line)
    assert process.stdout
    events = [json.loads(process.stdout.readline()) for _ in range(2)]
    engine.end(process)

    assert [(each["type"], each["data"]["pids"]["current"]) for each in events] == [("stats", 1), ("stats", 1)]


# ---- checkpoint and restore ----


@requires("criu")
@pytest.mark.parametrize(
    ("checkpoint", "restore"),
    [
        (
            SHIM + "checkpoint --image-path $bundle/images --work-path $bundle/work --file-locks --leave-running $id",
            "",
        ),
        (
            SHIM + "checkpoint --image-path $bundle/images --work-path $bundle/work $id",
            SHIM + "restore --image-path $bundle/images --work-path $bundle/work --detach --pid-file $bundle/r.pid"
            " -no-subreaper --bundle $bundle $id",
        ),
        (
            PODMAN + "checkpoint --image-path $bundle/images --work-path $bundle/work $id",
            CONMON + "restore --bundle $bundle --pid-file $bundle/r.pid --detach --image-path $bundle/images"
            " --work-path $bundle/work $id",
        ),
    ],
    ids=["left running", "shim", "podman"],
)
def test_checkpoint_and_restore(engine: Engine, checkpoint: str, restore: str) -> None:
    path = {"PATH": os.environ["PATH"]}
    engine.bundle.shell("exec </dev/null >/dev/null 2>&1; while :; do sleep 0.1; done")
    engine.running(*engine.bundle.process["args"])

    engine(checkpoint, env=path).ok()
    if restore:
        engine(restore, env=path).ok()

    assert engine.status == "running"
    assert list((engine.bundle.path / "images").iterdir())
    assert not restore or alive(engine.pid("r.pid"))


# ---- delete ----


@lines(SHIM + "delete $id", PODMAN + "delete $id", SHIM + "delete --force $id", PODMAN + "delete --force $id")
def test_delete(engine: Engine, line: str) -> None:
    wait_for_orphan(engine.running("exit", "0"))

    engine(line).ok()
    again = engine(line)

    assert os.listdir(engine.runtime.root) in ([], ["@seccomp"])
    assert (again.status == 0) == ("--force" in line)
    assert "--force" in line or "does not exist" in again.output + "".join(engine.errors)


@lines(SHIM + "delete --force $id", PODMAN + "delete --force $id")
def test_delete_of_what_runs(engine: Engine, line: str) -> None:
    pid = engine.running()

    engine(line).ok()

    assert not alive(pid)


# ---- what is asked of the runtime ----


@lines("features")
def test_features(engine: Engine, line: str) -> None:
    features = json.loads(engine(line).ok().output)

    assert "rro" in features["mountOptions"]
    assert features["linux"]["seccomp"]["enabled"] is True


@lines("--version")
def test_version(engine: Engine, line: str) -> None:
    first = engine(line).ok().output.splitlines()[0]

    assert first.startswith(f"{engine.runtime.name} version ")


@lines("checkpoint --help")
def test_whether_there_is_a_checkpoint(engine: Engine, line: str) -> None:
    ended = engine(line).ok()

    assert "checkpoint" in ended.output
