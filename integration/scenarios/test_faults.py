"""A fault at each operation of a plan, and real ones: a clear error of the right family, and nothing is left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.harness import PATIENCE, Bundle, cgroups, children, eventually, helper, mounts, only, requires
from integration.modes import plain
from pyocirun import CgroupError, Container, Error, Factory, HookError, OperationError, SpecError
from pyocirun.cgroup.v1 import Write
from pyocirun.linux.host import Host
from pyocirun.plan import ops
from pyocirun.plan.encode import Encoded
from pyocirun.plan.request import Request
from pyocirun.spec.config import Spec

pytestmark = [requires("root", "busybox"), only("pyocirun")]

CLONE_FS, CLONE_NEWNS = 0x200, 0x20000
MISSING = "/sys/does/not/exist"


# ---- what must not be left -----------------------------------------------------------------------


class Traces:
    """What a container could leave: in its root directory, in this process, and on the machine. Equal before and after.

    The test process is the reaper of orphans, so whatever a container leaves running becomes a child of it.
    """

    def __init__(self, root: Path, prefix: str) -> None:
        self.states = sorted(os.listdir(root)) if root.exists() else []
        self.cgroups = [path for path in cgroups() if prefix in path]
        self.mounts = mounts()
        self.children = sorted(children())
        self.descriptors = descriptors()

    def more_than(self, before: Traces) -> list[str]:
        """What there is now and was not there before."""
        found: list[str] = []
        for name, now in vars(self).items():
            found += [f"{name}: {thing}" for thing in now if thing not in vars(before)[name]]
        return found


def descriptors() -> list[str]:
    """Numbers of the open descriptors, with what they are of."""
    found = []
    for fd in sorted(os.listdir("/proc/self/fd"), key=int):
        try:
            found.append(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
        except FileNotFoundError:
            continue  # that of the listing itself
    return found


@pytest.fixture
def root(place: Path) -> Path:
    return place / "root"


@pytest.fixture
def prefix(place: Path) -> str:
    """What all ids of a test begin with."""
    return f"flt{os.getpid()}-{place.name}"


@pytest.fixture
def nothing_left(root: Path, prefix: str, bundle: Bundle) -> Iterator[Callable[[], list[str]]]:
    """What is there more than at first: it has to be nothing at the end of a test."""
    factory = Factory(str(root), warn=lambda line: None)
    factory.create(f"{prefix}-warm", config=config_of(bundle), bundle=str(bundle.path)).delete()  # the sealed copy
    before = Traces(root, prefix)
    yield lambda: Traces(root, prefix).more_than(before)
    for container in factory.list():
        container.delete(force=True)


def config_of(bundle: Bundle) -> dict[str, Any]:
    bundle.save()
    return bundle.config


# ---- a fault at each operation -------------------------------------------------------------------


class Faulty(Factory):
    """A factory whose plans fail at operation `at`, -1 for none."""

    at = -1

    def _plan(self, spec: Spec, host: Host, request: Request) -> tuple[ops.Plan, Encoded | None]:
        plan, encoded = super()._plan(spec, host, request)
        if self.at < 0:
            return plan, encoded
        replaced = (*plan.ops[: self.at], failing(plan.ops[self.at], request.id), *plan.ops[self.at + 1 :])
        return ops.Plan(replaced, plan.preserve_fds), None


def failing(op: ops.Op, id: str) -> ops.Op:
    """An operation that fails where `op` stands, on the same side."""
    if isinstance(op, ops.MakeCgroup):
        if plain().version == 2:
            return ops.MakeCgroup((("", f"/sys/fs/cgroup/{id}/new\nline"),))
        return ops.MakeCgroup((*op.paths[:2], ("memory", f"/sys/fs/cgroup/memory/{id}/new\nline")))
    if isinstance(op, ops.WriteCgroup):
        file = "memory.limit_in_bytes" if plain().version == 1 else "memory.max"
        return ops.WriteCgroup((Write("memory", file, "nonsense"),))
    if isinstance(op, ops.AttachDevices):
        return ops.AttachDevices(bytes(8))
    if isinstance(op, ops.Clone):
        return ops.Clone(op.flags | CLONE_FS | CLONE_NEWNS)
    if isinstance(op, ops.RunHook):
        return ops.RunHook(op.kind, op.index, "/bin/false", ("false",), (), op.timeout)
    if isinstance(op, ops.Exec):
        return ops.Exec((op.args[0], "x" * (1 << 18)), op.env)
    return ops.Sysctl("fault", MISSING[1:], "1") if op.wire else ops.OpenSources((ops.Slot("tree", MISSING),))


def everything(bundle: Bundle, variant: str) -> None:
    """A configuration that has every kind of operation in its plan."""
    config, linux = bundle.config, bundle.linux
    bundle.args("sleep", "60")
    config["process"]["oomScoreAdj"] = 100
    config["domainname"] = "example"
    linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    linux["resources"] |= {"memory": {"limit": 64 << 20}, "pids": {"limit": 50}, "cpu": {"shares": 512}}
    linux["devices"] = [{"path": "/dev/extra", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600, "uid": 7}]
    (bundle.path / "data").mkdir(exist_ok=True)
    bundle.bind(bundle.path / "data", "/data", "ro", "private")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", ("ro", "nosuid"))
    for kind in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"):
        bundle.hook(kind, "/bin/true", timeout=5)
    if variant in ("cgroup namespace", "user namespace"):
        bundle.with_namespace("cgroup")
    if variant == "user namespace":
        bundle.map_users(200000)
        linux["devices"] = []
    if variant == "shared propagation":
        linux["rootfsPropagation"] = "shared"


VARIANTS = ["plain", "cgroup namespace", "user namespace", "shared propagation", "joined namespaces"]


@pytest.fixture
def neighbour() -> Iterator[subprocess.Popen[bytes]]:
    """A process with namespaces of its own, to be joined."""
    command = ("unshare", "--fork", "--kill-child", "--pid", "--net", "--ipc", "--uts", "sleep", "600")
    process = helper(*command)
    ready = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    eventually(lambda: ready.read_text().strip(), "it has unshared all, and forked")
    yield process
    process.kill()
    process.wait()


def _join(bundle: Bundle, pid: int) -> None:
    bundle.with_namespace("pid", f"/proc/{pid}/ns/pid_for_children")
    for type, file in (("network", "net"), ("ipc", "ipc"), ("uts", "uts")):
        bundle.with_namespace(type, f"/proc/{pid}/ns/{file}")


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_fault_at_any_operation_is_named_and_leaves_nothing(
    bundle: Bundle,
    root: Path,
    prefix: str,
    nothing_left: Callable[[], list[str]],
    neighbour: subprocess.Popen[bytes],
    variant: str,
) -> None:
    everything(bundle, variant)
    if variant == "joined namespaces":
        _join(bundle, neighbour.pid)
    factory = Faulty(str(root), warn=lambda line: None)
    config = config_of(bundle)
    plan = factory.plan(str(bundle.path), config=config)
    gate = plan.position("start")
    wrong: list[str] = []

    for factory.at, op in enumerate(plan.ops):
        id = f"{prefix}-{factory.at}"
        error = _error_of(factory, id, config, str(bundle.path), behind_gate=factory.at > gate)
        wanted = failing(op, id)
        problem = _unlike(error, wanted, factory.at) or "; ".join(nothing_left())
        if problem:
            wrong.append(f"operation {factory.at}, {op.describe()}: {problem}")

    assert not wrong, "\n".join(wrong)
    assert len(plan.ops) > 60


def _error_of(factory: Factory, id: str, config: dict[str, Any], bundle: str, behind_gate: bool) -> Error | None:
    try:
        container = factory.create(id, bundle, config=config)
    except Error as error:
        assert not behind_gate, f"{id} failed at create: {error}"
        return error.with_traceback(None)
    try:
        container.start()
    except Error as error:
        assert behind_gate, f"{id} failed at start: {error}"
        return error.with_traceback(None)  # it would keep the container, and that a descriptor
    finally:
        container.delete(force=True)
    return None


def _unlike(error: Error | None, wanted: ops.Op, index: int) -> str:
    """What is wrong with the error; "" for nothing."""
    if error is None:
        return "no error"
    if isinstance(wanted, (ops.MakeCgroup, ops.WriteCgroup, ops.AttachDevices)):
        return "" if isinstance(error, CgroupError) and error.path else f"{error!r}"
    if isinstance(wanted, ops.RunHook):
        name = f"{wanted.kind} hook #{wanted.index}"
        return "" if isinstance(error, HookError) and name in str(error) and error.status == 256 else f"{error!r}"
    if isinstance(wanted, ops.Clone):
        return "" if "start nsexec" in str(error) and error.errno == 22 else f"{error!r}"
    if not isinstance(error, OperationError) or not error.errno:
        return f"{error!r}"
    if isinstance(wanted, ops.OpenSources):
        return "" if error.path == MISSING else f"{error!r} has the path {error.path!r}"
    named = (error.index, error.op) == (index, wanted.describe()) or isinstance(wanted, ops.Exec)
    return "" if named or error.index == index else f"{error!r} has index {error.index} and op {error.op!r}"


class Interrupted(Factory):
    """A factory that is interrupted, as by Ctrl-C, when operation `at` of its parent's would be run."""

    at = -1

    def _plan(self, spec: Spec, host: Host, request: Request) -> tuple[ops.Plan, Encoded | None]:
        plan, _ = super()._plan(spec, host, request)
        replaced = [*plan.ops]
        replaced[self.at : self.at] = [Interrupt()]
        return ops.Plan(tuple(replaced), plan.preserve_fds), None


