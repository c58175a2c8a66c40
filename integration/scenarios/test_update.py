"""update: what reaches the kernel, what is saved, and what is taken back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from integration.harness import Bundle, alive, eventually, only, requires
from integration.modes import ROOT, SWAP, UNLIMITED, V2, Managed, modes

pytestmark = [requires("root"), modes()]


def saved(runtime: Managed, id: str) -> dict[str, Any]:
    """linux.resources of the configuration that pyocirun keeps."""
    document = json.loads((runtime.root / id / "config.json").read_text())
    resources: dict[str, Any] = document["linux"]["resources"]
    return resources


def resources_file(bundle: Bundle, resources: object) -> str:
    path = bundle.path / "resources.json"
    path.write_text(json.dumps(resources))
    return str(path)


# ---- flags ---------------------------------------------------------------------------------------


FLAGS: dict[tuple[str, ...], dict[str, int]] = {
    ("--memory", "64m"): {"memory.limit": 64 << 20},
    ("--memory", "33554432"): {"memory.limit": 32 << 20},
    ("--memory-reservation", "32M"): {"memory.reservation": 32 << 20},
    ("--pids-limit", "10"): {"pids.limit": 10},
    ("--pids-limit", "-1"): {"pids.limit": UNLIMITED},
    ("--cpu-share", "262144"): {"cpu.shares": 262144},
    ("--cpu-period", "50000"): {"cpu.period": 50000},
    ("--cpu-quota", "30000"): {"cpu.quota": 30000},
    ("--cpu-quota", "33333", "--cpu-period", "50000"): {"cpu.quota": 33333, "cpu.period": 50000},
    ("--cpuset-cpus", "0"): {"cpu.cpus": 0},
    ("--cpuset-mems", "0"): {"cpu.mems": 0},
    ("--blkio-weight", "1000"): {"blockIO.weight": 1000},
}


@pytest.mark.vm
def test_each_flag_changes_its_file(runtime: Managed, bundle: Bundle) -> None:
    """One container for all: most of what a scenario takes is to make and delete it."""
    id = runtime.running(bundle)
    found = {}

    for options, expected in FLAGS.items():
        runtime("update", *options, id).ok()
        found[options] = runtime.limits(id, *expected)

    assert found == FLAGS


@pytest.mark.parametrize(
    ("options", "name", "expected"),
    [
        (("--cpu-burst", "10000", "--cpu-quota", "20000"), "cpu.burst", 10000),
        (("--cpu-idle", "1"), "cpu.idle", 1),
    ],
)
@only("pyocirun")
def test_a_flag_that_runc_lacks_changes_its_file(
    runtime: Managed, bundle: Bundle, options: tuple[str, ...], name: str, expected: int
) -> None:
    id = runtime.running(bundle)

    runtime("update", *options, id).ok()

    assert runtime.limit(id, name) == expected


def test_what_is_not_named_stays(runtime: Managed, bundle: Bundle) -> None:
    bundle.linux["resources"] |= {"memory": {"limit": 64 << 20}, "pids": {"limit": 20}, "cpu": {"shares": 262144}}
    id = runtime.running(bundle)

    runtime("update", "--memory", "32m", id).ok()

    assert runtime.limit(id, "memory.limit") == 32 << 20
    assert runtime.limit(id, "pids.limit") == 20
    assert runtime.limit(id, "cpu.shares") == 262144


@pytest.mark.parametrize(("option", "other"), [("quota", "period"), ("period", "quota")])
def test_quota_and_period_are_changed_one_without_the_other(
    runtime: Managed, bundle: Bundle, option: str, other: str
) -> None:
    bundle.linux["resources"]["cpu"] = {"quota": 20000, "period": 50000}
    id = runtime.running(bundle)
    before = runtime.limit(id, f"cpu.{other}")

    runtime("update", f"--cpu-{option}", "40000", id).ok()

    assert runtime.limit(id, f"cpu.{option}") == 40000
    assert runtime.limit(id, f"cpu.{other}") == before


@modes(*ROOT)
def test_device_rules_are_left_alone(runtime: Managed, bundle: Bundle) -> None:
    bundle.linux["devices"] = [{"path": "/dev/mine", "type": "c", "major": 1, "minor": 11}]
    id = runtime.running(bundle)

    rules = [{"allow": True, "access": "rwm"}]
    runtime("update", "-r", resources_file(bundle, {"devices": rules, "pids": {"limit": 9}}), id).ok()

    assert runtime.exec(id, "open", "w", "/dev/mine").stdout == "EPERM\n"
    assert runtime.limit(id, "pids.limit") == 9


# ---- files ---------------------------------------------------------------------------------------

RESOURCES = {"memory": {"limit": 48 << 20}, "cpu": {"shares": 262144}, "pids": {"limit": 12}, "blockIO": {}}


@pytest.mark.parametrize("option", [("-r",), ("--resources",)])
def test_resources_of_a_file(runtime: Managed, bundle: Bundle, option: tuple[str, ...]) -> None:
    id = runtime.running(bundle)

    runtime("update", *option, resources_file(bundle, RESOURCES), id).ok()

    assert runtime.limit(id, "memory.limit") == 48 << 20
    assert runtime.limit(id, "cpu.shares") == 262144
    assert runtime.limit(id, "pids.limit") == 12


@pytest.mark.parametrize("options", [("--resources", "-"), ("--resources=-",), ("-r", "-")])
def test_resources_on_standard_input(runtime: Managed, bundle: Bundle, options: tuple[str, ...]) -> None:
    id = runtime.running(bundle)

    with open(resources_file(bundle, RESOURCES), "rb") as file:
        runtime("update", *options, id, stdin=file).ok()

    assert runtime.limit(id, "pids.limit") == 12


def test_a_file_makes_the_flags_ignored(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    runtime("update", "-r", resources_file(bundle, RESOURCES), "--pids-limit", "99", id).ok()

    assert runtime.limit(id, "pids.limit") == 12


@pytest.mark.parametrize("text", ["", "{", "[]", '{"memory": {"limit": "64M"}}', '{"pids": 3}'])
def test_a_file_that_makes_no_sense_changes_nothing(runtime: Managed, bundle: Bundle, text: str) -> None:
    id = runtime.running(bundle)
    path = bundle.path / "bad.json"
    path.write_text(text)
    before = runtime.limits(id, "pids.limit", "memory.limit")

    runtime("update", "-r", str(path), id).fails()

    assert runtime.limits(id, "pids.limit", "memory.limit") == before


def test_a_missing_file_is_an_error(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    runtime("update", "-r", str(bundle.path / "none.json"), id).fails()


@modes(*V2)
def test_files_of_cgroup_v2_are_changed_by_name(runtime: Managed, bundle: Bundle) -> None:
    bundle.linux["resources"]["memory"] = {"limit": 64 << 20}
    id = runtime.running(bundle)
    wanted = {"memory.high": str(32 << 20), "pids.max": "7", "cpu.weight": "10000", "cpuset.cpus": "0"}

    runtime("update", "-r", resources_file(bundle, {"unified": wanted}), id).ok()

    names = ("memory.limit", "memory.high", "pids.limit", "cpu.shares", "cpu.cpus")
    assert list(runtime.limits(id, *names).values()) == [64 << 20, 32 << 20, 7, 262144, 0]


# ---- memory --------------------------------------------------------------------------------------


@SWAP
def test_memory_and_swap_are_raised_and_lowered(runtime: Managed, bundle: Bundle) -> None:
    bundle.linux["resources"]["memory"] = {"limit": 32 << 20, "swap": 64 << 20}
    id = runtime.running(bundle)

    for limit, swap in ((128, 256), (16, 24), (16, 16), (512, 512)):
        runtime("update", "--memory", f"{limit}m", "--memory-swap", f"{swap}m", id).ok()
        assert runtime.limit(id, "memory.limit") == limit << 20
        assert runtime.limit(id, "memory.swap") == swap << 20


@SWAP
def test_no_limit_of_memory_is_none_of_swap_either(runtime: Managed, bundle: Bundle) -> None:
    bundle.linux["resources"]["memory"] = {"limit": 32 << 20, "swap": 64 << 20}
    id = runtime.running(bundle)

    runtime("update", "--memory=-1", id).ok()

    assert runtime.limit(id, "memory.limit") == UNLIMITED
    assert runtime.limit(id, "memory.swap") == UNLIMITED


@modes("v1")  # cgroup v2 takes any limit, and kills
def test_a_limit_below_what_is_used_is_refused_with_the_figures(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle, "fork", "30", "stay")
    eventually(lambda: len(runtime.members(id)) == 31)

    result = runtime("update", "--memory", "64k", id)

    result.fails("unable to set memory limit to 65536 (current usage: ", ", peak usage: ")
    assert runtime.limit(id, "memory.limit") == UNLIMITED
    assert alive(runtime.pid(id))


@only("pyocirun")
@modes("v1")
def test_the_error_says_what_is_needed(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle, "fork", "30", "stay")
    eventually(lambda: len(runtime.members(id)) == 31)

    result = runtime("update", "--memory", "64k", id).fails()

    assert "bytes of it are in use and cannot be freed" in result.stderr


@only("pyocirun")
def test_on_request_usage_is_looked_at_before(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle, "fork", "3", "stay")
    wanted = {"memory": {"limit": 65536, "checkBeforeUpdate": True}, "pids": {"limit": 3}}
    before = runtime.limit(id, "pids.limit")

    runtime("update", "-r", resources_file(bundle, wanted), id).fails("current usage")

    assert runtime.limit(id, "pids.limit") == before
    failures = "memory.failcnt" if runtime.mode.version == 1 else "memory.events"
    assert {line.split()[-1] for line in (runtime.cgroup(id, "memory") / failures).read_text().splitlines()} == {"0"}


# ---- what is refused ------------------------------------------------------------------------------


@only("pyocirun")
@pytest.mark.parametrize(
    ("resources", "file", "allowed"),
    [
        ({"pids": {"limit": 5000000}}, "pids.max", "at most 4194304"),
        ({"cpu": {"idle": 2}}, "cpu.idle", "idle is 0 or 1"),
        ({"cpu": {"burst": 30000, "quota": 20000}}, "cpu.", "burst"),
        ({"cpu": {"period": 5, "quota": 20000}}, "cpu.", "period"),
        ({"cpu": {"cpus": "x"}}, "cpuset.cpus", "such as 0-2,7"),
    ],
    ids=["pids", "idle", "burst", "period", "cpus"],
)
@modes("v1", "v2")
def test_a_refusal_names_the_file_and_says_what_is_allowed(
    runtime: Managed, bundle: Bundle, resources: dict[str, Any], file: str, allowed: str
) -> None:
    id = runtime.running(bundle)

    result = runtime("update", "-r", resources_file(bundle, resources), id).fails(file, "Invalid argument")

    assert allowed in result.stderr


@only("pyocirun")
@modes("v1")
def test_a_weight_out_of_range_names_the_file_that_there_is(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    (file,) = runtime.cgroup(id, "blkio").glob("blkio*weight")

    result = runtime("update", "--blkio-weight", "1001", id).fails(f"failed to write '1001' to {file}: ")

    assert "from 10 to 1000" in result.stderr


# ---- all or nothing ------------------------------------------------------------------------------


@only("pyocirun")
@pytest.mark.parametrize(
    ("bad", "texts"),
    [
        (
            {"cpu": {"quota": 10}},
            {1: ("'10'", "cpu.cfs_quota_us", "Invalid argument"), 2: ("cpu.max", "Invalid argument")},
        ),
        ({"cpu": {"cpus": "999"}}, {1: ("'999'", "cpuset.cpus"), 2: ("999",)}),
        (
            {"blockIO": {"throttleReadBpsDevice": [{"major": 4095, "minor": 1, "rate": 5}]}},
            {1: ("4095:1", "read_bps"), 2: ("4095:1",)},
        ),
        ({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}, {1: ("hugetlb",), 2: ("3MB",)}),
        ({"network": {"classID": 5}}, {1: ("net_cls",)}),
        ({"network": {"priorities": [{"name": "lo", "priority": 1}]}}, {1: ("net_prio",)}),
        ({"rdma": {"mlx4_0": {"hcaHandles": 1}}}, {1: ("rdma",), 2: ("rdma",)}),
        ({"unified": {"memory.high": "1"}}, {1: ("unified",)}),
        ({"unified": {"memory.nothing": "1"}}, {2: ("memory.nothing",)}),
        ({"unified": {"nothing.max": "1"}}, {2: ("nothing",)}),
    ],
    ids=["quota", "cpus", "throttle", "hugepages", "class", "priority", "rdma", "unified", "no file", "no controller"],
)
def test_one_write_that_fails_takes_all_back(
    runtime: Managed, bundle: Bundle, bad: dict[str, Any], texts: dict[int, tuple[str, ...]]
) -> None:
    if runtime.mode.version not in texts:
        pytest.skip("this cgroup version has it")
    bundle.linux["resources"] |= {"memory": {"limit": 64 << 20}, "pids": {"limit": 20}}
    bundle.linux["resources"]["cpu"] = {"shares": 262144, "quota": 33333, "period": 50000}
    id = runtime.running(bundle)
    before = saved(runtime, id)
    # What is in effect: the kernel lets nobody empty the set itself again.
    cpus = "cpuset.effective_cpus" if runtime.mode.version == 1 else "cpuset.cpus.effective"
    names = ("memory.limit", "pids.limit", "cpu.shares", "cpu.quota", "cpu.period", cpus, "blockIO.weight")
    limits = runtime.limits(id, *names)
    good = {
        "memory": {"limit": 32 << 20},
        "pids": {"limit": 5},
        "blockIO": {"weight": 1000},
        "cpu": {"shares": 2, "quota": 20000, "cpus": "0"},
    }
    wanted = bad | {name: values | bad.get(name, {}) for name, values in good.items()}

    runtime("update", "-r", resources_file(bundle, wanted), id).fails(*texts[runtime.mode.version])

    assert runtime.limits(id, *limits) == limits
    assert [limits[name] for name in names[:5]] == [64 << 20, 20, 262144, 33333, 50000]
    assert saved(runtime, id) == before
    assert sorted(path.name for path in (runtime.root / id).iterdir()) == [
        "config.json",
        "gate",
        "report",
        "state.json",
    ]


@only("pyocirun")
def test_the_saved_configuration_follows(runtime: Managed, bundle: Bundle) -> None:
    bundle.linux["resources"] |= {"memory": {"limit": 64 << 20}, "cpu": {"shares": 262144}}
    id = runtime.running(bundle)

    runtime("update", "--pids-limit", "7", "--cpu-idle", "1", id).ok()

    resources = saved(runtime, id)
    assert resources["memory"] == {"limit": 64 << 20}
    assert resources["pids"] == {"limit": 7}
    assert resources["cpu"] == {"idle": 1}
    assert resources.get("devices") == bundle.linux["resources"].get("devices")


@only("pyocirun")
def test_shares_come_back_when_an_update_that_made_it_idle_fails(runtime: Managed, bundle: Bundle) -> None:
    bundle.linux["resources"]["cpu"] = {"shares": 262144}
    id = runtime.running(bundle)
    refused = {"network": {"classID": 5}} if runtime.mode.version == 1 else {"unified": {"memory.nothing": "1"}}

    runtime("update", "-r", resources_file(bundle, {"cpu": {"idle": 1}, **refused}), id).fails()

    assert runtime.limit(id, "cpu.idle") == 0
    assert runtime.limit(id, "cpu.shares") == 262144


# ---- which container -----------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["created", "paused"])
def test_limits_of_a_container_that_does_not_run_now(runtime: Managed, bundle: Bundle, state: str) -> None:
    id = runtime.created(bundle.args("sleep", "600"))
    if state == "paused":
        runtime.start(id).ok()
        runtime("pause", id).ok()

    runtime("update", "--pids-limit", "8", id).ok()

    assert runtime.status(id) == state
    assert runtime.limit(id, "pids.limit") == 8


def test_a_stopped_container_is_not_updated(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    runtime.stop(id)

    runtime("update", "--pids-limit", "8", id).fails("container not running")


def test_an_unknown_container_is_not_updated(runtime: Managed) -> None:
    runtime("update", "--pids-limit", "8", "nobody").fails("container does not exist")


# ---- flags that ask for what is not there --------------------------------------------------------


def test_a_size_that_is_none_is_refused(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    runtime("update", "--memory", "plenty", id).fails("invalid value", "memory")


def test_intel_rdt_that_was_not_configured_is_refused(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    runtime("update", "--l3-cache-schema", "L3:0=f", id).fails("Intel RDT")


@only("pyocirun")
def test_kernel_memory_is_a_warning(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    result = runtime("update", "--kernel-memory", "64m", id).ok()

    assert any("memory.kernel is ignored" in line["msg"] for line in result.log)


@only("pyocirun")
@modes(*V2)
def test_a_flag_for_one_file_leaves_the_others_as_they_are_now(runtime: Managed, bundle: Bundle) -> None:
    bundle.linux["resources"]["unified"] = {"pids.max": "20"}
    id = runtime.running(bundle)
    runtime("update", "--pids-limit", "10", id).ok()

    runtime("update", "--memory-high", "64m", id).ok()

    assert runtime.limits(id, "pids.limit", "memory.high") == {"pids.limit": 10, "memory.high": 64 << 20}
    assert saved(runtime, id)["unified"] == {"pids.max": "20", "memory.high": str(64 << 20)}


@only("pyocirun")
@modes("v1")
def test_what_cgroup_v1_does_not_have_is_refused(runtime: Managed, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    runtime("update", "--memory-high", "64m", id).fails("cannot use unified on cgroup v1")


@only("pyocirun")
@modes(*V2)
@pytest.mark.parametrize(
    ("option", "value", "file", "expected"),
    [
        ("--memory-high", "64m", "memory.high", str(64 << 20)),
        ("--memory-min", "4m", "memory.min", str(4 << 20)),
        ("--memory-oom-group", "1", "memory.oom.group", "1"),
    ],
)
def test_what_cgroup_v2_alone_has(
    runtime: Managed, bundle: Bundle, option: str, value: str, file: str, expected: str
) -> None:
    id = runtime.running(bundle)

    runtime("update", option, value, id).ok()

    assert (runtime.cgroup(id) / file).read_text().strip() == expected


@only("pyocirun")
@modes("v2", "systemd")  # systemd gives a user no controller io
def test_an_aim_of_latency_reaches_the_kernel(runtime: Managed, bundle: Bundle) -> None:
    disk = next((path for path in Path("/sys/block").iterdir() if (path / "queue/wbt_lat_usec").exists()), None)
    if disk is None:
        pytest.skip("no disk that can be asked for its latency")
    number = (disk / "dev").read_text().strip()
    id = runtime.running(bundle)

    runtime("update", "--io-latency", f"{number}=5000", id).ok()

    assert (runtime.cgroup(id) / "io.latency").read_text().split() == [number, "target=5000"]
