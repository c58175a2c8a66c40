"""The scenarios that are the same for every engine: what its user asks for arrives, and nothing stays behind.

RUNTIME names the runtime, by path or name; without it, the installed pyocirun.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from integration.engines import api, cri, crio, ctr, docker, newer, podman
from integration.engines.engine import DEFAULT, Engine, Figures, Wish, runtime_path
from integration.engines.machine import NEEDED, PATIENCE, eventually
from integration.harness import requires, runtime_name

MIB = 1 << 20
# containerd gives a shim five seconds, however long everything takes.
AT_ONCE = 20 if PATIENCE == 1 else 4
# A program that is started ten times a second is a load where every start is slow.
NAP = 0.1 * PATIENCE
TRAP = f"trap 'exit 3' TERM; echo ready; while :; do sleep {NAP}; done"
DEAF = f"trap '' TERM; echo ready; while :; do sleep {NAP}; done"
BUSY_ONCE = "head -c 3000000 /dev/zero >/tmp/file; sleep 1000 & sleep 1001 & echo ready; wait"
COUNT = f"n=0; while :; do n=$((n+1)); echo $n; sleep {NAP / 2}; done"
LIMIT = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null"
FORBID_MKDIR = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
}

ENGINES: dict[str, tuple[Callable[[str, str], Engine], tuple[str, ...]]] = {
    "docker": (docker.Docker, docker.TOOLS),
    "docker, remapped": (docker.remapped, docker.TOOLS),
    "ctr": (ctr.Ctr, ctr.TOOLS),
    "CRI": (cri.Cri, cri.TOOLS),
    "cri-o": (crio.Crio, crio.TOOLS),
    "podman": (podman.Podman, podman.TOOLS),
    "podman, rootless": (podman.rootless, podman.TOOLS),
    "docker by API": (api.Docker, docker.TOOLS),
    "podman by API": (api.Podman, podman.TOOLS),
    "docker, systemd": (api.with_systemd, docker.TOOLS),
    "CRI, systemd": (cri.with_systemd, cri.TOOLS),
    "ctr, systemd": (ctr.with_systemd, ctr.TOOLS),
    "podman, systemd": (api.podman_with_systemd, podman.TOOLS),
    "podman, rootless, systemd": (api.rootless_with_systemd, podman.TOOLS),
}
# What `make engines` runs, and CI does not: the way through the runtime is nearly that of another one.
FULL = ["docker, remapped", "docker by API", "podman by API"]
# What `make vm-engines` runs: with systemd the whole list, with cgroupfs what has the mark `cgroups`.
GUEST = ["docker", "ctr", "CRI", "podman", *(name for name in ENGINES if name.endswith(", systemd"))]
# There is no newer one of these, whose way through the runtime is that of the others or that needs the guest.
OWN = ["cri-o", *(name for name in ENGINES if name.endswith((" by API", ", systemd")))]


def _parameters() -> list[object]:
    return [
        pytest.param((name, new), id=f"newer {name}" if new else name, marks=_marks(name, new))
        for new in (False, True)
        for name in ENGINES
        if not (new and name in OWN)
    ]


def _marks(name: str, new: bool) -> list[pytest.MarkDecorator]:
    marks = [pytest.mark.full] if name in FULL else []
    marks += [pytest.mark.guest] if name in GUEST and not new else []
    marks += [pytest.mark.with_systemd] if name.endswith(", systemd") else []
    marks += [pytest.mark.newer] if new else []
    return marks + ([requires("cri-o")] if name == "cri-o" else [])


def both() -> list[object]:
    """Parameters for the fixture of one engine: whether it is the newer one, for `tree`."""
    return [pytest.param(False, id="own"), pytest.param(True, id="newer", marks=pytest.mark.newer)]


@pytest.fixture(scope="module", params=_parameters())
def daemon(request: pytest.FixtureRequest) -> Iterator[Engine]:
    name, new = request.param
    make, tools = ENGINES[name]
    if "systemd" in name and not os.path.isdir("/run/systemd/system"):
        pytest.skip("needs systemd: `make vm-engines` runs it")
    engine = make(runtime_with(tools), tree(new))
    yield engine
    engine.close()


@pytest.fixture
def engine(daemon: Engine, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine without a container, before and after the test."""
    skip_what_it_lacks(daemon, request)
    yield daemon
    for name in daemon.containers():
        daemon.remove(name)
    eventually(lambda: not daemon.leftovers(), "nothing is left", 15)


