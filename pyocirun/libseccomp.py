"""libseccomp, typed. Loads the library when it is first imported: ImportError where this build or machine has none.

Every call raises OSError where the library refuses. It keeps state of its own, so one thread at a time: LOCK.
"""

from __future__ import annotations

import posix
from _thread import allocate_lock

from pyocirun import native
from pyocirun._seccomp import ffi as _ffi
from pyocirun._seccomp import lib as _lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LOCK = allocate_lock()

UNKNOWN = -1
"""__NR_SCMP_ERROR. Other negative numbers stand for calls that only other architectures have."""
EXISTS = 17
OPTIMIZE = 8
TREE = 2


def version() -> str:
    """Version of the library that is loaded: "2.5.4"."""
    found = _lib.seccomp_version()
    return f"{found.major}.{found.minor}.{found.micro}"


def number_of(name: str, architecture: int | None = None) -> int:
    """The number of a system call, UNKNOWN if the library knows none of this name. architecture: None is our own."""
    if architecture is None:
        return int(_lib.seccomp_syscall_resolve_name(name.encode()))
    return int(_lib.seccomp_syscall_resolve_name_arch(architecture, name.encode()))


def architecture(name: str) -> int:
    """libseccomp's number of an architecture, 0 if it does not know this name ("x86_64")."""
    return int(_lib.seccomp_arch_resolve_name(name.encode()))


def native_architecture() -> int:
    """libseccomp's number of the architecture that it was built for."""
    return int(_lib.seccomp_arch_native())


class Builder:
    """A filter in the making, for our own architecture at first. default: its answer where no rule fits."""

    def __init__(self, default: int) -> None:
        context = _lib.seccomp_init(default)
        if context == _ffi.NULL:
            raise OSError(22, posix.strerror(22))
        self._context = _ffi.gc(context, _lib.seccomp_release)

    def add_architecture(self, number: int) -> None:
        """Make the rules hold for another architecture too."""
        result = _lib.seccomp_arch_add(self._context, number)
        if result != -EXISTS:
            _check(result)

    def add_rule(self, answer: int, number: int, conditions: Sequence[tuple[int, int, int, int]]) -> None:
        """Answer a system call so where all conditions hold: (argument, operator, value, value under a mask)."""
        compared = [{"arg": arg, "op": op, "datum_a": one, "datum_b": two} for arg, op, one, two in conditions]
        given = _ffi.new("struct scmp_arg_cmp[]", compared)
        _check(_lib.seccomp_rule_add_array(self._context, answer, number, len(compared), given))

    def as_tree(self) -> None:
        """Compile into a binary tree where the library can (2.5.0)."""
        _lib.seccomp_attr_set(self._context, OPTIMIZE, TREE)

    def program(self) -> bytes:
        """The compiled filter: struct sock_filter after struct sock_filter."""
        fd = native.shared_memfd("seccomp", 0)
        try:
            _check(_lib.seccomp_export_bpf(self._context, fd))
            return posix.pread(fd, posix.fstat(fd).st_size, 0)
        finally:
            posix.close(fd)


def _check(result: int) -> None:
    if result < 0:
        raise OSError(-result, posix.strerror(-result))
