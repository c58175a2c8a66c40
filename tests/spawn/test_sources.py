"""Mount trees that the parent opens."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyocirun.errors import OperationError
from pyocirun.plan.ops import Slot
from pyocirun.spawn.sources import fs_name, open_trees


def test_file_system_of_a_path_is_named() -> None:
    assert (fs_name("/proc/self"), fs_name("/sys/kernel")) == ("proc", "sysfs")


def test_missing_source_is_named_with_its_mount(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))

    with pytest.raises(OperationError) as caught:
        open_trees((Slot("tree", f"{tmp_path}/missing", user="mounts[3] /data"),), os.getpid())

    text = str(caught.value)
    assert f"cannot open the mount source {tmp_path}/missing: open_tree: " in text
    assert "(mounts[3] /data)" in text
    assert len(os.listdir("/proc/self/fd")) == before
