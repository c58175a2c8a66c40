"""config.json as a Spec: every section once, every fault with its pointer and text."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyocirun.errors import SpecError
from pyocirun.linux.idmap import IDMapping
from pyocirun.spec import process, resources, seccomp
from pyocirun.spec.config import Root, Spec, parse_config
from pyocirun.spec.example import default_config, rootless_config
from pyocirun.spec.hooks import Hook, Hooks
from pyocirun.spec.linux import Device, Linux, MemoryPolicy, Namespace, NetDevice, TimeOffset
from pyocirun.spec.mounts import Mount
from pyocirun.spec.validate import all_faults


def full_config() -> dict[str, Any]:
    """A config with every property of the specification in it."""
    config = default_config()
    config["domainname"] = "example.org"
    config["annotations"] = {"org.example.key": "value", "a/b": ""}
    config["windows"] = {"anything": 1}
    config["process"].update(
        {
            "consoleSize": {"height": 24, "width": 80},
            "user": {"uid": 1000, "gid": 1000, "umask": 63, "additionalGids": [5, 6], "username": "x"},
            "oomScoreAdj": -500,
            "apparmorProfile": "profile",
            "selinuxLabel": "label",
            "scheduler": {"policy": "SCHED_BATCH", "nice": 5, "priority": 0, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
            "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
            "execCPUAffinity": {"initial": "0-1", "final": "1"},
        }
    )
    mapping = {"containerID": 0, "hostID": 100000, "size": 65536}
    config["mounts"] += [
        {
            "destination": "/data",
            "source": "/srv",
            "type": "none",
            "options": ["bind", "ridmap"],
            "uidMappings": [mapping],
            "gidMappings": [mapping],
        },
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]},
    ]
    hook = {"path": "/bin/true", "args": ["true"], "env": ["A=1"], "timeout": 3}
    kinds = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    config["hooks"] = {kind: [copy.deepcopy(hook)] for kind in kinds}
    linux = config["linux"]
    linux["namespaces"] += [{"type": "user"}, {"type": "cgroup"}, {"type": "time"}]
    linux["namespaces"][1]["path"] = "/run/netns/x"
    device = {"major": 8, "minor": 0}
    linux.update(
        {
            "uidMappings": [dict(mapping)],
            "gidMappings": [dict(mapping)],
            "devices": [
                {"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0},
                {"type": "p", "path": "/dev/pipe"},
            ],
            "cgroupsPath": "/a/b",
            "rootfsPropagation": "rslave",
            "mountLabel": "label",
            "sysctl": {"net.ipv4.ip_forward": "1"},
            "timeOffsets": {"monotonic": {"secs": -5, "nanosecs": 7}, "boottime": {"secs": 1}},
            "netDevices": {"eth0": {"name": "eth9"}, "eth1": {}},
            "intelRdt": {
                "closID": "c",
                "l3CacheSchema": "L3:0=f",
                "memBwSchema": "MB:0=20",
                "schemata": ["L3:0=f"],
                "enableMonitoring": True,
            },
            "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
            "personality": {"domain": "LINUX32", "flags": ["x"]},
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "defaultErrnoRet": 38,
                "architectures": ["SCMP_ARCH_X86_64"],
                "flags": [],
                "listenerPath": "/run/agent.sock",
                "listenerMetadata": "m",
                "syscalls": [
                    {
                        "names": ["read", "write"],
                        "action": "SCMP_ACT_ALLOW",
                        "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}],
                    },
                    {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"},
                    {"names": ["chmod"], "action": "SCMP_ACT_TRACE", "errnoRet": 9},
                ],
            },
        }
    )
    linux["resources"].update(
        {
            "memory": {
                "limit": 1 << 20,
                "reservation": -1,
                "swap": 0,
                "kernel": 1,
                "kernelTCP": 2,
                "swappiness": 60,
                "disableOOMKiller": False,
                "useHierarchy": True,
                "checkBeforeUpdate": True,
            },
            "cpu": {
                "shares": 1024,
                "quota": -1,
                "burst": 10,
                "period": 100000,
                "realtimeRuntime": 1,
                "realtimePeriod": 2,
                "cpus": "0-1",
                "mems": "0",
                "idle": 1,
            },
            "pids": {"limit": 0},
            "blockIO": {
                "weight": 10,
                "leafWeight": 20,
                "weightDevice": [{**device, "weight": 500, "leafWeight": 300}],
                "throttleReadBpsDevice": [{**device, "rate": 1}],
                "throttleWriteBpsDevice": [{**device, "rate": 2}],
                "throttleReadIOPSDevice": [{**device, "rate": 3}],
                "throttleWriteIOPSDevice": [{**device, "rate": 4}],
            },
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
            "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]},
            "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}},
            "unified": {"memory.high": "1048576"},
        }
    )
    linux["resources"]["devices"].append({"allow": True, "type": "c", "major": 10, "minor": -1, "access": "rw"})
    return config


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every value in a document, the document's own first."""
    yield path
    if isinstance(value, dict | list):
        for key, member in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(member, (*path, key))


