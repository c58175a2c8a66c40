"""The guest's disk, kernel and initrd: a Debian with systemd and nothing but cgroup v2, and pyocirun built for it.

All is made once and kept in `cache()`, which is no part of the checkout. Root makes it: a Debian is unpacked into a
directory, and pyocirun is compiled in it by chroot, at the speed of the host and with the guest's own Python.
"""

from __future__ import annotations

import ctypes
import gzip
import hashlib
import inspect
import lzma
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
SUITE = "trixie"
DISK_BYTES = 8 << 30
USER = "tester"

# crc32c_generic: ext4 asks for it by another name.
DRIVERS = ("crc32c_generic", "virtio_pci", "virtio_blk", "ext4", "virtio_console", "virtio_rng", "9pnet_virtio", "9p")

# What of guest/ is part of the image; the agent is handed over at each boot.
RECIPE = ("init", "masked", "packages", "pyocirun-vm.service")

# What the tests of engines import beyond Debian's packages.
PYTHON_OF_ENGINES = ("container-runtime-interface-api>=2", "docker>=7", "websocket-client>=1.6")

KEPT = 8
"""How many archives of pyocirun the cache holds besides a new one, 20 MB each."""

NO_SOURCES = ("build", "dist", "integration", "tests")

CLONE_NEWNS = 0x20000
MS_PRIVATE = 1 << 18
MS_REC = 0x4000


def cache() -> Path:
    """Where the image is kept: VM_CACHE, or below the user's own cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("VM_CACHE") or Path(home) / "pyocirun-vm")


def missing() -> list[str]:
    """What this machine lacks to make and boot the guest: programs, and root's rights."""
    lacking = [name for name in ("qemu-system-x86_64", "mmdebstrap", "mke2fs") if not shutil.which(name)]
    return lacking if os.geteuid() == 0 else [*lacking, "root"]


def build(*, force: bool = False) -> Path:
    """The directory with vmlinuz, initrd, disk.img and the tree of the guest, made if it is missing or another's."""

    def fill(work: Path) -> None:
        tree = work / "tree"
        _unpack(tree)
        _configure(tree)
        kernel = max((tree / "boot").glob("vmlinuz-*"))
        shutil.copy(kernel, work / "vmlinuz")
        (work / "initrd").write_bytes(gzip.compress(_initrd(tree, kernel.name.removeprefix("vmlinuz-")), 1))
        for file in (tree / "boot").iterdir():
            if file.is_file():
                file.unlink()

    return _kept(SUITE, _recipe(), fill, force)


def build_with_engines(*, force: bool = False) -> Path:
    """The same for a larger guest, with docker and what else engines and their tests need."""
    plain = build()

    def fill(work: Path) -> None:
        for name in ("tree", "vmlinuz", "initrd"):
            subprocess.run(["cp", "--archive", "--reflink=auto", str(plain / name), str(work)], check=True)
        _add_engines(work / "tree")

    whole = repr([_recipe(), _words("engines"), PYTHON_OF_ENGINES, inspect.getsource(_add_engines)])
    return _kept(f"{SUITE}-engines", hashlib.sha256(whole.encode()).hexdigest(), fill, force)


def _kept(name: str, stamp: str, fill: Callable[[Path], None], force: bool) -> Path:
    """A directory of the cache, as it was made from the same recipe, or made anew: `fill` puts in all but the disk."""
    made = cache() / name
    if not force and (made / "stamp").exists() and (made / "stamp").read_text() == stamp:
        return made
    work = cache() / f"{name}.{os.getpid()}"
    work.mkdir(parents=True)
    try:
        fill(work)
        _make_disk(work / "tree", work / "disk.img")
        (work / "stamp").write_text(stamp)
        shutil.rmtree(made, ignore_errors=True)
        work.rename(made)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return made


