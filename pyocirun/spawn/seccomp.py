"""Compiling the filter of a plan, or finding it compiled: filters are kept below the root directory."""

from __future__ import annotations

import posix
from _blake2 import blake2b
from _struct import pack, unpack

import pyocirun
from pyocirun import files
from pyocirun.errors import Error, SpecError
from pyocirun.linux.seccomp import AUDIT_X86_64, MAX_INSTRUCTIONS, X32
from pyocirun.plan.ops import LoadSeccomp
from pyocirun.plan.seccomp import AT, Newest, limit, refuse_new
from pyocirun.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyocirun.libseccomp import Builder
    from pyocirun.plan.ops import Plan
    from pyocirun.plan.seccomp import Filter, Rule

DIRECTORY = "@seccomp"
"""No container can be called so."""
MOST = 64
FORMAT = 1
MAX_FILE = 4096 + 8 * MAX_INSTRUCTIONS
AGENT_SECONDS = 30


def with_program(plan: Plan, root: str, debug: Callable[[str], None] | None) -> Plan:
    """`plan` with the compiled program of its filter, if it has one. root: the directory with `@seccomp` in it.

    Raises SpecError for what libseccomp refuses, Error where there is no libseccomp.
    """
    ops = [replace(op, program=program(op.filter, root, debug)) if type(op) is LoadSeccomp else op for op in plan.ops]
    return replace(plan, ops=tuple(ops))


def program(filter: Filter, root: str, debug: Callable[[str], None] | None) -> tuple[int, ...]:
    """The instructions of a filter, kept or compiled now."""
    if debug is not None:
        debug(f"seccomp filter flags: {filter.flags}")
    name = _key(filter)
    kept = _read(f"{root}/{DIRECTORY}", name)
    if kept is None:
        kept = compile_program(filter, debug or _ignore)
        _keep(f"{root}/{DIRECTORY}", name, kept)
    return kept


def compile_program(filter: Filter, debug: Callable[[str], None]) -> tuple[int, ...]:
    """The instructions of a filter, by libseccomp. debug: is told of names that it does not know."""
    try:
        from pyocirun import libseccomp
    except ImportError as error:
        raise Error(
            f"{AT}: this pyocirun has no libseccomp: {error}",
            hint="install libseccomp and its headers (libseccomp-dev), then build pyocirun again",
            step="seccomp",
        ) from None

    with libseccomp.LOCK:
        builder = libseccomp.Builder(filter.default)
        architectures = _architectures(filter, builder)
        if filter.tree:
            builder.as_tree()
        unknown: list[str] = []
        for rule in filter.rules:
            _add(builder, rule, unknown)
        if unknown and filter.refuses_unknown:
            raise _unknown(unknown)
        if unknown:
            debug(f"seccomp: system calls that libseccomp {libseccomp.version()} does not know: {', '.join(unknown)}")
        try:
            compiled = builder.program()
        except OSError as error:
            raise _refused(AT, "the filter", error) from None
        added = _newest(filter, architectures) if filter.refuses_new else []
    return refuse_new(unpack(f"<{len(compiled) // 8}Q", compiled), added)


def _unknown(names: list[str]) -> SpecError:
    from pyocirun import libseccomp

    text = f"{AT}/syscalls: libseccomp {libseccomp.version()} does not know {', '.join(names)}"
    hint = "the annotation run.oci.seccomp_fail_unknown_syscall asks for this error"
    return SpecError(text, pointer=f"{AT}/syscalls", hint=hint)


def connect(path: str) -> int:
    """A descriptor of a connection to the agent that answers system calls. Raises Error.

    Sending over it fails, too, when the agent has not read for AGENT_SECONDS.
    """
    import socket

    agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        agent.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, pack("ll", AGENT_SECONDS, 0))
        agent.connect(path)
    except OSError as error:
        agent.close()
        why = error.strerror or str(error)
        pointer = f"{AT}/listenerPath"
        raise Error(
            f"{pointer}: failed to connect with seccomp agent at {path}: {why}",
            errno=error.errno or 0,
            path=path,
            hint="an agent must listen there, on a stream socket, before the container is created",
            step="connect",
        ) from None
    return agent.detach()


def _architectures(filter: Filter, builder: Builder) -> list[int]:
    """libseccomp's numbers of all architectures of a filter, our own first; they are added on the way."""
    from pyocirun import libseccomp

    found = [libseccomp.native_architecture()]
    for index, name in enumerate(filter.architectures):
        pointer = f"{AT}/architectures/{index}"
        number = libseccomp.architecture(name)
        if not number:
            text = f"{pointer}: libseccomp {libseccomp.version()} does not know the architecture {name}"
            raise SpecError(text, pointer=pointer, hint="leave it out, or use a newer libseccomp")
        try:
            builder.add_architecture(number)
        except OSError as error:
            raise _refused(pointer, f"the architecture {name} beside this machine's own", error) from None
        if number not in found:
            found.append(number)
    return found


