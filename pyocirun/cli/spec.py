"""pyocirun spec: write a config.json to start from."""

from __future__ import annotations

import os

from pyocirun.errors import Error
from pyocirun.spec import example

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.cli.main import Session
    from pyocirun.cli.options import Call

_NAME = "config.json"


def run(call: Call, session: Session) -> int:
    """Write config.json into the bundle. One that is there is somebody's work, and is never written over."""
    path = os.path.join(call.flags["bundle"] or "", _NAME)
    text = example.write_text(_config(call.flags["rootless"]))
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError as error:
        raise Error(f"File {_NAME} exists. Remove it first", errno=error.errno or 0, path=path, step="open") from error
    with open(fd, "w", encoding="utf-8") as file:
        file.write(text)
    return 0


def _config(rootless: bool) -> dict[str, object]:
    cgroup2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    if rootless:
        return example.rootless_config(os.geteuid(), os.getegid(), cgroup2)
    return example.default_config(cgroup2)
