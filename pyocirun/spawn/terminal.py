"""A container's terminal in the foreground: between its master and the caller's own standard input and output."""

from __future__ import annotations

import posix
import select
import termios
import tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

CHUNK = 4096
"""Bytes moved at once: a pipe that can be written to has room for as many (PIPE_BUF)."""

LAST_OUTPUT_MS = 100
"""How long to wait for output after the process's end, while somebody else still has its terminal open."""


def caller_size() -> tuple[int, int] | None:
    """Rows and columns of the caller's terminal: the first of 0, 1 and 2 that is one; None if none is."""
    for fd in (0, 1, 2):
        try:
            size = posix.get_terminal_size(fd)
        except OSError:
            continue
        return size.lines, size.columns
    return None


def keep_newlines(master: int) -> None:
    """A newline of the container stays one: output that goes to a pipe or file is text as any other."""
    attributes = termios.tcgetattr(master)
    attributes[1] &= ~termios.ONLCR
    termios.tcsetattr(master, termios.TCSANOW, attributes)


def _keep_output(terminal: int) -> None:
    """The caller's terminal makes the carriage returns that the container's does not."""
    attributes = termios.tcgetattr(terminal)
    attributes[1] |= termios.OPOST
    termios.tcsetattr(terminal, termios.TCSADRAIN, attributes)


class Relay:
    """Carries bytes both ways, and the size of the caller's terminal.

    master: of the container's terminal, stays the caller's.  stdin, stdout: descriptors; a stdin that is a terminal is
    raw from begin() to end(), if this process is in its foreground. An end of file there becomes what the terminal of
    the container takes for one (VEOF).
    """

    def __init__(self, master: int, stdin: int = 0, stdout: int = 1) -> None:
        self._master, self._stdin, self._stdout = master, stdin, stdout
        self._input = b""
        self._output = b""
        self._last = b"\n"
        self._reads = _is_open(stdin)
        self._writes = True
        self._before: list[Any] | None = None
        posix.set_blocking(master, False)

    def begin(self) -> None:
        """Make the caller's terminal raw, and tell the container's its size; once more after the caller was stopped."""
        self.resize()
        try:
            if posix.tcgetpgrp(self._stdin) != posix.getpgrp():
                return
            before = termios.tcgetattr(self._stdin)
            tty.setraw(self._stdin, termios.TCSADRAIN)
            _keep_output(self._stdin)
        except (OSError, termios.error):
            return  # no terminal
        self._before = self._before or before

    def end(self) -> None:
        """Give the caller's terminal back as it was."""
        if self._before is not None:
            try:
                termios.tcsetattr(self._stdin, termios.TCSADRAIN, self._before)
            except termios.error:
                pass  # it has hung up
            self._before = None

    def resize(self) -> None:
        """The container's terminal gets the size of the caller's, if there is one."""
        if size := caller_size():
            try:
                termios.tcsetwinsize(self._master, size)
            except termios.error:
                return

    def run(self, pidfd: int, wake: int, awake: Callable[[], None]) -> None:
        """Carry on until the process of `pidfd` has ended and its last output has arrived.

        wake: a descriptor; awake() is called when it can be read.
        """
        while True:
            ready = self._poll((pidfd, wake))
            if wake in ready:
                awake()
            self._move(ready)
            if pidfd in ready:
                return self._finish()

    def _poll(self, others: tuple[int, ...], timeout: int | None = None) -> dict[int, int]:
        poll = select.poll()
        for fd in others:
            poll.register(fd, select.POLLIN)
        if self._master >= 0:
            events = (select.POLLOUT if self._input else 0) | (0 if self._output else select.POLLIN)
            if events:
                poll.register(self._master, events)
        if self._reads and not self._input:
            poll.register(self._stdin, select.POLLIN)
        if self._output:
            poll.register(self._stdout, select.POLLOUT)
        return dict(poll.poll(timeout))

    def _move(self, ready: dict[int, int]) -> None:
        if self._stdin in ready and self._reads and not self._input:
            self._read_input()
        if self._master in ready and self._input:
            self._write_input()
        if self._stdout in ready and self._output:
            self._write_output()
        if self._master in ready and not self._output:
            self._read_output()

    def _read_input(self) -> None:
        try:
            self._input = posix.read(self._stdin, CHUNK)
        except OSError:
            self._reads = False  # it has hung up, or is another's foreground
            return
        if not self._input:
            self._reads = False
            self._input = self._end_of_file()
        self._last = self._input[-1:]

    def _end_of_file(self) -> bytes:
        """VEOF in the place of an end of file; twice where it would only end a line that has begun. termios(3)"""
        try:
            attributes = termios.tcgetattr(self._master)
        except termios.error:
            return b""
        if not attributes[3] & termios.ICANON:
            return b""
        sign: bytes = attributes[6][termios.VEOF]
        return sign if self._last == b"\n" else sign * 2

    def _write_input(self) -> None:
        try:
            self._input = self._input[posix.write(self._master, self._input) :]
        except BlockingIOError:
            return
        except OSError:
            self._input = b""

    def _read_output(self) -> None:
        """EIO: nobody has the terminal open just now. It is not asked again, unless for the last time, at the end."""
        try:
            self._output = posix.read(self._master, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._master = -1
        if not self._writes:
            self._output = b""

    def _write_output(self) -> None:
        try:
            self._output = self._output[posix.write(self._stdout, self._output) :]
        except BlockingIOError:
            return
        except OSError:  # nobody reads it; the process is not to wait for that
            self._output = b""
            self._writes = False

    def _finish(self) -> None:
        """What the process wrote before its end: the kernel says EIO behind the last byte, unless another holds it."""
        self._reads = False
        self._input = b""
        while self._output or self._master >= 0:
            ready = self._poll((), None if self._output else LAST_OUTPUT_MS)
            if not ready:
                return
            self._move(ready)


def _is_open(fd: int) -> bool:
    try:
        posix.fstat(fd)
    except OSError:
        return False
    return True