def _add(builder: Builder, rule: Rule, unknown: list[str]) -> None:
    from pyocirun import libseccomp

    chains = [[(c.index, c.operator, c.first, c.second) for c in chain] for chain in rule.alternatives]
    for name in rule.names:
        number = libseccomp.number_of(name)
        if number == libseccomp.UNKNOWN:
            unknown.append(name)
            continue
        for chain in chains:
            try:
                builder.add_rule(rule.answer, number, chain)
            except OSError as error:
                raise _refused(rule.pointer, f"the rule for {name}", error) from None


def _newest(filter: Filter, architectures: list[int]) -> list[Newest]:
    from pyocirun import libseccomp

    names = dict.fromkeys(name for rule in filter.rules for name in rule.names)
    found = []
    for architecture in architectures:
        audit = AUDIT_X86_64 if architecture == X32 else architecture
        end = limit(audit, architecture)
        known = [libseccomp.number_of(name, architecture) for name in names]
        ordinary = [number for number in known if 0 <= number < end]
        if ordinary:
            found.append(Newest(audit, max(ordinary), end))
    return found


def _refused(pointer: str, what: str, error: OSError) -> SpecError:
    text = f"{pointer}: libseccomp refuses {what}: {error.strerror}"
    return SpecError(text, pointer=pointer, errno=error.errno or 0)


# ---- the kept filters. One is used only if it is whole and the library is the one that made it ----


def _key(filter: Filter) -> str:
    made_of = (FORMAT, pyocirun.__version__, posix.uname().machine, replace(filter, flags=0))
    return blake2b(repr(made_of).encode("utf-8", "surrogateescape"), digest_size=20).hexdigest()


def _read(directory: str, name: str) -> tuple[int, ...] | None:
    """The kept program, None if there is none that can be used."""
    try:
        place = _open_directory(directory)
    except OSError:
        return None
    try:
        fd = posix.open(name, files.READ | posix.O_NOFOLLOW | posix.O_NONBLOCK, dir_fd=place)
    except OSError:
        return None
    finally:
        posix.close(place)
    try:
        data = posix.read(fd, MAX_FILE)
    except OSError:
        return None
    finally:
        posix.close(fd)
    digest, _, rest = data.partition(b"\n")
    library, _, instructions = rest.partition(b"\n")
    if digest != _digest(rest) or not library or library != _library(library.rpartition(b" ")[2]):
        return None
    return unpack(f"<{len(instructions) // 8}Q", instructions)


def _keep(directory: str, name: str, program: tuple[int, ...]) -> None:
    """Best effort: what cannot be kept is compiled again."""
    library = _library(_loaded_library())
    if not library:
        return
    rest = library + b"\n" + pack(f"<{len(program)}Q", *program)
    try:
        if not files.is_directory(directory):
            files.make_directories(directory, 0o700)
        place = _open_directory(directory)
    except OSError:
        return
    temporary = f".{posix.urandom(8).hex()}"
    try:
        _make_room(place)
        fd = posix.open(temporary, files.NEW | posix.O_EXCL, 0o600, dir_fd=place)
        try:
            written = posix.write(fd, _digest(rest) + b"\n" + rest)
        finally:
            posix.close(fd)
        if written == len(rest) + 41:
            posix.rename(temporary, name, src_dir_fd=place, dst_dir_fd=place)
        else:
            posix.unlink(temporary, dir_fd=place)
    except OSError:
        pass
    finally:
        posix.close(place)


def _make_room(place: int) -> None:
    """At most MOST files, with whatever a killed process left: the oldest goes first."""
    names = posix.listdir(place)
    if len(names) < MOST:
        return
    ages = []
    for name in names:
        try:
            ages.append((posix.stat(name, dir_fd=place, follow_symlinks=False).st_mtime_ns, name))
        except FileNotFoundError:
            continue
    for _, name in sorted(ages)[: len(names) - MOST + 1]:
        try:
            posix.unlink(name, dir_fd=place)
        except FileNotFoundError:
            continue


def _open_directory(directory: str) -> int:
    """Raises OSError unless it is a directory of this user's that nobody else may write to."""
    fd = posix.open(directory, files.READ | posix.O_DIRECTORY | posix.O_NOFOLLOW)
    about = posix.fstat(fd)
    if about.st_uid != posix.geteuid() or about.st_mode & 0o022:
        posix.close(fd)
        raise PermissionError(13, posix.strerror(13), directory)
    return fd


def _library(path: bytes) -> bytes:
    """What tells one build of the library from another, since an update changes it; b"" if it is not there."""
    try:
        about = posix.stat(path)
    except (OSError, ValueError):
        return b""
    return f"{about.st_dev} {about.st_ino} {about.st_size} {about.st_mtime_ns} ".encode() + path


def _loaded_library() -> bytes:
    """The name by which the library of this process was found: libseccomp.so.2, a link to the version in use."""
    for line in _maps().splitlines():
        directory, _, file = line.rpartition(b"/")
        if file.startswith(b"libseccomp.so."):
            return b"/" + directory.partition(b"/")[2] + b"/" + b".".join(file.split(b".")[:3])
    return b""


def _maps() -> bytes:
    fd = posix.open("/proc/self/maps", files.READ)
    try:
        return b"".join(iter(lambda: posix.read(fd, 1 << 16), b""))
    finally:
        posix.close(fd)


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=20).hexdigest().encode()


def _ignore(message: str) -> None:
    """Nobody wants to know."""