class Interrupt(ops.SaveState):
    """Not an effect that a creation knows."""

    def describe(self) -> str:
        signal.raise_signal(signal.SIGINT)
        return "be interrupted"


def test_an_exception_of_any_kind_while_the_container_is_made_leaves_nothing(
    bundle: Bundle, root: Path, prefix: str, nothing_left: Callable[[], list[str]]
) -> None:
    config = config_of(bundle)
    factory = Interrupted(str(root), warn=lambda line: None)
    plan = Factory(str(root)).plan(str(bundle.path), config=config)
    places = [index + 1 for index, op in enumerate(plan.ops) if not op.wire] + [plan.position("created")]

    for factory.at in places[3:]:
        with pytest.raises(KeyError):  # nobody knows how to run such an operation
            factory.create(f"{prefix}-{factory.at}", str(bundle.path), config=config)

    assert not nothing_left()


# ---- real faults ---------------------------------------------------------------------------------


def _fails(
    bundle: Bundle, root: Path, prefix: str, family: type[Error], *texts: str, errno: int | None = None
) -> Error:
    """The error of a create, after a check of its family, its texts (in lower case) and its errno."""
    with pytest.raises(family) as caught:
        Factory(str(root), warn=lambda line: None).create(f"{prefix}-x", str(bundle.path), config=config_of(bundle))
    for text in texts:
        assert text in str(caught.value).lower()
    assert errno is None or caught.value.errno == errno
    return caught.value


