"""The log, as text or JSON lines, the way engines read it.

containerd's shim takes the last JSON line with level "error" from the log file of a failed call and shows its msg, so
there is one such line in a call, the last word of `fatal`. The file is opened when the first line is written: a call
that has nothing to say leaves it alone.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyocirun.sinks import Send

_START = time.monotonic()
_STDERR = 2
_LEVELS = ("debug", "info", "warning", "error")
_TAGS = {"debug": "DEBU", "info": "INFO", "warning": "WARN", "error": "ERRO"}


class Log:
    """Where one call of the command line says what happens.

    path: of the log file, "" for standard error; or "journald:ID", "syslog:NAME".  json: JSON lines instead of text.
    debug: take debug lines too.  level: of "debug", "info", "warning" and "error", what is less is left out.
    """

    def __init__(self, path: str = "", *, json: bool = False, debug: bool = False, level: str = "info") -> None:
        self._path = path
        self._json = json
        self._debug = debug
        self._least = _LEVELS.index(level)
        self._sink: Send | None = None
        self._fd = -1
        self._ended = False

    def debug(self, message: str) -> None:
        if self._debug:
            self._line("debug", message)

    def info(self, message: str) -> None:
        self._line("info", message)

    def warning(self, message: str) -> None:
        self._line("warning", message)

    def fatal(
        self,
        message: str,
        *,
        step: str = "",
        errno: int = 0,
        path: str = "",
        hint: str = "",
        details: tuple[str, ...] = (),
    ) -> None:
        """The last word of a call that failed: one line of level error, and what a person needs on standard error.

        step: name of the operation that failed.  errno: 0 if no system call failed.  path: what it was about.
        hint: one thing to try.  details: further lines, for standard error alone.
        A second fatal of one log is a warning: an engine shows the last error line, which is to be the first cause.
        """
        if self._ended:
            self.warning(message)
            return
        self._ended = True
        self._line("error", message, {"step": step, "errno": errno, "path": path, "hint": hint})
        to_file = self._fd not in (-1, _STDERR) or self._sink is not None
        lines = [printable(message)] if to_file else []
        if to_file or not self._json:
            lines += ["  " + printable(detail) for detail in details]
            lines += ["  hint: " + printable(hint)] if hint else []
        if lines:
            self._write(_STDERR, _encoded(*lines))

    def _line(self, level: str, message: str, facts: dict[str, str | int] | None = None) -> None:
        if _LEVELS.index(level) < self._least and not (level == "debug" and self._debug):
            return
        fd = self._open()
        if self._sink is not None:
            try:
                self._sink(level, message, facts or {})
            except OSError:
                return  # as of a full disk
            return
        if self._json:
            line = json_line(level, message, facts)
        elif fd == _STDERR and os.isatty(fd):
            line = f"{_TAGS[level]}[{int(time.monotonic() - _START):04}] {printable(message)}"
        else:
            line = text_line(level, message, facts if fd != _STDERR else None)
        self._write(fd, _encoded(line))

    def _write(self, fd: int, data: bytes) -> None:
        """In one piece, so that lines of two calls do not mix in one file."""
        try:
            os.write(fd, data)
        except OSError:
            return  # a full disk or a reader that has gone must not turn one failure into another

    def _open(self) -> int:
        """The descriptor to write to: of the file, or standard error, also where the file cannot be opened."""
        if self._fd == -1:
            self._fd = _STDERR
            if self._path:
                try:
                    if self._path.startswith(("journald:", "syslog:")):
                        from pyocirun.sinks import open_sink

                        self._sink = open_sink(self._path)
                        return self._fd
                    # O_SYNC, as runc: the last words are to be there after whatever stopped the machine.
                    flags = os.O_CREAT | os.O_APPEND | os.O_SYNC | os.O_WRONLY | os.O_CLOEXEC
                    self._fd = os.open(self._path, flags, 0o644)
                except OSError as error:
                    self.warning(f"cannot open the log {self._path}: {os.strerror(error.errno or 0)}")
        return self._fd


def json_line(level: str, message: str, facts: dict[str, str | int] | None = None) -> str:
    """One JSON object: level, msg, time, then the facts. The order of the first three is the one of runc's log."""
    escape = _escaper()
    parts = [f'"level":"{level}","msg":{escape(message)},"time":"{_now()}"']
    for name, value in (facts or {}).items():
        parts.append(f'"{name}":{escape(value) if isinstance(value, str) else value}')
    return "{" + ",".join(parts) + "}"


def text_line(level: str, message: str, facts: dict[str, str | int] | None = None) -> str:
    """One line `time="..." level=error msg="..."`, then the facts that are neither "" nor 0."""
    parts = [f'time="{_now()}" level={level} msg={_quoted(message)}']
    for name, value in (facts or {}).items():
        if value:
            parts.append(f"{name}={_quoted(value) if isinstance(value, str) else value}")
    return " ".join(parts)


def printable(text: str) -> str:
    """`text` on one line, with escapes for what could move a terminal's cursor: names come from images and callers."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == " " else _escape_char(char) for char in text)


def _encoded(*lines: str) -> bytes:
    return "".join(line + "\n" for line in lines).encode("utf-8", "backslashreplace")


def _quoted(text: str) -> str:
    return '"' + printable(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _escape_char(char: str) -> str:
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char) or char.encode("unicode_escape").decode("ascii")


def _escaper() -> Callable[[str], str]:
    """CPython's own C function: importing json for it would cost more than the rest of the line."""
    try:
        from _json import encode_basestring_ascii
    except ImportError:
        from json.encoder import encode_basestring_ascii
    return encode_basestring_ascii


def _now() -> str:
    """RFC 3339 in UTC: with anything else containerd loses the message."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
