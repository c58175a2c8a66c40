"""A configuration under inspection: every fault of it at once, and what this machine cannot do of it.

Nothing is made, mounted or started, and no privilege is needed. For `validate` and programs that write configurations.
"""

from __future__ import annotations

import os

from pyocirun import files
from pyocirun.errors import Error, SpecError
from pyocirun.linux.mounts import MS_BIND, parse_options
from pyocirun.linux.namespaces import FILES
from pyocirun.plan.features import IDEAL
from pyocirun.record import Record
from pyocirun.spec import bundle as bundles
from pyocirun.spec.config import Spec, parse_config
from pyocirun.spec.hooks import KINDS
from pyocirun.spec.validate import all_faults, faults_of, unknown_properties

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pyocirun.linux.host import Host
    from pyocirun.plan.ops import Plan

    Fault = tuple[str, str]


class Inspection(Record):
    """What is wrong with a configuration, as (JSON pointer, text); "" points to the whole document.

    faults: it is wrong everywhere.  unknown: properties that the specification does not have for Linux.
    host: it may be right, but this machine, or this caller on it, cannot do it.
    """

    faults: tuple[Fault, ...] = ()
    unknown: tuple[Fault, ...] = ()
    host: tuple[Fault, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether there is no fault. Unknown properties and what the machine lacks do not count."""
        return not self.faults


def inspect(
    bundle: str, config: str | dict[str, Any] | None, plan: Callable[[dict[str, Any], Host | None], Plan]
) -> Inspection:
    """Look at the configuration of a bundle, as `Factory.create` would read it.

    plan: makes the plan of a document for a host, None for this machine, and raises Error if it cannot.
    """
    try:
        document = bundles.read_document(bundle, config)
    except SpecError as error:
        return Inspection(faults=((error.pointer, error.message),))
    faults = _faults(document, plan)
    unknown = tuple(unknown_properties(document))
    if faults:
        return Inspection(faults, unknown)
    return Inspection(faults, unknown, tuple(_host(document, files.absolute(bundle), plan)))


def _faults(document: Any, plan: Callable[[dict[str, Any], Host | None], Plan]) -> tuple[Fault, ...]:
    """The reader's faults and the schema's, by pointer: if both have one at a place, the reader says it better."""
    found = faults_of(document, parse_config, lambda rest: plan(rest, IDEAL))
    return tuple(sorted((dict(all_faults(document)) | dict(found)).items()))


def _host(document: Any, bundle: str, plan: Callable[[dict[str, Any], Host | None], Plan]) -> Iterator[Fault]:
    spec = parse_config(document)
    yield from _missing(spec, bundle)
    try:
        yield from faults_of(document, lambda rest: plan(rest, None))
    except Error as error:
        yield "", error.message


def _missing(spec: Spec, bundle: str) -> Iterator[Fault]:
    """Files that the configuration names, and that are not there."""
    rootfs = bundles.rootfs_path(bundle, spec)
    if not files.is_directory(rootfs):
        yield "/root/path", f"{rootfs} is not there, or no directory"
    for index, mount in enumerate(spec.mounts):
        source = mount.source or ""
        if parse_options(mount.options).flags & MS_BIND and not os.path.lexists(os.path.join(bundle, source)):
            yield f"/mounts/{index}/source", f"{source} is not there"
    for index, namespace in enumerate(spec.linux.namespaces):
        pointer = f"/linux/namespaces/{index}"
        if namespace.path and not os.path.exists(namespace.path):
            yield f"{pointer}/path", f"{namespace.path} is not there"
        if not os.path.exists(f"/proc/self/ns/{FILES[namespace.type]}"):
            yield pointer, f"this kernel has no {namespace.type} namespaces"
    for pointer, path in _host_hooks(spec):
        if not os.access(path, os.X_OK):
            yield pointer, f"{path} is not there, or not executable"


def _host_hooks(spec: Spec) -> Iterator[tuple[str, str]]:
    """(pointer, path) of the hooks whose programs are looked for outside of the container."""
    if spec.hooks is None:
        return
    hooks = spec.hooks
    lists = (
        hooks.prestart,
        hooks.create_runtime,
        hooks.create_container,
        (),
        hooks.poststart,
        hooks.poststop,
    )
    for kind, wanted in zip(KINDS, lists, strict=True):
        for index, hook in enumerate(wanted):
            yield f"/hooks/{kind}/{index}/path", hook.path
