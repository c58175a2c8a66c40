"""The page about this runtime and this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pyocirun import Factory, native
from pyocirun.container.info import info


def test_it_tells_of_the_machine_and_is_ready_for_json(tmp_path: Path) -> None:
    found = info(Factory(str(tmp_path)))

    assert found["machine"]["kernel"] == os.uname().release
    assert found["machine"].get("landlock", "version 0") == f"version {native.landlock_abi()}"
    assert found["caller"]["uid"] == os.geteuid()
    assert found["runtime"]["containers"] == 0
    assert "pid" in found["namespaces"]
    assert found["cgroups"]["systemd"] == os.path.isdir("/run/systemd/system")
    assert json.loads(json.dumps(found)) == found


def test_a_root_directory_that_is_missing_is_not_made(tmp_path: Path) -> None:
    found = info(Factory(str(tmp_path / "none")))

    assert found["runtime"]["containers"] == 0
    assert not (tmp_path / "none").exists()