def put(document: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """A copy of the document with another value at a place."""
    if not path:
        return value
    changed = copy.deepcopy(document)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


FULL = full_config()
PLACES = list(places(FULL))
VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-1, 0, 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 63, 1 << 64, 10**30])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
    | st.sampled_from(
        ["", "/", "a", "/a", "a\0b", "\ud800", "user", "SCMP_ACT_NOTIFY", "bind", "1.0.0", "rwm", "0-3", "A=1"]
    )
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=5,
    )
    | st.sampled_from([FULL, FULL["process"], FULL["mounts"], FULL["linux"]["namespaces"], [{}], [[]], [None]])
)


def test_full_config_becomes_a_spec() -> None:
    spec = parse_config(FULL)

    assert spec.oci_version == "1.3.0"
    assert spec.root == Root("rootfs", True)
    assert (spec.hostname, spec.domainname) == ("pyocirun", "example.org")
    assert spec.annotations == {"org.example.key": "value", "a/b": ""}
    assert spec.foreign == ("windows",)


def test_process_of_the_full_config() -> None:
    parsed = parse_config(FULL).process

    assert parsed == process.Process(
        cwd="/",
        args=("sh",),
        env=("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"),
        user=process.User(1000, 1000, 63, (5, 6)),
        terminal=True,
        console_size=process.ConsoleSize(24, 80),
        capabilities=process.Capabilities(
            bounding=("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"),
            effective=("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"),
            permitted=("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"),
        ),
        rlimits=(process.Rlimit("RLIMIT_NOFILE", 1024, 1024),),
        no_new_privileges=True,
        oom_score_adj=-500,
        apparmor_profile="profile",
        selinux_label="label",
        scheduler=process.Scheduler("SCHED_BATCH", 5, 0, ("SCHED_FLAG_RESET_ON_FORK",)),
        io_priority=process.IOPriority("IOPRIO_CLASS_BE", 4),
        exec_cpu_affinity=process.CPUAffinity("0-1", "1"),
    )


def test_mounts_of_the_full_config() -> None:
    mapping = (IDMapping(0, 100000, 65536),)

    mounts = parse_config(FULL).mounts

    assert [mount.destination for mount in mounts[:3]] == ["/proc", "/dev", "/dev/pts"]
    assert mounts[7] == Mount("/data", "/srv", "none", ("bind", "ridmap"), mapping, mapping)


def test_hooks_of_the_full_config() -> None:
    hook = Hook("/bin/true", ("true",), ("A=1",), 3)

    assert parse_config(FULL).hooks == Hooks(*[(hook,)] * 6)


def test_linux_of_the_full_config() -> None:
    linux = parse_config(FULL).linux

    assert linux.namespace("network") == Namespace("network", "/run/netns/x")
    assert linux.uid_mappings == (IDMapping(0, 100000, 65536),)
    assert linux.devices == (Device("c", "/dev/fuse", 10, 229, 438, 0, 0), Device("p", "/dev/pipe"))
    assert linux.sysctl == {"net.ipv4.ip_forward": "1"}
    assert linux.time_offsets == {"monotonic": TimeOffset(-5, 7), "boottime": TimeOffset(1)}
    assert linux.net_devices == {"eth0": NetDevice("eth9"), "eth1": NetDevice()}
    assert linux.memory_policy == MemoryPolicy("MPOL_BIND", "0", ("MPOL_F_STATIC_NODES",))


def test_seccomp_of_the_full_config() -> None:
    parsed = parse_config(FULL).linux.seccomp

    assert parsed == seccomp.Seccomp(
        "SCMP_ACT_ERRNO",
        38,
        ("SCMP_ARCH_X86_64",),
        (),
        "/run/agent.sock",
        "m",
        (
            seccomp.SyscallRule(
                ("read", "write"), "SCMP_ACT_ALLOW", None, (seccomp.SyscallArg(0, 1, "SCMP_CMP_MASKED_EQ", 2),)
            ),
            seccomp.SyscallRule(("mkdir",), "SCMP_ACT_NOTIFY"),
            seccomp.SyscallRule(("chmod",), "SCMP_ACT_TRACE", 9),
        ),
    )