def install() -> Path:
    """A tar archive of pyocirun as it is in the checkout, installed below /usr; made if the sources have changed."""
    made = build()
    archive = cache() / f"installed-{_sources_hash()}.tar"
    if archive.exists():
        return archive
    # Those of other checkouts that share the cache may be in use: the oldest alone goes.
    for old in sorted(cache().glob("installed-*.tar"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
        old.unlink(missing_ok=True)
    script = (
        "set -e; work=$(mktemp -d); trap 'rm -rf $work' EXIT; mkdir $work/build; cd $work/build; tar -x;"
        # Debian's own layout: what the command finds beside it is what Debian's packages bring.
        "DEB_PYTHON_INSTALL_LAYOUT=deb pip install --quiet --no-deps --no-build-isolation --no-index"
        " --break-system-packages --root-user-action=ignore --root $work/out --prefix /usr . >&2;"
        "tar -c -C $work/out ."
    )
    sources = subprocess.run(["tar", "-c", *_sources()], cwd=CHECKOUT, check=True, stdout=subprocess.PIPE).stdout
    new = archive.with_suffix(f".{os.getpid()}")
    try:
        with open(new, "wb") as out:
            _chroot(made / "tree", "sh", "-c", script, input=sources, stdout=out)
        new.rename(archive)
    finally:
        new.unlink(missing_ok=True)
    return archive


def _recipe() -> str:
    functions = [inspect.getsource(function) for function in (_unpack, _configure, _initrd, _make_disk)]
    files = [(HERE / "guest" / name).read_text() for name in RECIPE]
    whole = repr([DRIVERS, SUITE, DISK_BYTES, USER, functions, files])
    return hashlib.sha256(whole.encode()).hexdigest()


def _sources() -> list[str]:
    """What pyocirun is built from, relative to the checkout: all but what only tests it."""
    found: list[Path] = []
    for path in [*CHECKOUT.iterdir(), CHECKOUT / "integration/probe"]:
        if path.name not in NO_SOURCES and not path.name.startswith(".") and not path.name.endswith(".egg-info"):
            found += path.rglob("*") if path.is_dir() else [path]
    kept = [path for path in found if path.is_file() and path.suffix not in (".pyc", ".so", ".o")]
    return sorted(str(path.relative_to(CHECKOUT)) for path in kept)


def _sources_hash() -> str:
    digest = hashlib.sha256(((cache() / SUITE / "stamp").read_text()).encode())
    for name in _sources():
        digest.update(name.encode() + b"\0" + (CHECKOUT / name).read_bytes())
    return digest.hexdigest()[:24]


def _unpack(tree: Path) -> None:
    options = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "locale", "doc")]
    # The initrd that the kernel's package makes is not used: keep that short.
    quick = 'mkdir -p "$1/etc/initramfs-tools/conf.d"; echo MODULES=list >"$1/etc/initramfs-tools/conf.d/vm"'
    subprocess.run(
        ["mmdebstrap", "--variant=minbase", "--mode=root", "--quiet", "--include=" + ",".join(_words("packages"))]
        + ["--dpkgopt=force-unsafe-io", *options, f"--essential-hook={quick}", SUITE, str(tree)],
        check=True,
        stdout=sys.stderr,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )


