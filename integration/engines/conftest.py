"""Which tests of the newer engines are a part of `make engines-short`: those with the mark `short`. And criu.

And which tests `make vm-engines` runs, of the engines with the mark `guest`: those with the mark `cgroups`, and all of
the engines whose driver of cgroups is systemd.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from integration.engines import newer

# For the engines, and for `requires("criu")`.
os.environ["PATH"] = newer.path_with_criu()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    meant = [item for item in items if _is_meant(item)]
    if out := [item for item in items if item not in meant]:
        config.hook.pytest_deselected(items=out)
        items[:] = meant
    for item in items:
        if item.get_closest_marker("newer") and not item.get_closest_marker("short"):
            item.add_marker(pytest.mark.full)
        if item.get_closest_marker("with_systemd"):
            item.add_marker(pytest.mark.cgroups)


def _is_meant(item: pytest.Item) -> bool:
    """Whether its engine is among those that the test is of: ids of parameters."""
    marker = item.get_closest_marker("of")
    if marker is None or not isinstance(item, pytest.Function):
        return True
    return marker.args[0] in item.callspec.id.split("-")
