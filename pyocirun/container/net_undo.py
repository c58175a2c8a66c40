"""What gives network devices back to the host if the command that moves them is killed before the container is created.

A device without hardware ends with the network namespace that it is in. So ROOT/@netdevices/ID keeps both namespaces,
mounted on the files `inside` and `outside`, and in `devices` what was on the host, before the first device moves. When
the container is created all of it goes. If it is there still, delete gives back what it names, and so do the next
create, run and list, unless the container is alive.
"""

from __future__ import annotations

import posix

from pyocirun import files, native
from pyocirun.container import state as states
from pyocirun.container.state import NET_DEVICES
from pyocirun.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

INSIDE, OUTSIDE, DEVICES = "inside", "outside", "devices"
MS_BIND = 0x1000


class Undo:
    """The record of one container. path: its directory, which need not be there."""

    def __init__(self, root: str, id: str) -> None:
        self.path = f"{root}/{NET_DEVICES}/{id}"

    def hold(self, inside: int, outside: int) -> None:
        """Keep two namespaces. Raises OSError: nothing is kept then."""
        self._make_directory()
        try:
            for name, namespace in ((INSIDE, inside), (OUTSIDE, outside)):
                path = f"{self.path}/{name}"
                posix.close(posix.open(path, files.NEW | posix.O_EXCL, 0o600))
                native.mount(f"/proc/thread-self/fd/{namespace}", path, "", MS_BIND, "")
        except OSError:
            self.drop()
            raise

    def _make_directory(self) -> None:
        """FileExistsError: what another container of this id has moved could not be given back yet."""
        while True:
            try:
                files.make_directories(files.parent(self.path), 0o700)
                posix.mkdir(self.path, 0o700)
                return
            except FileNotFoundError:
                continue  # another record was the last one, and took the directory of all of them with it

    def save(self, devices: list[dict[str, Any]]) -> None:
        """Note what is to be given back. Raises OSError."""
        directory = posix.open(self.path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
        try:
            states.write_file(directory, DEVICES, states.to_json(devices).encode())
        finally:
            posix.close(directory)

    def load(self) -> list[dict[str, Any]]:
        """What was noted, [] if nothing was. Raises OSError, Error."""
        from pyocirun.spec.reader import load_json

        try:
            document = load_json(files.read(f"{self.path}/{DEVICES}"), DEVICES)
        except FileNotFoundError:
            return []
        return document if isinstance(document, list) else []

    def drop(self) -> None:
        """Nothing is to be given back any more. Raises OSError."""
        try:
            names = posix.listdir(self.path)
        except FileNotFoundError:
            return
        for name in sorted(names):  # `devices` first: without it nothing is given back
            path = f"{self.path}/{name}"
            try:
                native.unmount(path)
            except OSError:
                pass  # it is none
            posix.unlink(path)
        posix.rmdir(self.path)
        try:
            posix.rmdir(files.parent(self.path))
        except OSError:
            pass  # others have theirs in it


def give_back(root: str, id: str, warn: Callable[[str], None]) -> None:
    """Give back what a creation that was cut short has moved. For a caller with the container's lock, or without one.

    What cannot be given back is a warning, and tried again the next time.
    """
    undo = Undo(root, id)
    if not files.exists(undo.path):
        return
    try:
        if devices := undo.load():
            from pyocirun.container.net import give_back_noted

            give_back_noted(undo, devices)
        undo.drop()
    except (Error, OSError) as error:
        warn(f"cannot give the network devices of container {id} back: {error}")


def give_all_back(root: str, warn: Callable[[str], None]) -> None:
    """The same for all containers that are neither being created nor alive."""
    try:
        ids = posix.listdir(f"{root}/{NET_DEVICES}")
    except OSError:
        return
    for id in ids:
        try:
            directory = states.open_directory(root, id, wait=False)
        except Error:
            give_back(root, id, warn)  # its directory is gone
            continue
        if directory is None:
            continue
        with directory:
            if not _is_alive(root, id):
                give_back(root, id, warn)


def _is_alive(root: str, id: str) -> bool:
    from pyocirun.container.process import open_process

    try:
        state = states.load(root, id)
    except Error:
        return False
    return open_process(state.init_process_pid, state.init_process_start) is not None
