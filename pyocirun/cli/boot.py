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
    from collections.abc import Callable, Iterable
    from types import CodeType, ModuleType
    from typing import Any, NoReturn

_LATER = ("_signal", "_tracemalloc", "faulthandler")
"""Built in, but of no use, or worse, before the second phase."""

_EXTENSIONS = ("pyocirun._native", "pyocirun._seccomp", "_blake2", "_cffi_backend", "_json", "_prctl")


_SHELVED = "pyocirun.cgroup.bus"
"""What is in a snapshot for the commands that ask systemd for something: with a library, jeepney, and all it needs."""

_prepared: Finder | None = None
"""In a snapshot: the finder that imported what is there already."""

no_snapshot: str | None = None
"""Why this process did not start from a snapshot; None if it did."""


def run(
    site: str,
    stdlib: str,
    dynload: str,
    argv: list[str],
    magic: int,
    complete: Callable[[], None],
    why_no_snapshot: str | None,
) -> NoReturn:
    """The command. site: the directory that the package lies in.

    magic: the number that .pyc files begin with.  complete: starts the second half of the interpreter.
    """
    global no_snapshot
    no_snapshot = why_no_snapshot
    if _prepared is not None:
        finder = _prepared
        finder.move(site)
    else:
        finder = _install(site, stdlib, dynload, magic, complete)
    sys.argv = argv
    try:
        from pyocirun.cli.main import leave, main

        status = main(argv[1:])
        if finder.is_complete:
            leave(status)
        posix._exit(status)
    except KeyboardInterrupt:  # before main could take it, or after it
        posix._exit(130)


def lacks() -> str:
    """Why the snapshot that this process started from is without D-Bus; "" if it is not."""
    return (_prepared is not None and _prepared.shelf.why_empty) or ""


def prepare(site: str, stdlib: str, dynload: str, names: list[str], magic: int, complete: Callable[[], None]) -> bytes:
    """Import modules for a snapshot: those of `names` that need nothing but what is built in or of this package.

    The sources of what was imported come back, as csrc/snapshot.h has them. Raises RuntimeError if a module keeps a
    path of `site`, which is the build's: it would be wrong wherever the package is installed.
    """
    global _prepared
    finder = _install(site, stdlib, dynload, magic, complete)
    finder.is_preparing = True
    sys.modules["pyocirun._native"] = _native_for_later()
    for name in names:
        try:
            __import__(name)
        except _NotPrepared:
            pass
    finder.shelf.fill(_SHELVED)
    del sys.modules["pyocirun._native"]
    finder.is_preparing = False
    _prepared = finder
    noted = b"".join([_noted_source(name, module, site) for name, module in _modules()])
    gc.collect()
    return noted


def _install(site: str, stdlib: str, dynload: str, magic: int, complete: Callable[[], None]) -> Finder:
    gc.disable()  # what a command leaves for it goes with the process
    whole = hasattr(sys, "stdout")
    finder = Finder(site, stdlib, dynload, magic, _do_nothing if whole else complete)
    sys.meta_path.insert(0, finder)
    if not whole:
        _stand_in(finder)
    return finder


def _modules() -> list[tuple[str, Any]]:
    """The modules of this package that are imported."""
    modules = sys.modules | (_prepared.shelf.modules if _prepared is not None else {})
    return [(name, module) for name, module in modules.items() if name[:8] == "pyocirun"]


def _noted_source(name: str, module: Any, site: str) -> bytes:
    for key, value in vars(module).items():
        if isinstance(value, str) and site in value and key not in ("__file__", "__cached__"):
            raise RuntimeError(f"{name}.{key} keeps {value}")
    path: str = module.__file__
    return posix.stat(path).st_size.to_bytes(8, sys.byteorder) + path[len(site) + 1 :].encode() + b"\0"


def _move(old: str, new: str) -> None:
    """Modules that were imported from the directory `old` lie in `new`.

    It touches the memory of all of them, which costs more than most commands do: so only once the whole interpreter is
    wanted.
    """
    for _, module in _modules():
        spec = module.__spec__
        if spec is None or spec.origin[: len(old)] != old:  # cffi registers its libraries as modules, without a spec
            continue
        spec.origin = module.__file__ = new + spec.origin[len(old) :]
        spec.cached = module.__cached__ = new + spec.cached[len(old) :]
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations[:] = [spec.origin.rpartition("/")[0]]


class _NotPrepared(ImportError):
    """A module that is not there before the command runs: where it lies, or what it knows, belongs to the process."""


