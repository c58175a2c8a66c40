"""Builds the C parts: pyocirun._native by cffi, nsexec (shipped inside the package) and the installed command."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
CSRC = ROOT / "csrc"
NSEXEC_SOURCES = ["nsexec.c", "wire.c", "msg.c", "op_ns.c", "op_fs.c", "op_process.c", "op_exec.c"]
FREESTANDING = [
    "-std=gnu17",
    "-O2",
    "-ffreestanding",
    "-fno-stack-protector",
    "-fno-pie",
    "-fno-asynchronous-unwind-tables",
    "-fno-tree-loop-distribute-patterns",
]
STATIC = ["-static", "-nostdlib", "-no-pie", "-Wl,-z,noexecstack,--build-id=none", "-s"]


class BuildPrograms(build_ext):
    """build_ext, and before it the two programs."""

    def run(self) -> None:
        build_programs(Path(self.build_lib) / "pyocirun" / "bin")
        super().run()


class BinaryDistribution(Distribution):
    """A wheel with programs in it belongs to one platform."""

    def has_ext_modules(self) -> bool:
        return True


def build_programs(target: Path) -> None:
    """Compile nsexec and the demo's payload into `target`, and the launcher into build/ as the command."""
    target.mkdir(parents=True, exist_ok=True)
    compile_c([*FREESTANDING, *STATIC], [CSRC / name for name in NSEXEC_SOURCES], target / "nsexec")
    compile_c(["-std=gnu17", "-O2", "-static", "-s"], [ROOT / "integration/probe/probe.c"], target / "probe")
    command = ROOT / "build" / "pyocirun"
    command.parent.mkdir(exist_ok=True)
    compile_c(["-std=gnu17", "-O2", "-static", "-s", *launcher_defines()], [CSRC / "launcher.c"], command)


def launcher_defines() -> list[str]:
    """What the launcher must know of the interpreter: its path, its name with the version, its library directories.

    pip builds in an environment of its own: what is asked for is the interpreter behind it, not that environment.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    base = os.path.realpath(sys.executable)
    sites = [f"lib/{version}/site-packages", f"local/lib/{version}/dist-packages", "lib/python3/dist-packages"]
    listed = ", ".join(f'"{site}"' for site in sites)
    return [f'-DPYTHON="{base}"', f'-DABI="{version}"', f"-DSITES={listed}"]


def compile_c(flags: list[str], sources: list[Path], target: Path) -> None:
    """One program. CC and CFLAGS of the environment hold."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    extra = shlex.split(os.environ.get("CFLAGS", ""))
    subprocess.run([*compiler, *flags, *extra, *map(str, sources), "-o", str(target)], check=True)


setup(
    cffi_modules=["csrc/ffi_build.py:ffibuilder"],
    cmdclass={"build_ext": BuildPrograms},
    distclass=BinaryDistribution,
    data_files=[("bin", ["build/pyocirun"])],
)