def test_resources_of_the_full_config() -> None:
    parsed = parse_config(FULL).linux.resources

    assert parsed == resources.Resources(
        (resources.DeviceRule(False), resources.DeviceRule(True, "c", 10, None, "rw")),
        resources.Memory(1 << 20, -1, 0, 1, 2, 60, False, True, True),
        resources.CPU(1024, -1, 10, 100000, 1, 2, "0-1", "0", 1),
        resources.Pids(0),
        resources.BlockIO(
            10,
            20,
            (resources.WeightDevice(8, 0, 500, 300),),
            *[(resources.ThrottleDevice(8, 0, rate),) for rate in (1, 2, 3, 4)],
        ),
        (resources.HugepageLimit("2MB", 4194304),),
        resources.Network(1048577, (resources.InterfacePriority("eth0", 500),)),
        {"mlx5_1": resources.Rdma(3, 10000)},
        {"memory.high": "1048576"},
    )


def test_least_config_has_defaults_everywhere() -> None:
    assert parse_config({"ociVersion": "1.0.2-dev", "root": {"path": "r"}}) == Spec("1.0.2-dev", Root("r"))


def test_null_is_an_absent_property() -> None:
    config: dict[str, Any] = {"ociVersion": "1.3.0", "root": {"path": "r", "readonly": None}}
    config |= dict.fromkeys(["process", "hostname", "mounts", "hooks", "annotations", "linux", "windows"])

    assert parse_config(config) == Spec("1.3.0", Root("r"))
    assert all_faults(config) == []


@pytest.mark.parametrize(
    ("linux", "expected"),
    [
        ({"resources": {"pids": {"limit": 0}}}, Linux(resources=resources.Resources(pids=resources.Pids(0)))),
        ({"resources": {"pids": {}}}, Linux(resources=resources.Resources(pids=resources.Pids()))),
        ({"resources": {}}, Linux(resources=resources.Resources())),
        ({"maskedPaths": []}, Linux(masked_paths=())),
        ({"cgroupsPath": "", "rootfsPropagation": "", "mountLabel": ""}, Linux()),
    ],
)
def test_zero_and_empty_are_told_from_absent_where_it_matters(linux: Any, expected: Linux) -> None:
    assert parse_config({"ociVersion": "1.3.0", "root": {"path": "r"}, "linux": linux}).linux == expected


@pytest.mark.parametrize("key", ["rlimits", "oomScoreAdj"])
def test_absent_process_values_are_none(key: str) -> None:
    config = default_config()
    config["process"].pop(key, None)

    parsed = parse_config(config).process

    assert parsed is not None
    assert {"rlimits": parsed.rlimits, "oomScoreAdj": parsed.oom_score_adj}[key] is None


def test_unknown_properties_are_ignored() -> None:
    config = default_config()
    for place in (config, config["process"], config["root"], config["linux"], config["mounts"][0]):
        place["unknown"] = [{"x": None}]

    assert parse_config(config) == parse_config(default_config())
    assert all_faults(config) == []


def test_unknown_capabilities_stay_in_the_sets() -> None:
    config = default_config()
    config["process"]["capabilities"]["bounding"] = ["CAP_KILL", "CAP_FUTURE"]

    parsed = parse_config(config).process

    assert parsed is not None and parsed.capabilities is not None
    assert parsed.capabilities.bounding == ("CAP_KILL", "CAP_FUTURE")


@pytest.mark.parametrize("version", ["1.3.0", "1.0.2-dev", "1.0.0-rc.5+meta.01", "10.20.30", "1.0.0-0a.-"])
def test_version_is_taken(version: str) -> None:
    assert parse_config(put(default_config(), ("ociVersion",), version)).oci_version == version


