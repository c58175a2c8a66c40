"""The caller's side of terminals: a pseudo terminal to call the runtime from, and who listens on a console socket."""

from __future__ import annotations

import array
import fcntl
import os
import pty
import select
import signal
import socket
import subprocess
import termios
import threading
import time
from pathlib import Path

import pytest

from integration.harness import TIMEOUT, Runtime

Modes = list[object]


class Caller:
    """A command of the runtime that is called from a terminal, whose other side is here."""

    def __init__(
        self,
        runtime: Runtime,
        *args: str,
        rows: int = 24,
        columns: int = 80,
        stdin: int | None = None,
        stdout: int | None = None,
    ) -> None:
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(self.master, (rows, columns))
        self.before: Modes = termios.tcgetattr(self.master)
        self.log = runtime.base / f"caller-{time.monotonic_ns()}.log"
        argv = [*runtime.command, "--root", str(runtime.root), "--log", str(self.log), "--log-format", "json", *args]
        self.process = subprocess.Popen(
            argv,
            stdin=slave if stdin is None else stdin,
            stdout=slave if stdout is None else stdout,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(2, termios.TIOCSCTTY, 0),
        )
        runtime_live().update({self.process.pid: self.process})
        os.close(slave)
        self.output = ""

    @property
    def modes(self) -> Modes:
        """What tcgetattr(3) says of the caller's terminal."""
        return termios.tcgetattr(self.master)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def read_until(self, text: str, timeout: float = TIMEOUT) -> str:
        """All output so far, once `text` is in it."""
        end = time.monotonic() + timeout
        while text not in self.output:
            if not self._read(end - time.monotonic()):
                pytest.fail(f"{text!r} is not in {self.output!r}")
        return self.output

    def wait(self, timeout: float = TIMEOUT) -> int:
        """Read to the end, and return the exit status."""
        end = time.monotonic() + timeout
        while self._read(end - time.monotonic()):
            pass
        try:
            return self.process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"no end after {timeout} s: {self.output!r}")
        finally:
            runtime_live().pop(self.process.pid, None)
            os.close(self.master)
            self.master = -1

    def end(self, timeout: float = TIMEOUT) -> int:
        """The exit status of the command, whoever keeps its terminal open; what it wrote is in `output`."""
        try:
            status = self.process.wait(timeout)
            while self._read(0.1):
                pass
            return status
        finally:
            runtime_live().pop(self.process.pid, None)
            os.close(self.master)
            self.master = -1

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def _read(self, timeout: float) -> bool:
        """Read once; False at the end, or when nothing comes."""
        ready, _, _ = select.select([self.master], [], [], max(0.0, timeout))
        if not ready:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False
        self.output += data.decode(errors="replace")
        return bool(data)


def runtime_live() -> dict[int, subprocess.Popen[bytes]]:
    """Commands of the runtime that this process has started: not to be taken for orphans."""
    from integration.harness import Running

    return Running.live


class Receiver:
    """Listens on a unix socket and takes one descriptor, as recvtty does: fd (-1 until then), and data."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = -1
        self.data = b""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        directory = os.open(path.parent, os.O_PATH)
        self._listener.bind(f"/proc/self/fd/{directory}/{path.name}")
        os.close(directory)
        self._listener.listen(1)
        self._listener.settimeout(TIMEOUT)
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(TIMEOUT)
            self.data, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
            for level, type, data in ancillary:
                if (level, type) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds = array.array("i", data[:4])
                    self.fd = fds[0]

    def received(self) -> int:
        """The descriptor that came."""
        self._thread.join(TIMEOUT)
        assert self.fd >= 0, "no descriptor has come"
        return self.fd

    def read_until(self, text: str, timeout: float = TIMEOUT) -> str:
        """Output of the terminal that came, up to `text` at least."""
        output = ""
        end = time.monotonic() + timeout
        while text not in output:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{text!r} is not in {output!r}"
            output += os.read(self.fd, 65536).decode(errors="replace")
        return output

    def close(self) -> None:
        self._listener.close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
