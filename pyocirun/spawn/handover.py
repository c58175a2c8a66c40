"""What a caller gets besides a process: the master of its terminal, and a pidfd, over unix sockets or as it is."""

from __future__ import annotations

import posix
from _socket import AF_UNIX, SOCK_STREAM, socket  # what socket.py adds to it costs as much as the rest of a start

from pyocirun import files, native
from pyocirun.errors import Error, UsageError
from pyocirun.spawn.sync import NOTHING, Answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyocirun.spawn.launch import Launched

    Answers = dict[str, Callable[[int], Answer]]

SUN_PATH_BYTES = 107
"""What a socket's address has room for; see unix(7)."""

MASTER = "/dev/ptmx"
"""The name that goes along with the master of a terminal."""


class Handover:
    """terminal: the process has one. Its master goes to the console socket, or else to who calls `taken`.

    console_socket, pidfd_socket: paths, None for no such socket; who listens there is connected to now, before
    anything is done.  name: goes along with the pidfd: "standard" of a container's init, "setns" of another process.
    Raises UsageError, Error.
    """

    def __init__(self, terminal: bool, console_socket: str | None, pidfd_socket: str | None, name: str) -> None:
        self._name = name
        self._master = self._null = -1
        self._console: socket | None = None
        self._pidfd: socket | None = None
        if console_socket and not terminal:
            raise UsageError("cannot use console socket if runc will not detach or allocate tty")
        try:
            if console_socket:
                self._console = connect(console_socket, "console socket")
            if pidfd_socket:
                self._pidfd = connect(pidfd_socket, "pidfd socket")
            if terminal:
                self._null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
        except BaseException:
            self.close()
            raise

    def stdio(self, given: tuple[int, int, int]) -> tuple[int, int, int]:
        """Descriptors to launch with: what has a terminal gets nothing of the caller's."""
        return given if self._null < 0 else (self._null, self._null, self._null)

    def answers(self, others: Answers, launched: Launched) -> Answers:
        """`others`, with what happens here at "terminal" and "created"."""

        def created(fd: int) -> Answer:
            if self._pidfd is not None:
                send_descriptor(self._pidfd, self._name, launched.pidfd, "pidfd socket")
            return others["created"](fd) if "created" in others else NOTHING

        return {**others, "terminal": self._take, "created": created}

    def taken(self) -> int:
        """The master, which is the caller's from now on; -1 if it was sent, or if there is none."""
        master, self._master = self._master, -1
        return master

    def close(self) -> None:
        """Close the connections, and a master that was not taken."""
        for connection in (self._console, self._pidfd):
            if connection is not None:
                connection.close()
        for fd in (self._null, self.taken()):
            if fd >= 0:
                posix.close(fd)
        self._null = -1

    def _take(self, fd: int) -> Answer:
        if self._console is not None:
            send_descriptor(self._console, MASTER, fd, "console socket")
        else:
            from pyocirun.spawn.terminal import keep_newlines

            self._master = posix.dup(fd)
            # Before there is a program: a shell puts back again and again what it has found.
            keep_newlines(self._master)
        return NOTHING


def connect(path: str, what: str) -> socket:
    """A connection to the stream socket at `path`. what: how messages name it. Raises Error."""
    directory = -1
    connection = socket(AF_UNIX, SOCK_STREAM)
    try:
        address = files.encode(path)
        if len(address) > SUN_PATH_BYTES:
            directory = posix.open(files.parent(files.absolute(path)), posix.O_PATH | posix.O_CLOEXEC)
            address = files.encode(f"/proc/thread-self/fd/{directory}/{path.rpartition('/')[2]}")
        connection.connect(address)
    except OSError as error:
        connection.close()
        raise Error(
            f"cannot connect to the {what} {path}: {posix.strerror(error.errno or 0)}",
            errno=error.errno or 0,
            path=path,
            hint="somebody has to listen there, on a unix socket of type stream, before the call",
            step="connect",
        ) from error
    finally:
        if directory >= 0:
            posix.close(directory)
    return connection


def send_descriptor(connection: socket, name: str, fd: int, what: str) -> None:
    """Send one descriptor (SCM_RIGHTS), with its name as the data. Raises Error."""
    try:
        native.send(connection.fileno(), name.encode(), (fd,))
    except OSError as error:
        text = f"cannot send a descriptor to the {what}: {posix.strerror(error.errno or 0)}"
        raise Error(text, errno=error.errno or 0, step="sendmsg") from error
