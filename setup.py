"""Builds the C parts: pyocirun._native by cffi, nsexec (shipped inside the package) and the installed command."""

from __future__ import annotations

import importlib.util
import marshal
import mmap
import os
import py_compile
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import _cffi_backend
from setuptools import Distribution, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
CSRC = ROOT / "csrc"
NSEXEC_SOURCES = [
    "nsexec.c",
    "wire.c",
    "msg.c",
    "path.c",
    "op_ns.c",
    "op_mount.c",
    "op_mask.c",
    "op_root.c",
    "op_process.c",
    "op_sched.c",
    "op_lsm.c",
    "op_landlock.c",
    "op_exec.c",
    "op_seccomp.c",
    "op_terminal.c",
]
FREESTANDING = [
    "-std=gnu17",
    "-O2",
    "-ffreestanding",
    "-fno-stack-protector",
    "-fno-pie",
    "-fno-asynchronous-unwind-tables",
    "-fno-tree-loop-distribute-patterns",
]
LAUNCHER = [CSRC / "launcher.c"]
EMBEDDED = [CSRC / "embed.c", CSRC / "snapshot.c"]
STATIC = ["-static", "-nostdlib", "-no-pie", "-Wl,-z,noexecstack,--build-id=none", "-s"]

PYTHON = os.path.realpath(sys.executable)
USUAL = """
    cli.main cli.elsewhere container.factory cli.state cli.kill cli.start spawn.gate cli.delete cgroup.fs cgroup.manager
    cli.create container.creation plan.build spec.bundle plan.rootfs plan.paths cgroup.v1 cgroup.path spec.resources
    linux.rlimits cli.exec cli.foreground container.tenant
"""
"""Modules of the commands that engines call, with what these import: first in a snapshot, so that they lie together."""

NOT_IMPORTED = ("pyocirun.__main__", "pyocirun.cli.start_command", "pyocirun.cli.boot")
"""Programs, not modules."""

SECTION = ".pyocirun.memory"
"""Of the command; its own name, so that no tool takes it for debugging information."""

SNAPSHOT_WORKS = sys.version_info < (3, 14)
"""Later interpreters start in one phase, and so with the streams and the environment of the build."""

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
SITES = [
    f"lib/{VERSION}/site-packages",
    f"lib64/{VERSION}/site-packages",
    f"lib/{VERSION}/dist-packages",
    "lib/python3/dist-packages",
]
"""Below the command's prefix: where Python's pip puts packages, Fedora's and Debian's as root, and Debian itself."""

LIBPYTHON = Path(str(sysconfig.get_config_var("LIBPL"))) / str(sysconfig.get_config_var("LIBRARY"))
FROZEN = {
    "_pyocirun_boot": "pyocirun/cli/boot.py",
    "__future__": "__future__.py",
    "encodings": "encodings/__init__.py",
    "encodings.aliases": "encodings/aliases.py",
    "encodings.utf_8": "encodings/utf_8.py",
}
"""What the embedded interpreter has inside, besides what every interpreter has: name and source."""
WRAPPED = ["malloc", "calloc", "realloc", "free"]  # see csrc/snapshot.c, and csrc/embed.c for what follows
if sys.version_info[:2] == (3, 13):
    WRAPPED.append("_PyCodec_InitRegistry")
PROBE = """
import sys

def main(argv):
    try:
        b"\\xff".decode()
    except UnicodeDecodeError:
        pass
    "\\0".encode("unicode_escape")
    sys.path.append({backend!r})
    import _cffi_backend, json, traceback
    print(*argv, end="")
    return 0

def leave(status):
    sys.stdout.flush()
    sys.exit(status)
"""


class BuildPrograms(build_ext):
    """build_ext, and before it the two programs."""

    def run(self) -> None:
        require_tools()
        package = Path(self.build_lib) / "pyocirun"
        no_interpreter = build_programs(package / "bin")
        write_build_info(package / "_build_info.py", no_interpreter)
        no_snapshot = no_interpreter or add_snapshot(ROOT / "build" / "pyocirun", package)
        if no_snapshot:  # else the file is in the snapshot, and must stay as it is
            write_build_info(package / "_build_info.py", no_interpreter, no_snapshot)
        super().run()


class BinaryDistribution(Distribution):
    """A wheel with programs in it belongs to one platform."""

    def has_ext_modules(self) -> bool:
        return True