def skip_what_it_lacks(engine: Engine, request: pytest.FixtureRequest) -> None:
    """Skip a test that asks for what the engine has not."""
    for marker in request.node.iter_markers("asks"):
        if reason := engine.lacks.get(marker.args[0]):
            pytest.skip(f"{engine.name}: {reason}")


def runtime_with(tools: tuple[str, ...]) -> str:
    """Path of the runtime under test. Without it, or a tool, the test is skipped, or fails in CI."""
    missing = [tool for tool in (*tools, *NEEDED) if shutil.which(tool) is None]
    missing += ["root"] if os.geteuid() != 0 else []
    missing += [] if runtime_path() else ["a runtime"]
    if missing:
        _missing(", ".join(missing))
    return runtime_path()


def tree(new: bool) -> str:
    """Where the newer engines are; "" for the machine's own. Without them the test is skipped, or fails in CI."""
    if not new:
        return ""
    if runtime_name() == "crun":
        pytest.skip("crun 1.8, which Debian 12 has, refuses the version of the specification that they write")
    return newer.tree() or _missing("the newer engines, which `python -m integration.engines.newer` gets")


def _missing(what: str) -> NoReturn:
    if os.environ.get("PYOCIRUN_MUST_WORK") == "1":
        pytest.fail(f"{what} is missing, and PYOCIRUN_MUST_WORK=1")
    pytest.skip(f"needs {what}")


def asks(feature: str) -> pytest.MarkDecorator:
    """A scenario about something that not every engine has: see Engine.lacks."""
    return pytest.mark.asks(feature)


def ready(engine: Engine, script: str, wish: Wish = DEFAULT) -> str:
    """The id of a container whose shell runs this and has said `ready`."""
    container = engine.begin("sh", "-c", script, wish=wish)
    eventually(lambda: "ready" in engine.output(container), "the container is ready")
    return container


# ---- run ----


def test_output_arrives(engine: Engine) -> None:
    ended = engine.run("sh", "-c", "echo out; echo err >&2")

    assert (ended.status, ended.stdout, ended.stderr) == (0, "out\n", "err\n")


@pytest.mark.short
def test_exit_code_arrives(engine: Engine) -> None:
    ended = engine.run("sh", "-c", "exit 7")

    assert ended.status == 7


def test_environment_of_image_and_caller_arrives(engine: Engine) -> None:
    ended = engine.run("sh", "-c", 'echo "$FROM_IMAGE $GIVEN"', wish=Wish(environment=("GIVEN=a b",)))

    assert ended.ok() == "yes a b\n"


@pytest.mark.parametrize(
    ("command", "words", "code"),
    [
        ("/nope", 'exec: "/nope": stat /nope: no such file or directory', 127),
        ("nope", 'exec: "nope": executable file not found in $PATH', 127),
        ("/bin/notes", 'exec: "/bin/notes": permission denied', 126),
    ],
)
def test_message_and_code_of_a_command_that_cannot_run(engine: Engine, command: str, words: str, code: int) -> None:
    ended = engine.run(command)

    assert words in ended.stderr
    assert ended.status == code if engine.codes else ended.status != 0


@asks("terminal")
def test_a_terminal_of_the_size_of_the_callers(engine: Engine) -> None:
    script = "tty; for n in 1 2 3 4 5 6 7 8 9; do stty size; sleep 0.2; done"

    ended = engine.run("sh", "-c", script, wish=Wish(terminal=True))

    assert "/dev/pts/0" in ended.ok() or "/dev/console" in ended.stdout
    assert "30 100" in ended.stdout


# ---- exec ----


