"""One boot of the guest, in QEMU without KVM: a command is run in it, and its output and exit status come back.

The guest has no network, and what it writes to its disk is thrown away. It sees the checkout read-only in
/mnt/checkout, and pyocirun is installed below /usr.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from integration.vm import image

TIMED_OUT = 124
DIED = 125
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PR_SET_PDEATHSIG = 1

FIXED = {
    "PATH": PATH,
    "LANG": "C.UTF-8",
    "TMPDIR": "/var/tmp",  # /tmp is mounted nodev
    "PYTHONDONTWRITEBYTECODE": "1",  # the checkout is read-only
    "PYOCIRUN_PATIENCE": "4",  # the machine below is emulated, and maybe busy
    "PYOCIRUN_KILL_ROUNDS": "0.2",  # a round of create and delete takes two seconds and more
    "PYOCIRUN_ALONE": "1",  # nobody else makes cgroups and units there
    "PYOCIRUN_PROBE": "/usr/lib/python3/dist-packages/pyocirun/bin/probe",  # to compile it there takes half a minute
}
"""What a command in the guest has in its environment."""


class VMError(Exception):
    """The guest could not be booted, or ended before its command did. status: 124 after the timeout, else 125."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def run(
    command: list[str],
    *,
    user: bool = False,
    env: dict[str, str] | None = None,
    timeout: float = 900,
    output: int = 1,
    append: str = "",
    memory: str = "3G",
    engines: bool = False,
) -> int:
    """Run `command` in the guest, in /mnt/checkout; its exit status.

    user: as an ordinary user in a systemd session with delegated controllers, in their home.  output: the descriptor
    that stdout and stderr go to.  timeout: seconds, the boot included.  append: more words for the kernel.
    engines: in the larger guest that has docker and more.  Raises VMError.
    """
    made = image.build_with_engines() if engines else image.build()
    installed = image.install()
    with tempfile.TemporaryDirectory(prefix="pyocirun-vm-") as name:
        work = Path(name)
        work.chmod(0o755)
        control = work / "control"
        control.mkdir()
        shutil.copy(image.HERE / "guest/agent", control)
        shutil.copy(installed, control / "installed.tar")
        (control / "settings").write_text(f"VM_USER={image.USER if user else ''}\n")
        _write_job(control / "job", command, env or {}, user)
        if not _boot(made, work, output, timeout, append, memory):
            raise VMError(f"no end after {timeout:g} s", TIMED_OUT)
        try:
            return int((control / "status").read_text())
        except (OSError, ValueError):
            console = (work / "console").read_bytes()[-3000:].decode(errors="replace")
            raise VMError(f"the guest ended before its command did\n{console}", DIED) from None


def _write_job(path: Path, command: list[str], env: dict[str, str], user: bool) -> None:
    patience = {"PYOCIRUN_PATIENCE": os.environ.get("PYOCIRUN_PATIENCE", FIXED["PYOCIRUN_PATIENCE"])}
    env = {**FIXED, **patience, **env}
    lines = ["#!/bin/bash", "unset JOURNAL_STREAM"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in env.items()]
    lines += ["cd ~" if user else "cd /mnt/checkout", f"exec {shlex.join(command)}", ""]
    path.write_text("\n".join(lines))
    path.chmod(0o755)


def _boot(made: Path, work: Path, output: int, timeout: float, append: str, memory: str) -> bool:
    """Boot, and wait for the guest's end; False if it was ended by the timeout."""
    source, end = os.pipe()
    relay = threading.Thread(target=_relay, args=(source, output), daemon=True)
    command = _qemu(made, work, end, append, memory)
    qemu = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        preexec_fn=_die_with_parent,
        pass_fds=[end],
        env={**os.environ, "TMPDIR": str(work)},
    )
    os.close(end)
    relay.start()
    try:
        qemu.wait(timeout)
    except subprocess.TimeoutExpired:
        return False
    finally:
        qemu.kill()
        qemu.wait()
        relay.join()
        os.close(source)
    return True


def _qemu(made: Path, work: Path, output: int, append: str, memory: str) -> list[str]:
    words = "console=ttyS0 root=/dev/vda rw panic=-1 quiet systemd.show_status=0 systemd.getty_auto=no"
    # What costs much under emulation: zeroed pages, and waiting for RCU when a cgroup, mount or namespace changes.
    words += " mitigations=off init_on_alloc=0 rcupdate.rcu_expedited=1 cgroup_favordynmods=1"
    # The kernel looks whether its timer ticks, and panics: on a busy host it may just have had no processor.
    words += " no_timer_check"
    # Nor may systemd give up on a unit that has had no processor.
    words += " systemd.default_timeout_start_sec=900 systemd.service_watchdogs=no"
    options = {
        "-machine": "pc",
        # KVM is not asked for: the guest must be the same everywhere.
        # One thread for both processors: with two, QEMU 7.2 at times runs stale code of a kernel that patches itself,
        # which panics ("int3" in an oops). It takes a third longer, but two guests at once take no longer than one.
        "-accel": "tcg,thread=single,tb-size=512",
        "-cpu": "max",
        "-smp": "2",
        "-m": memory,
        "-nic": "none",
        "-display": "none",
        "-kernel": str(made / "vmlinuz"),
        "-initrd": str(made / "initrd"),
        "-append": f"{words} systemd.wants=pyocirun-vm.service {append}",
        "-drive": f"file={made / 'disk.img'},format=raw,if=virtio,cache=unsafe,snapshot=on",
        "-serial": "chardev:console",
    }
    command = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot"]
    command += [word for option in options.items() for word in option]
    for device in ("virtio-rng-pci", "virtio-serial-pci", "virtserialport,chardev=output,name=output"):
        command += ["-device", device]
    command += ["-chardev", f"file,id=console,path={work / 'console'}"]
    command += ["-add-fd", f"fd={output},set=1", "-chardev", "file,id=output,path=/dev/fdset/1,append=on"]
    for tag, path, options_ in (("control", work / "control", ""), ("checkout", image.CHECKOUT, ",readonly=on")):
        share = f"local,mount_tag={tag},security_model=passthrough,multidevs=remap{options_}"
        command += ["-virtfs", f"{share},path={str(path).replace(',', ',,')}"]
    return command


def _relay(source: int, to: int) -> None:
    while data := os.read(source, 65536):
        while data:
            data = data[os.write(to, data) :]


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
