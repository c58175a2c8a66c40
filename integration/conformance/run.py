"""Run the OCI runtime-tools validation programs against a runtime, and compare with what is expected of them.

    python integration/conformance/run.py --runtime-tools DIR [--runtime COMMAND] [PROGRAM...]

DIR is a built tree of github.com/opencontainers/runtime-tools (`make tool runtimetest validation-executables`); it is
no part of this project. Each program prints TAP; `expected.toml` names the points that fail, and why. The comparison is
made for pyocirun; for another runtime the outcome is only printed. Needs root, and a machine with cgroup v1.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
POINT = re.compile(r"^(not )?ok (\d+)(?: - (.*?))?(?:\s*# ?(SKIP|TODO)\b.*)?$")
TIMEOUT = 180


@dataclass
class Outcome:
    """What a program printed. failed, passed, skipped: points of its TAP, by number.  status: its exit status."""

    failed: dict[int, str] = field(default_factory=dict)
    passed: dict[int, str] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)
    status: int = 0
    output: str = ""

    @property
    def clean(self) -> bool:
        """Whether nothing was found fault with. Programs about hooks print no points, only what was wrong."""
        complained = not (self.passed or self.skipped) and '"error": "' in self.output
        return not self.failed and self.status == 0 and not complained

    def summary(self) -> str:
        """The points that failed, or what else was wrong: "1, 3", "exit 1", "complains", ""."""
        if self.failed:
            return ", ".join(map(str, self.failed))
        return "" if self.clean else f"exit {self.status}" if self.status else "complains"


def main() -> int:
    arguments = parse_arguments()
    programs = find_programs(arguments.runtime_tools, arguments.programs)
    if not programs:
        print(f"no built validation program in {arguments.runtime_tools}", file=sys.stderr)
        return 2
    expected = tomllib.loads((HERE / "expected.toml").read_text())
    compare = os.path.basename(arguments.runtime) == "pyocirun"
    surprises = clean = 0
    for program in programs:
        outcome = run_program(program, arguments.runtime_tools, arguments.runtime)
        clean += outcome.clean
        surprise = compare and not as_expected(outcome, expected.get(program.parent.name))
        surprises += surprise
        print(line(program.parent.name, outcome, surprise), flush=True)
        if arguments.verbose and not outcome.clean:
            print(outcome.output, flush=True)
    print(f"{clean} of {len(programs)} clean" + (f", {surprises} not as expected" if compare else ""))
    return 1 if surprises else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    beside = Path(sys.executable).parent / "pyocirun"
    parser.add_argument("--runtime-tools", type=Path, required=True, metavar="DIR")
    parser.add_argument("--runtime", default=os.environ.get("RUNTIME") or str(beside), metavar="COMMAND")
    parser.add_argument("--verbose", action="store_true", help="print the output of programs that are not clean")
    parser.add_argument("programs", nargs="*", metavar="PROGRAM")
    return parser.parse_args()


def find_programs(tree: Path, names: list[str]) -> list[Path]:
    """The built programs, by name; all, if no name is given."""
    found = sorted(tree.resolve().glob("validation/*/*.t"))
    return [program for program in found if not names or program.parent.name in names]


def run_program(program: Path, tree: Path, runtime: str) -> Outcome:
    """Run it in a mount namespace of its own, where what it mounts and forgets ends with it."""
    with tempfile.TemporaryFile("w+") as output:
        # A file and not a pipe: a container that outlives the program would keep a pipe open.
        process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", str(program)],
            cwd=tree,
            env={**os.environ, "RUNTIME": runtime},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            status = process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        output.seek(0)
        return read_tap(output.read(), status)


def read_tap(text: str, status: int) -> Outcome:
    """The points of a TAP stream. A point without a number, or a second one with it, counts on."""
    outcome = Outcome(status=status, output=text)
    for number, match in enumerate(filter(None, map(POINT.match, text.splitlines())), 1):
        points = outcome.skipped if match[4] else outcome.failed if match[1] else outcome.passed
        points[number] = match[3] or ""
    return outcome


def as_expected(outcome: Outcome, expected: dict[str, Any] | None) -> bool:
    """expected: a table of expected.toml, whose head tells what is in it; None for a program that has to be clean."""
    if expected is None:
        return outcome.clean
    if expected.get("sometimes") and outcome.clean:
        return True
    return not outcome.clean and sorted(outcome.failed) == sorted(expected["fails"])


def line(name: str, outcome: Outcome, surprise: bool) -> str:
    counts = f"{len(outcome.passed)} ok, {len(outcome.failed)} not ok, {len(outcome.skipped)} skipped"
    mark = "surprise" if surprise else "ok" if outcome.clean else "differs"
    return f"{mark:9} {name:40} {counts}" + (f" ({outcome.summary()})" if outcome.summary() else "")


if __name__ == "__main__":
    sys.exit(main())