@pytest.mark.short
def test_exec_gives_its_output_and_exit_code(engine: Engine) -> None:
    container = ready(engine, TRAP)

    fine = engine.exec(container, "sh", "-c", "echo beside; exit 9")

    assert (fine.status, fine.stdout) == (9, "beside\n")


@asks("exec with a terminal")
def test_exec_with_a_terminal(engine: Engine) -> None:
    container = ready(engine, TRAP)

    # ctr may lose what is written before it has looked at its own terminal.
    ended = engine.exec(container, "sh", "-c", "test -t 0 && test -t 1 && echo terminal; sleep 1", terminal=True)

    assert "terminal" in ended.ok()


@pytest.mark.parametrize(
    ("command", "words", "code"),
    [
        ("/nope", "no such file or directory", 127),
        ("nope", "executable file not found in $PATH", 127),
        ("/bin/notes", "permission denied", 126),
    ],
)
def test_message_and_code_of_an_exec_that_cannot_run(engine: Engine, command: str, words: str, code: int) -> None:
    container = ready(engine, TRAP)

    ended = engine.exec(container, command)

    assert words in ended.stderr + ended.stdout
    # docker makes 126 of all of them until version 23
    assert ended.status in (code, 126) if engine.codes else ended.status != 0
    assert engine.status(container) == "running"


# ---- kill, stop, pause, update ----


@asks("kill")
def test_a_signal_reaches_the_process(engine: Engine) -> None:
    container = ready(engine, TRAP)

    engine.kill(container, "SIGTERM").ok()

    assert engine.wait(container) == 3


@asks("kill")
def test_the_exit_code_of_a_killed_process(engine: Engine) -> None:
    container = ready(engine, TRAP)

    engine.kill(container, "SIGKILL").ok()

    assert engine.wait(container) == 137


@asks("stop")
def test_stop_asks_first(engine: Engine) -> None:
    container = ready(engine, TRAP)

    engine.stop(container, 30).ok()

    assert engine.exit_code(container) == 3


@asks("stop")
def test_stop_kills_what_does_not_listen(engine: Engine) -> None:
    container = ready(engine, DEAF)

    engine.stop(container, 1)

    assert engine.wait(container) == 137


@pytest.mark.cgroups
@asks("pause")
def test_a_paused_container_does_nothing_until_it_is_resumed(engine: Engine) -> None:
    container = ready(engine, "echo ready; " + COUNT)

    engine.pause(container).ok()
    status = engine.status(container)
    first = engine.output(container)
    eventually(lambda: engine.output(container) == first, "the output stands still", 5)
    engine.resume(container).ok()
    eventually(lambda: len(engine.output(container)) > len(first), "the output goes on")

    assert status == "paused"
    assert engine.status(container) == "running"


@pytest.mark.cgroups
@asks("update")
def test_an_update_changes_the_limit(engine: Engine) -> None:
    container = ready(engine, TRAP, Wish(memory=64 * MIB))

    engine.update_memory(container, 96 * MIB).ok()

    assert engine.exec(container, "sh", "-c", LIMIT).stdout.split() == [str(96 * MIB)]


# ---- what the container is given ----


@pytest.mark.cgroups
@pytest.mark.short
@asks("limits")
def test_limits_are_seen_in_the_container_and_by_the_engine(engine: Engine) -> None:
    container = ready(engine, TRAP, Wish(memory=64 * MIB))

    inside = engine.exec(container, "sh", "-c", LIMIT).stdout.split()
    used, limit = engine.memory(container)

    assert inside == [str(64 * MIB)]
    assert limit == 64 * MIB
    assert 0 < used < limit


@pytest.mark.cgroups
@asks("limits")
def test_figures_are_those_that_the_runtime_tells(engine: Engine) -> None:
    container = ready(engine, BUSY_ONCE, Wish(memory=64 * MIB))

    theirs, ours = figures_of_both(engine, container)

    assert {"processor"} < theirs.keys() or engine.rounding
    assert theirs == pytest.approx({name: ours[name] for name in theirs}, rel=engine.rounding, abs=0)


