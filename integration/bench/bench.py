"""Side by side: what a container costs with pyocirun, runc, crun and the bare kernel.

    python integration/bench/bench.py [--runs N] [--only NAME] [--json FILE] [--markdown] [--runtime NAME=PATH]

Every measure takes its subjects in turn (A B C, B C A, ...), so that what the machine does meanwhile hits all of them
alike; medians with the 10th and 90th percentile and ratios are printed. Nothing here passes or fails by a time.

All of it happens in a mount namespace of its own, where only the cgroup v1 hierarchies are visible if the host has both
versions (crun refuses the mixed layout), with root directories and bundles on a tmpfs that goes away with it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

HERE = os.path.dirname(os.path.abspath(__file__))
INSIDE = "PYOCIRUN_BENCH_INSIDE"
COMMAND_TIMEOUT = 60
ID_PREFIX = f"pyocirun-bench-{os.environ.get(INSIDE, 0)}-"
PR_SET_CHILD_SUBREAPER = 36
BIG_BYTES = 500_000_000
IDLE_THREADS = 50


class Runtime(NamedTuple):
    """An OCI runtime under test. path: its command. root: its --root directory."""

    name: str
    path: str
    root: str

    def command(self, *arguments: str) -> list[str]:
        return [self.path, "--root", self.root, *arguments]


class Table(NamedTuple):
    """One measure: samples by subject. reference: the subject that the ratios refer to, if it was measured."""

    name: str
    title: str
    unit: str
    reference: str
    samples: dict[str, list[float]]


subprocess_children: set[int] = set()


class Failed(Exception):
    """A command of a runtime failed or hung; the text says which and how."""


class Bench:
    """What all measures share: the scratch directory, the programs built in it, the runtimes and the options."""

    def __init__(self, scratch: str, runtimes: dict[str, str], runs: int) -> None:
        self.scratch = scratch
        self.runs = runs
        self.bundle = os.path.join(scratch, "bundle")
        self.rootfs = os.path.join(self.bundle, "rootfs")
        self.floor = compile_c("floor.c", scratch, ["-O2", "-static"])
        make_bundle(self.bundle, self.rootfs, compile_payload(scratch))
        self.errors = os.open(os.path.join(scratch, "stderr"), os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self.null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self.count = 0
        self.runtimes = []
        for name, path in runtimes.items():
            root = os.path.join(scratch, "root", name)
            os.makedirs(root, 0o700)
            self.runtimes.append(Runtime(name, path, root))

    def new_id(self) -> str:
        self.count += 1
        return f"{ID_PREFIX}{self.count}"

    def call(self, argv: list[str]) -> float:
        """Run a command to its end; the seconds from before its spawning until it was reaped.

        Raises Failed with what it wrote to stderr if it does not end with 0, and kills it after COMMAND_TIMEOUT.
        """
        begin = time.perf_counter()
        pid = os.posix_spawn(
            argv[0],
            argv,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, self.null, 0),
                (os.POSIX_SPAWN_DUP2, self.null, 1),
                (os.POSIX_SPAWN_DUP2, self.errors, 2),
            ],
        )
        status = wait_for(pid)
        seconds = time.perf_counter() - begin
        if status != 0:
            raise Failed(f"{' '.join(argv)}: status {status}: {self.read_errors()}")
        return seconds

    def read_errors(self) -> str:
        text = os.pread(self.errors, 65536, 0).decode(errors="replace").strip()
        os.ftruncate(self.errors, 0)
        return text[-400:]


# ---- setting up ----


def main() -> None:
    options = parse_arguments()
    if options.worker:
        worker(*options.worker)
        return
    if os.geteuid() != 0:
        sys.exit("bench: needs root")
    if os.environ.get(INSIDE) != str(os.getpid()):
        os.environ[INSIDE] = str(os.getpid())
        os.execvp("unshare", ["unshare", "-m", "--propagation", "private", sys.executable, *sys.argv])

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGALRM, on_alarm)
    signal.signal(signal.SIGTERM, on_term)
    leave_only_v1_visible()
    scratch = tempfile.mkdtemp(prefix="pyocirun-bench-")
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=700", "tmpfs", scratch], check=True)
        bench = Bench(scratch, find_runtimes(options.runtime), options.runs)
        tables = measure(bench, options.only)
        report(machine(bench), tables, options)
    finally:
        remove_leftovers()
        subprocess.run(["umount", "-l", scratch], check=False)
        os.rmdir(scratch)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="compare OCI runtimes side by side; needs root")
    parser.add_argument("--runs", type=int, default=30, help="rounds of each measure (default 30)")
    parser.add_argument("--only", action="append", metavar="NAME", choices=list(MEASURES), help=", ".join(MEASURES))
    parser.add_argument("--json", metavar="FILE", help="write all samples there")
    parser.add_argument("--markdown", action="store_true", help="print tables in Markdown")
    parser.add_argument(
        "--runtime", action="append", default=[], metavar="NAME=PATH", help="another runtime, or another path for one"
    )
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    return options


def find_runtimes(given: list[str]) -> dict[str, str]:
    """Commands by name: pyocirun beside this interpreter or on PATH, runc and crun on PATH, then what was given."""
    beside = os.path.join(os.path.dirname(sys.executable), "pyocirun")
    found: dict[str, str | None] = {"pyocirun": beside if os.access(beside, os.X_OK) else shutil.which("pyocirun")}
    for name in ("runc", "crun"):
        found[name] = shutil.which(name)
    for text in given:
        name, _, path = text.partition("=")
        found[name] = shutil.which(path)
        if found[name] is None:
            sys.exit(f"bench: --runtime {text}: not an executable")
    for name in [name for name, path in found.items() if path is None]:
        print(f"bench: {name} is not installed, left out", file=sys.stderr)
    return {name: os.path.abspath(path) for name, path in found.items() if path}


def leave_only_v1_visible() -> None:
    mounts = {line.split()[1]: line.split()[2] for line in read("/proc/self/mounts").splitlines()}
    if "cgroup" in mounts.values():
        for path in [path for path, fstype in mounts.items() if fstype == "cgroup2"]:
            subprocess.run(["umount", path], check=True)


def v1_hierarchies() -> list[str]:
    lines = [line.split() for line in read("/proc/self/mounts").splitlines()]
    return [fields[1] for fields in lines if fields[2] == "cgroup"]


def compile_c(source: str, scratch: str, flags: list[str]) -> str:
    """Path of the program made from a source file of this directory."""
    program = os.path.join(scratch, source.removesuffix(".c"))
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        sys.exit("bench: no C compiler")
    subprocess.run([compiler, *flags, "-o", program, os.path.join(HERE, source)], check=True)
    return program


def compile_payload(scratch: str) -> str:
    freestanding = ["-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-pie"]
    return compile_c("payload.c", scratch, ["-Os", *freestanding])


def make_bundle(bundle: str, rootfs: str, payload: str) -> None:
    for name in ("bin", "dev", "proc", "sys"):
        os.makedirs(os.path.join(rootfs, name))
    for name in ("true", "hold"):
        shutil.copy(payload, os.path.join(rootfs, "bin", name))
    write_config(bundle, default_config(rootfs, "/bin/true"))
    os.mkdir(bundle + "-hold")
    write_config(bundle + "-hold", default_config(rootfs, "/bin/hold"))


def write_config(bundle: str, config: dict[str, Any]) -> None:
    with open(os.path.join(bundle, "config.json"), "w") as file:
        json.dump(config, file)


def default_config(rootfs: str, program: str) -> dict[str, Any]:
    """What `runc spec` writes, without a terminal; ociVersion as all peers accept it."""
    capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
    safe = ["nosuid", "noexec", "nodev"]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": [program],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted", "ambient"), capabilities),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": rootfs, "readonly": True},
        "hostname": "bench",
        "mounts": [
            mount("/proc", "proc", "proc", []),
            mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount(
                "/dev/pts",
                "devpts",
                "devpts",
                ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            ),
            mount("/dev/shm", "tmpfs", "shm", [*safe, "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", safe),
            mount("/sys", "sysfs", "sysfs", [*safe, "ro"]),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", [*safe, "relatime", "ro"]),
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
            "maskedPaths": [
                *(f"/proc/{name}" for name in ("acpi", "asound", "kcore", "keys", "latency_stats", "timer_list")),
                *(f"/proc/{name}" for name in ("timer_stats", "sched_debug", "scsi")),
                "/sys/firmware",
            ],
            "readonlyPaths": [f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger")],
        },
    }


def mount(destination: str, fstype: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": destination, "type": fstype, "source": source, "options": options}


# ---- the measures ----


def measure(bench: Bench, only: list[str] | None) -> list[Table]:
    tables = []
    for name, function in MEASURES.items():
        if only and name not in only:
            continue
        print(f"bench: {name} ...", file=sys.stderr, flush=True)
        tables.append(function(bench))
    return tables


def in_turn(runs: int, subjects: dict[str, Callable[[], list[float]]]) -> dict[str, list[float]]:
    """Samples by subject: one uncounted call of each, then `runs` rounds, every round begun by the next subject.

    A subject that fails is reported and left out.
    """
    samples: dict[str, list[float]] = {}
    names = list(subjects)
    for round_number in range(-1, runs):
        start = round_number % len(names) if names else 0
        for name in names[start:] + names[:start]:
            try:
                values = subjects[name]()
            except Failed as error:
                print(f"bench: {name} left out: {error}", file=sys.stderr)
                names.remove(name)
                samples.pop(name, None)
                continue
            if round_number >= 0:
                samples.setdefault(name, []).extend(values)
    return {name: samples[name] for name in subjects if name in samples}


def measure_run(bench: Bench) -> Table:
    def run(runtime: Runtime) -> list[float]:
        container = bench.new_id()
        with forced_away(bench, runtime, container):
            return [1e3 * bench.call(runtime.command("run", "--bundle", bench.bundle, container))]

    subjects = {runtime.name: call_with(run, runtime) for runtime in bench.runtimes}
    floor = [bench.floor, "-c", ID_PREFIX, "-m", bench.rootfs, "/bin/true"]
    subjects["floor, as a command"] = lambda: [1e3 * bench.call(floor)]
    subjects["bare interpreter"] = lambda: [1e3 * bench.call([real_python(), "-I", "-S", "-c", "pass"])]
    return Table("run", "`run` of /bin/true", "ms", "runc", in_turn(bench.runs, subjects))


def measure_life(bench: Bench) -> Table:
    subjects = {runtime.name: call_with(life, bench, runtime) for runtime in bench.runtimes}
    return Table("life", "create + start + delete", "ms", "runc", in_turn(bench.runs, subjects))


def life(bench: Bench, runtime: Runtime) -> list[float]:
    """Milliseconds of the three commands; the payload is reaped between start and delete."""
    container = bench.new_id()
    pid_file = os.path.join(bench.scratch, "pid")
    with forced_away(bench, runtime, container):
        create = runtime.command("create", "--bundle", bench.bundle, "--pid-file", pid_file, container)
        seconds = bench.call(create)
        pid = int(read(pid_file))
        seconds += bench.call(runtime.command("start", container))
        wait_for(pid)
        seconds += bench.call(runtime.command("delete", container))
    return [1e3 * seconds]


def measure_limits(bench: Bench) -> Table:
    """What limits cost: the same container with none, and with memory, processes and processor time limited.

    And once more by systemd, where that runs.
    """
    limited = os.path.join(bench.scratch, "with-limits")
    ways: dict[str, tuple[str, list[str]]] = {"": (bench.bundle, []), " with limits": (limited, [])}
    if os.path.isdir("/run/systemd/system"):
        ways[" with limits, by systemd"] = (limited, ["--systemd-cgroup"])
    config = default_config(bench.rootfs, "/bin/true")
    limits = {"memory": {"limit": 64 << 20}, "pids": {"limit": 64}, "cpu": {"shares": 512, "cpus": "0"}}
    config["linux"]["resources"] |= limits
    os.makedirs(limited, exist_ok=True)
    write_config(limited, config)

    def both(runtime: Runtime, bundle: str, options: list[str]) -> list[float]:
        container = bench.new_id()
        with forced_away(bench, runtime, container):
            seconds = bench.call(runtime.command(*options, "create", "--bundle", bundle, container))
            return [1e3 * (seconds + bench.call(runtime.command("delete", "--force", container)))]

    subjects = {
        f"{runtime.name}{words}": call_with(both, runtime, bundle, options)
        for runtime in bench.runtimes
        for words, (bundle, options) in ways.items()
    }
    return Table("limits", "create + delete --force", "ms", "runc", in_turn(bench.runs, subjects))


def measure_exec(bench: Bench) -> Table:
    return measure_on_held(bench, "exec", "`exec` of /bin/true", ["exec"], ["/bin/true"])


def measure_state(bench: Bench) -> Table:
    return measure_on_held(bench, "state", "`state`", ["state"], [])


def measure_on_held(bench: Bench, name: str, title: str, before: list[str], after: list[str]) -> Table:
    """A command on a running container; each runtime has one of its own for all rounds."""
    held = {}
    try:
        for runtime in bench.runtimes:
            try:
                held[runtime] = hold(bench, runtime)
            except Failed as error:
                print(f"bench: {runtime.name} left out: {error}", file=sys.stderr)
        subjects = {
            runtime.name: call_with(timed, bench, runtime.command(*before, container, *after))
            for runtime, (container, _) in held.items()
        }
        return Table(name, title, "ms", "runc", in_turn(bench.runs, subjects))
    finally:
        for runtime, (container, pid) in held.items():
            release(bench, runtime, container, pid)


def timed(bench: Bench, argv: list[str]) -> list[float]:
    return [1e3 * bench.call(argv)]


def hold(bench: Bench, runtime: Runtime, start: bool = True) -> tuple[str, int]:
    """Id and pid of a new container whose process only waits, or which waits for `start`."""
    container = bench.new_id()
    pid_file = os.path.join(bench.scratch, "pid")
    bench.call(runtime.command("create", "--bundle", bench.bundle + "-hold", "--pid-file", pid_file, container))
    pid = int(read(pid_file))
    if start:
        bench.call(runtime.command("start", container))
    return container, pid


def release(bench: Bench, runtime: Runtime, container: str, pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_for(pid)
    with suppress(Failed):
        bench.call(runtime.command("delete", "--force", container))


def measure_library(bench: Bench) -> Table:
    """Milliseconds of create + start + wait + delete in one process, against the floor and a peer's commands."""
    each = 10
    runs = max(1, bench.runs // 3)
    subjects: dict[str, Callable[[], list[float]]] = {}
    with workers(bench) as (small, big):
        if small and big:
            subjects["pyocirun, library"] = lambda: small.cycles(each)
            subjects[f"the same, {BIG_BYTES // 10**6} MB and {IDLE_THREADS} threads"] = lambda: big.cycles(each)
        subjects["floor"] = lambda: floor_times(bench, each, "-m")
        subjects["floor with cgroups"] = lambda: floor_times(bench, each, "-m", "-c", ID_PREFIX)
        for runtime in bench.runtimes:
            if runtime.name in ("crun", "runc"):
                subjects[f"{runtime.name}, three commands"] = call_with(life, bench, runtime)
        title = "create + start + wait + delete by library, one thread"
        return Table("library", title, "ms", "floor with cgroups", in_turn(runs, subjects))


def measure_parallel(bench: Bench) -> Table:
    """Containers per second: 8 threads of one process, against 8 processes of the floor."""
    each = 240
    runs = max(1, bench.runs // 6)
    subjects: dict[str, Callable[[], list[float]]] = {}
    with workers(bench) as (small, _):
        if small:
            subjects["pyocirun, 8 threads"] = lambda: [small.per_second(8, each)]
        subjects["floor, 8 processes"] = lambda: [floor_json(bench, "-n", str(each), "-p", "8", "-m")["per_second"]]
        subjects["floor with cgroups, 8 processes"] = lambda: [
            floor_json(bench, "-n", str(each), "-p", "8", "-m", "-c", ID_PREFIX)["per_second"]
        ]
        title = "create + start + wait + delete, 8 at once"
        return Table("parallel", title, "/s", "floor with cgroups, 8 processes", in_turn(runs, subjects))


def floor_times(bench: Bench, count: int, *flags: str) -> list[float]:
    return [us / 1e3 for us in floor_json(bench, "-t", "-n", str(count), *flags)["times_us"]]


def floor_json(bench: Bench, *flags: str) -> Any:
    return last_json(bench, [bench.floor, *flags, bench.rootfs, "/bin/true"])


def measure_peak(bench: Bench) -> Table:
    """Peak resident memory of any process of a command (ru_maxrss of it and of what it reaped), by command.

    Each command is started by the small floor program, because the peak of a process counts what its parent had at
    the moment of the spawn.
    """
    samples: dict[str, list[float]] = {}
    for runtime in bench.runtimes:
        container = bench.new_id()
        pid_file = os.path.join(bench.scratch, "pid")
        commands = {
            "run": ["run", "--bundle", bench.bundle, container + "r"],
            "create": ["create", "--bundle", bench.bundle + "-hold", "--pid-file", pid_file, container],
            "start": ["start", container],
            "exec": ["exec", container, "/bin/true"],
            "state": ["state", container],
            "kill": ["kill", container, "KILL"],
            "delete": ["delete", container],
        }
        for name, arguments in commands.items():
            result = last_json(bench, [bench.floor, "-x", *runtime.command(*arguments)])
            if result["status"] != 0:
                print(
                    f"bench: {runtime.name} {name}: status {result['status']}: {bench.read_errors()}", file=sys.stderr
                )
                break
            samples.setdefault(f"{runtime.name} {name}", []).append(result["peak_kib"])
            if name == "kill":
                wait_for(int(read(pid_file)))
        force_away(bench, runtime, container)
        force_away(bench, runtime, container + "r")
    return Table("peak", "peak memory of a command", "KiB", "runc run", samples)


def measure_waiting(bench: Bench) -> Table:
    """Memory of init between create and start: VmRSS, and the proportional share (Pss) of it."""
    samples: dict[str, list[float]] = {}
    for runtime in bench.runtimes:
        for _ in range(3):
            try:
                container, pid = hold(bench, runtime, start=False)
            except Failed as error:
                print(f"bench: {runtime.name} left out: {error}", file=sys.stderr)
                break
            samples.setdefault(f"{runtime.name} VmRSS", []).append(kib(f"/proc/{pid}/status", "VmRSS:"))
            samples.setdefault(f"{runtime.name} Pss", []).append(kib(f"/proc/{pid}/smaps_rollup", "Pss:"))
            release(bench, runtime, container, pid)
    return Table("waiting", "resident memory of the waiting init", "KiB", "runc VmRSS", samples)


def measure_limit(bench: Bench) -> Table:
    """The smallest linux.resources.memory.limit, in steps of 32 KiB, under which /bin/true ends well three times."""
    samples: dict[str, list[float]] = {}
    if any(os.path.exists(path + "/memory.limit_in_bytes") for path in v1_hierarchies()):
        for runtime in bench.runtimes:
            limit = smallest_limit(bench, runtime)
            if limit:
                samples[runtime.name] = [limit]
            else:
                print(f"bench: {runtime.name} runs under no memory limit up to 64 MiB", file=sys.stderr)
    return Table("limit", "smallest memory.limit", "KiB", "runc", samples)


def smallest_limit(bench: Bench, runtime: Runtime) -> int:
    """KiB; 0: none up to 64 MiB. A halving search."""
    step, low, high = 32, 0, 2048
    if not runs_under(bench, runtime, high * step):
        return 0
    while high - low > 1:
        middle = (low + high) // 2
        if runs_under(bench, runtime, middle * step):
            high = middle
        else:
            low = middle
    return high * step


def runs_under(bench: Bench, runtime: Runtime, limit_kib: int) -> bool:
    bundle = os.path.join(bench.scratch, "limited")
    os.makedirs(bundle, exist_ok=True)
    config = default_config(bench.rootfs, "/bin/true")
    config["linux"]["resources"]["memory"] = {"limit": limit_kib << 10}
    write_config(bundle, config)
    for _ in range(3):
        container = bench.new_id()
        try:
            with forced_away(bench, runtime, container):
                bench.call(runtime.command("run", "--bundle", bundle, container))
        except Failed:
            return False
    return True


MEASURES: dict[str, Callable[[Bench], Table]] = {
    "run": measure_run,
    "life": measure_life,
    "exec": measure_exec,
    "state": measure_state,
    "library": measure_library,
    "parallel": measure_parallel,
    "peak": measure_peak,
    "waiting": measure_waiting,
    "limit": measure_limit,
    "limits": measure_limits,
}


# ---- the library's process ----


class Worker:
    """A process with the library loaded; it does what one line of JSON says and answers with one."""

    def __init__(self, bench: Bench, python: str, size: str) -> None:
        root = os.path.join(bench.scratch, "root", "library-" + size)
        os.makedirs(root, 0o700, exist_ok=True)
        argv = [python, os.path.abspath(__file__), "--worker", root, bench.bundle, size]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        subprocess_children.add(self.process.pid)
        self.answer()

    def ask(self, **question: object) -> Any:
        assert self.process.stdin
        try:
            print(json.dumps(question), file=self.process.stdin, flush=True)
        except OSError as error:
            raise Failed(f"the library's process: {error}") from error
        return self.answer()

    def answer(self) -> Any:
        assert self.process.stdout
        try:
            with deadline():
                answer = json.loads(self.process.stdout.readline() or '{"error": "it ended"}')
        except TimeoutError:
            self.process.kill()
            raise Failed(f"the library's process did not answer in {COMMAND_TIMEOUT} s") from None
        if "error" in answer:
            raise Failed(f"the library's process: {answer['error']}")
        return answer

    def cycles(self, count: int) -> list[float]:
        return [1e3 * seconds for seconds in self.ask(threads=1, count=count)["seconds"]]

    def per_second(self, threads: int, count: int) -> float:
        return float(count / self.ask(threads=threads, count=count)["wall"])

    def close(self) -> None:
        assert self.process.stdin
        with suppress(OSError):
            self.process.stdin.close()
        self.process.wait()


@contextmanager
def workers(bench: Bench) -> Iterator[tuple[Worker | None, Worker | None]]:
    """A small process with the library and a big one; None and None where pyocirun is not installed."""
    command = next((runtime.path for runtime in bench.runtimes if runtime.name == "pyocirun"), None)
    started: list[Worker] = []
    try:
        if command:
            python = os.path.join(os.path.dirname(command), "python")
            for size in ("small", "big"):
                started.append(Worker(bench, python if os.access(python, os.X_OK) else sys.executable, size))
    except Failed as error:
        print(f"bench: library left out: {error}", file=sys.stderr)
    try:
        yield (started[0], started[1]) if len(started) == 2 else (None, None)
    finally:
        for each in started:
            each.close()


def worker(root: str, bundle: str, size: str) -> None:
    """The other side of Worker: reads questions until the end of its input."""
    sys.path.pop(0)
    try:
        from pyocirun import Factory
    except (ImportError, AttributeError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    ballast = b"\x01" * BIG_BYTES if size == "big" else b""
    if ballast:
        for _ in range(IDLE_THREADS):
            threading.Thread(target=threading.Event().wait, daemon=True).start()
    null = os.open(os.devnull, os.O_RDWR)
    factory = Factory(root)

    def cycle(container_id: str) -> float:
        begin = time.perf_counter()
        container = factory.create(container_id, bundle, stdin=null, stdout=null, stderr=null)
        container.start()
        status = container.wait()
        container.delete()
        seconds = time.perf_counter() - begin
        if status != 0:
            raise RuntimeError(f"/bin/true ended with {status}")
        return seconds

    print(json.dumps({"ready": len(ballast)}), flush=True)
    for line in sys.stdin:
        print(json.dumps(do_cycles(cycle, size, **json.loads(line))), flush=True)


def do_cycles(cycle: Callable[[str], float], size: str, threads: int, count: int) -> dict[str, Any]:
    """Times of `count` cycles, shared out among threads, and the time of all of them together."""
    seconds: list[float] = []
    errors: list[str] = []

    def some(thread: int) -> None:
        try:
            for number in range(thread, count, threads):
                seconds.append(cycle(f"{ID_PREFIX}{size}-{number}"))
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    begin = time.perf_counter()
    if threads == 1:
        some(0)
    else:
        running = [threading.Thread(target=some, args=(number,)) for number in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    wall = time.perf_counter() - begin
    return {"error": errors[0]} if errors else {"seconds": seconds, "wall": wall}


# ---- processes and leftovers ----


def on_alarm(_signal: int, _frame: object) -> None:
    raise TimeoutError


def on_term(_signal: int, _frame: object) -> None:
    sys.exit("bench: ended by a signal")


@contextmanager
def deadline() -> Iterator[None]:
    """TimeoutError if what is done in it takes longer than COMMAND_TIMEOUT."""
    signal.alarm(COMMAND_TIMEOUT)
    try:
        yield
    finally:
        signal.alarm(0)


def wait_for(pid: int) -> int:
    """Reap a child, or an init that came to us as the subreaper: its exit code, or -signal. A hanging one is killed."""
    try:
        with deadline():
            _, status, _ = os.wait4(pid, 0)
        return os.waitstatus_to_exitcode(status)
    except ChildProcessError:
        return 0
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)
        os.wait4(pid, 0)
        return -signal.SIGALRM


def last_json(bench: Bench, argv: list[str]) -> Any:
    """The JSON that a command prints last. No pipe for stderr: a container that it leaves behind would hold it open."""
    try:
        with deadline():
            result = subprocess.run(argv, stdin=bench.null, stdout=subprocess.PIPE, stderr=bench.errors, text=True)
    except TimeoutError:
        raise Failed(f"{' '.join(argv)}: no end within {COMMAND_TIMEOUT} s") from None
    if result.returncode != 0:
        raise Failed(f"{' '.join(argv)}: status {result.returncode}: {bench.read_errors()}")
    return json.loads(result.stdout.splitlines()[-1])


@contextmanager
def forced_away(bench: Bench, runtime: Runtime, container: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        force_away(bench, runtime, container)
        raise


def force_away(bench: Bench, runtime: Runtime, container: str) -> None:
    with suppress(Failed):
        bench.call(runtime.command("delete", "--force", container))
    bench.read_errors()
    reap_orphans()


def reap_orphans() -> None:
    """Reap what came to us as the subreaper; a worker's status is subprocess's own business."""
    for pid in read(f"/proc/self/task/{os.getpid()}/children").split():
        if int(pid) not in subprocess_children and read(f"/proc/{pid}/stat").rpartition(")")[2].split()[0] == "Z":
            with suppress(ChildProcessError):
                os.waitpid(int(pid), os.WNOHANG)


def remove_leftovers() -> None:
    """End what still runs in our cgroups and remove them; normally there is nothing.

    An interrupted measure may have children that are just ending: they get a second to do so.
    """
    for _ in range(50):
        reap_orphans()
        if not read(f"/proc/self/task/{os.getpid()}/children"):
            break
        time.sleep(0.02)
    found = set()
    for hierarchy in v1_hierarchies():
        for name in os.listdir(hierarchy):
            if name.startswith(ID_PREFIX):
                path = os.path.join(hierarchy, name)
                for pid in read(path + "/cgroup.procs").split():
                    with suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
                found.add(name)
                for _ in range(50):
                    with suppress(OSError):
                        os.rmdir(path)
                        break
                    time.sleep(0.02)
                    reap_orphans()
    if found:
        print(f"bench: removed what was left behind: {', '.join(sorted(found))}", file=sys.stderr)


# ---- the report ----


def report(description: list[str], tables: list[Table], options: argparse.Namespace) -> None:
    write = markdown if options.markdown else text
    print("\n".join(description if not options.markdown else [f"- {line}" for line in description]))
    for table in tables:
        print("\n" + write(table.title, *rows(table)))
    aims = goals({table.name: table for table in tables})
    if aims:
        print("\n" + write("against the aims", ["figure", "measured", "aim"], aims))
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"machine": description, "measures": [table._asdict() for table in tables]}, file, indent=1)


def machine(bench: Bench) -> list[str]:
    cpu = next((line.partition(":")[2].strip() for line in lines("/proc/cpuinfo") if line.startswith("model name")), "")
    memory = int(kib("/proc/meminfo", "MemTotal:")) >> 10
    described = [
        f"kernel {platform.release()}, {platform.machine()}",
        f"{cpu or 'unknown processor'}, {os.cpu_count()} cores, {memory} MiB of memory",
        f"Python {platform.python_version()}, cgroup v{1 if v1_hierarchies() else 2}",
        f"load at the start {os.getloadavg()[0]:.2f}, {bench.runs} runs",
    ]
    for runtime in bench.runtimes:
        version = subprocess.run([runtime.path, "--version"], capture_output=True, text=True).stdout.splitlines()
        described.append(f"{runtime.name}: {version[0] if version else 'unknown'}")
    return described


def rows(table: Table) -> tuple[list[str], list[list[str]]]:
    """Head and body of a table: subject, median, spread, least, number, ratio of the median to the reference's."""
    reference = table.samples.get(table.reference)
    head = ["", f"median {table.unit}", "p10 - p90", "least", "n", f"x {table.reference}" if reference else "ratio"]
    body = []
    for subject, values in table.samples.items():
        middle = statistics.median(values)
        spread = f"{number(percentile(values, 10))} - {number(percentile(values, 90))}" if len(values) > 1 else ""
        ratio = f"{middle / statistics.median(reference):.2f}" if reference else ""
        body.append([subject, number(middle), spread, number(min(values)), str(len(values)), ratio])
    return head, body


def goals(tables: dict[str, Table]) -> list[list[str]]:
    """The figures this project steers by, each with what it aims at; only those that were measured."""

    def median(table: str, subject: str) -> float:
        values = tables[table].samples.get(subject) if table in tables else None
        return statistics.median(values) if values else math.nan

    library = median("library", "pyocirun, library")
    big = median("library", f"the same, {BIG_BYTES // 10**6} MB and {IDLE_THREADS} threads")
    floor = median("library", "floor")
    cgroups = median("library", "floor with cgroups") - floor
    crun = median("library", "crun, three commands")
    parallel = median("parallel", "pyocirun, 8 threads")
    figures = [
        ("`run`, x runc", median("run", "pyocirun") / median("run", "runc"), "at most 0.8"),
        ("create + start + delete, x runc", median("life", "pyocirun") / median("life", "runc"), "at most 1.4"),
        ("library without the time of cgroups, x floor", (library - cgroups) / floor, "at most 2"),
        ("the same in a big process, x floor", (big - cgroups) / floor, "at most 2"),
        ("crun's three commands, x library", crun / library, "at least 4"),
        ("crun's three commands, x library in a big process", crun / big, "at least 4"),
        ("8 threads, x the floor's rate", parallel / median("parallel", "floor with cgroups, 8 processes"), ""),
        ("waiting init, KiB resident", median("waiting", "pyocirun VmRSS"), "under 1024"),
        ("smallest memory.limit, KiB", median("limit", "pyocirun"), "at most 256"),
    ]
    return [[name, number(value), aim] for name, value, aim in figures if not math.isnan(value)]


def text(title: str, head: list[str], body: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in [head, *body]) for column in range(len(head))]
    lines = [title]
    for row in [head, *body]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(title: str, head: list[str], body: list[list[str]]) -> str:
    lines = [f"### {title[0].upper()}{title[1:]}", "", "| " + " | ".join(head) + " |"]
    lines.append("|---|" + "---:|" * (len(head) - 1))
    lines += ["| " + " | ".join(row) + " |" for row in body]
    return "\n".join(lines)


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def percentile(values: list[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def real_python() -> str:
    """The interpreter itself; a virtual environment's link would add its own start-up."""
    return os.path.realpath(sys.executable)


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


def lines(path: str) -> list[str]:
    return read(path).splitlines()


def kib(path: str, field: str) -> float:
    return next(float(line.split()[1]) for line in lines(path) if line.startswith(field))


def call_with(function: Callable[..., list[float]], *arguments: object) -> Callable[[], list[float]]:
    return lambda: function(*arguments)


if __name__ == "__main__":
    main()