def _configure(tree: Path) -> None:
    """Turn a fresh Debian into the guest."""
    units = tree / "etc/systemd/system"
    shutil.copy(HERE / "guest/pyocirun-vm.service", units)
    _put(units / "user@.service.d/delegate.conf", "[Service]\nDelegate=yes\n")
    _put(tree / "etc/systemd/system.conf.d/vm.conf", "[Manager]\nDefaultTimeoutStopSec=10s\n")
    _put(tree / "etc/systemd/journald.conf.d/vm.conf", "[Journal]\nStorage=volatile\n")
    _put(tree / "etc/fstab", "")
    _put(tree / "etc/hostname", "vm\n")
    _put(tree / "etc/hosts", "127.0.0.1 localhost vm\n")
    _put(tree / "etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    for unit in _words("masked"):
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    subprocess.run(["chroot", str(tree), "useradd", "-m", "-u", "1000", "-s", "/bin/bash", USER], check=True)
    for name in ("subuid", "subgid"):
        _put(tree / "etc" / name, f"{USER}:100000:65536\n")
    for name in ("etc/.updated", "var/.updated"):  # or the first boot makes ld.so.cache and its like anew
        _put(tree / name, "")


def _words(name: str) -> list[str]:
    """The words in a file of guest/, without comments."""
    lines = (HERE / "guest" / name).read_text().splitlines()
    return [word for line in lines if not line.startswith("#") for word in line.split()]


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _add_engines(tree: Path) -> None:
    """By the guest's own apt, which is told what this machine's apt knows of proxies and the like."""
    settings = subprocess.run(["apt-config", "dump", "Acquire"], check=True, stdout=subprocess.PIPE).stdout
    script = (
        "set -e; cat >/run/apt.conf; export DEBIAN_FRONTEND=noninteractive APT_CONFIG=/run/apt.conf;"
        "apt-get update -q; apt-get install -q -y --no-install-recommends -o DPkg::Options::=--force-unsafe-io "
    )
    shutil.copy("/etc/resolv.conf", tree / "etc/resolv.conf")
    _chroot(
        tree, "sh", "-c", script + " ".join(_words("engines")) + "; apt-get clean", input=settings, stdout=sys.stderr
    )
    for unit in ("docker.service", "docker.socket"):
        (tree / "etc/systemd/system" / unit).symlink_to("/dev/null")
    python = next((tree / "usr/lib").glob("python3.*"))
    target = tree / "usr/local/lib" / python.name / "dist-packages"
    words = ["--quiet", "--target", str(target), "--python-version", python.name.removeprefix("python")]
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--only-binary=:all:"]
    subprocess.run([*pip, *words, *PYTHON_OF_ENGINES], check=True, stdout=sys.stderr)


def _initrd(tree: Path, release: str) -> bytes:
    """busybox, guest/init and the modules of DRIVERS in the order to load them, as a cpio archive."""
    modules = tree / "lib/modules" / release
    needs = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        file, _, rest = line.partition(":")
        needs[Path(file).name.partition(".")[0].replace("-", "_")] = [*reversed(rest.split()), file]
    order = list(dict.fromkeys(file for driver in DRIVERS for file in needs.get(driver, [])))
    entries: list[tuple[str, int, bytes]] = [(name, 0o040755, b"") for name in ("bin", "dev", "root")]
    entries.append(("bin/busybox", 0o100755, (tree / "usr/bin/busybox").read_bytes()))
    entries.append(("init", 0o100755, (HERE / "guest/init").read_bytes()))
    names = []
    for file in order:
        data = (modules / file).read_bytes()
        name = Path(file).name
        if name.endswith(".xz"):
            name, data = name.removesuffix(".xz"), lzma.decompress(data)
        names.append(f"/{name}\n")
        entries.append((name, 0o100644, data))
    entries.append(("modules", 0o100644, "".join(names).encode()))
    return b"".join(_cpio(number, *entry) for number, entry in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1))


def _cpio(inode: int, name: str, mode: int, data: bytes) -> bytes:
    """One member of an archive in the format "newc", as the kernel unpacks it."""
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def _make_disk(tree: Path, disk: Path) -> None:
    disk.touch()
    os.truncate(disk, DISK_BYTES)
    options = ["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", str(tree)]
    subprocess.run(["mke2fs", *options, str(disk)], check=True, stdout=sys.stderr)


def _chroot(tree: Path, *args: str, input: bytes, stdout: object) -> None:
    """Run a program with `tree` as its root, in a mount namespace of its own."""

    def enter() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNS) or libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None):
            raise OSError(ctypes.get_errno(), "unshare")
        if libc.mount(b"proc", str(tree / "proc").encode(), b"proc", 0, None):
            raise OSError(ctypes.get_errno(), "mount proc")
        os.chroot(tree)
        os.chdir("/")

    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"}
    subprocess.run(args, input=input, stdout=stdout, check=True, env=env, preexec_fn=enter)  # type: ignore[call-overload]