Nothing = Callable[[], list[str]]


def test_a_bind_source_that_is_missing(bundle: Bundle, root: Path, prefix: str, nothing_left: Nothing) -> None:
    bundle.bind("/no/such/source", "/data")

    _fails(bundle, root, prefix, OperationError, "/no/such/source", "no such file", errno=2)

    assert not nothing_left()


def test_a_bind_of_a_file_below_a_file(bundle: Bundle, root: Path, prefix: str, nothing_left: Nothing) -> None:
    bundle.bind("/etc/passwd", "/etc/passwd/below")

    _fails(bundle, root, prefix, OperationError, "/etc/passwd/below", errno=20)

    assert not nothing_left()


def test_a_file_system_that_the_kernel_has_not(bundle: Bundle, root: Path, prefix: str, nothing_left: Nothing) -> None:
    bundle.mount("/data", "nosuchfs", "none")

    _fails(bundle, root, prefix, OperationError, "mount nosuchfs on /data", "no such device", errno=19)

    assert not nothing_left()


def test_a_bad_option_of_a_file_system(bundle: Bundle, root: Path, prefix: str, nothing_left: Nothing) -> None:
    bundle.mount("/data", "tmpfs", "tmpfs", ("size=nonsense",))

    _fails(bundle, root, prefix, OperationError, "mount tmpfs on /data", errno=22)

    assert not nothing_left()


def test_a_device_that_is_something_else_already(
    bundle: Bundle, root: Path, prefix: str, nothing_left: Nothing
) -> None:
    bundle.linux["devices"] = [{"path": "/etc/passwd", "type": "c", "major": 1, "minor": 3}]

    _fails(bundle, root, prefix, OperationError, "/etc/passwd", errno=17)

    assert not nothing_left()


@pytest.mark.parametrize("type", ["network", "pid", "ipc", "uts", "user", "cgroup", "mount"])
def test_a_namespace_file_that_is_missing(
    bundle: Bundle, root: Path, prefix: str, nothing_left: Nothing, type: str
) -> None:
    bundle.with_namespace(type, "/no/such/namespace")

    _fails(bundle, root, prefix, Error, "/no/such/namespace")

    assert not nothing_left()


@pytest.mark.parametrize("path", ["/proc/self/ns/uts", "/etc/passwd", "/dev/null", "/proc"])
def test_a_namespace_of_another_type(bundle: Bundle, root: Path, prefix: str, nothing_left: Nothing, path: str) -> None:
    bundle.with_namespace("ipc", path)

    _fails(bundle, root, prefix, Error, path)

    assert not nothing_left()