@pytest.mark.parametrize(
    "version",
    ["x", "1.0", "1.0.0.0", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0+", "1.0.0-a..b", "v1.0.0", "1.0.0\n", "1.0.²"],
)
def test_version_is_refused_by_reader_and_schema(version: str) -> None:
    config = put(default_config(), ("ociVersion",), version)

    with pytest.raises(SpecError, match=r"^/ociVersion: .* is not a version"):
        parse_config(config)
    assert [pointer for pointer, _ in all_faults(config)] == ["/ociVersion"]


FAULTS: list[tuple[str, Any, str, str]] = [
    # where, what stands there, pointer of the fault, its text
    ("root", None, "/root", "root must be specified"),
    ("root/path", None, "/root/path", "is missing"),
    ("root/path", "", "/root/path", "must not be empty"),
    ("hostname", 5, "/hostname", "must be a string, not a number"),
    ("process/cwd", None, "/process/cwd", "Cwd property must not be empty"),
    ("process/cwd", "", "/process/cwd", "Cwd property must not be empty"),
    ("process/cwd", "a", "/process/cwd", "Cwd must be an absolute path"),
    ("process/args", [], "/process/args", "args must not be empty"),
    ("process/args", None, "/process/args", "args must not be empty"),
    ("process/env", ["A"], "/process/env/0", "invalid environment variable: must have the form NAME=VALUE"),
    ("process/env", ["A=1", "=1"], "/process/env/1", "invalid environment variable: must have the form NAME=VALUE"),
    ("process/env", ["A=\0"], "/process/env/0", "must not contain a NUL byte"),
    ("process/user/uid", (1 << 32) - 1, "/process/user/uid", "must be from 0 to 4294967294"),
    ("process/user/uid", True, "/process/user/uid", "must be an integer, not true"),
    ("process/user/uid", 1.0, "/process/user/uid", "must be an integer, not a fraction"),
    ("process/oomScoreAdj", 1001, "/process/oomScoreAdj", "must be from -1000 to 1000"),
    ("process/rlimits/0/type", "RLIMIT_X", "/process/rlimits/0/type", "wrong rlimit value: RLIMIT_X"),
    (
        "process/rlimits/0/soft",
        2000,
        "/process/rlimits/0/soft",
        "the soft limit of RLIMIT_NOFILE is above the hard limit",
    ),
    (
        "process/rlimits",
        [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}] * 2,
        "/process/rlimits/1",
        "duplicate rlimit: RLIMIT_CPU",
    ),
    ("process/scheduler", {}, "/process/scheduler/policy", "scheduler policy is required"),
    ("process/scheduler/policy", "X", "/process/scheduler/policy", 'invalid scheduler policy: "X"'),
    (
        "process/scheduler/nice",
        20,
        "/process/scheduler/nice",
        "invalid scheduler.nice: 20 when scheduler.policy is SCHED_BATCH",
    ),
    (
        "process/scheduler/priority",
        1,
        "/process/scheduler/priority",
        "scheduler.priority can only be specified for SchedFIFO or SchedRR policy",
    ),
    (
        "process/scheduler/runtime",
        1,
        "/process/scheduler",
        "scheduler runtime/deadline/period can only be specified for SchedDeadline policy",
    ),
    ("process/scheduler/flags", ["X"], "/process/scheduler/flags/0", "invalid scheduler flag: X"),
    ("process/ioPriority/priority", 8, "/process/ioPriority/priority", "invalid ioPriority.Priority: 8"),
    ("process/ioPriority/class", "X", "/process/ioPriority/class", 'invalid ioPriority.Class: "X"'),
    ("process/execCPUAffinity/final", "x", "/process/execCPUAffinity/final", 'invalid number "x" in the list "x"'),
    ("mounts/0/destination", "/./", "/mounts/0/destination", "the root of the container cannot be mounted over"),
    ("mounts/3/options", ["idmap"], "/mounts/3/options", "id-mapped mounts are only supported for bind-mounts"),
    ("mounts/0/options", ["tmpcopyup"], "/mounts/0/options", "tmpcopyup is only supported for a tmpfs"),
    ("mounts/7/uidMappings", [], "/mounts/7", "id-mapped mounts must have both uid and gid mappings specified"),
    ("mounts/7/source", "", "/mounts/7/source", "a bind mount needs a source"),
    (
        "mounts/7/options",
        ["bind", "size=1"],
        "/mounts/7/options",
        "bind mounts cannot have any filesystem-specific options applied",
    ),
    ("hooks/poststop/0/path", "a", "/hooks/poststop/0/path", "the path of a hook must be absolute"),
    ("hooks/prestart/0/timeout", 0, "/hooks/prestart/0/timeout", "the timeout of a hook must be greater than zero"),
    ("annotations", {"": "x"}, "/annotations", "a key must not be empty"),
    ("annotations", {"a/b~": 1}, "/annotations/a~1b~0", "must be a string, not a number"),
    ("linux/namespaces/0/type", "x", "/linux/namespaces/0/type", 'namespace "x" does not exist'),
    ("linux/namespaces/1/type", "pid", "/linux/namespaces/1", 'malformed spec file: duplicated ns "pid"'),
    ("linux/namespaces/0/path", "a", "/linux/namespaces/0/path", "the path of a namespace must be absolute"),
    ("linux/uidMappings/0/size", 0, "/linux/uidMappings/0", "id mapping of size 0"),
    ("linux/devices/0/type", "x", "/linux/devices/0/type", 'invalid device type "x"'),
    ("linux/devices/0/major", None, "/linux/devices/0/major", "is missing"),
    ("linux/devices/0/path", "dev", "/linux/devices/0/path", "the path of a device must be absolute"),
    ("linux/rootfsPropagation", "x", "/linux/rootfsPropagation", "rootfsPropagation=x is not supported"),
    ("linux/maskedPaths/0", "x", "/linux/maskedPaths/0", "must be an absolute path"),
    ("linux/maskedPaths/0", "/a/..", "/linux/maskedPaths/0", "the root of the container cannot be masked"),
    ("linux/resources/cpu/cpus", "0\n1", "/linux/resources/cpu/cpus", "must be one line"),
    ("linux/personality/domain", "X", "/linux/personality/domain", "invalid personality domain X"),
    ("linux/intelRdt/closID", "..", "/linux/intelRdt/closID", 'invalid intelRdt.ClosID ".."'),
    ("linux/memoryPolicy/mode", "X", "/linux/memoryPolicy/mode", 'invalid memory policy mode "X"'),
    (
        "linux/memoryPolicy/mode",
        "MPOL_LOCAL",
        "/linux/memoryPolicy/nodes",
        "memory policy mode requires 0 nodes but got 1",
    ),
    (
        "linux/memoryPolicy/nodes",
        "",
        "/linux/memoryPolicy/nodes",
        "memory policy mode requires at least one node but got 0",
    ),
    ("linux/memoryPolicy/flags/0", "X", "/linux/memoryPolicy/flags/0", 'invalid memory policy flag "X"'),
    ("linux/netDevices", {"a b": {}}, "/linux/netDevices/a b", 'invalid network device name "a b"'),
    ("linux/timeOffsets", {"x": {}}, "/linux/timeOffsets/x", "the clock must be monotonic or boottime"),
    (
        "linux/resources/devices/0/access",
        "",
        "/linux/resources/devices/0/access",
        "device access at 0 field cannot be empty",
    ),
    (
        "linux/resources/devices/0/access",
        "xa",
        "/linux/resources/devices/0/access",
        '"xa" has none of the letters r, w and m',
    ),
    ("linux/resources/devices/0/type", "x", "/linux/resources/devices/0/type", 'invalid cgroup device type "x"'),
    ("linux/resources/memory/limit", -2, "/linux/resources/memory/limit", f"must be from -1 to {(1 << 63) - 1}"),
    (
        "linux/resources/unified",
        {"a/b": "1"},
        "/linux/resources/unified/a~1b",
        "must be the name of a file, without a slash",
    ),
    (
        "linux/resources/hugepageLimits/0/pageSize",
        "2M",
        "/linux/resources/hugepageLimits/0/pageSize",
        '"2M" is not a number followed by KB, MB or GB',
    ),
    ("linux/resources/rdma/mlx5_1", {}, "/linux/resources/rdma/mlx5_1", "hcaHandles or hcaObjects must be given"),
    ("linux/seccomp/syscalls/0/names", [], "/linux/seccomp/syscalls/0/names", "must name at least one system call"),
    (
        "linux/seccomp/syscalls/0/errnoRet",
        1,
        "/linux/seccomp/syscalls/0/errnoRet",
        "SCMP_ACT_ALLOW does not support an errno",
    ),
    (
        "linux/seccomp/syscalls/1/names",
        ["write"],
        "/linux/seccomp/syscalls/1",
        "SCMP_ACT_NOTIFY cannot be used for the write syscall",
    ),
    ("linux/seccomp/listenerPath", None, "/linux/seccomp/syscalls/1", "seccomp listenerPath is not set"),
]


