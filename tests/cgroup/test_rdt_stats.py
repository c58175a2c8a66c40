"""Readings of a resctrl group, from directories with the files that the kernel has there."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyocirun.cgroup.rdt_stats import BandwidthInfo, CacheInfo, NodeTraffic, RdtStats, read
from pyocirun.cgroup.stats import Stats

TOP = {
    "schemata": "    L3:0=fffff;1=fffff\n    MB:0=100;1=100\n",
    "info/L3/cbm_mask": "fffff\n",
    "info/L3/min_cbm_bits": "1\n",
    "info/L3/num_closids": "16\n",
    "info/MB/bandwidth_gran": "10\n",
    "info/MB/delay_linear": "1\n",
    "info/MB/min_bandwidth": "10\n",
    "info/MB/num_closids": "8\n",
    "info/L3_MON/mon_features": "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes\n",
}
GROUP = {
    "web/schemata": "    L3:0=000ff;1=fffff\n    MB:0=50;1=100\n",
    "web/mon_data/mon_L3_00/llc_occupancy": "4096\n",
    "web/mon_data/mon_L3_00/mbm_total_bytes": "300\n",
    "web/mon_data/mon_L3_00/mbm_local_bytes": "100\n",
    "web/mon_data/mon_L3_01/llc_occupancy": "Unavailable\n",
    "web/mon_data/mon_L3_01/mbm_total_bytes": "7\n",
}


def files(top: Path, *texts: dict[str, str]) -> str:
    for name, text in (item for each in texts for item in each.items()):
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(top)


def test_a_group_is_read_with_what_the_processor_has(tmp_path: Path) -> None:
    top = files(tmp_path, TOP, GROUP)

    assert read(f"{top}/web", "") == RdtStats(
        cache=CacheInfo("fffff", 1, 16),
        cache_schema="L3:0=000ff;1=fffff",
        cache_schema_root="L3:0=fffff;1=fffff",
        bandwidth=BandwidthInfo(10, 1, 10, 8),
        bandwidth_schema="MB:0=50;1=100",
        bandwidth_schema_root="MB:0=100;1=100",
        schemata=("L3:0=000ff;1=fffff", "MB:0=50;1=100"),
        traffic=(NodeTraffic(300, 100), NodeTraffic(7, 0)),
        occupancy=(4096, 0),
    )


def test_json_has_runcs_names(tmp_path: Path) -> None:
    top = files(tmp_path, TOP, GROUP)

    shown = Stats(rdt=read(f"{top}/web", "")).to_json()["intel_rdt"]

    assert shown == {
        "l3_cache_info": {"cbm_mask": "fffff", "min_cbm_bits": 1, "num_closids": 16},
        "l3_cache_schema_root": "L3:0=fffff;1=fffff",
        "l3_cache_schema": "L3:0=000ff;1=fffff",
        "mem_bw_info": {"bandwidth_gran": 10, "delay_linear": 1, "min_bandwidth": 10, "num_closids": 8},
        "mem_bw_schema_root": "MB:0=100;1=100",
        "mem_bw_schema": "MB:0=50;1=100",
        "schemata": ["L3:0=000ff;1=fffff", "MB:0=50;1=100"],
        "mbm_stats": [
            {"mbm_total_bytes": 300, "mbm_local_bytes": 100},
            {"mbm_total_bytes": 7, "mbm_local_bytes": 0},
        ],
        "cmt_stats": [{"llc_occupancy": 4096}, {"llc_occupancy": 0}],
    }


def test_a_container_without_a_group_shows_nothing() -> None:
    assert Stats().to_json()["intel_rdt"] == {}


@pytest.mark.parametrize("gone", ["L3", "MB", "L3_MON"])
def test_what_the_processor_has_not_is_not_shown(tmp_path: Path, gone: str) -> None:
    top = files(tmp_path, {name: text for name, text in TOP.items() if f"/{gone}/" not in name}, GROUP)
    keys = {"L3": ("cache", "l3_cache"), "MB": ("bandwidth", "mem_bw"), "L3_MON": ("traffic", "mbm", "cmt")}

    field, *prefixes = keys[gone]
    stats = read(f"{top}/web", "")

    assert getattr(stats, field) is None
    assert not [key for key in stats.to_json() if key.startswith(tuple(prefixes))]


def test_a_monitoring_group_counts_for_the_container(tmp_path: Path) -> None:
    top = files(tmp_path, TOP, GROUP, {"web/mon_groups/one/mon_data/mon_L3_00/llc_occupancy": "5\n"})

    assert read(f"{top}/web", f"{top}/web/mon_groups/one").occupancy == (5,)


def test_the_group_of_all_is_a_group(tmp_path: Path) -> None:
    top = files(tmp_path, TOP)

    stats = read(top, "")

    assert stats.cache_schema == stats.cache_schema_root == "L3:0=fffff;1=fffff"
    assert stats.occupancy == ()


def test_code_and_data_have_lines_of_their_own_and_the_last_is_shown(tmp_path: Path) -> None:
    top = files(tmp_path, TOP, {"web/schemata": "L3DATA:0=f\nL3CODE:0=3\n"})

    stats = read(f"{top}/web", "")

    assert (stats.cache_schema, stats.schemata) == ("L3CODE:0=3", ("L3DATA:0=f", "L3CODE:0=3"))


def test_a_group_that_has_gone_has_no_readings(tmp_path: Path) -> None:
    assert read(f"{tmp_path}/web", "") == RdtStats()
