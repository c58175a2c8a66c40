"""The pid file: it appears with its content, or not at all."""

from __future__ import annotations

import os

from pyocirun.errors import Error


def write_pid_file(path: str, pid: int) -> None:
    """Write `pid` in decimal, without a newline, beside `path` and rename it into place. Raises Error."""
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, "." + name)
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            os.write(fd, b"%d" % pid)
            os.rename(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
        finally:
            os.close(fd)
    except OSError as error:
        raise Error(
            f"cannot write pid file {path}: {os.strerror(error.errno or 0)}",
            errno=error.errno or 0,
            path=path,
            hint=f"remove {temporary} if nobody writes it now" if isinstance(error, FileExistsError) else "",
            step="pid-file",
        ) from error
