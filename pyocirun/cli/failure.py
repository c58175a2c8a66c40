"""What a person, and an engine, are told when a command fails."""

from __future__ import annotations

import os

from pyocirun.errors import Error, NoSuchCommand, SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.cli.main import Session

_PREFIXES = {"create": "pyocirun create failed: ", "run": "pyocirun run failed: ", "exec": "exec failed: "}
_INTERRUPTED = 130
_NO_COMMAND = 3


def report(error: BaseException, session: Session) -> int:
    """Log `error` as the last word of the call, and return the exit status for it."""
    if isinstance(error, KeyboardInterrupt):
        session.log.fatal("interrupted")
        return _INTERRUPTED
    if isinstance(error, Error):
        message, errno, path, step, hint = error.message, error.errno, error.path, error.step, error.hint
    elif isinstance(error, OSError):
        message, errno, path, step, hint = system_error(error), error.errno or 0, _name(error.filename), "", ""
    else:
        message, errno, path, step, hint = f"internal error: {type(error).__name__}: {error}", 0, "", "", ""
        hint = "" if session.flags.get("debug") else "--debug shows where"
    if session.flags.get("debug") and not isinstance(error, Error):
        _log_traceback(error, session)
    session.log.fatal(
        _PREFIXES.get(session.command, "") + message,
        step=step,
        errno=errno,
        path=path,
        hint=hint,
        details=_faults(error),
    )
    if isinstance(error, NoSuchCommand):
        return _NO_COMMAND
    return 255 if session.command == "exec" else 1


def system_error(error: OSError) -> str:
    """An error of the system in the words that engines look for: "/x: no such file or directory"."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    reason = reason[:1].lower() + reason[1:]
    path = _name(error.filename)
    return f"{path}: {reason}" if path else reason


def _faults(error: BaseException) -> tuple[str, ...]:
    """Every fault of a config.json that has several."""
    if not isinstance(error, SpecError) or len(error.faults) < 2:
        return ()
    return tuple(f"{pointer or '/'}: {text}" for pointer, text in error.faults)


def _name(filename: object) -> str:
    return os.fsdecode(filename) if isinstance(filename, (str, bytes)) else ""


def _log_traceback(error: BaseException, session: Session) -> None:
    from traceback import format_exception

    for line in "".join(format_exception(error)).splitlines():
        session.log.debug(line)
