"""linux.sysctl: only parameters that a namespace of the container's own has may be written."""

from __future__ import annotations

from pyocirun.errors import SpecError
from pyocirun.plan import ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.linux.host import Host
    from pyocirun.spec.config import Spec

IPC = frozenset(
    f"kernel.{name}" for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)


def writes(spec: Spec, host: Host, joined: dict[str, int]) -> list[ops.Op]:
    """The writes, in the order of the keys. joined: type -> inode of the namespaces joined by path.

    Spec: config-linux.md#sysctl. Raises SpecError for a parameter that would change the host.
    """
    plan: list[ops.Op] = []
    for key, value in spec.linux.sysctl.items():
        name = dotted(key)
        _check(name, key, spec, host, joined)
        plan.append(ops.Sysctl(key, "sys/" + path(key), value))
    return plan


def dotted(key: str) -> str:
    """The key with dots: "net/ipv4/conf/eth0.1/forwarding" has slashes as separators, and dots that are none."""
    slash, dot = key.find("/"), key.find(".")
    if slash < 0 or 0 <= dot < slash:
        return key
    return key.translate({ord("/"): ".", ord("."): "/"})


def path(key: str) -> str:
    """The key as a path beneath /proc/sys."""
    return dotted(key).translate({ord("/"): ".", ord("."): "/"})


def _check(name: str, key: str, spec: Spec, host: Host, joined: dict[str, int]) -> None:
    pointer = "/linux/sysctl/" + key.replace("~", "~0").replace("/", "~1")
    if name == "kernel.hostname":
        raise SpecError(f"{pointer}: sysctl {key!r} conflicts with hostname: set that instead", pointer=pointer)
    if any(part in ("", ".", "..") for part in path(key).split("/")):
        raise SpecError(f"{pointer}: {key!r} is no name of a kernel parameter", pointer=pointer)
    needed = _namespace(name)
    if needed is None or spec.linux.namespace(needed) is None or joined.get(needed) == dict(host.namespaces)[needed]:
        raise SpecError(f'{pointer}: sysctl "{key}" is not in a separate kernel namespace', pointer=pointer)


def _namespace(name: str) -> str | None:
    """The type of namespace that a parameter belongs to, None if it is the whole machine's."""
    if name in IPC or name.startswith("fs.mqueue."):
        return "ipc"
    if name.startswith("net."):
        return "network"
    if name.startswith("user."):
        return "user"
    return "uts" if name == "kernel.domainname" else None
