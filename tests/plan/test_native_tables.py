"""C and Python have the same table of operations, and print the same plan from it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pyocirun import native
from pyocirun.linux.idmap import IDMapping
from pyocirun.linux.namespaces import CLONE_NEWNS
from pyocirun.plan import ops, tenant
from pyocirun.plan.encode import encode
from pyocirun.plan.ops import WIRE, Op, Plan, Slot
from pyocirun.plan.seccomp import Filter
from pyocirun.spec.config import Root
from pyocirun.spec.hooks import Hook, Hooks
from pyocirun.spec.linux import Namespace
from pyocirun.spec.mounts import Mount
from pyocirun.spec.process import Capabilities, User
from tests.support import CHARGED_PATHS, CSRC, build, compile_c, minimal_process, minimal_spec

MAPS = (IDMapping(0, 100000, 65536),)

EVERY_OP: tuple[Op, ...] = (
    ops.Clone(1),
    ops.Sync("id-maps"),
    ops.JoinNamespace("ipc", "/n"),
    ops.JoinNamespace("uts", "/n", True),
    ops.JoinContainer(2),
    ops.Unshare(3),
    ops.Fork(4),
    ops.BecomeRoot(True),
    ops.BecomeRoot(joined=True),
    ops.OomScoreAdj("-5"),
    ops.Undumpable(),
    ops.Session(),
    ops.Keyring("_ses.box"),
    ops.JoinCgroup(("/a", "/b"), True),
    ops.LeaveCgroup(("/c",)),
    ops.Loopback(),
    ops.Propagation("/", 5),
    ops.Rootfs("/r"),
    ops.Rootfs("/r", True),
    ops.Mount("proc", "/proc", "proc", 6, "a=b", (7, 8), True, True, 33, 34, True, True),
    ops.Bind("/s", "/t", True, 9, 10, (11,), 35, 36, True, True, 12, ops.Idmap("0 1 2\n", "3 4 5\n", True), True, True),
    ops.Bind("/s", "/proc"),
    ops.Bind("/s", "/dev/x", plain=True),
    ops.Attributes("/t", 13, 14, True, (37, 38)),
    ops.Node("/dev/null", 15, 16, 17, 18),
    ops.Symlink("a", "/b", True),
    ops.Sysctl("a.b", "sys/a/b", "1"),
    ops.PivotRoot(),
    ops.MoveRoot(),
    ops.Chroot("/c"),
    ops.EnterRoot(),
    ops.RootPropagation(19),
    ops.ReopenNull(),
    ops.MaskPath("/m"),
    ops.ReadonlyPath("/o"),
    ops.Hostname("h"),
    ops.Domainname("d"),
    ops.Umask(0o22),
    ops.Home(20),
    ops.MakeCwd("/w"),
    ops.StdioOwner(21),
    ops.NoNewPrivs(),
    ops.SetBounding(2**40 - 1),
    ops.SetUser(22, 23, (24, 25), True),
    ops.SetCapabilities(26, 27, 28),
    ops.SetAmbient(29),
    ops.Cwd("/w", True),
    ops.LowerRlimit("RLIMIT_NOFILE", 7, 31, 32),
    ops.OwnRlimit("RLIMIT_NOFILE", 7, 33, 34),
    ops.Resolve("sh", "/bin:/sbin"),
    ops.RunHook("createContainer", 0, "/h", ("h", ""), ("A=1",), 30),
    ops.RunHook("startContainer", 1, "/i", ("i",), (), None, "/out", "/err", filtered=True),
    ops.Exec(("sh", "-c", 'echo "\\ \té"'), ("A=1", "B=")),
    ops.Finish(),
    ops.Affinity((0, 33, 64), True),
    ops.SetScheduler("SCHED_OTHER", 34, 35, -19, 36, 37, 38, 39),
    ops.SetIOPriority("IOPRIO_CLASS_BE 1", 40),
    ops.SetPersonality("LINUX32", 41),
    ops.SetMemoryPolicy("MPOL_BIND 0-1", 42, (0, 1)),
    ops.PrivateProc(),
    ops.Attribute("thread-self/comm", "self/comm", "x"),
    ops.AppArmorProfile("profile"),
    ops.SelinuxLabel("a:b:c"),
    ops.KeyringLabel(""),
    ops.LoadSeccomp(Filter(43, (), (), False, False, 44), (45, 46)),
    ops.Terminal(47, 48, True),
    ops.Attach("/t", 39, 40, 41, (42,)),
    ops.Remount("/t", 43, "size=1"),
    ops.Relabel("/t", "label"),
    ops.HoldTree("/t", True, ops.Idmap()),
    ops.Pass("a socket"),
    ops.LandlockRuleset(49, 50, 51),
    ops.LandlockPath("/p", 52, True),
    ops.LandlockPort(53, 54),
    ops.LandlockRestrict(),
)
"""One of each, at least, with values that are all different."""


def every_class() -> set[type[Op]]:
    found: set[type[Op]] = set()
    left = [Op]
    while left:
        classes = left.pop().__subclasses__()
        found |= set(classes)
        left += classes
    return {kind for kind in found if kind.wire}


def plan_text(plan: Plan) -> str:
    """What csrc/test/print_plan.c prints, by Python's own values."""
    encoded = encode(plan)
    slots: dict[Slot, int] = {slot: number for number, slot in enumerate(encoded.launch + encoded.late)}
    lines = []
    for index, op in enumerate(plan.ops):
        if op.wire:
            lines.append(" ".join([f"{index} {op.wire}", *map(_shown, op.fields(slots))]))
    return "\n".join(lines) + "\n"


