"""The bundle: a directory with config.json in it (bundle.md). The one module here that opens files."""

from __future__ import annotations

import posix

from pyocirun import files
from pyocirun.errors import SpecError
from pyocirun.spec import reader
from pyocirun.spec.config import Spec, parse_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

CONFIG = "config.json"
SHOWN_FAULTS = 5
RECENT = 16


def read_bundle(bundle: str, config: str | dict[str, Any] | None = None) -> tuple[str, bytes, Spec]:
    """The bundle's absolute path, the configuration as it was read, and as a Spec.

    config: another file in place of the bundle's config.json, relative to the working directory; or a document. Raises
    SpecError; if the document has several faults, it lists them all.
    """
    bundle = files.absolute(bundle)
    data, what = _read_config(bundle, config)
    return bundle, data, _parsed(data, what)


def read_document(bundle: str, config: str | dict[str, Any] | None = None) -> Any:
    """The configuration as a JSON document that was not looked at yet. As `read_bundle` finds it. Raises SpecError."""
    return reader.load_json(*_read_config(files.absolute(bundle), config))


def _read_config(bundle: str, config: str | dict[str, Any] | None) -> tuple[bytes, str]:
    """The bytes of a configuration, and its name in errors."""
    if isinstance(config, dict):
        return _encode(config), "the configuration"
    if config is None:
        # Named without its directory: engines and users know the message by heart.
        try:
            return read_file(f"{bundle}/{CONFIG}", CONFIG), CONFIG
        except SpecError as error:
            raise _of_bundle(error, bundle) from None
    return read_file(config, config), config


def _of_bundle(error: SpecError, bundle: str) -> SpecError:
    """What is wrong if config.json cannot be read: with it, or with the directory that it should be in."""
    from errno import ENOENT

    try:
        # With the slash, a file in the place of the directory is an error too.
        posix.stat(f"{bundle}/")
    except OSError as missing:
        text = f"chdir {bundle}: {posix.strerror(missing.errno or 0).lower()}"
        return SpecError(text, errno=missing.errno or 0, path=bundle, hint="the bundle is a directory")
    if error.errno == ENOENT:
        error.hint = f"the bundle {bundle} has none; pyocirun spec writes one to start from"
    return error


def rootfs_path(bundle: str, spec: Spec) -> str:
    """Absolute path of the root file system: root.path, which is relative to the bundle. It need not exist."""
    return files.absolute(spec.root.path if spec.root.path.startswith("/") else f"{bundle}/{spec.root.path}")


def read_file(path: str, what: str) -> bytes:
    """The bytes of a JSON file, at most `reader.MAX_SIZE`. what: its name in errors. A pipe is read to its end."""
    try:
        # O_NONBLOCK: opening a pipe that nobody writes to must not hang; reading it may.
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK | posix.O_NOCTTY)
    except FileNotFoundError as error:
        raise SpecError(f"JSON specification file {what} not found", errno=error.errno or 0, path=path) from None
    except OSError as error:
        raise _unreadable(error, path, what) from None
    try:
        reader.check_size(posix.fstat(fd).st_size, what)
        posix.set_blocking(fd, True)
        return _read(fd, what)
    except OSError as error:
        raise _unreadable(error, path, what) from None
    finally:
        posix.close(fd)


def read_descriptor(fd: int, what: str) -> bytes:
    """The same of an open descriptor, to its end."""
    try:
        return _read(fd, what)
    except OSError as error:
        raise _unreadable(error, "", what) from None


def checked(document: Any, parse: Callable[[Any], T], definition: str = "") -> T:
    """What `parse` makes of a document. A SpecError of its is raised with all other faults of the document in it.

    definition: which part of the schema the document is to be held against, "" for a whole config.json.
    """
    try:
        return parse(document)
    except SpecError as error:
        raise _with_all_faults(error, document, definition) from None


_recent: dict[bytes, Spec] = {}


def _parsed(data: bytes, what: str) -> Spec:
    """The Spec of these bytes. A Spec is a value: whoever starts many containers of a kind gets the same one again."""
    spec = _recent.get(data)
    if spec is None:
        spec = checked(reader.load_json(data, what), parse_config)
        if len(_recent) >= RECENT:
            _recent.clear()
        _recent[data] = spec
    return spec


def _read(fd: int, what: str) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while chunk := posix.read(fd, 1 << 16):
        chunks.append(chunk)
        size += len(chunk)
        reader.check_size(size, what)
    return b"".join(chunks)


def _unreadable(error: OSError, path: str, what: str) -> SpecError:
    return SpecError(f"cannot read {what}: {error.strerror}", errno=error.errno or 0, path=path)


def _encode(document: dict[str, Any]) -> bytes:
    import json

    try:
        return json.dumps(document, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise SpecError(f"the configuration is no JSON document: {error}") from None


def _with_all_faults(first: SpecError, document: Any, definition: str) -> SpecError:
    """`first`, or if there are more faults, one error with all of them: `first` before the others."""
    from pyocirun.spec.validate import all_faults

    others = [(pointer, text) for pointer, text in all_faults(document, definition) if pointer != first.pointer]
    if not others:
        return first
    faults = first.faults + others
    shown = [reader.describe(pointer, text) for pointer, text in faults[:SHOWN_FAULTS]]
    more = [f"and {len(faults) - SHOWN_FAULTS} more"] if len(faults) > SHOWN_FAULTS else []
    return SpecError("; ".join(shown + more), pointer=first.pointer, faults=faults)