class _Later:
    """Stands for an object of the module _native, which is mapped elsewhere each time, until it is used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        from pyocirun import _native, native

        native._ffi, native._lib = _native.ffi, _native.lib  # type: ignore[attr-defined]
        return getattr(getattr(_native, self._name), attribute)


def _native_for_later() -> Any:
    module: Any = type(sys)("pyocirun._native")
    module.ffi = _Later("ffi")
    module.lib = _Later("lib")
    return module


class Shelf:
    """In a snapshot: a module of ours with a library, jeepney, hidden until it is imported.

    What it needs of Python's own modules is kept with it, as copies of its own: whoever else imports `re` gets one as
    if there were no snapshot, made for this process.
    """

    def __init__(self, finder: Finder) -> None:
        self.modules: dict[str, Any] = {}
        self.why_empty: str | None = None
        """Why there is nothing, where a snapshot was made."""
        self._finder = finder
        self._sources: list[tuple[str, int]] = []
        """Of jeepney, which has versions of its own: path below `site`, and bytes."""

    def fill(self, name: str) -> None:
        """Import the module `name`, while a snapshot is made; nothing if what it needs is not there."""
        before = set(sys.modules)
        if "_typing" not in sys.builtin_module_names:
            sys.modules["_typing"] = _typing()
        sys.warnoptions = []  # which the second phase makes
        self._finder.is_shelving = True
        try:
            __import__(name)
        except Exception as error:  # of modules that are made for the whole interpreter, in any version of it
            self.why_empty = f"{type(error).__name__}: {error}"
        else:
            self.modules = {each: sys.modules[each] for each in sys.modules if each == name or each[:7] == "jeepney"}
            parent, _, last = name.rpartition(".")
            delattr(sys.modules[parent], last)  # else it would be taken for the module
        self._finder.is_shelving = False
        del sys.warnoptions
        for each in set(sys.modules) - before:
            del sys.modules[each]
        for each, module in self.modules.items():
            if each != name:
                path: str = module.__file__
                self._sources.append((path[len(self._finder.site) + 1 :], posix.stat(path).st_size))

    def take(self, name: str) -> ModuleSpec | None:
        """The spec of the module `name`, which is there already; None if it is not, or the library is another now."""
        if name not in self.modules:
            return None
        modules, self.modules = self.modules, {}
        if not self._is_fit():
            return None
        module = modules.pop(name)
        sys.modules.update(modules)
        loader: Any = _Ready(module)
        return ModuleSpec(name, loader, origin=module.__file__)

    def _is_fit(self) -> bool:
        """Whether jeepney has the sources it had, none newer than the command; and nobody has imported it before."""
        installed = posix.stat("/proc/self/exe").st_mtime
        for path, size in self._sources:
            about = _stat(f"{self._finder.site}/{path}")
            if about is None or about.st_size != size or about.st_mtime > installed:
                return False
        return "jeepney" not in sys.modules


class _Ready:
    """Loads what is loaded already."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def create_module(self, spec: ModuleSpec) -> Any:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        pass


def _typing() -> Any:
    """For Python 3.11, which may have this module in a library of its own: one function."""

    class Identity:
        def __call__(self, value: object) -> object:
            return value

    module: Any = type(sys)("_typing")
    module._idfunc = Identity()
    return module


class Finder:
    """Finds and loads the modules of pyocirun in `site`, and leaves everything else to what comes after it."""

    def __init__(self, site: str, stdlib: str, dynload: str, magic: int, complete: Callable[[], None]) -> None:
        self.site = site
        self.is_complete = False
        self.is_preparing = False
        self.is_shelving = False
        self.shelf = Shelf(self)
        self._moved_from = ""
        self._stdlib = stdlib
        self._dynload = dynload
        self._magic = magic.to_bytes(4, "little")
        self._complete = complete
        self._tag = sys.implementation.cache_tag
        self._codes: dict[str, CodeType] = {}

    def complete(self) -> None:
        if not self.is_complete:
            self.is_complete = True
            if self._moved_from:
                _move(self._moved_from, self.site)
            self._complete()
            from pyocirun.cli.elsewhere import look_elsewhere

            look_elsewhere(self.site)

    def move(self, site: str) -> None:
        """The package lies in `site` now. Of the modules there are, only the package itself is told before complete."""
        import pyocirun

        self._moved_from = self.site
        self.site = site
        pyocirun.__file__ = site + "/pyocirun/__init__.py"

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The spec of a module of ours; None for others, which the whole interpreter is asked for if need be."""
        if (is_frozen(name) or name in sys.builtin_module_names) and not self._must_wait(name):
            return None
        spec: ModuleSpec | None = None
        if name in _EXTENSIONS and not self.is_preparing:
            spec = self._extension(name)
        elif name.startswith("pyocirun"):
            spec = self.shelf.take(name) or self._module(name, self.site)
        elif self.is_shelving:
            spec = self._module(name, self.site) or self._module(name, self._stdlib)
        if spec is None:
            if self.is_preparing:
                raise _NotPrepared(name)
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

    def _must_wait(self, name: str) -> bool:
        """Of what is built in or frozen. os keeps the environment, so it is nothing for a snapshot."""
        if self.is_shelving:
            return name in _LATER
        return name in _LATER or (self.is_preparing and is_frozen(name) and name != "__future__")

    def _extension(self, name: str) -> ModuleSpec | None:
        found = self._extension_in((self.site, self._dynload), name)
        if found is None and name != "pyocirun._seccomp":
            from pyocirun.cli.elsewhere import directories

            found = self._extension_in(directories(self.site), name)
        return found

    def _extension_in(self, directories: Iterable[str], name: str) -> ModuleSpec | None:
        loader: Any = self
        for directory in directories:
            for suffix in extension_suffixes():
                path = f"{directory}/{name.replace('.', '/')}{suffix}"
                if _stat(path):
                    return ModuleSpec(name, loader, origin=path)
        return None

    def _module(self, name: str, directory: str) -> ModuleSpec | None:
        place = f"{directory}/{name.replace('.', '/')}"
        return self._source(name, place, ".py") or self._source(name, place, "/__init__.py")

    def _source(self, name: str, place: str, end: str) -> ModuleSpec | None:
        """None if there is no such source, or no .pyc file that fits it."""
        source = place + end
        about = _stat(source)
        if about is None:
            return None
        spec = self._spec(name, source)
        data = _read(spec.cached or "")
        noted = self._magic + bytes(4) + _u32(int(about.st_mtime)) + _u32(about.st_size)
        if data[:16] != noted:
            return None
        self._codes[name] = marshal.loads(memoryview(data)[16:])
        return spec

    def _spec(self, name: str, source: str) -> ModuleSpec:
        directory, _, file = source[:-3].rpartition("/")
        loader: Any = self
        spec = ModuleSpec(name, loader, origin=source)
        spec.has_location = True
        spec.cached = f"{directory}/__pycache__/{file}.{self._tag}.pyc"
        if file == "__init__":
            spec.submodule_search_locations = [directory]
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