def _shown(field: object) -> str:
    if isinstance(field, tuple):
        return f"[{' '.join(map(_shown, field))}]"
    if isinstance(field, int):
        return str(field)
    plain = [
        chr(byte) if 0x20 <= byte <= 0x7E and byte not in b'"\\' else f"\\x{byte:02x}"
        for byte in str(field).encode("utf-8", "surrogateescape")
    ]
    return f'"{"".join(plain)}"'


def test_the_tables_are_equal() -> None:
    assert tuple(native.wire()) == WIRE


def test_every_operation_of_nsexec_has_a_class() -> None:
    assert {kind.wire for kind in every_class()} == {name for name, _ in WIRE}


def test_the_list_of_this_test_is_complete() -> None:
    assert {type(op) for op in EVERY_OP} == every_class()


@pytest.mark.parametrize("op", EVERY_OP, ids=lambda op: type(op).__name__)
def test_fields_fit_the_signature(op: Op) -> None:
    signature = dict(WIRE)[op.wire]

    fields = op.fields(dict.fromkeys(op.slots(), 0))

    assert len(fields) == len(signature)
    for kind, field in zip(signature, fields):
        if kind == "u":
            assert isinstance(field, int)
            assert 0 <= field < 2**64
        elif kind == "s":
            assert isinstance(field, str)
        else:
            assert isinstance(field, tuple)
            assert all(isinstance(item, str if kind == "a" else int) for item in field)


@pytest.mark.parametrize("op", EVERY_OP, ids=lambda op: type(op).__name__)
def test_operation_says_what_it_does_in_one_line(op: Op) -> None:
    assert op.describe()
    assert "\n" not in op.describe().replace("\t", "")


def test_step_names_are_known() -> None:
    names: list[str] = []
    while not (name := native.step_name(len(names))).startswith("step "):
        names.append(name)

    assert names[:3] == ["", "plan", "protocol"]
    assert {"mount", "pivot_root", "execve", "getcwd", "verify", "statfs", "setgroups"} <= set(names)
    assert len(names) == len(set(names))


def test_unknown_steps_have_a_number() -> None:
    assert native.step_name(9999) == "step 9999"
    assert native.step_name(-1) == "step -1"


def _full_plan() -> Plan:
    """A plan with everything that a config of this version can ask for."""
    process = minimal_process(
        user=User(1, 2, None, (3, 4)), env=("A=\t\xff", "PATH=/bin"), capabilities=Capabilities(("CAP_KILL",))
    )
    spec = minimal_spec(
        namespaces=("user", "mount", "ipc", "uts", "cgroup", Namespace("network", "/n")),
        uid_mappings=MAPS,
        gid_mappings=MAPS,
        process=process,
        root=Root("rootfs", True),
        hostname="box",
        mounts=[Mount("/proc", "proc", "proc"), Mount("/d", "/s", None, ("rbind", "ro", "shared", "rro"))],
        hooks=Hooks(create_container=(Hook("/h"),), start_container=(Hook("/i", ("i", "j"), ("X=1",), 7),)),
        masked_paths=("/proc/kcore",),
        readonly_paths=("/proc/sys",),
        sysctl={"kernel.sem": "1"},
    )
    return build(spec, cgroup_paths=CHARGED_PATHS)


@pytest.fixture(scope="module")
def print_plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_c(
        tmp_path_factory.mktemp("print_plan") / "print_plan", [CSRC / "wire.c", CSRC / "test" / "print_plan.c"]
    )


@pytest.mark.parametrize(
    "plan",
    [
        Plan(EVERY_OP),
        build(minimal_spec()),
        _full_plan(),
        tenant.build(minimal_process(), "box", CLONE_NEWNS),
    ],
    ids=["every-op", "minimal", "full", "tenant"],
)
def test_c_prints_the_plan_that_python_prints(print_plan: Path, plan: Plan) -> None:
    done = subprocess.run([print_plan], input=encode(plan).data, capture_output=True, check=True)

    assert done.stdout.decode() == plan_text(plan)


def test_c_refuses_what_is_no_plan(print_plan: Path) -> None:
    done = subprocess.run([print_plan], input=b"no plan", capture_output=True, check=False)

    assert done.returncode == 1