def test_a_namespace_path_that_is_a_pipe_hangs_nobody(
    bundle: Bundle, root: Path, prefix: str, nothing_left: Nothing, place: Path
) -> None:
    os.mkfifo(place / "pipe")
    bundle.with_namespace("ipc", str(place / "pipe"))

    _fails(bundle, root, prefix, Error, str(place / "pipe"))

    assert not nothing_left()


def test_a_namespace_path_that_is_a_socket(
    bundle: Bundle, root: Path, prefix: str, nothing_left: Nothing, place: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place / "socket"))
        bundle.with_namespace("network", str(place / "socket"))

        _fails(bundle, root, prefix, Error, str(place / "socket"))

    assert not nothing_left()


HOOKS_OF_CREATE = ["prestart", "createRuntime", "createContainer"]


@pytest.mark.parametrize("kind", HOOKS_OF_CREATE)
def test_a_hook_that_fails(bundle: Bundle, root: Path, prefix: str, nothing_left: Nothing, kind: str) -> None:
    bundle.hook(kind, "/bin/sh", "-c", "echo this went wrong >&2; exit 3")
    bundle.config["hooks"][kind][0]["args"] = ["sh", "-c", "echo this went wrong >&2; exit 3"]

    error = _fails(bundle, root, prefix, HookError, f"{kind.lower()} hook #0", "exit status 3", "this went wrong")

    assert isinstance(error, HookError)
    assert "this went wrong" in error.stderr
    assert not nothing_left()


@pytest.mark.parametrize("kind", HOOKS_OF_CREATE)
def test_a_hook_that_takes_too_long(bundle: Bundle, root: Path, prefix: str, nothing_left: Nothing, kind: str) -> None:
    bundle.hook(kind, "/bin/sleep", "60", timeout=1)
    bundle.config["hooks"][kind][0]["args"] = ["sleep", "60"]
    began = time.monotonic()

    _fails(bundle, root, prefix, HookError, f"{kind.lower()} hook #0", "timeout of 1.0s")

    assert time.monotonic() - began < 3 * PATIENCE
    assert not nothing_left()


@pytest.mark.parametrize("kind", HOOKS_OF_CREATE)
def test_a_hook_that_cannot_be_started(
    bundle: Bundle, root: Path, prefix: str, nothing_left: Nothing, kind: str
) -> None:
    bundle.hook(kind, "/no/such/hook")

    _fails(bundle, root, prefix, HookError, f"{kind.lower()} hook #0", "/no/such/hook", "no such file")

    assert not nothing_left()


@pytest.mark.parametrize("args", [[], None, ["/no/such/program"], ["no-such-program"], ["/etc/passwd"], ["/etc"]])
def test_args_that_cannot_be_executed(
    bundle: Bundle, root: Path, prefix: str, nothing_left: Nothing, args: list[str] | None
) -> None:
    bundle.process["args"] = args
    if args is None:
        del bundle.process["args"]

    _fails(bundle, root, prefix, Error)

    assert not nothing_left()


