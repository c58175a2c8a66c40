"""process.terminal: from a caller's terminal, over a console socket, its size, its owner, job control."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from integration.harness import PATIENCE, Bundle, Runtime, children, eventually, only, reap, requires
from integration.terminal import Caller, Receiver

BUSYBOX = "/bin/busybox"


@pytest.fixture
def terminal_bundle(bundle: Bundle) -> Bundle:
    """A bundle whose process has a terminal."""
    bundle.process["terminal"] = True
    bundle.process["env"].append("PS1=$ ")
    return bundle


def run(runtime: Runtime, bundle: Bundle, *options: str, **kwargs: int) -> Caller:
    bundle.save()
    return Caller(runtime, "run", "--bundle", str(bundle.path), *options, runtime.new_id(), **kwargs)


def exec_(runtime: Runtime, id: str, *command: str, options: tuple[str, ...] = (), **kwargs: int) -> Caller:
    return Caller(runtime, "exec", "--tty", *options, id, *command, **kwargs)


# ---- in the foreground ---------------------------------------------------------------------------


@requires("busybox")
def test_the_process_has_the_terminal_three_times(runtime: Runtime, terminal_bundle: Bundle) -> None:
    caller = run(runtime, terminal_bundle.shell("test -t 0 && test -t 1 && test -t 2 && busybox tty"))

    status = caller.wait()

    assert status == 0
    assert "/dev/pts/0" in caller.output


def test_the_exit_status_is_that_of_the_process(runtime: Runtime, terminal_bundle: Bundle) -> None:
    caller = run(runtime, terminal_bundle.args("exit", "7"))

    assert caller.wait() == 7


@only("pyocirun")  # runc before 1.5.3 mounts into the namespace of its caller
@requires("busybox")
def test_without_a_mount_namespace_it_is_one_of_the_hosts(runtime: Runtime, terminal_bundle: Bundle) -> None:
    terminal_bundle.without_namespace("mount")
    terminal_bundle.config["mounts"] = []
    terminal_bundle.config["root"]["readonly"] = False
    del terminal_bundle.linux["maskedPaths"], terminal_bundle.linux["readonlyPaths"]

    id = runtime.new_id()
    terminal_bundle.shell("test -t 0 && echo a terminal; read answer").save()
    first = Caller(runtime, "run", "--bundle", str(terminal_bundle.path), id)
    first.read_until("a terminal")
    second = exec_(runtime, id, "/bin/sh", "-c", "test -t 0 && test -t 1 && echo another one")

    assert (second.wait(), "another one" in second.output) == (0, True)
    first.type("\n")
    assert first.wait() == 0


@requires("busybox")
def test_what_is_typed_arrives(runtime: Runtime, terminal_bundle: Bundle) -> None:
    caller = run(runtime, terminal_bundle.shell("echo ask; read answer; echo got $answer; exit 3"))
    caller.read_until("ask")

    caller.type("forty two\r")

    assert caller.wait() == 3
    assert "got forty two" in caller.output


@requires("busybox")
@pytest.mark.parametrize("command", ["run", "exec"])
def test_the_process_finds_a_terminal_that_leaves_newlines_alone(
    runtime: Runtime, terminal_bundle: Bundle, command: str
) -> None:
    if command == "run":
        caller = run(runtime, terminal_bundle.args(BUSYBOX, "stty", "-a"))
    else:
        terminal_bundle.process["terminal"] = False
        caller = exec_(runtime, runtime.running(terminal_bundle), BUSYBOX, "stty", "-a")

    assert caller.wait() == 0

    assert " -onlcr" in caller.output
    assert "\r\r\n" not in caller.output


@requires("busybox")
def test_the_size_is_that_of_the_callers_terminal(runtime: Runtime, terminal_bundle: Bundle) -> None:
    caller = run(runtime, terminal_bundle.shell("echo ready; read x; busybox stty size"), rows=33, columns=101)
    caller.read_until("ready")
    caller.type("\r")

    caller.wait()

    assert "33 101" in caller.output


@requires("busybox")
def test_a_new_size_arrives_and_is_signalled(runtime: Runtime, terminal_bundle: Bundle) -> None:
    script = "trap 'busybox stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done"
    caller = run(runtime, terminal_bundle.shell(script))
    caller.read_until("ready")

    termios.tcsetwinsize(caller.master, (44, 120))
    caller.signal(signal.SIGWINCH)

    assert caller.wait() == 0
    assert "44 120" in caller.output


@requires("busybox")
def test_control_c_is_the_business_of_the_container(runtime: Runtime, terminal_bundle: Bundle) -> None:
    caller = run(
        runtime, terminal_bundle.shell("trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done")
    )
    caller.read_until("ready")

    caller.type("\x03")

    assert caller.wait() == 5
    assert "caught" in caller.output


@requires("busybox")
def test_job_control_works(runtime: Runtime, terminal_bundle: Bundle) -> None:
    caller = run(runtime, terminal_bundle.args("/bin/sh", "-i"))
    caller.read_until("$ ")
    seconds = str(100000 + os.getpid())  # that no other process sleeps for
    caller.type(f"sleep {seconds}\r")
    eventually(lambda: f"sleep\0{seconds}\0".encode() in _commands(), "sleep runs")

    caller.type("\x1a")
    caller.read_until("Stopped")
    caller.type("exit 6\r")
    caller.read_until("stopped jobs")
    caller.type("exit 6\r")

    assert caller.wait() == 6


@requires("busybox")
def test_a_signal_to_the_runtime_reaches_the_process(runtime: Runtime, terminal_bundle: Bundle) -> None:
    caller = run(runtime, terminal_bundle.shell("trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done"))
    caller.read_until("ready")

    caller.signal(signal.SIGUSR1)

    assert caller.wait() == 9


@requires("busybox")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_callers_terminal_is_given_back_after_a_signal(
    runtime: Runtime, terminal_bundle: Bundle, number: signal.Signals
) -> None:
    caller = run(runtime, terminal_bundle.shell("trap 'exit 4' TERM HUP; echo ready; while :; do sleep 0.05; done"))
    caller.read_until("ready")
    during = caller.modes

    caller.signal(number)
    caller.process.wait(20 * PATIENCE)

    assert during != caller.before
    assert caller.modes == caller.before
    assert caller.wait() == 4


def test_the_callers_terminal_is_given_back_after_a_failure(runtime: Runtime, terminal_bundle: Bundle) -> None:
    caller = run(runtime, terminal_bundle.args("/no/such/program"))

    caller.process.wait(20 * PATIENCE)

    assert caller.modes == caller.before
    assert caller.wait() == 1
    assert "no such file or directory" in caller.output


@requires("busybox")
def test_no_output_is_lost_at_the_end(runtime: Runtime, terminal_bundle: Bundle) -> None:
    caller = run(runtime, terminal_bundle.shell("i=0; while test $i -lt 20000; do echo line $i; i=$((i+1)); done"))

    status = caller.wait()

    assert status == 0
    assert caller.output.count("line ") == 20000


@requires("busybox")
@only("pyocirun")
def test_the_end_of_standard_input_is_an_end_of_file(runtime: Runtime, terminal_bundle: Bundle, place: Path) -> None:
    (place / "input").write_text("some words")
    with open(place / "input") as file:
        caller = run(runtime, terminal_bundle.shell("cat > /dev/null; echo end"), stdin=file.fileno())

    assert caller.wait() == 0
    assert "end" in caller.output


@requires("busybox")
@only("pyocirun")
def test_a_terminal_needs_none_on_the_callers_side(runtime: Runtime, terminal_bundle: Bundle) -> None:
    terminal_bundle.process["consoleSize"] = {"height": 10, "width": 20}

    result = runtime.run(terminal_bundle.shell("test -t 1 && busybox stty size")).ok()

    assert result.stdout == "10 20\n"


@only("pyocirun")
@requires("busybox")
def test_newlines_that_go_to_a_pipe_stay_newlines(runtime: Runtime, terminal_bundle: Bundle) -> None:
    result = runtime.run(terminal_bundle.shell("echo one; echo two")).ok()

    assert result.stdout == "one\ntwo\n"


@requires("busybox")
def test_the_size_of_the_configuration(
    runtime: Runtime, terminal_bundle: Bundle, place: Path, receivers: Callable[[Path], Receiver]
) -> None:
    terminal_bundle.process["consoleSize"] = {"height": 10, "width": 20}
    receiver = receivers(place / "tty.sock")
    id = runtime.created(terminal_bundle.shell("busybox stty size; sleep 60"), "--console-socket", str(receiver.path))

    receiver.received()
    runtime.start(id).ok()

    assert "10 20" in receiver.read_until("20")


# ---- console sockets -----------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--console-socket", pytest.param("--pidfd-socket", marks=only("pyocirun"))])
def test_a_relative_socket_is_looked_for_in_the_bundle(
    runtime: Runtime, terminal_bundle: Bundle, receivers: Callable[[Path], Receiver], option: str
) -> None:
    receiver = receivers(terminal_bundle.path / "own.sock")
    terminal_bundle.process["terminal"] = option == "--console-socket"

    runtime.created(terminal_bundle.args("sleep", "60"), option, "own.sock")

    assert receiver.received() >= 0


@requires("busybox")
def test_the_master_goes_to_the_console_socket(
    runtime: Runtime, terminal_bundle: Bundle, place: Path, receivers: Callable[[Path], Receiver]
) -> None:
    receiver = receivers(place / "tty.sock")

    id = runtime.created(terminal_bundle.shell("read x; echo got $x; sleep 60"), "--console-socket", str(receiver.path))
    master = receiver.received()
    runtime.start(id).ok()
    os.write(master, b"word\n")

    assert os.isatty(master)
    assert b"ptmx" in receiver.data
    assert "got word" in receiver.read_until("got word")


@requires("busybox")
def test_a_detached_run_sends_the_master(
    runtime: Runtime, terminal_bundle: Bundle, place: Path, receivers: Callable[[Path], Receiver]
) -> None:
    receiver = receivers(place / "tty.sock")

    result = runtime.run(
        terminal_bundle.shell("echo hello; sleep 60"), "--detach", "--console-socket", str(receiver.path)
    ).ok()
    receiver.received()

    assert "hello" in receiver.read_until("hello")
    assert result.stdout == ""


@only("pyocirun")
def test_a_console_socket_may_have_a_long_path(
    runtime: Runtime, terminal_bundle: Bundle, place: Path, receivers: Callable[[Path], Receiver]
) -> None:
    long = place / ("d" * 120)
    long.mkdir()
    receiver = receivers(long / "tty.sock")

    runtime.created(terminal_bundle.args("sleep", "60"), "--console-socket", str(receiver.path))

    assert os.isatty(receiver.received())


def test_a_console_socket_that_nobody_listens_on(runtime: Runtime, terminal_bundle: Bundle, place: Path) -> None:
    result = runtime.create(terminal_bundle.args("sleep", "60"), "--console-socket", str(place / "none.sock"))

    result.fails("no such file or directory" if runtime.name == "runc" else "No such file or directory")


def test_a_detached_terminal_needs_a_socket(runtime: Runtime, terminal_bundle: Bundle) -> None:
    result = runtime.create(terminal_bundle.args("sleep", "60"))

    result.fails("cannot allocate tty if runc will detach without setting console socket")


def test_a_socket_needs_a_terminal(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    result = runtime.create(bundle.args("sleep", "60"), "--console-socket", str(place / "none.sock"))

    result.fails("cannot use console socket if runc will not detach or allocate tty")


def test_a_socket_is_not_for_the_foreground(runtime: Runtime, terminal_bundle: Bundle, place: Path) -> None:
    result = runtime.run(terminal_bundle.args("sleep", "60"), "--console-socket", str(place / "none.sock"))

    result.fails("cannot use console socket if runc will not detach or allocate tty")


# ---- what it is inside ---------------------------------------------------------------------------


@requires("busybox")
def test_the_console_is_the_terminal(runtime: Runtime, terminal_bundle: Bundle) -> None:
    caller = run(runtime, terminal_bundle.shell("echo through > /dev/console; stat -c %t:%T /dev/console /dev/pts/0"))

    assert caller.wait() == 0
    assert "through" in caller.output
    assert caller.output.count("88:0") == 2


def test_without_a_terminal_there_is_no_console(runtime: Runtime, bundle: Bundle) -> None:
    report = runtime.run(bundle.args("report")).report

    assert "console" not in report["dev"]


@requires("busybox")
def test_the_terminal_belongs_to_the_user(runtime: Runtime, terminal_bundle: Bundle) -> None:
    terminal_bundle.process["user"] = {"uid": 1000, "gid": 1000}
    caller = run(runtime, terminal_bundle.shell("stat -c %u:%g:%a /dev/console; echo works > /dev/pts/0"))

    assert caller.wait() == 0
    assert "1000:5:620" in caller.output
    assert "works" in caller.output


@requires("busybox", "userns")
def test_the_terminal_in_a_user_namespace(runtime: Runtime, terminal_bundle: Bundle) -> None:
    terminal_bundle.map_users(100000)
    caller = run(runtime, terminal_bundle.shell("test -t 0 && stat -c %u /dev/console; echo works > /dev/console"))

    assert caller.wait() == 0
    assert "works" in caller.output


@requires("busybox")
def test_the_terminal_controls_a_session_of_its_own(runtime: Runtime, terminal_bundle: Bundle) -> None:
    caller = run(
        runtime, terminal_bundle.shell("echo words > /dev/tty; cut=$(cat /proc/self/stat); set -- $cut; echo s:$6 t:$7")
    )

    assert caller.wait() == 0
    assert "words" in caller.output
    assert "s:1 t:34816" in caller.output


def test_the_container_gets_nothing_else_of_the_caller(runtime: Runtime, terminal_bundle: Bundle) -> None:
    caller = run(runtime, terminal_bundle.args("ls", "/proc/self/fd"))

    caller.wait()

    targets = [entry["target"] for entry in json.loads(caller.output)["/proc/self/fd"].values()]
    assert targets == ["/dev/pts/0"] * 3 + ["/proc/1/fd"]


@pytest.mark.parametrize("name", ["null", "ptmx", "console"])
def test_a_link_of_the_image_harms_nothing_on_the_host(
    runtime: Runtime, terminal_bundle: Bundle, place: Path, name: str
) -> None:
    victim = place / "victim"
    victim.write_text("untouched")
    victim.chmod(0o600)
    terminal_bundle.config["mounts"] = [m for m in terminal_bundle.config["mounts"] if m["destination"] == "/proc"]
    terminal_bundle.mount("/dev/pts", "devpts", "devpts", ("newinstance", "ptmxmode=0666"))
    terminal_bundle.config["root"]["readonly"] = False
    os.symlink(f"../../{'../' * 20}{victim}", terminal_bundle.rootfs / "dev" / name)
    terminal_bundle.process["user"] = {"uid": 1000, "gid": 1000}

    caller = run(runtime, terminal_bundle.args("exit", "0"))
    caller.wait()

    about = victim.stat()
    assert (victim.read_text(), about.st_uid, stat.S_IMODE(about.st_mode)) == ("untouched", 0, 0o600)


@only("pyocirun")
def test_a_linked_console_is_refused(runtime: Runtime, terminal_bundle: Bundle, place: Path) -> None:
    terminal_bundle.config["mounts"] = [m for m in terminal_bundle.config["mounts"] if m["destination"] == "/proc"]
    terminal_bundle.mount("/dev/pts", "devpts", "devpts", ("newinstance", "ptmxmode=0666"))
    os.symlink("/made", terminal_bundle.rootfs / "dev/console")

    result = runtime.run(terminal_bundle.args("exit", "0"))

    result.fails("make a terminal")
    assert not (terminal_bundle.rootfs / "made").exists()


@only("pyocirun")
@pytest.mark.parametrize("kind", ["directory", "link", "none"])
def test_a_pts_that_is_no_devpts_is_refused(runtime: Runtime, terminal_bundle: Bundle, kind: str) -> None:
    mounts = terminal_bundle.config["mounts"]
    terminal_bundle.config["mounts"] = [m for m in mounts if not m["destination"].startswith("/dev")]
    if kind == "link":
        os.symlink("../tmp", terminal_bundle.rootfs / "dev/pts")
    elif kind == "directory":
        (terminal_bundle.rootfs / "dev/pts").mkdir()
        os.mkfifo(terminal_bundle.rootfs / "dev/pts/ptmx")

    result = runtime.run(terminal_bundle.args("exit", "0"))

    result.fails("make a terminal")


# ---- exec ----------------------------------------------------------------------------------------


@requires("busybox")
def test_exec_with_a_terminal(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    caller = exec_(
        runtime, id, "/bin/sh", "-c", "test -t 0 && busybox tty; busybox stty size; exit 8", rows=31, columns=99
    )

    assert caller.wait() == 8
    assert "/dev/pts/0" in caller.output


@only("pyocirun")
@requires("busybox")
def test_the_terminal_of_exec_has_its_size_from_the_start(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    caller = exec_(runtime, id, BUSYBOX, "stty", "size", rows=31, columns=99)

    assert caller.wait() == 0
    assert "31 99" in caller.output


@requires("busybox")
def test_exec_forwards_what_is_typed_and_gives_the_terminal_back(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    caller = exec_(runtime, id, "/bin/sh", "-c", "trap 'exit 5' INT; echo ready; while :; do sleep 0.05; done")
    caller.read_until("ready")

    caller.type("\x03")
    caller.process.wait(20 * PATIENCE)

    assert caller.modes == caller.before
    assert caller.wait() == 5


@requires("busybox")
def test_exec_with_a_process_of_a_file_has_its_terminal(
    runtime: Runtime, bundle: Bundle, place: Path, receivers: Callable[[Path], Receiver]
) -> None:
    id = runtime.running(bundle)
    receiver = receivers(place / "tty.sock")
    process = {**bundle.process, "terminal": True, "args": ["/bin/sh", "-c", "busybox stty size; read x"]}
    process["consoleSize"] = {"height": 12, "width": 34}
    process["user"] = {"uid": 1000, "gid": 1000}
    (place / "process.json").write_text(json.dumps(process))

    options = ("--process", str(place / "process.json"), "--detach", "--console-socket", str(receiver.path))
    runtime("exec", *options, id).ok()
    master = receiver.received()

    output = receiver.read_until("34")
    os.write(master, b"\n")

    assert "12 34" in output
    assert _end_of_orphans() == 1


@requires("busybox")
def test_exec_detached_with_a_console_socket(
    runtime: Runtime, bundle: Bundle, place: Path, receivers: Callable[[Path], Receiver]
) -> None:
    id = runtime.running(bundle)
    receiver = receivers(place / "tty.sock")

    options = ("--tty", "--detach", "--console-socket", str(receiver.path))
    runtime.exec(id, "/bin/sh", "-c", "echo hello; read x", options=options).ok()
    master = receiver.received()
    output = receiver.read_until("hello")
    os.write(master, b"\n")

    assert "hello" in output
    assert _end_of_orphans() == 1


def test_exec_detached_needs_a_socket_for_a_terminal(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    result = runtime.exec(id, "exit", "0", options=("--tty", "--detach"))

    result.fails("cannot allocate tty if runc will detach without setting console socket", status=255)


def test_exec_refuses_a_socket_without_a_terminal(runtime: Runtime, bundle: Bundle, place: Path) -> None:
    id = runtime.running(bundle)

    result = runtime.exec(id, "exit", "0", options=("--detach", "--console-socket", str(place / "none.sock")))

    result.fails("cannot use console socket if runc will not detach or allocate tty", status=255)


@requires("busybox")
def test_the_configuration_that_spec_writes_runs_from_a_terminal(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.path / "config.json").unlink(missing_ok=True)
    runtime("spec", "--bundle", str(bundle.path)).ok()
    caller = Caller(runtime, "run", "--bundle", str(bundle.path), runtime.new_id())
    caller.read_until("# ")

    caller.type("exit 4\r")

    assert caller.wait() == 4


def _end_of_orphans() -> int:
    """How many detached processes end before long: all but the container's init are expected to."""
    before = len(children())

    def fewer() -> bool:
        reap()
        return len(children()) < before

    eventually(fewer, "the process has ended")
    return before - len(children())


def _commands() -> bytes:
    """Command lines of all processes."""
    return subprocess.run(["sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null"], capture_output=True).stdout


@only("pyocirun")
@requires("busybox")
def test_a_command_that_waits_says_so_on_a_terminal(runtime: Runtime, bundle: Bundle) -> None:
    bundle.hook("createRuntime", "/bin/sh", "-c", "sleep 2.5")
    bundle.args("sleep", "60").save()
    id = runtime.new_id()
    caller = Caller(runtime, "create", "--bundle", str(bundle.path), id)

    assert caller.end() == 0
    assert f"setting up {id} (1 s)" in caller.output
    assert caller.output.endswith("\r\x1b[K")
