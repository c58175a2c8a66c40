"""update: other limits for a container that exists, in its cgroup and in its saved configuration, or in neither."""

from __future__ import annotations

import posix

from pyocirun.container import state as states
from pyocirun.errors import Error, SpecError, StateError
from pyocirun.record import replace
from pyocirun.spec.merge import changes, merged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyocirun.container.container import Container

_NEXT = "config.json.next"


def update(container: Container, resources: dict[str, Any]) -> None:
    """Carry out what Container.update says."""
    from pyocirun.cgroup.manager import ignored
    from pyocirun.spec.bundle import checked
    from pyocirun.spec.resources import parse_resources

    wanted = changes(resources)
    parsed = checked(wanted, lambda document: parse_resources(document, ""), "resources")
    with container._locked() as directory:
        status = container.status
        if status in ("stopped", "creating"):
            raise StateError(f"container {container.id!r}: container not running", id=container.id, status=status)
        manager = container.manager
        for text in ignored(parsed, manager.paths) if manager.paths else ():
            container._warn(text)
        # Saved before and named after: what can fail of saving fails while there is nothing to take back.
        states.write_file(directory.fd, _NEXT, _updated(container, wanted))
        try:
            manager.set(parsed)
            posix.rename(_NEXT, states.CONFIG, src_dir_fd=directory.fd, dst_dir_fd=directory.fd)
        except BaseException:
            posix.unlink(_NEXT, dir_fd=directory.fd)
            raise


def update_rdt(container: Container, l3_cache_schema: str, mem_bw_schema: str) -> None:
    """Write other schemata to the container's resctrl group, and to its saved configuration. "" leaves one as it is.

    Raises Error for a container without linux.intelRdt, SpecError, CgroupError.
    """
    import json

    from pyocirun.cgroup.rdt import write_schemata
    from pyocirun.plan.rdt import lines
    from pyocirun.spec.config import parse_config

    with container._locked() as directory:
        document = _document(container)
        rdt = (document.get("linux") or {}).get("intelRdt")
        if rdt is None or not container._state.rdt_group:
            raise Error("updating a non-existent Intel RDT configuration is not supported", step="resctrl")
        wanted = {"l3CacheSchema": l3_cache_schema, "memBwSchema": mem_bw_schema}
        changed = {name: schema for name, schema in wanted.items() if schema}
        rdt.update(changed)
        parsed = parse_config(document).linux.intel_rdt
        assert parsed is not None
        write_schemata(container._state.rdt_group, lines(replace(parsed, schemata=())))
        states.write_file(directory.fd, states.CONFIG, json.dumps(document).encode())


def _updated(container: Container, wanted: dict[str, Any]) -> bytes:
    """The bytes of the saved configuration with the new resources."""
    import json

    document = _document(container)
    linux = document["linux"] = document.get("linux") or {}
    linux["resources"] = merged(linux.get("resources") or {}, wanted)
    return json.dumps(document).encode()


def _document(container: Container) -> dict[str, Any]:
    from pyocirun.spec.bundle import read_file
    from pyocirun.spec.reader import load_json

    path = f"{container._path}/{states.CONFIG}"
    document = load_json(read_file(path, path), path)
    if not isinstance(document, dict):
        raise SpecError(f"the saved configuration of container {container.id} is no JSON object", path=path)
    return document
