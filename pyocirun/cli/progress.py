"""A word on the terminal while a command waits longer than a second: never into a pipe or file."""

from __future__ import annotations

import posix
from _thread import allocate_lock, start_new_thread
from time import monotonic

STDERR = 2
PATIENCE = 1.0
ERASE = "\r\033[K"


class Progress:
    """A `with` block. text: what is waited for, told with the seconds it has taken so far, and erased at the end."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._over = allocate_lock()
        self._quiet = allocate_lock()

    def __enter__(self) -> Progress:
        self._over.acquire()
        self._quiet.acquire()
        start_new_thread(self._tell, (monotonic(),))
        return self

    def __exit__(self, *_: object) -> None:
        self._over.release()
        self._quiet.acquire()  # what comes next finds the line empty

    def _tell(self, began: float) -> None:
        told = False
        while not self._over.acquire(timeout=PATIENCE):
            told = _write(f"{ERASE}{self._text} ({monotonic() - began:.0f} s)")
        if told:
            _write(ERASE)
        self._quiet.release()


def _write(text: str) -> bool:
    """Whether it could be written."""
    try:
        posix.write(STDERR, text.encode())
    except OSError:
        return False
    return True
