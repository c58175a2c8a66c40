"""Filters are compiled once, and kept below the root directory."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyocirun.errors import SpecError
from pyocirun.plan.ops import LoadSeccomp
from pyocirun.plan.seccomp import Filter, make_filter
from pyocirun.record import replace
from pyocirun.spawn import seccomp
from pyocirun.spawn.seccomp import compile_program, program, with_program
from pyocirun.spec.seccomp import parse_seccomp
from tests.support import GOLDEN, build, minimal_spec, only

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("pyocirun._seccomp") is None, reason="built without libseccomp"
)

PROFILE = parse_seccomp(
    {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["getpid"], "action": "SCMP_ACT_ALLOW"}]}
)
FILTER = make_filter(PROFILE)
MARK = (0x7FFF000000000006,)
"""A program that none of this would compile to."""


def kept(root: Path) -> list[Path]:
    return sorted((root / "@seccomp").iterdir())


def put(path: Path, instructions: tuple[int, ...]) -> None:
    """Another program in the place of the kept one, as if it had been compiled."""
    rest = path.read_bytes().split(b"\n", 2)[1] + b"\n" + b"".join(one.to_bytes(8, "little") for one in instructions)
    path.write_bytes(hashlib.blake2b(rest, digest_size=20).hexdigest().encode() + b"\n" + rest)


def test_the_plan_gets_the_program(tmp_path: Path) -> None:
    plan = with_program(build(minimal_spec(seccomp=PROFILE)), str(tmp_path), None)

    assert only(plan, LoadSeccomp).program == compile_program(FILTER, lambda _: None)


def test_a_filter_is_kept_for_this_user_alone(tmp_path: Path) -> None:
    program(FILTER, str(tmp_path), None)

    (file,) = kept(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_a_kept_filter_is_used_again(tmp_path: Path) -> None:
    program(FILTER, str(tmp_path), None)
    put(kept(tmp_path)[0], MARK)

    assert program(FILTER, str(tmp_path), None) == MARK


def large_profile(rules: int) -> dict[str, Any]:
    """A profile with so many rules, each for another system call or another value of its first argument."""
    from pyocirun import libseccomp

    docker = json.loads((GOLDEN / "docker-default/config.json").read_text())["linux"]["seccomp"]
    names = [name for rule in docker["syscalls"] for name in rule["names"] if libseccomp.number_of(name) >= 0]
    wanted = [
        {
            "names": [names[number % len(names)]],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": number, "op": "SCMP_CMP_EQ"}],
        }
        for number in range(rules)
    ]
    return {"defaultAction": "SCMP_ACT_ERRNO", "architectures": docker["architectures"], "syscalls": wanted}


def least_cpu_time(act: Callable[[], object], times: int) -> float:
    """Seconds of processor time that `act` takes at the least."""
    taken = []
    for _ in range(times):
        start = time.process_time()
        act()
        taken.append(time.process_time() - start)
    return min(taken)


def test_a_profile_of_400_rules_costs_its_compilation_once(tmp_path: Path) -> None:
    large = make_filter(parse_seccomp(large_profile(400)))
    compiled = program(large, str(tmp_path), None)

    compiling = least_cpu_time(lambda: compile_program(large, lambda _: None), 2)
    using = least_cpu_time(lambda: program(large, str(tmp_path), None), 10)

    assert large.tree
    assert program(large, str(tmp_path), None) == compiled
    assert using * 5 < compiling


def test_a_kept_filter_loads_no_library(tmp_path: Path) -> None:
    program(FILTER, str(tmp_path), None)
    again = (
        "import sys; from tests.spawn.test_seccomp import FILTER, program\n"
        f"program(FILTER, {str(tmp_path)!r}, None); assert 'pyocirun._seccomp' not in sys.modules"
    )

    done = subprocess.run([sys.executable, "-P", "-c", again], cwd=Path(__file__).parents[2], env=with_tests())

    assert done.returncode == 0


def with_tests() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(Path(__file__).parents[2])])}


@pytest.mark.parametrize(
    "other",
    [
        replace(FILTER, default=0),
        replace(FILTER, rules=()),
        replace(FILTER, architectures=("x86",)),
        replace(FILTER, refuses_new=False),
    ],
)
def test_another_filter_is_another_file(tmp_path: Path, other: Filter) -> None:
    program(FILTER, str(tmp_path), None)
    program(other, str(tmp_path), None)

    assert len(kept(tmp_path)) == 2


def test_flags_are_no_part_of_the_program(tmp_path: Path) -> None:
    program(FILTER, str(tmp_path), None)
    program(replace(FILTER, flags=0), str(tmp_path), None)

    assert len(kept(tmp_path)) == 1


@pytest.mark.parametrize("damage", [b"", b"x", b"\n\n\n", b"cut", b"flipped", b"library"])
def test_a_damaged_file_is_compiled_anew(tmp_path: Path, damage: bytes) -> None:
    good = program(FILTER, str(tmp_path), None)
    file = kept(tmp_path)[0]
    whole = file.read_bytes()
    damaged = {b"cut": whole[:-8], b"flipped": whole[:-1] + bytes([whole[-1] ^ 1])}
    file.write_bytes(damaged.get(damage, damage))

    assert program(FILTER, str(tmp_path), None) == good
    assert file.read_bytes() == whole


def test_another_libseccomp_compiles_anew(tmp_path: Path) -> None:
    good = program(FILTER, str(tmp_path), None)
    file = kept(tmp_path)[0]
    head = file.read_bytes().split(b"\n", 2)
    library = head[1].split(b" ")
    library[2] = b"1"
    file.write_bytes(b"\n".join([head[0], b" ".join(library), head[2]]))
    put(file, MARK)

    assert program(FILTER, str(tmp_path), None) == good


@pytest.mark.skipif(os.geteuid() != 0, reason="changes owners: needs root")
def test_a_directory_of_another_user_is_not_trusted(tmp_path: Path) -> None:
    program(FILTER, str(tmp_path), None)
    put(kept(tmp_path)[0], MARK)
    os.chown(tmp_path / "@seccomp", 1000, 1000)

    assert program(FILTER, str(tmp_path), None) != MARK


def test_a_directory_that_others_may_write_to_is_not_trusted(tmp_path: Path) -> None:
    program(FILTER, str(tmp_path), None)
    put(kept(tmp_path)[0], MARK)
    os.chmod(tmp_path / "@seccomp", 0o777)

    assert program(FILTER, str(tmp_path), None) != MARK


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    program(FILTER, str(tmp_path), None)
    file = kept(tmp_path)[0]
    put(file, MARK)
    os.rename(file, tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", file)

    assert program(FILTER, str(tmp_path), None) != MARK


def test_a_pipe_in_the_place_of_a_file_holds_nobody_up(tmp_path: Path) -> None:
    program(FILTER, str(tmp_path), None)
    file = kept(tmp_path)[0]
    file.unlink()
    os.mkfifo(file)

    assert program(FILTER, str(tmp_path), None)


def test_only_so_many_are_kept_and_the_newest_is_among_them(tmp_path: Path) -> None:
    program(FILTER, str(tmp_path), None)
    first = kept(tmp_path)[0]
    for number in range(seccomp.MOST):
        other = first.with_name(f"other{number}")
        other.write_bytes(b"")
        os.utime(other, ns=(number, number))

    program(replace(FILTER, default=0), str(tmp_path), None)

    assert len(kept(tmp_path)) == seccomp.MOST
    assert first in kept(tmp_path)


def test_where_nothing_can_be_kept_it_is_compiled_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "@seccomp").write_text("a file")

    assert program(FILTER, str(tmp_path), None)


def test_an_architecture_that_libseccomp_refuses_is_named() -> None:
    bad = make_filter(parse_seccomp({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_PPC64"]}))

    with pytest.raises(SpecError, match="libseccomp refuses the architecture ppc64") as caught:
        compile_program(bad, lambda _: None)

    assert caught.value.pointer == "/linux/seccomp/architectures/0"
