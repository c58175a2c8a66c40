"""Which tests of the newer engines are a part of `make engines-short`: those with the mark `short`.

And which tests `make vm-engines` runs, of the engines with the mark `guest`: those with the mark `cgroups`, and all of
the engines whose driver of cgroups is systemd.
"""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("newer") and not item.get_closest_marker("short"):
            item.add_marker(pytest.mark.full)
        if item.get_closest_marker("with_systemd"):
            item.add_marker(pytest.mark.cgroups)