def figures_of_both(engine: Engine, container: str) -> tuple[Figures, Figures]:
    """The engine's and the runtime's, once they agree: what the set-up has cost is given back with delay.

    If they never do, the last ones, for a text that shows them.
    """
    end = time.monotonic() + 20 + 3 * PATIENCE
    while True:
        theirs, ours = engine.figures(container), engine.figures_of_runtime(container)
        same = pytest.approx({name: ours[name] for name in theirs}, rel=engine.rounding, abs=0)
        if theirs == same or time.monotonic() > end:
            return theirs, ours
        time.sleep(0.2)


@pytest.mark.cgroups
@asks("limits")
def test_a_container_that_takes_too_much_memory_is_killed(engine: Engine) -> None:
    ended = engine.run("sh", "-c", "x=xxxxxxxx; while :; do x=$x$x; done", wish=Wish(memory=16 * MIB))

    assert ended.status in (137, 2)


@pytest.mark.cgroups
@asks("processes")
def test_a_limit_on_processes(engine: Engine) -> None:
    script = "for n in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; echo all"

    ended = engine.run("sh", "-c", script, wish=Wish(pids=5))

    assert "can't fork" in ended.stderr
    assert "all" not in ended.stdout


def test_a_read_only_root(engine: Engine) -> None:
    ended = engine.run("sh", "-c", "touch /file; touch /bin/file; echo $?", wish=Wish(read_only=True))

    assert ended.stdout == "1\n"
    assert "Read-only file system" in ended.stderr


@asks("user")
def test_a_user_and_a_group(engine: Engine) -> None:
    ended = engine.run("sh", "-c", "id -u; id -g; touch /file || echo no", wish=Wish(user="1000:1000"))

    assert ended.stdout == "1000\n1000\nno\n"


@asks("capabilities")
def test_capabilities(engine: Engine) -> None:
    script = "grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status"

    ended = engine.run("sh", "-c", script, wish=Wish(drop_all=True, add=("CHOWN", "NET_RAW")))

    assert {line.split()[1] for line in ended.ok().splitlines()} == {f"{1 << 0 | 1 << 13:016x}"}


@asks("default profile")
def test_the_default_seccomp_profile(engine: Engine) -> None:
    ended = engine.run("sh", "-c", "grep Seccomp: /proc/self/status; unshare --uts true || echo refused")

    assert ended.ok().split() == ["Seccomp:", "2", "refused"]


@asks("profile")
def test_a_seccomp_profile_of_ones_own(engine: Engine) -> None:
    ended = engine.run("sh", "-c", "mkdir /tmp/d; echo $?", wish=Wish(seccomp=json.dumps(FORBID_MKDIR)))

    assert ended.stdout == "1\n"
    assert "Function not implemented" in ended.stderr


@pytest.mark.short
@asks("user namespace")
def test_a_user_namespace(engine: Engine) -> None:
    script = "head -n 1 /proc/self/uid_map; id -u; touch /root/file && echo made"

    ended = engine.run("sh", "-c", script, wish=Wish(user_namespace=True))

    first, *rest = ended.ok().splitlines()
    assert first.split()[:2] == ["0", str(engine.root_outside)]
    assert rest == ["0", "made"]


# ---- many and again ----


@asks("restart")
def test_a_container_that_fails_is_started_again(engine: Engine) -> None:
    container = engine.begin("sh", "-c", "echo once; exit 4", wish=Wish(restart=True))

    eventually(lambda: engine.restarts(container) >= 2, "it has been started again, twice")
    eventually(lambda: engine.output(container).count("once") == 3, "it has run three times")


def test_twenty_at_once(engine: Engine) -> None:
    # podman 4 may lose what a container writes that ends before all of podman is awake.
    script = "sleep 1; echo {0}; sleep 1; exit {0}"

    ended = engine.run_at_once([["sh", "-c", script.format(number)] for number in range(AT_ONCE)])

    assert [(each.stdout, each.status) for each in ended] == [(f"{number}\n", number) for number in range(AT_ONCE)]