@pytest.mark.parametrize(
    ("resources", "file"),
    [
        ({"cpu": {"quota": 1, "period": 100000}}, "cpu.cfs_quota_us" if plain().version == 1 else "cpu.max"),
        ({"cpu": {"cpus": "4000"}}, "cpuset.cpus"),
        (
            {"devices": [{"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}], "cpu": {"mems": "77"}},
            "cpuset.mems",
        ),
    ],
)
def test_a_limit_that_the_kernel_refuses(
    bundle: Bundle, root: Path, prefix: str, nothing_left: Nothing, resources: dict[str, Any], file: str
) -> None:
    bundle.linux["resources"] = resources

    error = _fails(bundle, root, prefix, CgroupError, file)

    assert error.errno
    assert file in error.path
    assert not nothing_left()


def test_a_cgroup_that_is_in_use(bundle: Bundle, root: Path, prefix: str, nothing_left: Nothing) -> None:
    bundle.linux["cgroupsPath"] = f"/{prefix}-shared"
    factory = Factory(str(root), warn=lambda line: None)
    first = factory.create(f"{prefix}-first", str(bundle.path), config=config_of(bundle.args("sleep", "60")))
    first.start()

    _fails(bundle, root, prefix, CgroupError, "not empty")

    assert first.status == "running"
    assert first.processes()
    first.delete(force=True)
    del first
    assert not nothing_left()


@pytest.mark.parametrize(
    "target", ["/proc/kmsg", "/proc/self/mem", "/proc/self/environ", "/proc/self/fd/0", "/sys/kernel/notes"]
)
def test_a_passwd_that_is_a_link_to_a_file_of_the_kernel_says_nothing(
    bundle: Bundle, root: Path, prefix: str, nothing_left: Nothing, target: str
) -> None:
    (bundle.rootfs / "etc/passwd").unlink()
    (bundle.rootfs / "etc/passwd").symlink_to(target)
    config = config_of(bundle.args("/bin/sh", "-c", "test $HOME = /"))

    container = Factory(str(root)).create(f"{prefix}-x", str(bundle.path), config=config)
    container.start()

    assert container.wait(10) == 0
    container.delete()
    del container
    assert not nothing_left()


def test_a_rootfs_that_is_a_file(bundle: Bundle, root: Path, prefix: str, nothing_left: Nothing) -> None:
    bundle.config["root"]["path"] = "config.json"

    _fails(bundle, root, prefix, SpecError, "/root/path")

    assert not nothing_left()


def test_preserved_descriptors_that_are_not_open(
    bundle: Bundle, root: Path, prefix: str, nothing_left: Nothing
) -> None:
    number = len(descriptors()) + 100

    with pytest.raises(Error) as caught:
        Factory(str(root)).create(f"{prefix}-x", str(bundle.path), config=config_of(bundle), preserve_fds=number)

    assert "preserve" in str(caught.value)
    assert not nothing_left()


@pytest.mark.parametrize("number", [3, 17, 2000])
def test_standard_descriptors_that_are_not_open(
    bundle: Bundle, root: Path, prefix: str, nothing_left: Nothing, number: int
) -> None:
    free = max(int(line.split()[0]) for line in descriptors()) + number

    with pytest.raises(Error):
        Factory(str(root)).create(f"{prefix}-x", str(bundle.path), config=config_of(bundle), stdout=free)

    assert not nothing_left()


def test_no_descriptors_left_in_this_process(bundle: Bundle, root: Path, prefix: str, nothing_left: Nothing) -> None:
    """Whichever open or pipe fails for lack of descriptors: an error, and nothing is left."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    config = config_of(bundle)
    factory = Factory(str(root), warn=lambda line: None)
    filled = [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)]
    while filled[-1] < 100:
        filled.append(os.dup(filled[0]))
    failed = 0
    created: Container | None = None

    for more in range(1, 40):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (filled[-1] + more, hard))
            created = factory.create(f"{prefix}-{more}", str(bundle.path), config=config)
        except (Error, OSError):
            failed += 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if created is not None:
            created.delete(force=True)
            created = None

    for fd in filled:
        os.close(fd)
    assert 0 < failed < 39
    assert not nothing_left()


def test_a_state_directory_that_is_full(
    bundle: Bundle, root: Path, prefix: str, nothing_left: Nothing, place: Path
) -> None:
    from integration.harness import mount, umount

    small = place / "small"
    small.mkdir()
    mount("tmpfs", small, "tmpfs", 0, "size=4k,mode=700")
    config = config_of(bundle)

    with pytest.raises((Error, OSError)):
        Factory(str(small), warn=lambda line: None).create(f"{prefix}-x", str(bundle.path), config=config)

    assert os.listdir(small) == []
    umount(small)
    assert not nothing_left()


def test_an_exec_that_fails_leaves_the_container_and_nothing_else(
    bundle: Bundle, root: Path, prefix: str, nothing_left: Nothing
) -> None:
    container = Factory(str(root)).create(f"{prefix}-x", str(bundle.path), config=config_of(bundle.args("sleep", "60")))
    container.start()
    faults: list[dict[str, Any]] = [
        {"args": ["/no/such/program"]},
        {"args": ["no-such-program"]},
        {"args": ["/etc"]},
        {"args": ["/bin/true"], "cwd": "/no/such/directory"},
        {"args": ["/bin/true"], "cwd": "relative"},
        {"args": ["/bin/true"], "user": (1 << 32, 0)},
        {"args": ["/bin/true"], "cgroup": "/no/such/cgroup"},
        {"args": ["/bin/true"], "cgroup": "../.."},
        {"args": ["/bin/true"], "preserve_fds": 900},
        {"args": []},
        {"process": {"args": ["/bin/true"], "cwd": "/", "user": {"uid": 0, "gid": "x"}}},
        {"process": {}},
    ]
    before = descriptors()
    processes = container.processes()
    wrong: list[object] = []

    for fault in faults:
        try:
            wrong.append((container.exec(**fault).wait(), fault))
        except Error:
            pass
        if descriptors() != before or container.processes() != processes:
            wrong.append(("left behind", fault))

    assert not wrong
    assert container.status == "running"
    container.delete(force=True)
    del container
    assert not nothing_left()
