"""update: other limits for a container that exists, in its cgroup and in its saved configuration, or in neither."""

from __future__ import annotations

import posix

from pyocirun.container import state as states
from pyocirun.errors import Error, SpecError, StateError
from pyocirun.record import replace
from pyocirun.spec.merge import added, changes, merged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyocirun.cgroup.manager import Manager
    from pyocirun.container.container import Container
    from pyocirun.spec.resources import Resources

_NEXT = "config.json.next"


def update(
    container: Container,
    resources: dict[str, Any],
    *,
    files: dict[str, str] | None = None,
    schemata: dict[str, str] | None = None,
) -> None:
    """Carry out what Container.update says.

    files: of cgroup v2, as `unified` has them, in addition to those that are set.  schemata: of the container's resctrl
    group, by their names in linux.intelRdt. All is changed or nothing. Raises Error, too, for schemata of a container
    without linux.intelRdt.
    """
    from pyocirun.cgroup.manager import cautions, ignored
    from pyocirun.spec.bundle import checked
    from pyocirun.spec.resources import parse_resources

    wanted = changes({**resources, "unified": files} if files else resources)
    parsed = checked(wanted, lambda document: parse_resources(document, ""), "resources")
    with container._locked() as directory:
        status = container.status
        if status in ("stopped", "creating"):
            raise StateError(f"container {container.id!r}: container not running", id=container.id, status=status)
        manager = container.manager
        for text in (*ignored(parsed, manager.paths), *cautions(parsed, manager)) if manager.paths else ():
            container._warn(text)
        document = _updated(container, wanted, adds=bool(files))
        lines = _changed_schemata(container, document, schemata) if schemata else ()
        # Saved before and named after: what can fail of saving fails while there is nothing to take back.
        states.write_file(directory.fd, _NEXT, _encoded(document))
        try:
            _set(container, manager, parsed, lines)
            posix.rename(_NEXT, states.CONFIG, src_dir_fd=directory.fd, dst_dir_fd=directory.fd)
        except BaseException:
            posix.unlink(_NEXT, dir_fd=directory.fd)
            raise


def _set(container: Container, manager: Manager, resources: Resources, lines: tuple[str, ...]) -> None:
    if not lines:
        manager.set(resources)
        return
    from pyocirun.cgroup.rdt import read_schemata, write_schemata

    group = container._state.rdt_group
    before = read_schemata(group)
    write_schemata(group, lines)
    try:
        manager.set(resources)
    except BaseException:
        write_schemata(group, before)
        raise


def _changed_schemata(container: Container, document: dict[str, Any], schemata: dict[str, str]) -> tuple[str, ...]:
    """The lines to write, after `document` has been given them. Raises Error, SpecError."""
    from pyocirun.plan.rdt import lines
    from pyocirun.spec.config import parse_config

    rdt = document["linux"].get("intelRdt")
    if rdt is None or not container._state.rdt_group:
        raise Error("updating a non-existent Intel RDT configuration is not supported", step="resctrl")
    rdt.update(schemata)
    parsed = parse_config(document).linux.intel_rdt
    assert parsed is not None
    return lines(replace(parsed, schemata=()))


def _updated(container: Container, wanted: dict[str, Any], *, adds: bool) -> dict[str, Any]:
    """The saved configuration with the new resources. adds: to its `unified`."""
    document = _document(container)
    linux = document["linux"] = document.get("linux") or {}
    old = linux.get("resources") or {}
    if adds:
        wanted = {**wanted, "unified": added(old.get("unified") or {}, wanted["unified"])}
    linux["resources"] = merged(old, wanted)
    return document


def _encoded(document: dict[str, Any]) -> bytes:
    import json

    return json.dumps(document).encode()


def _document(container: Container) -> dict[str, Any]:
    from pyocirun.spec.bundle import read_file
    from pyocirun.spec.reader import load_json

    path = f"{container._path}/{states.CONFIG}"
    document = load_json(read_file(path, path), path)
    if not isinstance(document, dict):
        raise SpecError(f"the saved configuration of container {container.id} is no JSON object", path=path)
    return document
