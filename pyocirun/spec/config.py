"""config.json as a value: the whole of it, and what its sections ask of each other (config.md)."""

from __future__ import annotations

from pyocirun.record import Record
from pyocirun.spec import reader
from pyocirun.spec.linux import Linux, parse_linux
from pyocirun.spec.mounts import Mount, parse_mount
from pyocirun.spec.process import Process, parse_process
from pyocirun.spec.reader import fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyocirun.spec.hooks import Hooks


class Root(Record):
    """The root file system. path: as written; relative to the bundle if it has no leading slash."""

    path: str
    readonly: bool = False


class Spec(Record):
    """A container's configuration.

    process: None if there is nothing to start.  hostname, domainname: None leaves them as they are.
    hooks: None if absent.  linux: always there.  foreign: sections for other platforms, which are not read ("windows").
    """

    oci_version: str
    root: Root
    process: Process | None = None
    hostname: str | None = None
    domainname: str | None = None
    mounts: tuple[Mount, ...] = ()
    hooks: Hooks | None = None
    annotations: dict[str, str] = {}
    linux: Linux = Linux()
    foreign: tuple[str, ...] = ()


FOREIGN_PLATFORMS = ("freebsd", "solaris", "vm", "windows", "zos")


def parse_config(document: Any) -> Spec:
    """The Spec of a config.json document. Raises SpecError for the first fault that is found."""
    config = reader.fields(document, "")
    annotations = reader.string_map(config, "annotations", "")
    spec = Spec(
        _oci_version(config),
        _root(config),
        None if config.get("process") is None else parse_process(config["process"]),
        reader.optional_string(config, "hostname", ""),
        reader.optional_string(config, "domainname", ""),
        reader.records(config, "mounts", "", parse_mount) or (),
        _hooks(config),
        annotations,
        parse_linux(reader.section(config, "linux", "") or {}, annotations=annotations),
        tuple([name for name in FOREIGN_PLATFORMS if config.get(name) is not None]),
    )
    if spec.hostname is not None and spec.linux.namespace("uts") is None:
        raise fault("/hostname", "unable to set hostname without a private UTS namespace")
    if spec.domainname is not None and spec.linux.namespace("uts") is None:
        raise fault("/domainname", "unable to set domainname without a private UTS namespace")
    return spec


def _oci_version(config: dict[str, Any]) -> str:
    version = reader.string(config, "ociVersion", "")
    if not _is_semver(version):
        raise fault("/ociVersion", f'"{version}" is not a version in the format of SemVer 2.0.0')
    return version


def _is_semver(version: str) -> bool:
    """MAJOR.MINOR.PATCH, then "-" and "+" parts of identifiers between dots (semver.org)."""
    rest, plus, build = version.partition("+")
    core, dash, release = rest.partition("-")
    numbers = core.split(".")
    return (
        len(numbers) == 3
        and all(map(_is_number, numbers))
        and (not dash or all(_is_identifier(part) and not _is_padded(part) for part in release.split(".")))
        and (not plus or all(map(_is_identifier, build.split("."))))
    )


def _is_number(part: str) -> bool:
    return part.isascii() and part.isdigit() and not _is_padded(part)


def _is_padded(part: str) -> bool:
    return part.isdigit() and part[0] == "0" and part != "0"


def _is_identifier(part: str) -> bool:
    return part.isascii() and part.replace("-", "a").isalnum()


def _root(config: dict[str, Any]) -> Root:
    root = reader.section(config, "root", "")
    if root is None:
        raise fault("/root", "root must be specified")
    return Root(reader.string(root, "path", "/root"), reader.boolean(root, "readonly", "/root"))


def _hooks(config: dict[str, Any]) -> Hooks | None:
    section = reader.section(config, "hooks", "")
    if section is None:
        return None
    from pyocirun.spec.hooks import parse_hooks

    return parse_hooks(section)
