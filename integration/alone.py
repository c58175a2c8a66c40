"""Runs a command that sees no cgroups but its own, for scenarios that compare the whole tree: others come and go.

python -m integration.alone COMMAND...

As root, where cgroup v1 is mounted: the command is in a new cgroup of each hierarchy, which a cgroup namespace and
mounts of its own make the topmost. PYOCIRUN_ALONE is 1 then. What is left at the end is told, and the status is 1.
"""

from __future__ import annotations

import os
import sys

from integration.harness import cgroups, isolate, mount, mounts, unshare

TOP = "/sys/fs/cgroup"
CLONE_NEWCGROUP = 0x02000000


def main() -> int:
    hierarchies = [found for line in mounts() if (found := _hierarchy(line))]
    made = [_make(place, f"alone-{os.getpid()}") for place, _, _ in hierarchies]
    if (pid := os.fork()) == 0:
        for path in made:
            _write(f"{path}/cgroup.procs", "0")
        _hide(hierarchies)
        os.execvpe(sys.argv[1], sys.argv[1:], {**os.environ, "PYOCIRUN_ALONE": "1"})
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    left = [path for top in made for path in cgroups(top) if path != top]
    for path in (*reversed(left), *made):
        os.rmdir(path)
    print("".join(f"left behind: {path}\n" for path in left), end="", file=sys.stderr)
    return status or bool(left)


def _hierarchy(line: str) -> tuple[str, str, str] | None:
    """(mountpoint, type, options of the hierarchy) of a line of mountinfo, if it is about one."""
    place, kind, options = line.split()[4], *line.partition(" - ")[2].split()[::2]
    if kind not in ("cgroup", "cgroup2") or not place.startswith(f"{TOP}/"):
        return None
    return place, kind, options.removeprefix("rw,") if kind == "cgroup" else ""


def _make(hierarchy: str, name: str) -> str:
    path = f"{hierarchy}/{name}"
    os.mkdir(path)
    for file in ("cpuset.cpus", "cpuset.mems"):
        if os.path.exists(f"{path}/{file}") and not os.path.exists(f"{path}/cgroup.controllers"):
            with open(f"{hierarchy}/{file}") as above:
                _write(f"{path}/{file}", above.read())
    return path


def _hide(hierarchies: list[tuple[str, str, str]]) -> None:
    """Have this process's cgroups be the topmost, and nothing else be in TOP."""
    links = {entry.path: os.readlink(entry.path) for entry in os.scandir(TOP) if entry.is_symlink()}
    unshare(CLONE_NEWCGROUP)
    isolate()
    mount("tmpfs", TOP, "tmpfs", data="mode=755")
    for place, kind, options in hierarchies:
        os.makedirs(place, exist_ok=True)
        mount("cgroup", place, kind, data=options)
    for path, target in links.items():
        os.symlink(target, path)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


if __name__ == "__main__":
    sys.exit(main())
