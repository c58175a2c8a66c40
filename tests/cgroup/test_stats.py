"""Readings: texts as the kernel writes them -> values -> the JSON that callers of runc know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyocirun.cgroup.stats import (
    NO_LIMIT,
    BlockEntry,
    Counter,
    CpuStats,
    MemoryStats,
    PidsStats,
    Pressure,
    PressureLine,
    Stats,
    Throttling,
    pressure,
    read_v1,
    read_v2,
    v1,
    v2,
)
from pyocirun.record import replace

PSI = """some avg10=1.50 avg60=0.25 avg300=0.00 total=148551
full avg10=0.00 avg60=0.00 avg300=0.00 total=77694
"""

V2 = {
    "cpu.stat": (
        "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\ncore_sched.force_idle_usec 0\nnr_periods 7\nnr_throttled 3\n"
        "throttled_usec 42\nnr_bursts 2\nburst_usec 9\n"
    ),
    "cpu.pressure": PSI,
    "cpuset.cpus.effective": "0-2,7\n",
    "cpuset.mems.effective": "0\n",
    "memory.current": "4096\n",
    "memory.max": "8192\n",
    "memory.peak": "6144\n",
    "memory.swap.current": "100\n",
    "memory.swap.max": "1000\n",
    "memory.stat": "anon 2048\nfile 1024\nkernel 512\n",
    "memory.events": "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\noom_group_kill 0\n",
    "memory.numa_stat": "anon N0=2048 N1=0\nfile N0=1024 N1=0\n",
    "pids.current": "3\n",
    "pids.max": "max\n",
    "io.stat": (
        "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 cost.usage=7\n"
        "254:16 rbytes=10 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n"
    ),
    "hugetlb.2MB.current": "2097152\n",
    "hugetlb.2MB.max": "4194304\n",
    "hugetlb.2MB.rsvd.current": "0\n",
    "hugetlb.2MB.rsvd.max": "max\n",
    "hugetlb.2MB.events": "max 5\n",
    "hugetlb.2MB.events.local": "max 0\n",
    "rdma.current": "mlx4_0 hca_handle=2 hca_object=20\n",
    "rdma.max": "mlx4_0 hca_handle=3 hca_object=max\n",
    "misc.current": "res_a 3\nres_b 0\n",
    "misc.events": "res_a.max 1\nres_b.max 0\n",
}


def test_cpu_of_v2_is_in_nanoseconds() -> None:
    cpu = v2(V2).cpu

    assert (cpu.total, cpu.user, cpu.kernel) == (1_500_000, 1_000_000, 500_000)
    assert cpu.throttling == Throttling(7, 3, 42_000, 2, 9_000)


def test_swap_of_v2_is_shown_together_with_memory() -> None:
    memory = v2(V2).memory

    assert memory.usage == Counter(4096, 6144, 0, 8192)
    assert memory.swap == Counter(4196, 0, 0, 9192)
    assert memory.swap_only == Counter(100, 0, 0, 1000)


def test_swap_of_v2_without_a_limit_has_none_together_either() -> None:
    memory = v2({**V2, "memory.swap.max": "max\n"}).memory

    assert memory.swap.limit == NO_LIMIT


def test_events_and_nodes_of_v2_memory() -> None:
    memory = v2(V2).memory

    assert memory.events["oom_kill"] == 4
    assert memory.numa["anon"] == {"N0": 2048, "N1": 0}
    assert memory.cache == 1024


def test_pids_without_a_limit_show_none() -> None:
    stats = v2(V2)

    assert stats.pids == PidsStats(3, 0)
    assert stats.to_json()["pids"] == {"current": 3}


def test_io_of_v2_has_the_words_of_v1() -> None:
    blkio = v2(V2).blkio

    assert BlockEntry(8, 0, "Read", 1) in blkio.service_bytes
    assert BlockEntry(8, 0, "Write", 4) in blkio.serviced
    assert BlockEntry(254, 16, "Read", 10) in blkio.service_bytes
    assert blkio.cost == {"usage": (BlockEntry(8, 0, "Count", 7),)}


def test_huge_pages_of_v2_count_reservations_where_the_kernel_does() -> None:
    with_reservations = v2(V2).hugetlb
    without = v2({name: text for name, text in V2.items() if ".rsvd." not in name}).hugetlb

    assert with_reservations == {"2MB": Counter(0, 0, 5, NO_LIMIT)}
    assert without == {"2MB": Counter(2097152, 0, 5, 4194304)}


def test_rdma_and_misc() -> None:
    stats = v2(V2)

    assert stats.rdma["max"] == {"mlx4_0": {"hca_handle": 3, "hca_object": NO_LIMIT}}
    assert stats.misc == {"res_a": {"usage": 3, "events": 1}, "res_b": {"usage": 0, "events": 0}}


def test_pressure() -> None:
    assert pressure(PSI) == Pressure(PressureLine(1.5, 0.25, 0.0, 148551), PressureLine(0.0, 0.0, 0.0, 77694))


def test_a_kernel_without_pressure_shows_no_key() -> None:
    shown = v2({}).to_json()

    assert all("psi" not in shown[part] for part in ("cpu", "memory", "blkio"))


V1 = {
    "cpuacct.usage": "2126008\n",
    "cpuacct.stat": "user 4\nsystem 2\n",
    "cpuacct.usage_percpu": "1994626 131382 \n",
    "cpuacct.usage_all": "cpu user system\n0 1000 2000\n1 3000 4000\n",
    "cpu.stat": "nr_periods 5\nnr_throttled 4\nthrottled_time 300\nnr_bursts 0\nburst_time 0\n",
    "cpuset.cpus": "0-1\n",
    "cpuset.mems": "0\n",
    "cpuset.sched_load_balance": "1\n",
    "cpuset.sched_relax_domain_level": "-1\n",
    "memory.usage_in_bytes": "479232\n",
    "memory.max_usage_in_bytes": "765952\n",
    "memory.failcnt": "2\n",
    "memory.limit_in_bytes": "9223372036854771712\n",
    "memory.memsw.usage_in_bytes": "479332\n",
    "memory.memsw.failcnt": "2\n",
    "memory.kmem.usage_in_bytes": "126976\n",
    "memory.stat": "cache 12\nrss 114688\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 6\n",
    "memory.numa_stat": "total=12 N0=12\nhierarchical_total=13 N0=13\n",
    "memory.use_hierarchy": "1\n",
    "pids.current": "2\n",
    "pids.max": "10\n",
    "blkio.throttle.io_serviced_recursive": "8:0 Read 3\n8:0 Write 4\n8:0 Total 7\nTotal 7\n",
    "blkio.throttle.io_serviced": "8:0 Read 1\nTotal 1\n",
    "blkio.bfq.io_serviced_recursive": "Total 0\n",
    "blkio.sectors_recursive": "8:0 6792\n",
    "hugetlb.2MB.usage_in_bytes": "0\n",
    "hugetlb.2MB.max_usage_in_bytes": "2097152\n",
    "hugetlb.2MB.failcnt": "1\n",
    "hugetlb.2MB.limit_in_bytes": "4194304\n",
}


def test_cpu_of_v1() -> None:
    cpu = v1(V1).cpu

    assert (cpu.total, cpu.user, cpu.kernel) == (2126008, 40_000_000, 20_000_000)
    assert cpu.percpu == (1994626, 131382)
    assert (cpu.percpu_user, cpu.percpu_kernel) == ((1000, 3000), (2000, 4000))
    assert cpu.throttling == Throttling(5, 4, 300)


def test_memory_of_v1() -> None:
    memory = v1(V1).memory

    assert memory == MemoryStats(
        cache=12,
        usage=Counter(479232, 765952, 2, 9223372036854771712),
        swap=Counter(479332, 0, 2, 0),
        swap_only=Counter(100, 0, 0, 0),
        kernel=Counter(126976),
        raw={"cache": 12, "rss": 114688},
        events={"oom_kill": 6},
        numa={"total": {"total": 12, "N0": 12}, "hierarchical_total": {"total": 13, "N0": 13}},
    )


def test_the_first_block_counter_that_counts_is_taken() -> None:
    blkio = v1(V1).blkio

    assert blkio.serviced == (BlockEntry(8, 0, "Read", 3), BlockEntry(8, 0, "Write", 4), BlockEntry(8, 0, "Total", 7))
    assert blkio.sectors == (BlockEntry(8, 0, "", 6792),)


def test_cpuset_and_huge_pages_of_v1() -> None:
    stats = v1(V1)

    assert (stats.cpuset.cpus, stats.cpuset.sched_relax_domain_level) == ((0, 1), -1)
    assert stats.hugetlb == {"2MB": Counter(0, 2097152, 1, 4194304)}


def test_json_leaves_zeros_out_where_runc_does() -> None:
    shown = v1(V1).to_json()

    assert shown["memory"]["usage"] == {
        "limit": 9223372036854771712,
        "usage": 479232,
        "max": 765952,
        "failcnt": 2,
    }
    assert shown["memory"]["kernelTCP"] == {"limit": 0, "failcnt": 0}
    assert shown["hugetlb"] == {"2MB": {"max": 2097152, "failcnt": 1}}
    assert shown["pids"] == {"current": 2, "limit": 10}
    assert shown["blkio"] == {
        "ioServicedRecursive": [
            {"major": 8, "op": "Read", "value": 3},
            {"major": 8, "op": "Write", "value": 4},
            {"major": 8, "op": "Total", "value": 7},
        ],
        "sectorsRecursive": [{"major": 8, "value": 6792}],
    }


def test_json_in_full_has_what_runc_does_not_tell() -> None:
    shown = v2(V2).to_json(full=True)

    assert shown["memory"]["events"]["high"] == 1
    assert shown["cpu"]["burst"] == {"periods": 2, "time": 9000}
    assert shown["misc"]["res_a"] == {"usage": 3, "events": 1}


def test_nothing_at_all_is_empty_readings() -> None:
    assert v1({}) == v2({}) == Stats()


NAMES = st.sampled_from(sorted({*V1, *V2}))
LINES = st.text(alphabet="abN:=- .0123456789\n", max_size=60)


@given(st.dictionaries(NAMES, LINES))
def test_no_text_of_a_kernel_yet_unknown_breaks_the_readings(texts: dict[str, str]) -> None:
    texts = {name: text for name, text in texts.items() if not name.endswith("pressure")}

    for stats in (v1(texts), v2(texts)):
        json.dumps(stats.to_json(full=True))


@pytest.mark.parametrize(("controller", "wanted"), [("cpu", CpuStats(total=7)), ("pids", PidsStats(3))])
def test_only_the_controllers_that_are_asked_for_are_read(
    tmp_path: Path, controller: str, wanted: CpuStats | PidsStats
) -> None:
    for name, text in {"cpuacct.usage": "7\n", "pids.current": "3\n", "memory.usage_in_bytes": "5\n"}.items():
        (tmp_path / name).write_text(text)
    paths = dict.fromkeys(("cpuacct", "pids", "memory"), str(tmp_path))

    found = read_v1(paths, {controller})

    assert found == replace(Stats(), **{controller: wanted})
    assert read_v1(paths).memory.usage.usage == 5


def test_on_v2_huge_pages_and_pressure_are_read_with_their_controllers(tmp_path: Path) -> None:
    pressure_text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    for name, text in {"hugetlb.2MB.current": "9\n", "memory.pressure": pressure_text, "io.stat": ""}.items():
        (tmp_path / name).write_text(text)

    assert read_v2(str(tmp_path), {"hugetlb"}).hugetlb["2MB"].usage == 9
    assert read_v2(str(tmp_path), {"hugetlb"}).memory.psi is None
    assert read_v2(str(tmp_path), {"memory"}).hugetlb == {}
    assert read_v2(str(tmp_path), {"memory"}).memory.psi is not None
