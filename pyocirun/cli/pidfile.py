"""The pid file: it appears with its content, or not at all."""

from __future__ import annotations

import posix

from pyocirun.errors import Error


def write_pid_file(path: str, pid: int) -> None:
    """Write `pid` in decimal, without a newline, beside `path` and rename it into place. Raises Error."""
    directory, slash, name = path.rpartition("/")
    temporary = f"{directory}{slash}.{name}"
    try:
        fd = posix.open(temporary, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o666)
        try:
            posix.write(fd, b"%d" % pid)
            posix.rename(temporary, path)
        except OSError:
            posix.unlink(temporary)
            raise
        finally:
            posix.close(fd)
    except OSError as error:
        raise Error(
            f"cannot write pid file {path}: {posix.strerror(error.errno or 0)}",
            errno=error.errno or 0,
            path=path,
            hint=f"remove {temporary} if nobody writes it now" if isinstance(error, FileExistsError) else "",
            step="pid-file",
        ) from error