def require_tools() -> None:
    """Raises SystemExit with what to install, where the C parts cannot be compiled."""
    compiler = shlex.split(os.environ.get("CC", "cc"))[0]
    missing = [f"a C compiler ({compiler})"] if shutil.which(compiler) is None else []
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        missing.append(f"Python's headers ({sysconfig.get_path('include')}/Python.h)")
    if not Path("/usr/include/sys/prctl.h").is_file() and not list(Path("/usr/include").glob("*/sys/prctl.h")):
        missing.append("the headers of the C library")
    if missing:
        packages = "gcc libc6-dev libcap-dev libseccomp-dev python3-dev"
        raise SystemExit(
            f"pyocirun cannot be built without {', '.join(missing)}.\nDebian, Ubuntu: apt-get install {packages}"
        )


def man_pages() -> list[str]:
    """The pages for man(1), made from docs/man; relative paths, as setuptools wants them."""
    sys.path.insert(0, str(ROOT / "docs/man"))
    from pages import write_roff

    return [str(page.relative_to(ROOT)) for page in write_roff(ROOT / "build/man")]


def write_build_info(path: Path, no_interpreter: str, no_snapshot: str = "") -> None:
    """The commit that is built, where git knows it, else ""; why the command lacks something, or ""."""
    try:
        done = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        commit = done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = ""
    facts = {"COMMIT": commit, "NO_INTERPRETER": no_interpreter, "NO_SNAPSHOT": no_snapshot, "SITES": system_sites()}
    path.write_text("".join(f"{name} = {value!r}\n" for name, value in facts.items()))


def system_sites() -> list[str]:
    """The directories in which the interpreter of the system has its packages."""
    call = [PYTHON, "-I", "-S", "-c", "import site; print(*site.getsitepackages(), sep='\\n')"]
    return subprocess.run(call, capture_output=True, text=True, check=True).stdout.splitlines()


def build_programs(target: Path) -> str:
    """Compile nsexec and the demo's payload into `target`, and the launcher into build/ as the command.

    Why that has no interpreter inside comes back, "" if it has.
    """
    target.mkdir(parents=True, exist_ok=True)
    compile_c([*FREESTANDING, *STATIC], [CSRC / name for name in NSEXEC_SOURCES], target / "nsexec")
    compile_c(["-std=gnu17", "-O2", "-static", "-s"], [ROOT / "integration/probe/probe.c"], target / "probe")
    return build_launcher(ROOT / "build")


def build_launcher(directory: Path) -> str:
    """The installed command: with the interpreter inside where that works here, else one that executes it: see why."""
    directory.mkdir(exist_ok=True)
    why_not = obstacle_to_embedding(directory)
    if why_not:
        print(f"the command gets no interpreter inside: {why_not}", file=sys.stderr)
        compile_c(["-std=gnu17", "-O2", "-static", "-s", *launcher_defines(SITES)], LAUNCHER, directory / "pyocirun")
    else:
        compile_embedded(directory, SITES, directory / "pyocirun")
    return why_not


def obstacle_to_embedding(directory: Path) -> str:
    """Why no launcher with this interpreter inside can be linked and import what the package needs; "" if one can.

    An interpreter that is linked to a shared libpython itself would load that a second time, with its modules.
    """
    if "libpython" in Path("/proc/self/maps").read_text():
        return f"{PYTHON} itself is linked to a shared libpython"
    if not LIBPYTHON.is_file():
        return f"{LIBPYTHON} is missing (Debian, Ubuntu: package lib{VERSION}-dev)"
    if "\\ " in str(sysconfig.get_config_var("MODLIBS")):
        # What is left of the names of archives. hashlib complains aloud where it has no blake2.
        return f"{LIBPYTHON} lacks the code of its hash functions"
    with tempfile.TemporaryDirectory() as site:
        main = Path(site) / "pyocirun" / "cli" / "main.py"
        main.parent.mkdir(parents=True)
        main.write_text(PROBE.format(backend=os.path.dirname(_cffi_backend.__file__)))
        main.with_name("start_command.py").touch()
        shutil.copy(ROOT / "pyocirun/cli/elsewhere.py", main.parent)
        probe = Path(site) / "probe"
        try:
            compile_embedded(directory, [site], probe)
            done = subprocess.run([probe, "works"], env={}, capture_output=True, text=True, timeout=60, check=True)
        except (subprocess.SubprocessError, OSError) as error:
            print(error, getattr(error, "stderr", ""), file=sys.stderr)
            return "a trial failed, see what the build printed"
        return "" if done.stdout == "works" else "a trial printed something else than it should"