@pytest.mark.parametrize(("place", "value", "pointer", "text"), FAULTS, ids=[f"{f[0]}={f[1]!r}"[:60] for f in FAULTS])
def test_fault_has_its_pointer_and_text(place: str, value: Any, pointer: str, text: str) -> None:
    path = tuple(int(part) if part.isdigit() else part for part in place.split("/"))

    with pytest.raises(SpecError) as caught:
        parse_config(put(FULL, path, value))

    assert caught.value.faults == [(pointer, text)]
    assert caught.value.pointer == pointer
    assert pointer in str(caught.value)


def without_namespace(type: str, **linux: Any) -> dict[str, Any]:
    """The default config without one namespace, and with some more of the linux section."""
    config = default_config()
    config["linux"]["namespaces"] = [entry for entry in config["linux"]["namespaces"] if entry["type"] != type]
    config["linux"].update(linux)
    return config


MAPPINGS = [{"containerID": 0, "hostID": 0, "size": 1}]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (without_namespace("uts"), "/hostname: unable to set hostname without a private UTS namespace"),
        (
            {**without_namespace("uts"), "hostname": "", "domainname": "d"},
            "/domainname: unable to set domainname without a private UTS namespace",
        ),
        (
            without_namespace("mount"),
            "/linux/maskedPaths: unable to restrict sys entries without a private MNT namespace",
        ),
        (
            without_namespace("network", netDevices={"eth0": {}}),
            "/linux/netDevices: unable to move network devices without a NET namespace",
        ),
        (
            without_namespace("", gidMappings=MAPPINGS),
            "/linux/gidMappings: user namespace mappings specified, but user namespace isn't enabled in the config",
        ),
        (
            without_namespace("", namespaces=[*default_config()["linux"]["namespaces"], {"type": "user"}]),
            "/linux/namespaces: user namespaces enabled, but no namespace path to join nor mappings to apply specified",
        ),
        (
            without_namespace("", timeOffsets={"boottime": {"secs": 1}}),
            "/linux/timeOffsets: time namespace offsets specified, but time namespace isn't enabled in the config",
        ),
        (
            without_namespace(
                "",
                timeOffsets={"boottime": {}},
                namespaces=[*default_config()["linux"]["namespaces"], {"type": "time", "path": "/t"}],
            ),
            "/linux/timeOffsets: time namespace enabled, but both namespace path and time offsets specified"
            " -- you may only provide one",
        ),
    ],
)
def test_what_needs_a_namespace_is_refused_without_it(config: Any, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_config(config)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    "config",
    [default_config(), default_config(cgroup2=True), rootless_config(1000, 1000), rootless_config(0, 0, True), FULL],
)
def test_own_configs_have_no_fault_by_reader_and_schema(config: Any) -> None:
    assert parse_config(config)
    assert all_faults(config) == []


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(PLACES), VALUES)
def test_any_value_anywhere_gives_a_spec_or_a_pointer(path: tuple[str | int, ...], value: Any) -> None:
    document = put(FULL, path, value)

    try:
        spec = parse_config(document)
    except SpecError as error:
        assert error.pointer == "" or error.pointer.startswith("/")
        assert "~" not in error.pointer.replace("~0", "").replace("~1", "")
        assert points_into(document, error.pointer)
        assert str(error).isprintable()
    else:
        assert isinstance(spec, Spec)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(PLACES), VALUES)
