"""pyocirun: an OCI container runtime, as a library.

    from pyocirun import Factory

    container = Factory("/run/example").create("box", "/path/to/bundle")
    container.start()
    print(container.wait())
    container.delete()

Names load what they need when they are first used.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyocirun.container.container import Container
    from pyocirun.container.criu import CriuOptions
    from pyocirun.container.factory import Factory
    from pyocirun.container.features import features
    from pyocirun.container.process import Process
    from pyocirun.errors import (
        CgroupError,
        ContainerNotExist,
        CriuError,
        Error,
        HookError,
        IDInUse,
        InvalidID,
        OperationError,
        SpecError,
        StateError,
        UsageError,
    )

_HOMES = {
    "Container": "container.container",
    "CriuOptions": "container.criu",
    "Factory": "container.factory",
    "Process": "container.process",
    "features": "container.features",
    "CgroupError": "errors",
    "ContainerNotExist": "errors",
    "CriuError": "errors",
    "Error": "errors",
    "HookError": "errors",
    "IDInUse": "errors",
    "InvalidID": "errors",
    "OperationError": "errors",
    "SpecError": "errors",
    "StateError": "errors",
    "UsageError": "errors",
}

__all__ = [
    "CgroupError",
    "Container",
    "ContainerNotExist",
    "CriuError",
    "CriuOptions",
    "Error",
    "Factory",
    "HookError",
    "IDInUse",
    "InvalidID",
    "OperationError",
    "Process",
    "SpecError",
    "StateError",
    "UsageError",
    "features",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'pyocirun' has no attribute {name!r}")
    value: object = getattr(__import__(f"pyocirun.{_HOMES[name]}", fromlist=(name,)), name)
    globals()[name] = value
    return value
