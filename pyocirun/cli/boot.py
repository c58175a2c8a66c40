"""The first Python that the installed command runs, where the interpreter is part of it: csrc/embed.c has it frozen.

The interpreter is only half started then. It imports what is built in or frozen, and, by the finder here, the modules
of this package from their .pyc files, under Python's own rule: only while size and time of the source are the ones
noted there. Whatever else is wanted (another module, an open file, sys.stdout) starts the other half first.
"""

from __future__ import annotations

import gc
import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec
from _imp import create_dynamic, exec_dynamic, extension_suffixes, is_frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, ModuleType
    from typing import Any, NoReturn

_LATER = ("_signal", "_tracemalloc", "faulthandler")
"""Built in, but of no use, or worse, before the second phase."""

_EXTENSIONS = ("pyocirun._native", "pyocirun._seccomp", "_blake2", "_cffi_backend", "_json", "_prctl")


def run(site: str, stdlib: str, dynload: str, argv: list[str], magic: int, complete: Callable[[], None]) -> NoReturn:
    """The command. site: the directory that the package lies in.

    magic: the number that .pyc files begin with.  complete: starts the second half of the interpreter.
    """
    gc.disable()  # what a command leaves for it goes with the process
    whole = hasattr(sys, "stdout")
    finder = Finder(site, stdlib, dynload, magic, _do_nothing if whole else complete)
    sys.meta_path.insert(0, finder)
    if not whole:
        _stand_in(finder)
    sys.argv = argv
    try:
        from pyocirun.cli.main import leave, main

        status = main(argv[1:])
        if finder.is_complete:
            leave(status)
        posix._exit(status)
    except KeyboardInterrupt:  # before main could take it, or after it
        posix._exit(130)


class Finder:
    """Finds and loads the modules of pyocirun in `site`, and leaves everything else to what comes after it."""

    def __init__(self, site: str, stdlib: str, dynload: str, magic: int, complete: Callable[[], None]) -> None:
        self.site = site
        self.is_complete = False
        self._stdlib = stdlib
        self._dynload = dynload
        self._magic = magic.to_bytes(4, "little")
        self._complete = complete
        self._tag = sys.implementation.cache_tag
        self._codes: dict[str, CodeType] = {}

    def complete(self) -> None:
        if not self.is_complete:
            self.is_complete = True
            self._complete()

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The spec of a module of ours; None for others, which the whole interpreter is asked for if need be."""
        if is_frozen(name) or (name in sys.builtin_module_names and name not in _LATER):
            return None
        spec: ModuleSpec | None = None
        if name in _EXTENSIONS:
            spec = self._extension(name)
        elif name.startswith("pyocirun"):
            place = f"{self.site}/{name.replace('.', '/')}"
            spec = self._source(name, place, ".py") or self._source(name, place, "/__init__.py")
        if spec is None:
            self.complete()
            if name.startswith("encodings."):
                self._find_encodings(path)
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return create_dynamic(spec) if spec.name in _EXTENSIONS else None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        if name in _EXTENSIONS:
            exec_dynamic(module)
        else:
            exec(self._codes.pop(name), module.__dict__)

    def _extension(self, name: str) -> ModuleSpec | None:
        loader: Any = self
        for directory in (self.site, self._dynload):
            for suffix in extension_suffixes():
                path = f"{directory}/{name.replace('.', '/')}{suffix}"
                if _stat(path):
                    return ModuleSpec(name, loader, origin=path)
        return None

    def _source(self, name: str, place: str, end: str) -> ModuleSpec | None:
        """None if there is no such source, or no .pyc file that fits it."""
        source = place + end
        about = _stat(source)
        if about is None:
            return None
        directory, _, file = source[:-3].rpartition("/")
        cached = f"{directory}/__pycache__/{file}.{self._tag}.pyc"
        data = _read(cached)
        noted = self._magic + bytes(4) + _u32(int(about.st_mtime)) + _u32(about.st_size)
        if data[:16] != noted:
            return None
        self._codes[name] = marshal.loads(memoryview(data)[16:])
        loader: Any = self
        spec = ModuleSpec(name, loader, origin=source)
        spec.has_location = True
        spec.cached = cached
        if end != ".py":
            spec.submodule_search_locations = [place]
        return spec

    def _find_encodings(self, path: object) -> None:
        """encodings is frozen with the few that every start needs; the others lie in its directory."""
        place = self._stdlib + "/encodings"
        if isinstance(path, list) and place not in path:
            path.append(place)


class _Stream:
    """Stands for one of the standard streams until somebody uses it."""

    def __init__(self, name: str, finder: Finder) -> None:
        self._name = name
        self._finder = finder

    def __getattr__(self, attribute: str) -> object:
        self._finder.complete()
        return getattr(getattr(sys, self._name), attribute)


def _stand_in(finder: Finder) -> None:
    """For what the first phase lacks."""
    import builtins

    def open_file(*args: Any, **kwargs: Any) -> Any:
        finder.complete()
        return builtins.open(*args, **kwargs)

    builtins.open = open_file
    for name in ("stdin", "stdout", "stderr"):
        setattr(sys, name, _Stream(name, finder))


def _read(path: str) -> bytes:
    """The content of a file, b"" if it cannot be had."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return posix.read(fd, posix.fstat(fd).st_size)
    except OSError:
        return b""
    finally:
        posix.close(fd)


def _stat(path: str) -> posix.stat_result | None:
    try:
        return posix.stat(path)
    except OSError:
        return None


def _u32(number: int) -> bytes:
    return (number & 0xFFFFFFFF).to_bytes(4, "little")


def _do_nothing() -> None:
    """The interpreter is whole already."""
