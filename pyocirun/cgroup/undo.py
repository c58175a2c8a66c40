"""Taking writes to cgroup files back: what the files said before is read first, and written again if one fails."""

from __future__ import annotations

import posix

from pyocirun.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyocirun.cgroup.v1 import Write

_COMPANIONS = {"cpu.idle": ("cpu.shares", "cpu.weight")}
"""Files that the kernel changes along with another."""
_KEYED = ("rdma.max", "net_prio.ifpriomap", "io.weight", "io.bfq.weight")
"""Files with a line a name; those with a line a block device are known by its numbers."""
_NEUTRAL = {
    "io.max": "rbps=max wbps=max riops=max wiops=max",
    "io.latency": "target=0",
    "io.weight": "default",
    "io.bfq.weight": "default",
    "blkio.bfq.weight_device": "default",
    "rdma.max": "hca_handle=max hca_object=max",
}
"""What takes a line away again, "0" where nothing stands here."""
_NEVER_EMPTIED = ("cpuset.cpus", "cpuset.mems")
"""Files that the kernel does not let become empty again while there are processes: what was in effect does as well."""


class Saved:
    """What the files of `writes` say now.

    directories: controller -> directory, as the writes have the controllers.
    """

    def __init__(self, directories: dict[str, str], writes: Iterable[Write]) -> None:
        self._texts: dict[str, str] = {}
        self._effective: dict[str, str] = {}
        for write in writes:
            directory = directories.get(write.controller)
            if not directory:
                continue
            for name in (*_COMPANIONS.get(write.file, ()), write.file, write.other):
                text = _read(f"{directory}/{name}") if name else None
                if text is not None:
                    self._texts.setdefault(f"{directory}/{name}", text)
                if text is not None and not text.strip() and name in _NEVER_EMPTIED:
                    self._effective[f"{directory}/{name}"] = _read(f"{directory}/{name}.effective") or ""

    def take_back_after(self, error: BaseException) -> None:
        """Take all back because of `error`, whose hint says then what could not be."""
        if (left := self.take_back()) and isinstance(error, CgroupError):
            error.hint = f"{error.hint}; not all could be taken back: see {', '.join(left)}".lstrip("; ")

    def take_back(self) -> list[str]:
        """Write the old values where they have changed, the last one first; what could not be written comes back.

        Values are checked against each other, so those that are refused are tried once more after the others.
        """
        failed = self._round(list(reversed(self._texts)))
        return self._round(failed) if failed else []

    def _round(self, paths: list[str]) -> list[str]:
        failed = []
        for path in paths:
            now = _read(path)
            if now is None:
                continue
            for value in restoring(path.rpartition("/")[2], self._texts[path], now):
                if not (_write(path, value) or self._write_effective(path)) and path not in failed:
                    failed.append(path)
        return failed

    def _write_effective(self, path: str) -> bool:
        effective = self._effective.get(path, "").strip()
        return bool(effective) and _write(path, effective)


def restoring(file: str, before: str, now: str) -> list[str]:
    """What to write to `file`, which says `now`, so that it says `before` again, a write each. Pure."""
    if before == now:
        return []
    if file == "memory.oom_control":
        return [line.split()[1] for line in before.splitlines() if line.startswith("oom_kill_disable ")]
    old, new = _lines(before), _lines(now)
    if file in _KEYED or any(_is_device(key) for key in (*old, *new)):
        kept = [line for key, line in old.items() if new.get(key) != line]
        return kept + [f"{key} {_NEUTRAL.get(file, '0')}" for key in new if key not in old]
    return [before.strip() or "\n"]


def _lines(text: str) -> dict[str, str]:
    """Lines by their first word."""
    return {line.split()[0]: line for line in text.splitlines() if line.strip()}


def _is_device(word: str) -> bool:
    major, colon, minor = word.partition(":")
    return bool(colon) and major.isdigit() and minor.isdigit()


def _read(path: str) -> str | None:
    """None if there is no such file, or it cannot be read: then there is nothing to take back either."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return None
    try:
        parts = []
        while part := posix.read(fd, 1 << 16):
            parts.append(part)
        return b"".join(parts).decode("utf-8", "replace")
    except OSError:
        return None
    finally:
        posix.close(fd)


def _write(path: str, value: str) -> bool:
    try:
        fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
        try:
            posix.write(fd, value.encode())
        finally:
            posix.close(fd)
    except OSError:
        return False
    return True
