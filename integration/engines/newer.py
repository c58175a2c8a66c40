"""Newer engines than the machine has, and criu: those of Debian's unstable suite, unpacked and not installed.

python -m integration.engines.newer    make the directory, if it is missing or made by another recipe

apt downloads them into a root of its own, so it checks Debian's signatures and knows which libraries belong to them. A
program that asks for a newer libc than the machine's is pointed at the one that is unpacked beside it.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SUITE = "sid"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# These get along with an old libc,
ENGINES = ("containerd", "docker.io", "docker-cli", "docker-buildx")
# and these do not: they come with their libraries.
LINKED = ("podman", "conmon", "netavark", "buildah", "passt", "criu")
POINTED = (
    "usr/bin/podman",
    "usr/bin/conmon",
    "usr/lib/podman/netavark",
    "usr/libexec/podman/rootlessport",
    "usr/bin/buildah",
    "usr/bin/passt",
    "usr/bin/passt.avx2",
    "usr/sbin/criu",
)
# A directory with criu, and none of the engines.
ALONE = "alone"
TOOLS = ("apt-get", "dpkg-deb", "patchelf")


def tree() -> str:
    """The directory in whose usr/bin and usr/sbin the engines are; "" if nobody has made it."""
    made = _cache() / SUITE
    return str(made) if _stamp(made) == _recipe() else ""


def environment(tree: str) -> dict[str, str]:
    """What finds the programs of a tree before the machine's own; nothing for "", the machine itself."""
    return {"PATH": path(tree)} if tree else {}


def path(tree: str) -> str:
    own = os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    return f"{tree}/usr/bin:{tree}/usr/sbin:{own}" if tree else own


def path_with_criu() -> str:
    """PATH, and on it the criu of the tree if there is one: what the machine has is too old, or none."""
    made, own = tree(), path("")
    return f"{made}/{ALONE}:{own}" if made else own


def build() -> str:
    """The directory, made now if need be."""
    if done := tree():
        return done
    made, work = _cache() / SUITE, _cache() / f"{SUITE}.{os.getpid()}"
    work.mkdir(parents=True)
    try:
        with tempfile.TemporaryDirectory() as root:
            for archive in _download(Path(root)):
                subprocess.run(["dpkg-deb", "--extract", archive, work], check=True)
        _point(work, made)
        (work / ALONE).mkdir()
        (work / ALONE / "criu").symlink_to("../usr/sbin/criu")
        (work / "stamp").write_text(_recipe())
        shutil.rmtree(made, ignore_errors=True)
        work.rename(made)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return str(made)


def _cache() -> Path:
    """ENGINES_CACHE, or where every user can execute what is in it: rootless podman is among the engines."""
    return Path(os.environ.get("ENGINES_CACHE") or "/var/cache/pyocirun-engines")


def _stamp(made: Path) -> str:
    file = made / "stamp"
    return file.read_text() if file.exists() else ""


def _recipe() -> str:
    functions = [inspect.getsource(function) for function in (build, _download, _point)]
    return hashlib.sha256(repr([SUITE, ENGINES, LINKED, POINTED, functions]).encode()).hexdigest()


def _download(root: Path) -> list[Path]:
    """Packages of ENGINES and LINKED, and the libraries of the latter, in a root for apt where nothing is installed."""
    for name in ("etc/apt.conf.d", "etc/preferences.d", "lists/partial", "cache/archives/partial"):
        (root / name).mkdir(parents=True)
    (root / "status").touch()
    # A mirror may stand still for longer than the suite's own index is valid.
    source = f"deb [check-valid-until=no signed-by={KEYRING}] {_mirror()} {SUITE} main\n"
    (root / "etc/sources.list").write_text(source)
    (root / "apt.conf").write_text(
        f'Dir::Etc "{root}/etc/"; Dir::State::lists "{root}/lists"; Dir::State::status "{root}/status";\n'
        f'Dir::Cache "{root}/cache"; APT::Sandbox::User "root"; Acquire::Languages "none";\n'
        'Acquire::Retries "3"; APT::Install-Recommends "false";\n'
    )
    env = {**os.environ, "APT_CONFIG": f"{root}/apt.conf", "LC_ALL": "C.UTF-8"}

    def apt(*words: str) -> str:
        done = subprocess.run(
            ["apt-get", "-q", *words], cwd=root, env=env, check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout

    apt("update")
    needed = [line.split()[1] for line in apt("--simulate", "install", *LINKED).splitlines() if line[:5] == "Inst "]
    apt("download", *ENGINES, *LINKED, *(name for name in needed if name.startswith(("lib", "zlib"))))
    return sorted(root.glob("*.deb"))


def _mirror() -> str:
    """DEBIAN_MIRROR, or where the machine gets its own Debian from."""
    if mirror := os.environ.get("DEBIAN_MIRROR"):
        return mirror
    known = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages"]
    listed = subprocess.run(known, check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in listed.splitlines():
        where, _, label = line.partition(" ")
        if label == "Debian":
            return where
    raise SystemExit("Nothing is known of a Debian mirror here: name one in DEBIAN_MIRROR.")


def _point(work: Path, made: Path) -> None:
    """Have the programs of POINTED use the libraries of the tree, at the place where it is going to be."""
    (interpreter,) = [*work.glob("usr/lib*/ld-linux-*.so.*"), *work.glob("usr/lib/*/ld-linux-*.so.*")][:1]
    (libc,) = work.glob("usr/lib/*/libc.so.6")
    for name in POINTED:
        if not (work / name).exists() and name.endswith(".avx2"):
            continue  # there is none but for x86
        # DT_RPATH, not DT_RUNPATH: what the libraries themselves need is looked for there too.
        point: list[str | Path] = ["--set-interpreter", made / interpreter.relative_to(work), "--force-rpath"]
        point += ["--set-rpath", made / libc.parent.relative_to(work)]
        subprocess.run(["patchelf", *point, work / name], check=True)


if __name__ == "__main__":
    if absent := [name for name in TOOLS if shutil.which(name) is None]:
        sys.exit(f"The newer engines need {', '.join(absent)}: see integration/prepare.sh test")
    print(build())
