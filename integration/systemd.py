"""A systemd on this machine, for one command: what has cgroup v1 and another init gets systemd scenarios so.

    python -m integration.systemd COMMAND [ARGUMENT...]

It boots the systemd that is installed, in namespaces of its own (pid, mount, network, host name, IPC, cgroup) and in
cgroups below the caller's, with a bus and nothing else: no unit of the machine is started, and /run is empty. The
command runs beside it, in those namespaces, as root, with the files of this machine. Its status is the status.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

TOP = "/sys/fs/cgroup"
UNITS = "/run/pyocirun-units"
BOOT_SECONDS = 60
NAMESPACES = ("mount", "pid", "net", "uts", "ipc", "cgroup")
INSIDE = "--inside"

TARGET = """[Unit]
Description=A bus, and nothing else
DefaultDependencies=no
Requires=dbus.socket
After=dbus.socket
AllowIsolate=yes
"""
SOCKET = """[Unit]
DefaultDependencies=no
[Socket]
ListenStream=/run/dbus/system_bus_socket
"""
SERVICE = """[Unit]
DefaultDependencies=no
Requires=dbus.socket
[Service]
Type=notify
NotifyAccess=main
ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation --syslog-only
"""


def main(command: list[str]) -> int:
    """Boot, run, and end everything. The status of the command, 128 and its signal if one ended it."""
    if not command:
        sys.exit(__doc__)
    if (os.geteuid() != 0 or not any(hierarchies())) and os.environ.get("PYOCIRUN_MUST_WORK") != "1":
        print("left out: what wants a systemd of its own wants root, and cgroup v1", file=sys.stderr)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with cgroups() as made, booted(made) as pid:
        names = [f"--{name}" for name in NAMESPACES]
        status = subprocess.run(
            ["nsenter", f"--target={pid}", *names, f"--wdns={os.getcwd()}", *command], check=False
        ).returncode
    return status if status >= 0 else 128 - status


@contextlib.contextmanager
def cgroups() -> Iterator[list[str]]:
    """A cgroup in each hierarchy of version 1, which this process is in; removed in the end with all below."""
    name = f"pyocirun-systemd-{os.getpid()}"
    made: list[str] = []
    before: list[str] = []
    try:
        for path, own in hierarchies():
            cgroup = f"{path}{own}/{name}"
            os.mkdir(cgroup)
            made.append(cgroup)
            before.append(f"{path}{own}")
            for file in ("cpuset.cpus", "cpuset.mems"):
                if os.path.exists(f"{cgroup}/{file}"):
                    write(f"{cgroup}/{file}", read(f"{path}{own}/{file}"))
            write(f"{cgroup}/cgroup.procs", "0")
        yield made
    finally:
        for cgroup in before:
            write(f"{cgroup}/cgroup.procs", "0")
        for cgroup in made:
            remove(cgroup)


def hierarchies() -> Iterator[tuple[str, str]]:
    """Where each hierarchy of version 1 is mounted, and the caller's cgroup in it, "" for the topmost."""
    own = {}
    for line in read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        own[controllers] = path.rstrip("/")
    for line in read("/proc/self/mounts").splitlines():
        _, path, fstype, options, *_ = line.split()
        if fstype == "cgroup":
            found = [names for names in own if names and set(names.split(",")) <= set(options.split(","))]
            yield path, own[found[0]]


@contextlib.contextmanager
def booted(made: list[str]) -> Iterator[int]:
    """The pid of a systemd that answers."""
    names = [f"--{name}" for name in NAMESPACES]
    inside = [sys.executable, "-P", os.path.abspath(__file__), INSIDE, *map(os.path.dirname, made)]
    with subprocess.Popen(
        ["unshare", *names, "--fork", "--kill-child", "--propagation=private", *inside], stdin=subprocess.DEVNULL
    ) as unshare:
        try:
            yield wait_for(unshare)
        finally:
            unshare.send_signal(signal.SIGKILL)


def wait_for(unshare: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline and unshare.poll() is None:
        children = read(f"/proc/{unshare.pid}/task/{unshare.pid}/children").split()
        if children and os.path.exists(f"/proc/{children[0]}/root/run/dbus/system_bus_socket"):
            command = ["nsenter", f"--target={children[0]}", "--mount", "--pid", "systemctl", "is-system-running"]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=BOOT_SECONDS)
            if done.stdout.strip() in ("running", "degraded"):
                return int(children[0])
        time.sleep(0.05)
    sys.exit("systemd did not start in namespaces: see what it says above")


def become_init(paths: list[str]) -> None:
    """In the new namespaces: mount what systemd wants to see, and become it."""
    controllers = {os.path.basename(path): options_of(path) for path in mounted()}
    for path in (TOP, "/sys"):  # covered mounts would still be listed
        subprocess.run(["umount", "--recursive", "--lazy", path], check=True)
    mount("-t", "proc", "proc", "/proc")
    mount("-t", "sysfs", "sysfs", "/sys")
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", TOP)
    for name, options in controllers.items():
        os.mkdir(f"{TOP}/{name}")
        mount("-t", "cgroup", "-o", options, "cgroup", f"{TOP}/{name}")
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    os.makedirs(f"{UNITS}/generators")
    for name, text in {"default.target": TARGET, "dbus.socket": SOCKET, "dbus.service": SERVICE}.items():
        write(f"{UNITS}/{name}", text)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=False)
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "container": "other",
        "SYSTEMD_UNIT_PATH": f"/run/systemd/system.control:/run/systemd/transient:{UNITS}",
        "SYSTEMD_GENERATOR_PATH": f"{UNITS}/generators",
        "SYSTEMD_ENVIRONMENT_GENERATOR_PATH": f"{UNITS}/generators",
    }
    arguments = ["systemd.unified_cgroup_hierarchy=0", "systemd.legacy_systemd_cgroup_controller=1",
                 "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1",
                 "systemd.show_status=0", "systemd.log_target=console", "systemd.log_level=warning"]  # fmt: skip
    os.execve("/lib/systemd/systemd", ["/lib/systemd/systemd", "--system", *arguments], environment)


def mounted() -> list[str]:
    return [line.split()[1] for line in read("/proc/self/mounts").splitlines() if line.split()[2] == "cgroup"]


def options_of(path: str) -> str:
    options = next(line.split()[3] for line in read("/proc/self/mounts").splitlines() if line.split()[1] == path)
    wanted = [word for word in options.split(",") if word not in ("rw", "relatime", "nosuid", "nodev", "noexec")]
    return ",".join(["none", *wanted] if wanted[0].startswith("name=") else wanted)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def remove(cgroup: str) -> None:
    """A cgroup and all below; what is still ending gets a second for it."""
    for directory, _, _ in os.walk(cgroup, topdown=False):
        for _ in range(100):
            try:
                os.rmdir(directory)
                break
            except OSError:
                time.sleep(0.02)


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


if __name__ == "__main__":
    if sys.argv[1:2] == [INSIDE]:
        become_init(sys.argv[2:])
    else:
        sys.exit(main(sys.argv[1:]))
