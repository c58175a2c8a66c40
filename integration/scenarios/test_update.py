"""update: what reaches the kernel, what is saved, and what is taken back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from integration.harness import Bundle, Runtime, alive, cgroup_of, eventually, only, requires

pytestmark = requires("root", "cgroup1")

SWAP = pytest.mark.skipif(
    not Path("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists(), reason="the kernel counts no swap"
)
NO_LIMIT = str((1 << 63) - 4096)


def value(runtime: Runtime, id: str, file: str) -> str:
    """A file of the container's cgroup; the controller is the name's first part."""
    return (cgroup_of(runtime.pid(id), file.partition(".")[0]) / file).read_text().strip()


def saved(runtime: Runtime, id: str) -> dict[str, Any]:
    """linux.resources of the configuration that pyocirun keeps."""
    document = json.loads((runtime.root / id / "config.json").read_text())
    resources: dict[str, Any] = document["linux"]["resources"]
    return resources


def resources_file(bundle: Bundle, resources: object) -> str:
    path = bundle.path / "resources.json"
    path.write_text(json.dumps(resources))
    return str(path)


# ---- flags ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "file", "expected"),
    [
        (("--memory", "64m"), "memory.limit_in_bytes", str(64 << 20)),
        (("--memory", "67108864"), "memory.limit_in_bytes", str(64 << 20)),
        (("--memory-reservation", "32M"), "memory.soft_limit_in_bytes", str(32 << 20)),
        (("--pids-limit", "10"), "pids.max", "10"),
        (("--pids-limit", "-1"), "pids.max", "max"),
        (("--cpu-share", "512"), "cpu.shares", "512"),
        (("--cpu-period", "50000"), "cpu.cfs_period_us", "50000"),
        (("--cpu-quota", "30000"), "cpu.cfs_quota_us", "30000"),
        (("--cpu-quota", "30000", "--cpu-period", "60000"), "cpu.cfs_period_us", "60000"),
        (("--cpuset-cpus", "0"), "cpuset.cpus", "0"),
        (("--cpuset-mems", "0"), "cpuset.mems", "0"),
    ],
)
def test_a_flag_changes_its_file(
    runtime: Runtime, bundle: Bundle, options: tuple[str, ...], file: str, expected: str
) -> None:
    id = runtime.running(bundle)

    runtime("update", *options, id).ok()

    assert value(runtime, id, file) == expected


@pytest.mark.parametrize(
    ("options", "file", "expected"),
    [
        (("--cpu-burst", "10000", "--cpu-quota", "20000"), "cpu.cfs_burst_us", "10000"),
        (("--cpu-idle", "1"), "cpu.idle", "1"),
    ],
)
@only("pyocirun")
def test_a_flag_that_runc_lacks_changes_its_file(
    runtime: Runtime, bundle: Bundle, options: tuple[str, ...], file: str, expected: str
) -> None:
    id = runtime.running(bundle)

    runtime("update", *options, id).ok()

    assert value(runtime, id, file) == expected


def test_what_is_not_named_stays(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"] |= {"memory": {"limit": 64 << 20}, "pids": {"limit": 20}, "cpu": {"shares": 300}}
    id = runtime.running(bundle)

    runtime("update", "--memory", "32m", id).ok()

    assert value(runtime, id, "memory.limit_in_bytes") == str(32 << 20)
    assert value(runtime, id, "pids.max") == "20"
    assert value(runtime, id, "cpu.shares") == "300"


@pytest.mark.parametrize(("option", "other"), [("quota", "period"), ("period", "quota")])
def test_quota_and_period_are_changed_one_without_the_other(
    runtime: Runtime, bundle: Bundle, option: str, other: str
) -> None:
    bundle.linux["resources"]["cpu"] = {"quota": 20000, "period": 50000}
    id = runtime.running(bundle)
    before = value(runtime, id, f"cpu.cfs_{other}_us")

    runtime("update", f"--cpu-{option}", "40000", id).ok()

    assert value(runtime, id, f"cpu.cfs_{option}_us") == "40000"
    assert value(runtime, id, f"cpu.cfs_{other}_us") == before


def test_device_rules_are_left_alone(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    before = value(runtime, id, "devices.list")

    rules = [{"allow": True, "access": "rwm"}]
    runtime("update", "-r", resources_file(bundle, {"devices": rules, "pids": {"limit": 9}}), id).ok()

    assert value(runtime, id, "devices.list") == before
    assert value(runtime, id, "pids.max") == "9"


# ---- files ---------------------------------------------------------------------------------------

RESOURCES = {"memory": {"limit": 48 << 20}, "cpu": {"shares": 200}, "pids": {"limit": 12}, "blockIO": {}}


@pytest.mark.parametrize("option", [("-r",), ("--resources",)])
def test_resources_of_a_file(runtime: Runtime, bundle: Bundle, option: tuple[str, ...]) -> None:
    id = runtime.running(bundle)

    runtime("update", *option, resources_file(bundle, RESOURCES), id).ok()

    assert value(runtime, id, "memory.limit_in_bytes") == str(48 << 20)
    assert value(runtime, id, "cpu.shares") == "200"
    assert value(runtime, id, "pids.max") == "12"


@pytest.mark.parametrize("options", [("--resources", "-"), ("--resources=-",), ("-r", "-")])
def test_resources_on_standard_input(runtime: Runtime, bundle: Bundle, options: tuple[str, ...]) -> None:
    id = runtime.running(bundle)

    with open(resources_file(bundle, RESOURCES), "rb") as file:
        runtime("update", *options, id, stdin=file).ok()

    assert value(runtime, id, "pids.max") == "12"


def test_a_file_makes_the_flags_ignored(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    runtime("update", "-r", resources_file(bundle, RESOURCES), "--pids-limit", "99", id).ok()

    assert value(runtime, id, "pids.max") == "12"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"memory": {"limit": "64M"}}', '{"pids": 3}'])
def test_a_file_that_makes_no_sense_changes_nothing(runtime: Runtime, bundle: Bundle, text: str) -> None:
    id = runtime.running(bundle)
    path = bundle.path / "bad.json"
    path.write_text(text)

    runtime("update", "-r", str(path), id).fails()

    assert value(runtime, id, "pids.max") == "max"


def test_a_missing_file_is_an_error(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    runtime("update", "-r", str(bundle.path / "none.json"), id).fails()


# ---- memory --------------------------------------------------------------------------------------


@SWAP
def test_memory_and_swap_are_raised_and_lowered(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["memory"] = {"limit": 32 << 20, "swap": 64 << 20}
    id = runtime.running(bundle)

    for limit, swap in ((128, 256), (16, 24), (16, 16), (512, 512)):
        runtime("update", "--memory", f"{limit}m", "--memory-swap", f"{swap}m", id).ok()
        assert value(runtime, id, "memory.limit_in_bytes") == str(limit << 20)
        assert value(runtime, id, "memory.memsw.limit_in_bytes") == str(swap << 20)


@SWAP
def test_no_limit_of_memory_is_none_of_swap_either(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["memory"] = {"limit": 32 << 20, "swap": 64 << 20}
    id = runtime.running(bundle)

    runtime("update", "--memory=-1", id).ok()

    assert value(runtime, id, "memory.limit_in_bytes") == NO_LIMIT
    assert value(runtime, id, "memory.memsw.limit_in_bytes") == NO_LIMIT


@requires("busybox")
def test_a_limit_below_what_is_used_is_refused_with_the_figures(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle, "fork", "30", "stay")
    eventually(lambda: len((cgroup_of(runtime.pid(id), "pids") / "cgroup.procs").read_text().split()) == 31)

    result = runtime("update", "--memory", "64k", id)

    result.fails("unable to set memory limit to 65536 (current usage: ", ", peak usage: ")
    assert value(runtime, id, "memory.limit_in_bytes") == NO_LIMIT
    assert alive(runtime.pid(id))


@only("pyocirun")
def test_the_error_says_what_is_needed(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle, "fork", "30", "stay")
    eventually(lambda: len((cgroup_of(runtime.pid(id), "pids") / "cgroup.procs").read_text().split()) == 31)

    result = runtime("update", "--memory", "64k", id).fails()

    assert "bytes of it are in use and cannot be freed" in result.stderr


@only("pyocirun")
def test_on_request_usage_is_looked_at_before(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle, "fork", "3", "stay")
    wanted = {"memory": {"limit": 65536, "checkBeforeUpdate": True}, "pids": {"limit": 3}}

    runtime("update", "-r", resources_file(bundle, wanted), id).fails("current usage")

    assert value(runtime, id, "pids.max") == "max"
    assert value(runtime, id, "memory.failcnt") == "0"


# ---- all or nothing ------------------------------------------------------------------------------


@only("pyocirun")
@pytest.mark.parametrize(
    ("bad", "texts"),
    [
        ({"cpu": {"quota": 10}}, ("'10'", "cpu.cfs_quota_us", "Invalid argument")),
        ({"cpu": {"cpus": "999"}}, ("'999'", "cpuset.cpus")),
        ({"blockIO": {"throttleReadBpsDevice": [{"major": 4095, "minor": 1, "rate": 5}]}}, ("4095:1", "read_bps")),
        ({"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}, ("hugetlb",)),
        ({"network": {"classID": 5}}, ("net_cls",)),
        ({"network": {"priorities": [{"name": "lo", "priority": 1}]}}, ("net_prio",)),
        ({"rdma": {"mlx4_0": {"hcaHandles": 1}}}, ("rdma",)),
        ({"unified": {"memory.high": "1"}}, ("unified",)),
    ],
)
def test_one_write_that_fails_takes_all_back(
    runtime: Runtime, bundle: Bundle, bad: dict[str, Any], texts: tuple[str, ...]
) -> None:
    bundle.linux["resources"] |= {"memory": {"limit": 64 << 20}, "pids": {"limit": 20}, "cpu": {"shares": 300}}
    id = runtime.running(bundle)
    before = saved(runtime, id)
    good = {"memory": {"limit": 32 << 20}, "pids": {"limit": 5}, "cpu": {"shares": 400, **bad.pop("cpu", {})}}

    runtime("update", "-r", resources_file(bundle, {**good, **bad}), id).fails(*texts)

    assert value(runtime, id, "memory.limit_in_bytes") == str(64 << 20)
    assert value(runtime, id, "pids.max") == "20"
    assert value(runtime, id, "cpu.shares") == "300"
    assert saved(runtime, id) == before
    assert sorted(path.name for path in (runtime.root / id).iterdir()) == [
        "config.json",
        "gate",
        "report",
        "state.json",
    ]


@only("pyocirun")
def test_the_saved_configuration_follows(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"] |= {"memory": {"limit": 64 << 20}, "cpu": {"shares": 300}}
    id = runtime.running(bundle)

    runtime("update", "--pids-limit", "7", "--cpu-idle", "1", id).ok()

    resources = saved(runtime, id)
    assert resources["memory"] == {"limit": 64 << 20}
    assert resources["pids"] == {"limit": 7}
    assert resources["cpu"] == {"idle": 1}
    assert resources["devices"] == [{"allow": False, "access": "rwm"}]


@only("pyocirun")
def test_shares_come_back_when_an_update_that_made_it_idle_fails(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["resources"]["cpu"] = {"shares": 300}
    id = runtime.running(bundle)
    wanted = {"cpu": {"idle": 1}, "network": {"classID": 5}}

    runtime("update", "-r", resources_file(bundle, wanted), id).fails("net_cls")

    assert value(runtime, id, "cpu.idle") == "0"
    assert value(runtime, id, "cpu.shares") == "300"


# ---- which container -----------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["created", "paused"])
def test_limits_of_a_container_that_does_not_run_now(runtime: Runtime, bundle: Bundle, state: str) -> None:
    id = runtime.created(bundle.args("sleep", "60"))
    if state == "paused":
        runtime.start(id).ok()
        runtime("pause", id).ok()

    runtime("update", "--pids-limit", "8", id).ok()

    assert runtime.status(id) == state
    assert value(runtime, id, "pids.max") == "8"


def test_a_stopped_container_is_not_updated(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)
    runtime.stop(id)

    runtime("update", "--pids-limit", "8", id).fails("container not running")


def test_an_unknown_container_is_not_updated(runtime: Runtime) -> None:
    runtime("update", "--pids-limit", "8", "nobody").fails("container does not exist")


# ---- flags that ask for what is not there --------------------------------------------------------


def test_a_size_that_is_none_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    runtime("update", "--memory", "plenty", id).fails("invalid value", "memory")


def test_intel_rdt_that_was_not_configured_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    runtime("update", "--l3-cache-schema", "L3:0=f", id).fails("Intel RDT")


@only("pyocirun")
def test_kernel_memory_is_a_warning(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    result = runtime("update", "--kernel-memory", "64m", id).ok()

    assert any("memory.kernel is ignored" in line["msg"] for line in result.log)


@only("pyocirun")
def test_what_cgroup_v1_does_not_have_is_refused(runtime: Runtime, bundle: Bundle) -> None:
    id = runtime.running(bundle)

    runtime("update", "--memory-high", "64m", id).fails("cannot use unified on cgroup v1")
