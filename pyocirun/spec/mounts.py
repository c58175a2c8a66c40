"""mounts: the list of mounts, as config.md#mounts and config.md#posix-platform-mounts have it."""

from __future__ import annotations

from pyocirun.record import Record
from pyocirun.spec import reader
from pyocirun.spec.reader import child, fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyocirun.linux.idmap import IDMapping


class Mount(Record):
    """One mount.

    destination: as config.json has it; one without a leading slash is to be taken from the root of the container.
    source, type: None if absent or empty.  options: as written, `linux.mounts.parse_options` knows what they mean.
    uid_mappings, gid_mappings: for idmap; () if the container's own are to be taken.
    """

    destination: str
    source: str | None = None
    type: str | None = None
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()


def parse_mount(value: Any, at: str) -> Mount:
    """The mount in `value`. Raises SpecError."""
    fields = reader.fields(value, at)
    mount = Mount(
        reader.string(fields, "destination", at),
        reader.optional_string(fields, "source", at),
        reader.optional_string(fields, "type", at),
        reader.strings(fields, "options", at) or (),
    )
    if "uidMappings" in fields or "gidMappings" in fields:
        mount = _with_mappings(mount, fields, at)
    _check(mount, at)
    return mount


def _with_mappings(mount: Mount, fields: dict[str, Any], at: str) -> Mount:
    from pyocirun.record import replace
    from pyocirun.spec.linux import parse_id_mappings

    return replace(
        mount,
        uid_mappings=parse_id_mappings(fields, "uidMappings", at),
        gid_mappings=parse_id_mappings(fields, "gidMappings", at),
    )


def _check(mount: Mount, at: str) -> None:
    if not mount.destination.strip("/."):
        raise fault(child(at, "destination"), "the root of the container cannot be mounted over")
    options = mount.options
    is_bind = mount.type == "bind" or "bind" in options or "rbind" in options
    is_idmapped = bool("idmap" in options or "ridmap" in options or mount.uid_mappings)
    if is_idmapped and not is_bind:
        raise fault(child(at, "options"), "id-mapped mounts are only supported for bind-mounts")
    if bool(mount.uid_mappings) != bool(mount.gid_mappings):
        raise fault(at, "id-mapped mounts must have both uid and gid mappings specified")
    if "tmpcopyup" in options and mount.type != "tmpfs":
        raise fault(child(at, "options"), "tmpcopyup is only supported for a tmpfs")
    if is_bind:
        _check_bind(mount, at)


def _check_bind(mount: Mount, at: str) -> None:
    from pyocirun.linux.mounts import parse_options

    if parse_options(mount.options).data:
        raise fault(child(at, "options"), "bind mounts cannot have any filesystem-specific options applied")
    if mount.source is None and "remount" not in mount.options:
        raise fault(child(at, "source"), "a bind mount needs a source")
