"""NOTIFY_SOCKET: a service manager hears that the container is ready. sd_notify(3)

The container gets a socket of its own, in a directory of the state directory that is mounted read-only in it. What it
writes there is not handed on as it is: only that it is ready, with its pid as the host sees it.
"""

from __future__ import annotations

import posix
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, socket

from pyocirun import files, native
from pyocirun.container.state import NOTIFY
from pyocirun.record import replace
from pyocirun.spec.mounts import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyocirun.container.process import Process
    from pyocirun.spec.config import Spec

SOCKET = "notify.sock"
INSIDE = "/run/notify"
BARRIER_MS = 30_000
MESSAGE_BYTES = 65536


def with_notify(spec: Spec, directory: str) -> Spec:
    """`spec` with the mount and the variable. directory: the container's state directory.

    The mount is private: no namespace that the container makes or joins, and no peer of its root, gets it by itself.
    """
    options = ("bind", "ro", "nosuid", "nodev", "noexec", "rprivate")
    mount = Mount(INSIDE, f"{directory}/{NOTIFY}", "bind", options)
    process = spec.process
    if process is not None:
        process = replace(process, env=(*process.env, f"NOTIFY_SOCKET={INSIDE}/{SOCKET}"))
    return replace(spec, process=process, mounts=(*spec.mounts, mount))


def make_directory(directory: int) -> None:
    """Make what is mounted, in the state directory that this is a descriptor of: for everybody in the container."""
    posix.mkdir(NOTIFY, 0o755, dir_fd=directory)
    posix.chmod(NOTIFY, 0o755, dir_fd=directory)


class Notify:
    """The socket that the container writes to, from now on. directory: its state directory. Raises OSError."""

    def __init__(self, directory: str, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
        place = posix.open(
            f"{directory}/{NOTIFY}", posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
        )
        try:
            # By a descriptor: an address has room for 107 bytes.
            path = f"/proc/thread-self/fd/{place}/{SOCKET}"
            if files.exists(path):
                posix.unlink(path)
            self._socket.bind(path)
            posix.chmod(path, 0o777)
        finally:
            posix.close(place)

    def run(self, address: str, init: Process) -> None:
        """Wait until the container is ready, or has ended, and tell who listens at `address`.

        What cannot be told is a warning.
        """
        try:
            if self._await_ready(init):
                self._tell(address, init.pid)
        except OSError as error:
            self._warn(f"cannot notify {address}: {posix.strerror(error.errno or 0)}")
        finally:
            self.close()

    def run_in_background(self, address: str, init: Process) -> None:
        """The same in a thread of its own."""
        from _thread import start_new_thread

        start_new_thread(lambda: self.run(address, init), ())

    def close(self) -> None:
        """Nobody listens any more."""
        self._socket.close()

    def _await_ready(self, init: Process) -> bool:
        fd = self._socket.fileno()
        while True:
            ready = native.poll(fd, init.pidfd)
            if ready & 1:
                lines = self._socket.recv(MESSAGE_BYTES).splitlines()
                if any(line.startswith(b"READY=") for line in lines):
                    return True
            elif ready & 2:
                return False

    def _tell(self, address: str, pid: int) -> None:
        """READY, MAINPID, and then wait until both have been taken note of: only then may this process end."""
        host = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
        try:
            host.connect("\0" + address[1:] if address.startswith("@") else files.encode(address))
            host.send(b"READY=1")
            host.send(b"MAINPID=%d" % pid)
            self._barrier(host, address)
        finally:
            host.close()

    def _barrier(self, host: socket, address: str) -> None:
        """Who has read all up to here closes the descriptor that comes along: then its other end hangs up."""
        read, write = posix.pipe()
        try:
            native.send(host.fileno(), b"BARRIER=1", (write,))
        finally:
            posix.close(write)
            try:
                if not native.poll(read, timeout_ms=BARRIER_MS):
                    self._warn(f"{address} has not taken note of the container within {BARRIER_MS // 1000} s")
            finally:
                posix.close(read)