def compile_embedded(directory: Path, sites: list[str], target: Path) -> None:
    """The launcher with libpython linked in. directory: for the header with frozen modules that goes into it."""
    words = shlex.split(" ".join(sysconfig.get_config_var(name) or "" for name in ("LIBS", "MODLIBS", "SYSLIBS")))
    libraries = [word for word in words if word.startswith("-") or os.path.isfile(word)]
    (directory / "frozen.h").write_text(frozen_header() + builtin_header(set(words) - set(libraries)))
    includes = [f"-I{sysconfig.get_path('include')}", f"-I{sysconfig.get_path('platinclude')}", f"-I{directory}"]
    # Not position-independent: relocating libpython's tables would be a tenth of a start.
    flags = ["-std=gnu17", "-O2", "-s", "-fno-pie", "-no-pie", "-DEMBED", *includes]
    wrap = [f"-Wl,--wrap={name}" for name in WRAPPED]
    link = [str(LIBPYTHON), *dict.fromkeys(libraries), "-ldl", "-lpthread", "-Wl,--export-dynamic", *wrap]
    compile_c([*flags, *launcher_defines(sites), *python_defines()], [*LAUNCHER, *EMBEDDED], target, link)


def add_snapshot(command: Path, package: Path) -> str:
    """Add to the command the memory of an interpreter that has imported the package: see csrc/snapshot.c.

    Where that does not work, nothing is added, and the command imports what it needs when it runs. Why, or "".
    """
    if not SNAPSHOT_WORKS:
        return "this version of Python starts in one phase"
    if not package.is_dir():
        return "the package was not there when the command was built"
    with tempfile.TemporaryDirectory() as prefix:
        site = Path(prefix) / SITES[0]
        sources = [path.relative_to(package.parent) for path in sorted(package.rglob("*.py"))]
        for source in sources:
            (site / source).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(package.parent / source, site / source)
            py_compile.compile(str(site / source), dfile=str(source), doraise=True)
        add_library(site, "jeepney")
        trial = Path(prefix) / "bin" / "pyocirun"
        trial.parent.mkdir()
        shutil.copy(command, trial)
        names = [".".join(source.with_suffix("").parts).removesuffix(".__init__") for source in sources]
        usual = [f"pyocirun.{name}" for name in USUAL.split()]
        names = [*usual, *(name for name in names if name not in (*NOT_IMPORTED, *usual))]
        memory = Path(prefix) / "memory"
        # Two calls: objcopy aligns only what it finds. The alignment holds for strip(1) too.
        steps = ["--add-section", f"{SECTION}={memory}"], ["--set-section-alignment", f"{SECTION}={mmap.PAGESIZE}"]
        try:
            write_memory(command, ["pyocirun-make-snapshot", str(site), str(memory), *names])
            for step in steps:
                subprocess.run(["objcopy", *step, str(trial)], capture_output=True, text=True, check=True)
            call = [str(trial), "--root", f"{prefix}/root", "state", "absent"]
            done = subprocess.run(call, env={}, capture_output=True, text=True, timeout=60, check=False)
        except (subprocess.SubprocessError, OSError) as error:
            print(f"the command gets no snapshot: {error}", getattr(error, "stderr", ""), file=sys.stderr)
            return "it could not be made, see what the build printed"
        if done.returncode != 1 or "container does not exist" not in done.stderr:
            print(f"the command gets no snapshot: {done}", file=sys.stderr)
            return "it did not work, see what the build printed"
        shutil.copy(trial, command)
    return ""


def add_library(site: Path, name: str) -> None:
    """Copy a package of Python's that is installed, and nothing if it is not."""
    spec = importlib.util.find_spec(name)
    for directory in (spec and spec.submodule_search_locations) or []:
        for path in sorted(Path(directory).rglob("*.py")):
            source = Path(name) / path.relative_to(directory)
            (site / source).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, site / source)
            py_compile.compile(str(site / source), dfile=str(source), doraise=True)