def test_reader_and_schema_agree_on_types(path: tuple[str | int, ...], value: Any) -> None:
    document = put(FULL, path, value)
    by_schema = dict(all_faults(document))

    try:
        parse_config(document)
    except SpecError as error:
        text = error.faults[0][1]
        if ", not " in text or text == "is missing" or text.startswith("must be from"):
            assert error.pointer in by_schema
    else:
        assert by_schema == {}


def value_at(document: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


@pytest.mark.parametrize(
    "path",
    [path for path in PLACES if isinstance(value_at(FULL, path), str) and not {"windows", "username"} & set(path)],
    ids=lambda path: "/".join(map(str, path)),
)
def test_a_nul_in_any_string_is_refused_where_it_is(path: tuple[str | int, ...]) -> None:
    """What is handed to the kernel, or to nsexec, would end there (CVE-2021-43784)."""
    document = put(FULL, path, f"{value_at(FULL, path)}\0")

    with pytest.raises(SpecError) as caught:
        parse_config(document)

    assert value_at(document, path).endswith("\0")
    assert points_into(document, caught.value.pointer)
    assert caught.value.pointer.split("/")[1:2] == [str(path[0])]


def points_into(document: Any, pointer: str) -> bool:
    """Whether a pointer leads to a value of the document, or to a property that one of its objects could have."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    for index, part in enumerate(parts):
        if isinstance(document, list):
            document = document[int(part)]
        elif isinstance(document, dict) and part in document:
            document = document[part]
        else:
            return isinstance(document, dict) and index == len(parts) - 1
    return True
