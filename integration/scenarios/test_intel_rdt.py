"""intelRdt, against a directory in the place of resctrl, which takes a processor of its kind.

What the kernel does by itself in resctrl (files in a new group, checks of what is written) is not there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.harness import MS_REC, Bundle, Runtime, mount, only, requires, umount

pytestmark = [only("pyocirun"), requires("root")]

RESCTRL = Path("/sys/fs/resctrl")
MS_BIND = 0x1000


@pytest.fixture
def resctrl(place: Path) -> Iterator[Path]:
    """A tmpfs in the place of /sys/fs, with a resctrl that others see too, and the cgroups that were there."""
    kept = place / "kept"
    kept.mkdir()
    mount("/sys/fs/cgroup", kept, flags=MS_BIND | MS_REC)
    mount("tmpfs", "/sys/fs", "tmpfs")
    os.makedirs("/sys/fs/cgroup")
    mount(str(kept), "/sys/fs/cgroup", flags=MS_BIND | MS_REC)
    umount(kept)
    RESCTRL.mkdir()
    (RESCTRL / "schemata").write_text("L3:0=fffff;1=fffff\nMB:0=100;1=100\n")
    (RESCTRL / "tasks").write_text("")
    yield RESCTRL
    umount("/sys/fs/cgroup")
    umount("/sys/fs")


def _group(resctrl: Path, name: str, schemata: str) -> Path:
    group = resctrl / name
    group.mkdir()
    (group / "schemata").write_text(schemata)
    (group / "tasks").write_text("")
    return group


def _tasks(group: Path) -> str:
    return (group / "tasks").read_text().strip()


@pytest.mark.skipif(os.path.exists("/sys/fs/resctrl/schemata"), reason="this machine has resctrl")
def test_without_resctrl_it_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["intelRdt"] = {"l3CacheSchema": "L3:0=f"}

    runtime.create(bundle).fails("intelRdt is specified in config, but no resctrl file system is mounted")
    assert runtime.traces() == []


def test_a_container_has_a_group_of_its_own(runtime: Runtime, bundle: Bundle, resctrl: Path) -> None:
    bundle.linux["intelRdt"] = {"schemata": ["L2:0=1"], "memBwSchema": "MB:0=50", "l3CacheSchema": "L3:0=f"}
    id = runtime.created(bundle)

    assert (resctrl / id / "schemata").read_text() == "L3:0=f\nMB:0=50\nL2:0=1\n"
    assert _tasks(resctrl / id) == str(runtime.pid(id))

    runtime.delete(id, "--force").ok()
    assert not (resctrl / id).exists()


def test_without_schemata_none_are_written(runtime: Runtime, bundle: Bundle, resctrl: Path) -> None:
    bundle.linux["intelRdt"] = {}
    id = runtime.created(bundle)

    assert not (resctrl / id / "schemata").exists()
    assert _tasks(resctrl / id) == str(runtime.pid(id))


def test_a_group_of_others_is_joined_and_stays(runtime: Runtime, bundle: Bundle, resctrl: Path) -> None:
    gold = _group(resctrl, "gold", "L3:0=f\n")
    bundle.linux["intelRdt"] = {"closID": "gold"}
    id = runtime.created(bundle)

    assert _tasks(gold) == str(runtime.pid(id))
    assert (gold / "schemata").read_text() == "L3:0=f\n"

    runtime.delete(id, "--force").ok()
    assert gold.is_dir()


def test_a_group_that_is_not_there_is_an_error_without_schemata(
    runtime: Runtime, bundle: Bundle, resctrl: Path
) -> None:
    bundle.linux["intelRdt"] = {"closID": "gold"}

    runtime.create(bundle).fails("gold", "is not there")
    assert runtime.traces() == []
    assert not (resctrl / "gold").exists()


def test_a_named_group_is_made_and_stays(runtime: Runtime, bundle: Bundle, resctrl: Path) -> None:
    bundle.linux["intelRdt"] = {"closID": "gold", "schemata": ["MB:0=20"]}
    id = runtime.created(bundle)
    runtime.delete(id, "--force").ok()

    assert (resctrl / "gold/schemata").read_text() == "MB:0=20\n"


def test_a_named_group_goes_with_a_create_that_fails(runtime: Runtime, bundle: Bundle, resctrl: Path) -> None:
    bundle.linux["intelRdt"] = {"closID": "gold", "schemata": ["MB:0=20"], "enableMonitoring": True}

    runtime.create(bundle.args("/no/such/program")).fails()

    assert not (resctrl / "gold").exists()


def test_equal_schemata_of_others_are_taken(runtime: Runtime, bundle: Bundle, resctrl: Path) -> None:
    gold = _group(resctrl, "gold", "    L3:0=0000f;1=fffff\n")
    bundle.linux["intelRdt"] = {"closID": "gold", "l3CacheSchema": "L3:0=f"}
    id = runtime.created(bundle)

    assert _tasks(gold) == str(runtime.pid(id))
    assert (gold / "schemata").read_text() == "    L3:0=0000f;1=fffff\n"


def test_other_schemata_of_others_are_an_error(runtime: Runtime, bundle: Bundle, resctrl: Path) -> None:
    gold = _group(resctrl, "gold", "L3:0=f\n")
    bundle.linux["intelRdt"] = {"closID": "gold", "l3CacheSchema": "L3:0=ff"}

    runtime.create(bundle).fails("gold", "L3:0 is f, not ff")
    assert runtime.traces() == []
    assert (gold / "schemata").read_text() == "L3:0=f\n"


def test_the_group_of_all(runtime: Runtime, bundle: Bundle, resctrl: Path) -> None:
    bundle.linux["intelRdt"] = {"closID": "/"}
    id = runtime.created(bundle)

    assert _tasks(resctrl) == str(runtime.pid(id))


def test_a_monitoring_group_ends_with_the_container(runtime: Runtime, bundle: Bundle, resctrl: Path) -> None:
    gold = _group(resctrl, "gold", "L3:0=f\n")
    bundle.linux["intelRdt"] = {"closID": "gold", "enableMonitoring": True}
    id = runtime.created(bundle)

    assert _tasks(gold / "mon_groups" / id) == str(runtime.pid(id))

    runtime.delete(id, "--force").ok()
    assert not (gold / "mon_groups" / id).exists()
    assert gold.is_dir()


def test_exec_joins_both(runtime: Runtime, bundle: Bundle, resctrl: Path) -> None:
    bundle.linux["intelRdt"] = {"l3CacheSchema": "L3:0=f", "enableMonitoring": True}
    id = runtime.running(bundle)

    runtime.exec(id, "exit", "0").ok()

    seen = {_tasks(resctrl / id), _tasks(resctrl / id / "mon_groups" / id)}
    assert len(seen) == 1
    assert seen != {str(runtime.pid(id))}


def test_update_writes_other_schemata(runtime: Runtime, bundle: Bundle, resctrl: Path) -> None:
    bundle.linux["intelRdt"] = {"l3CacheSchema": "L3:0=f"}
    id = runtime.running(bundle)

    runtime("update", "--l3-cache-schema", "L3:0=3", "--mem-bw-schema", "MB:0=30", id).ok()

    assert (resctrl / id / "schemata").read_text() == "L3:0=3\nMB:0=30\n"


def test_an_update_that_fails_leaves_limits_and_schemata_as_they_were(
    runtime: Runtime, bundle: Bundle, resctrl: Path
) -> None:
    bundle.linux["intelRdt"] = {"l3CacheSchema": "L3:0=f"}
    id = runtime.running(bundle)
    saved = (runtime.root / id / "config.json").read_text()

    runtime("update", "--l3-cache-schema", "L3:0=3", "--pids-limit", "5", "--cpuset-cpus", "4000", id).fails("4000")

    assert (resctrl / id / "schemata").read_text() == "L3:0=f\n"
    assert (runtime.root / id / "config.json").read_text() == saved


def test_schemata_without_a_group_leave_limits_as_they_were(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["pids"] = {"limit": 9}
    id = runtime.running(bundle)

    runtime("update", "--l3-cache-schema", "L3:0=3", "--pids-limit", "5", id).fails("non-existent Intel RDT")

    stats = json.loads(runtime("events", "--stats", id).ok().stdout)
    assert stats["data"]["pids"]["limit"] == 9


def test_readings_are_those_of_the_group(runtime: Runtime, bundle: Bundle, resctrl: Path) -> None:
    for name, text in {"L3/cbm_mask": "fffff\n", "L3_MON/mon_features": "llc_occupancy\n"}.items():
        (resctrl / "info" / name).parent.mkdir(parents=True)
        (resctrl / "info" / name).write_text(text)
    bundle.linux["intelRdt"] = {"l3CacheSchema": "L3:0=f", "enableMonitoring": True}
    id = runtime.running(bundle)
    counted = resctrl / id / "mon_groups" / id / "mon_data/mon_L3_00/llc_occupancy"
    counted.parent.mkdir(parents=True)
    counted.write_text("4096\n")

    data = json.loads(runtime("events", "--stats", id).ok().stdout)["data"]

    assert data["intel_rdt"] == {
        "l3_cache_info": {"cbm_mask": "fffff"},
        "l3_cache_schema_root": "L3:0=fffff;1=fffff",
        "l3_cache_schema": "L3:0=f",
        "schemata": ["L3:0=f"],
        "cmt_stats": [{"llc_occupancy": 4096}],
    }


def test_update_refuses_where_there_is_no_group(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    runtime("update", "--l3-cache-schema", "L3:0=3", id).fails("updating a non-existent Intel RDT configuration")
