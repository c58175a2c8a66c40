"""The config.json that `spec` writes: a shell in a container with few privileges."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")

MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
)

READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def default_config(cgroup2: bool = False) -> dict[str, Any]:
    """A new document. cgroup2: with a cgroup namespace, without which cgroup v2 shows the host's cgroups."""
    namespaces = ["pid", "network", "ipc", "uts", "mount"] + (["cgroup"] if cgroup2 else [])
    return {
        "ociVersion": "1.3.0",
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": list(CAPABILITIES),
                "effective": list(CAPABILITIES),
                "permitted": list(CAPABILITIES),
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "pyocirun",
        "mounts": [
            _mount("/proc", "proc"),
            _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            _mount(
                "/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"
            ),
            _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
            _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
            _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
            _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro"),
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": name} for name in namespaces],
            "maskedPaths": list(MASKED_PATHS),
            "readonlyPaths": list(READONLY_PATHS),
        },
    }


def rootless_config(uid: int, gid: int, cgroup2: bool = False) -> dict[str, Any]:
    """A document for a caller without privileges, whose ids become root's in the container.

    Such a caller owns no network namespace, so sysfs cannot be mounted and the host's is bound; other ids than its own
    are not mapped, so no mount may name them; and it has no cgroup to set limits in.
    """
    config = default_config(cgroup2)
    linux = config["linux"]
    del linux["resources"]
    kept = [namespace for namespace in linux["namespaces"] if namespace["type"] != "network"]
    mappings = {
        "uidMappings": [{"containerID": 0, "hostID": uid, "size": 1}],
        "gidMappings": [{"containerID": 0, "hostID": gid, "size": 1}],
    }
    config["linux"] = {**mappings, **linux, "namespaces": [*kept, {"type": "user"}]}
    config["mounts"] = [_rootless_mount(mount) for mount in config["mounts"]]
    return config


def write_text(document: Any) -> str:
    """The document as JSON text: a tab for each level, no newline at the end, as runc writes its files."""
    import json

    return json.dumps(document, indent="\t", ensure_ascii=False)


def _mount(destination: str, type: str, source: str = "", *options: str) -> dict[str, Any]:
    mount: dict[str, Any] = {"destination": destination, "type": type, "source": source or type}
    if options:
        mount["options"] = list(options)
    return mount


def _rootless_mount(mount: dict[str, Any]) -> dict[str, Any]:
    if mount["destination"] == "/sys":
        return _mount("/sys", "none", "/sys", "rbind", "nosuid", "noexec", "nodev", "ro")
    if "options" in mount:
        options = [option for option in mount["options"] if not option.startswith(("uid=", "gid="))]
        return {**mount, "options": options}
    return mount
