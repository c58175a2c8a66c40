"""What several tests share: small specs, hosts, a reader of encoded plans, a C compiler."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest

from pyocirun.cgroup.path import cgroup_paths
from pyocirun.linux.host import Hierarchy, Host
from pyocirun.linux.namespaces import FILES
from pyocirun.plan import build as builder
from pyocirun.plan.explain import text
from pyocirun.plan.ops import WIRE, Op, Plan
from pyocirun.plan.request import Request
from pyocirun.record import Record, replace
from pyocirun.spec.bundle import rootfs_path
from pyocirun.spec.config import Root, Spec, parse_config
from pyocirun.spec.linux import Linux, Namespace
from pyocirun.spec.process import Process

OpType = TypeVar("OpType", bound=Op)

TESTS = Path(__file__).resolve().parent
CSRC = TESTS.parent / "csrc"
GOLDEN = TESTS / "golden"
BUNDLE = "/bundle"


def _hierarchies() -> tuple[Hierarchy, ...]:
    mounted = [("cpu", "cpuacct"), ("memory",), ("devices",), ("pids",), ("freezer",), ("name=systemd",)]
    names = ["systemd" if first.startswith("name=") else ",".join((first, *more)) for first, *more in mounted]
    return tuple(Hierarchy(tuple(part), f"/sys/fs/cgroup/{name}") for part, name in zip(mounted, names))


HOST_V1_ROOT = Host(
    kernel=(6, 1),
    hierarchies=_hierarchies(),
    namespaces=tuple((type, 4026531840 + number) for number, type in enumerate(FILES)),
    mountpoints=("/", "/proc", "/sys", "/bundle"),
)
"""Root on a machine with cgroup v1 and a kernel whose procfs has no pidns option."""

HOST_NEW = replace(HOST_V1_ROOT, kernel=(6, 18))
HOST_USER = replace(HOST_V1_ROOT, euid=1000, egid=1000)
HOST_NESTED = replace(HOST_V1_ROOT, in_userns=True)

CHARGED_PATHS = (
    ("cpu", "/sys/fs/cgroup/cpu,cpuacct/box"),
    ("memory", "/sys/fs/cgroup/memory/box"),
    ("devices", "/sys/fs/cgroup/devices/box"),
    ("pids", "/sys/fs/cgroup/pids/box"),
)


def minimal_process(**fields: Any) -> Process:
    """A process with HOME set, so that nothing has to be looked up."""
    return Process(**{"cwd": "/", "args": ("true",), "env": ("HOME=/root",), **fields})


def minimal_spec(
    *,
    namespaces: Sequence[str | Namespace] = ("mount", "pid"),
    process: Any = "minimal",
    mounts: Any = (),
    **fields: Any,
) -> Spec:
    """A spec with these namespaces. fields: of Spec or of its linux section.  process: None for none."""
    spaces = tuple(Namespace(item) if isinstance(item, str) else item for item in namespaces)
    linux = {name: fields.pop(name) for name in list(fields) if name in Linux._fields}
    return Spec(
        "1.2.0",
        fields.pop("root", Root("rootfs")),
        minimal_process() if process == "minimal" else process,
        mounts=tuple(mounts),
        linux=Linux(namespaces=spaces, **linux),
        **fields,
    )


def minimal_request(**fields: Any) -> Request:
    """A request for the bundle /bundle, without cgroups."""
    return Request(**{"id": "box", "bundle": BUNDLE, "rootfs": f"{BUNDLE}/rootfs", **fields})


def build(spec: Spec, host: Host = HOST_V1_ROOT, **request: Any) -> Plan:
    """The plan of `spec`."""
    return builder.build(spec, host, minimal_request(**request))


def build_document(document: dict[str, Any], host: Host, id: str = "box") -> Plan:
    """The plan of a config.json document, with the cgroups that the host has for it."""
    spec = parse_config(document)
    paths = tuple(cgroup_paths(spec.linux.cgroups_path, id, host).items())
    return builder.build(spec, host, Request(id, BUNDLE, rootfs_path(BUNDLE, spec), paths))


def only(plan: Plan | Sequence[Op], type: type[OpType]) -> OpType:
    """The one operation of this type."""
    found = every(plan, type)
    assert len(found) == 1, f"{len(found)} operations of type {type.__name__}"
    return found[0]


def every(plan: Plan | Sequence[Op], type: type[OpType]) -> list[OpType]:
    """All operations of this type, in order."""
    return [op for op in (plan.ops if isinstance(plan, Plan) else plan) if isinstance(op, type)]


def where(plan: Plan, wanted: Op | type[Op]) -> int:
    """The index of an operation, or of the one of this type."""
    return plan.ops.index(only(plan, wanted) if isinstance(wanted, type) else wanted)


def host_document(host: Host) -> dict[str, Any]:
    """A host as JSON has it."""
    return {field: _plain(getattr(host, field)) for field in Host._fields}


def host_from(document: dict[str, Any]) -> Host:
    """The host that `host_document` wrote down."""
    fields = dict(document)
    fields["kernel"] = tuple(fields["kernel"])
    fields["hierarchies"] = tuple(_hierarchy(item) for item in fields["hierarchies"])
    fields["unified"] = None if fields["unified"] is None else _hierarchy(fields["unified"])
    fields["namespaces"] = tuple((type, inode) for type, inode in fields["namespaces"])
    fields["security_modules"] = tuple(fields.get("security_modules", ()))
    fields["mountpoints"] = tuple(fields["mountpoints"])
    return Host(**fields)


def _hierarchy(document: dict[str, Any]) -> Hierarchy:
    return Hierarchy(**{**document, "controllers": tuple(document["controllers"])})


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return {field: _plain(getattr(value, field)) for field in type(value)._fields}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def golden_cases() -> list[Path]:
    """The directories with config.json, host.json and plan.txt."""
    return sorted(path.parent for path in GOLDEN.glob("*/config.json"))


def golden_text(case: Path) -> str:
    """The plan of a case as it is now."""
    document = json.loads((case / "config.json").read_text())
    host = host_from(json.loads((case / "host.json").read_text()))
    return text(build_document(document, host, case.name))


class Decoded(Record):
    """What encoded bytes say. ops: (index, name, fields), numbers as int, strings as bytes, lists as tuples."""

    fd_count: int
    preserve_fds: int
    gate: int
    report: int
    stamps: int
    ops: tuple[tuple[int, str, tuple[Any, ...]], ...]


def decode(data: bytes) -> Decoded:
    """A plan read by the layout in csrc/plan.h, knowing nothing of the encoder."""

    def number(offset: int, size: int = 8) -> int:
        return int.from_bytes(data[offset : offset + size], "little")

    def string(offset: int) -> bytes:
        return data[offset : data.index(b"\0", offset)]

    def field(kind: str, word: int) -> Any:
        if kind == "u":
            return word
        if kind == "s":
            return string(word)
        items = [number(word + 8 * position) for position in range(1, number(word) + 1)]
        return tuple(string(item) for item in items) if kind == "a" else tuple(items)

    assert number(0) == 0x31306E75726F6379
    assert number(8, 4) == len(data)
    ops = []
    for position in range(number(12, 4)):
        entry = 40 + 8 * position
        name, signature = WIRE[number(entry, 2)]
        first = number(entry + 4, 4)
        fields = [field(kind, number(first + 8 * place)) for place, kind in enumerate(signature)]
        ops.append((number(entry + 2, 2), name, tuple(fields)))
    fds, preserve, gate, report, stamps = (number(offset, 4) for offset in (16, 20, 24, 28, 32))
    return Decoded(fds, preserve, gate, report, stamps, tuple(ops))


def expected_fields(op: Op, slots: dict[Any, int]) -> tuple[Any, ...]:
    """The fields of an operation as `decode` shows them."""

    def shown(value: Any) -> Any:
        if isinstance(value, str):
            return value.encode("utf-8", "surrogateescape")
        return tuple(map(shown, value)) if isinstance(value, tuple) else int(value)

    return tuple(map(shown, op.fields(slots)))


def compile_c(target: Path, sources: Sequence[Path], *flags: str) -> Path:
    """A program for a test. Without a compiler, or without what the flags need, the test is skipped."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        missing("a C compiler")
    command = [*str(compiler).split(), "-std=gnu17", f"-I{CSRC}", *flags, *map(str, sources), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and not flags:
        pytest.fail(done.stderr)
    if done.returncode:
        missing(f"{' '.join(flags)}: {done.stderr.strip()[-2000:]}")
    return target


def missing(what: str) -> NoReturn:
    """Skip for the lack of something; that is a failure where PYOCIRUN_MUST_WORK=1."""
    if os.environ.get("PYOCIRUN_MUST_WORK") == "1":
        pytest.fail(f"{what} is missing, and PYOCIRUN_MUST_WORK=1")
    pytest.skip(f"needs {what}")