def write_memory(command: Path, call: list[str], attempts: int = 5) -> None:
    """Have the command write its memory. Raises SubprocessError if it cannot.

    Now and then a number looks like an address of that process, and is refused. The next process lies elsewhere.
    """
    while True:
        attempts -= 1
        done = subprocess.run(call, executable=command, env={}, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 0 or attempts == 0:
            return done.check_returncode()


def launcher_defines(sites: list[str]) -> list[str]:
    """What the launcher must know of the interpreter: its path, its name with the version, its library directories.

    pip builds in an environment of its own: what is asked for is the interpreter behind it, not that environment.
    """
    listed = ", ".join(f'"{site}"' for site in sites)
    return [f'-DPYTHON="{PYTHON}"', f'-DABI="{VERSION}"', f"-DSITES={listed}"]


def python_defines() -> list[str]:
    """What else the embedded interpreter must know: where its library lies, and how to see that it was replaced."""
    about = os.stat(PYTHON)
    return [
        f'-DPREFIX="{sys.base_prefix}"',
        f'-DSTDLIB="{sysconfig.get_path("stdlib")}"',
        f'-DDYNLOAD="{sysconfig.get_config_var("DESTSHARED")}"',
        f"-DPYC_MAGIC={int.from_bytes(importlib.util.MAGIC_NUMBER, 'little')}L",
        f"-DPYTHON_SIZE={about.st_size}",
        f"-DPYTHON_MTIME={int(about.st_mtime)}",
    ]


def frozen_header() -> str:
    """C tables with the code of FROZEN, for PyImport_FrozenModules."""
    tables, rows = [], []
    for number, (name, source) in enumerate(FROZEN.items()):
        path = ROOT / source if source.startswith("pyocirun/") else Path(sysconfig.get_path("stdlib")) / source
        code = marshal.dumps(compile(path.read_bytes(), f"<frozen {name}>", "exec", dont_inherit=True, optimize=2))
        tables.append(f"static const unsigned char frozen_{number}[] = {{{','.join(map(str, code))}}};")
        is_package = int(path.name == "__init__.py")
        rows.append(f'{{.name = "{name}", .code = frozen_{number}, .size = {len(code)}, .is_package = {is_package}}},')
    return "\n".join([*tables, "static const struct _frozen frozen_modules[] = {", *rows, "{0}};", ""])


def builtin_header(missing: set[str]) -> str:
    """The C table of built-in modules, in the place of libpython's: all that this interpreter has, but for `missing`.

    missing: archives of hash functions that libpython calls and Debian's and Ubuntu's packages leave out, such as
    "Modules/_hacl/libHacl_Hash_SHA2.a". Who imports _sha2 takes that of OpenSSL then.
    """
    without = {"_" + Path(archive).stem.rpartition("_")[2].lower() for archive in missing}
    special = {"builtins": "NULL", "sys": "NULL", "marshal": "PyMarshal_Init", "_warnings": "_PyWarnings_Init"}
    names = [name for name in sys.builtin_module_names if name not in without]
    starts = {name: special.get(name, f"PyInit_{name}") for name in names}
    declared = [f"extern PyObject *{start}(void);" for start in starts.values() if start != "NULL"]
    rows = [f'{{"{name}", {start}}},' for name, start in starts.items()]
    return "\n".join([*declared, "struct _inittab _PyImport_Inittab[] = {", *rows, "{0}};", ""])


def compile_c(flags: list[str], sources: list[Path], target: Path, link: list[str] | None = None) -> None:
    """One program. CC and CFLAGS of the environment hold."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    extra = shlex.split(os.environ.get("CFLAGS", ""))
    subprocess.run([*compiler, *flags, *extra, *map(str, sources), "-o", str(target), *(link or [])], check=True)


def has_libseccomp() -> bool:
    """Whether programs can be linked with libseccomp here. Without it everything works but seccomp profiles."""
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "trial.c"
        source.write_text("#include <seccomp.h>\nint main(void) { return !seccomp_version(); }\n")
        try:
            compile_c([], [source], source.with_suffix(""), ["-lseccomp"])
        except (subprocess.SubprocessError, OSError) as error:
            print(f"seccomp profiles will be refused, libseccomp-dev is missing: {error}", file=sys.stderr)
            return False
    return True


setup(
    cffi_modules=[
        "csrc/ffi_build.py:ffibuilder",
        *(["csrc/seccomp_build.py:ffibuilder"] if has_libseccomp() else []),
    ],
    cmdclass={"build_ext": BuildPrograms},
    distclass=BinaryDistribution,
    data_files=[("bin", ["build/pyocirun"]), ("share/man/man8", man_pages())],
)
