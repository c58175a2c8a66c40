"""What a container uses: the kernel's files of cgroup v1 and v2, read, and as values.

`read_v1` and `read_v2` read; `v1` and `v2` are pure, text -> values, so they are tested with texts of kernels that are
not at hand. A file that is missing leaves its values as they are in an empty record.
"""

from __future__ import annotations

import posix

from pyocirun.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Set
    from typing import Any

    from pyocirun.cgroup.rdt_stats import RdtStats

    Texts = dict[str, str]
    """What was read, by name of the file."""

NO_LIMIT = (1 << 64) - 1
"""How a limit that is none is shown."""
TICK = 10_000_000
"""Nanoseconds of one of cpuacct.stat's ticks: USER_HZ is 100 on every architecture that is served here."""


class PressureLine(Record):
    """Share of time in percent, over 10, 60 and 300 seconds, and microseconds in all. Documentation/accounting/psi"""

    avg10: float = 0.0
    avg60: float = 0.0
    avg300: float = 0.0
    total: int = 0


class Pressure(Record):
    """some: at least one task waited.  full: all of them did."""

    some: PressureLine = PressureLine()
    full: PressureLine = PressureLine()


class Throttling(Record):
    """periods: that had a limit.  throttled_periods: that reached it.  throttled_time, burst_time: nanoseconds."""

    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0
    burst_periods: int = 0
    burst_time: int = 0


class CpuStats(Record):
    """Times in nanoseconds. percpu*: by processor number, () on cgroup v2.  psi: None where the kernel has none."""

    total: int = 0
    user: int = 0
    kernel: int = 0
    percpu: tuple[int, ...] = ()
    percpu_user: tuple[int, ...] = ()
    percpu_kernel: tuple[int, ...] = ()
    throttling: Throttling = Throttling()
    psi: Pressure | None = None


class CpusetStats(Record):
    """cpus, mems: numbers of processors and nodes that may be used.  The others are files of cgroup v1."""

    cpus: tuple[int, ...] = ()
    mems: tuple[int, ...] = ()
    cpu_exclusive: int = 0
    mem_hardwall: int = 0
    mem_exclusive: int = 0
    memory_migrate: int = 0
    memory_spread_page: int = 0
    memory_spread_slab: int = 0
    memory_pressure: int = 0
    sched_load_balance: int = 0
    sched_relax_domain_level: int = 0


class Counter(Record):
    """Bytes. limit: NO_LIMIT for none.  max: the most that ever was.  failcnt: how often the limit was in the way."""

    usage: int = 0
    max: int = 0
    failcnt: int = 0
    limit: int = 0


class MemoryStats(Record):
    """cache: bytes of files.  swap: memory and swap together, on v2 as well.  raw: memory.stat.

    events: memory.events of v2, and oom_kill on v1.  numa: memory.numa_stat, by line, of "total", "N0", "N1", ...:
    pages on v1, bytes on v2.
    """

    cache: int = 0
    usage: Counter = Counter()
    swap: Counter = Counter()
    swap_only: Counter = Counter()
    kernel: Counter = Counter()
    kernel_tcp: Counter = Counter()
    use_hierarchy: bool = True
    raw: dict[str, int] = {}
    events: dict[str, int] = {}
    numa: dict[str, dict[str, int]] = {}
    psi: Pressure | None = None


class PidsStats(Record):
    """limit: 0 for none."""

    current: int = 0
    limit: int = 0


class BlockEntry(Record):
    """A number about one block device. op: "Read", "Write", "Total", ..., or ""."""

    major: int
    minor: int
    op: str
    value: int


class BlockStats(Record):
    """Lists of BlockEntry, of the cgroup and all below it; cost: of the v2 cost model, by name."""

    service_bytes: tuple[BlockEntry, ...] = ()
    serviced: tuple[BlockEntry, ...] = ()
    queued: tuple[BlockEntry, ...] = ()
    service_time: tuple[BlockEntry, ...] = ()
    wait_time: tuple[BlockEntry, ...] = ()
    merged: tuple[BlockEntry, ...] = ()
    time: tuple[BlockEntry, ...] = ()
    sectors: tuple[BlockEntry, ...] = ()
    cost: dict[str, tuple[BlockEntry, ...]] = {}
    psi: Pressure | None = None


class Stats(Record):
    """All readings of a container. hugetlb: by page size, such as "2MB".  rdma: "current" and "max", by device.

    misc: by resource, "usage" and "events".  rdt: of its resctrl group, None for a container that has none.
    """

    cpu: CpuStats = CpuStats()
    cpuset: CpusetStats = CpusetStats()
    memory: MemoryStats = MemoryStats()
    pids: PidsStats = PidsStats()
    blkio: BlockStats = BlockStats()
    hugetlb: dict[str, Counter] = {}
    rdma: dict[str, dict[str, dict[str, int]]] = {}
    misc: dict[str, dict[str, int]] = {}
    rdt: RdtStats | None = None

    def to_json(self, *, full: bool = False) -> dict[str, Any]:
        """The object that `events --stats` prints: runc's schema, zeros left out where runc leaves them out.

        full: with what runc does not tell.
        """
        shown = {
            "cpu": _cpu_json(self.cpu, full),
            "cpuset": _cpuset_json(self.cpuset),
            "memory": _memory_json(self.memory, full),
            "pids": _filled(current=self.pids.current, limit=self.pids.limit),
            "blkio": _blkio_json(self.blkio, full),
            "hugetlb": {size: _counter_json(counter, limit=False) for size, counter in self.hugetlb.items()},
            "intel_rdt": {} if self.rdt is None else self.rdt.to_json(),
            "network_interfaces": None,
        }
        return {**shown, "rdma": self.rdma, "misc": self.misc} if full else shown


V1_FILES: dict[str, tuple[str, ...]] = {
    "cpuacct": ("cpuacct.usage", "cpuacct.stat", "cpuacct.usage_percpu", "cpuacct.usage_all"),
    "cpu": ("cpu.stat",),
    "cpuset": tuple(f"cpuset.{field}" for field in CpusetStats._fields),
    "memory": (
        *("memory.stat", "memory.numa_stat", "memory.oom_control", "memory.use_hierarchy"),
        *(
            f"memory.{kind}{what}"
            for kind in ("", "memsw.", "kmem.", "kmem.tcp.")
            for what in ("usage_in_bytes", "max_usage_in_bytes", "failcnt", "limit_in_bytes")
        ),
    ),
    "pids": ("pids.current", "pids.max"),
    "rdma": ("rdma.current", "rdma.max"),
}
V2_FILES = (
    *("cpu.stat", "cpu.pressure", "cpuset.cpus.effective", "cpuset.mems.effective"),
    *("memory.stat", "memory.numa_stat", "memory.events", "memory.pressure"),
    *(f"memory.{kind}{what}" for kind in ("", "swap.") for what in ("current", "max", "peak")),
    *("pids.current", "pids.max", "io.stat", "io.pressure"),
    *("rdma.current", "rdma.max", "misc.current", "misc.events"),
)
_NAMES_ON_V2 = {"cpuacct": "cpu", "blkio": "io"}
_LAST_NUMBER = 1 << 16
_LISTED = ("hugetlb.", "blkio.")
"""Their files differ from host to host, so the directory is asked which ones there are."""
_BLOCK_FILES = {
    "service_bytes": "io_service_bytes",
    "serviced": "io_serviced",
    "queued": "io_queued",
    "service_time": "io_service_time",
    "wait_time": "io_wait_time",
    "merged": "io_merged",
    "time": "time",
    "sectors": "sectors",
}


def read_v1(paths: dict[str, str], controllers: Set[str] | None = None) -> Stats:
    """The readings of a container on cgroup v1. paths: controller -> directory.

    controllers: only these, by their names on v2, so "io" is blkio, and "cpu" with cpuacct; None: all.
    Of the v2 part of a hybrid host, "", come pressures and huge pages where v1 has none.
    """
    texts: Texts = {}
    there = {name: path for name, path in paths.items() if _is_of(_NAMES_ON_V2.get(name, name), controllers)}
    for controller, names in V1_FILES.items():
        if directory := there.get(controller):
            _read_into(texts, directory, names)
    for controller in ("hugetlb", "blkio"):
        if directory := there.get(controller):
            _read_into(texts, directory, _listed(directory))
    stats = v1(texts)
    return _with_hybrid(stats, paths[""], controllers) if "" in paths else stats


def read_v2(directory: str, controllers: Set[str] | None = None) -> Stats:
    """The readings of a container on cgroup v2. controllers: only these; None: all."""
    texts: Texts = {}
    names = [name for name in V2_FILES if _is_of(name.partition(".")[0], controllers)]
    _read_into(texts, directory, names + (_listed(directory) if _is_of("hugetlb", controllers) else []))
    return v2(texts)


def v1(texts: Texts) -> Stats:
    """What files of cgroup v1 say. Documentation/admin-guide/cgroup-v1 of the kernel."""
    return Stats(
        cpu=_cpu_v1(texts),
        cpuset=_cpuset_v1(texts),
        memory=_memory_v1(texts),
        pids=_pids(texts),
        blkio=_blkio_v1(texts),
        hugetlb=_hugetlb_v1(texts),
        rdma=_rdma(texts),
    )


def v2(texts: Texts) -> Stats:
    """What files of cgroup v2 say. Documentation/admin-guide/cgroup-v2.rst of the kernel"""
    return Stats(
        cpu=_cpu_v2(texts),
        cpuset=CpusetStats(_numbers(texts, "cpuset.cpus.effective"), _numbers(texts, "cpuset.mems.effective")),
        memory=_memory_v2(texts),
        pids=_pids(texts),
        blkio=_io_v2(texts),
        hugetlb=_hugetlb_v2(texts),
        rdma=_rdma(texts),
        misc=_misc_v2(texts),
    )


def least_memory(stats: Stats) -> int:
    """Bytes that the cgroup cannot do without as it is: of programs and of the kernel; what is cached can be freed."""
    raw, kernel = stats.memory.raw, stats.memory.kernel.usage
    if "anon" in raw:
        return raw["anon"] + max(0, raw.get("kernel", 0) - raw.get("slab_reclaimable", 0))
    return raw.get("total_rss", 0) + raw.get("total_unevictable", 0) + kernel


def pressure(text: str | None) -> Pressure | None:
    """What a *.pressure file says; None if there is no such file, or none that can be read."""
    lines: dict[str, PressureLine] = {}
    for name, *items in _rows(text or ""):
        values = dict(item.partition("=")[::2] for item in items)
        avg10, avg60, avg300 = [float(values.get(key, "0")) for key in ("avg10", "avg60", "avg300")]
        lines[name] = PressureLine(avg10, avg60, avg300, int(values.get("total", "0")))
    return Pressure(lines.get("some", PressureLine()), lines.get("full", PressureLine())) if lines else None


def key_values(text: str | None) -> dict[str, int]:
    """Lines of a word and a number, as a dict; other lines are passed over."""
    found = {}
    for words in _rows(text or ""):
        if len(words) == 2 and words[1].isdigit():
            found[words[0]] = int(words[1])
    return found


# ---- reading -------------------------------------------------------------------------------------


def _listed(directory: str) -> list[str]:
    try:
        return [name for name in posix.listdir(directory) if name.startswith(_LISTED)]
    except OSError:
        return []


def _read_into(texts: Texts, directory: str, names: Iterable[str]) -> None:
    """A file that is missing, or cannot be read now (PSI switched off, a cgroup just removed), is left out."""
    for name in names:
        try:
            fd = posix.open(f"{directory}/{name}", posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:
            continue
        try:
            parts = []
            while part := posix.read(fd, 1 << 16):
                parts.append(part)
            texts[name] = b"".join(parts).decode("utf-8", "replace")
        except OSError:
            continue
        finally:
            posix.close(fd)


def _is_of(name: str, controllers: Set[str] | None) -> bool:
    return controllers is None or name in controllers


def _with_hybrid(stats: Stats, directory: str, controllers: Set[str] | None) -> Stats:
    from pyocirun.record import replace

    other = read_v2(directory, controllers)
    return replace(
        stats,
        cpu=replace(stats.cpu, psi=other.cpu.psi),
        memory=replace(stats.memory, psi=other.memory.psi),
        blkio=replace(stats.blkio, psi=other.blkio.psi),
        hugetlb=stats.hugetlb or other.hugetlb,
        misc=other.misc,
    )


# ---- cgroup v1 -----------------------------------------------------------------------------------


def _cpu_v1(texts: Texts) -> CpuStats:
    ticks = key_values(texts.get("cpuacct.stat"))
    stat = key_values(texts.get("cpu.stat"))
    rows = _rows(texts.get("cpuacct.usage_all", ""))[1:]
    return CpuStats(
        total=_number(texts, "cpuacct.usage"),
        user=ticks.get("user", 0) * TICK,
        kernel=ticks.get("system", 0) * TICK,
        percpu=tuple(_value(word) for word in texts.get("cpuacct.usage_percpu", "").split()),
        percpu_user=tuple(_value(row[1]) for row in rows if len(row) > 2),
        percpu_kernel=tuple(_value(row[2]) for row in rows if len(row) > 2),
        throttling=Throttling(
            stat.get("nr_periods", 0),
            stat.get("nr_throttled", 0),
            stat.get("throttled_time", 0),
            stat.get("nr_bursts", 0),
            stat.get("burst_time", 0),
        ),
    )


def _cpuset_v1(texts: Texts) -> CpusetStats:
    flags = {field: _signed(texts, f"cpuset.{field}") for field in CpusetStats._fields[2:]}
    return CpusetStats(_numbers(texts, "cpuset.cpus"), _numbers(texts, "cpuset.mems"), **flags)


def _memory_v1(texts: Texts) -> MemoryStats:
    raw = key_values(texts.get("memory.stat"))
    usage, swap = _counter_v1(texts, "memory."), _counter_v1(texts, "memory.memsw.")
    swap_only = Counter(max(0, swap.usage - usage.usage), 0, max(0, swap.failcnt - usage.failcnt))
    return MemoryStats(
        cache=raw.get("cache", 0),
        usage=usage,
        swap=swap,
        swap_only=swap_only if "memory.memsw.usage_in_bytes" in texts else Counter(),
        kernel=_counter_v1(texts, "memory.kmem."),
        kernel_tcp=_counter_v1(texts, "memory.kmem.tcp."),
        use_hierarchy=_number(texts, "memory.use_hierarchy", 1) == 1,
        raw=raw,
        events={
            name: count for name, count in key_values(texts.get("memory.oom_control")).items() if name == "oom_kill"
        },
        numa=_numa(texts),
    )


def _counter_v1(texts: Texts, prefix: str) -> Counter:
    return Counter(
        _number(texts, f"{prefix}usage_in_bytes"),
        _number(texts, f"{prefix}max_usage_in_bytes"),
        _number(texts, f"{prefix}failcnt"),
        _number(texts, f"{prefix}limit_in_bytes"),
    )


def _blkio_v1(texts: Texts) -> BlockStats:
    """Who counts depends on the I/O scheduler: BFQ, CFQ before Linux 5.0, and the throttle only where it acts."""
    found: dict[str, Any] = {}
    for field, name in _BLOCK_FILES.items():
        for candidate in (
            f"blkio.bfq.{name}_recursive",
            f"blkio.{name}_recursive",
            f"blkio.throttle.{name}_recursive",
            f"blkio.throttle.{name}",
        ):
            if entries := _block_entries(texts.get(candidate, "")):
                found[field] = entries
                break
    return BlockStats(**found)


def _block_entries(text: str) -> tuple[BlockEntry, ...]:
    """Lines such as "8:0 Read 4096" and "8:0 12"; the sum in the last line is left out."""
    entries = []
    for device, *words in _rows(text):
        major, _, minor = device.partition(":")
        if major.isdigit() and minor.isdigit() and words and words[-1].isdigit():
            entries.append(BlockEntry(int(major), int(minor), words[0] if len(words) > 1 else "", int(words[-1])))
    return tuple(entries)


def _hugetlb_v1(texts: Texts) -> dict[str, Counter]:
    found = {}
    for name in texts:
        if name.startswith("hugetlb.") and name.endswith("usage_in_bytes") and "max_usage" not in name:
            size = name.split(".")[1]
            # Reservations, where the kernel counts them, are what a container is limited by.
            rsvd = f"hugetlb.{size}.rsvd."
            found[size] = _counter_v1(texts, rsvd if f"{rsvd}usage_in_bytes" in texts else f"hugetlb.{size}.")
    return found


# ---- cgroup v2 -----------------------------------------------------------------------------------


def _cpu_v2(texts: Texts) -> CpuStats:
    stat = key_values(texts.get("cpu.stat"))
    return CpuStats(
        total=stat.get("usage_usec", 0) * 1000,
        user=stat.get("user_usec", 0) * 1000,
        kernel=stat.get("system_usec", 0) * 1000,
        throttling=Throttling(
            stat.get("nr_periods", 0),
            stat.get("nr_throttled", 0),
            stat.get("throttled_usec", 0) * 1000,
            stat.get("nr_bursts", 0),
            stat.get("burst_usec", 0) * 1000,
        ),
        psi=pressure(texts.get("cpu.pressure")),
    )


def _memory_v2(texts: Texts) -> MemoryStats:
    """swap is memory and swap together, as on v1; its greatest value cannot be known and is 0."""
    raw = key_values(texts.get("memory.stat"))
    usage, swap_only = _counter_v2(texts, "memory."), _counter_v2(texts, "memory.swap.")
    limit = NO_LIMIT if NO_LIMIT in (swap_only.limit, usage.limit) else swap_only.limit + usage.limit
    return MemoryStats(
        cache=raw.get("file", 0),
        usage=usage,
        swap=Counter(usage.usage + swap_only.usage, 0, 0, limit),
        swap_only=swap_only,
        raw=raw,
        events=key_values(texts.get("memory.events")),
        numa=_numa(texts),
        psi=pressure(texts.get("memory.pressure")),
    )


def _counter_v2(texts: Texts, prefix: str) -> Counter:
    usage, peak, limit = [_number(texts, prefix + what) for what in ("current", "peak", "max")]
    return Counter(usage, peak, 0, limit)


def _io_v2(texts: Texts) -> BlockStats:
    """Lines such as "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 cost.usage=7"."""
    bytes_: list[BlockEntry] = []
    count: list[BlockEntry] = []
    cost: dict[str, list[BlockEntry]] = {}
    places = {"rbytes": (bytes_, "Read"), "wbytes": (bytes_, "Write"), "dbytes": (bytes_, "Discard")}
    places |= {"rios": (count, "Read"), "wios": (count, "Write"), "dios": (count, "Discard")}
    for device, *items in _rows(texts.get("io.stat", "")):
        major, _, minor = device.partition(":")
        if not (major.isdigit() and minor.isdigit()):
            continue
        for item in items:
            name, _, value = item.partition("=")
            if not value.isdigit():
                continue
            if name.startswith("cost."):
                place, op = cost.setdefault(name[5:], []), "Count"
            elif name in places:
                place, op = places[name]
            else:
                continue
            place.append(BlockEntry(int(major), int(minor), op, int(value)))
    return BlockStats(
        service_bytes=tuple(bytes_),
        serviced=tuple(count),
        cost={name: tuple(entries) for name, entries in cost.items()},
        psi=pressure(texts.get("io.pressure")),
    )


def _hugetlb_v2(texts: Texts) -> dict[str, Counter]:
    found = {}
    for name in texts:
        if name.startswith("hugetlb.") and name.endswith(".current"):
            size = name.split(".")[1]
            rsvd = f"hugetlb.{size}.rsvd."
            prefix = rsvd if f"{rsvd}current" in texts else f"hugetlb.{size}."
            events = key_values(texts.get(f"hugetlb.{size}.events"))
            limit = _number(texts, f"{prefix}max")
            found[size] = Counter(_number(texts, f"{prefix}current"), 0, events.get("max", 0), limit)
    return found


def _misc_v2(texts: Texts) -> dict[str, dict[str, int]]:
    usage = key_values(texts.get("misc.current"))
    events = key_values(texts.get("misc.events"))
    return {name: {"usage": value, "events": events.get(f"{name}.max", 0)} for name, value in usage.items()}


# ---- both ----------------------------------------------------------------------------------------


def _pids(texts: Texts) -> PidsStats:
    limit = _number(texts, "pids.max")
    return PidsStats(_number(texts, "pids.current"), 0 if limit == NO_LIMIT else limit)


def _rdma(texts: Texts) -> dict[str, dict[str, dict[str, int]]]:
    """Lines such as "mlx4_0 hca_handle=2 hca_object=max"."""
    found = {}
    for what in ("current", "max"):
        devices = {}
        for device, *items in _rows(texts.get(f"rdma.{what}", "")):
            devices[device] = {name: _value(value) for name, _, value in (item.partition("=") for item in items)}
        if devices:
            found[what] = devices
    return found


def _numa(texts: Texts) -> dict[str, dict[str, int]]:
    """v1: "total=12 N0=12".  v2: "anon N0=49152"."""
    found = {}
    for first, *rest in _rows(texts.get("memory.numa_stat", "")):
        name, _, total = first.partition("=")
        nodes = dict(word.partition("=")[::2] for word in rest)
        found[name] = {key: int(value) for key, value in {"total": total, **nodes}.items() if value.isdigit()}
    return found


def _rows(text: str) -> list[list[str]]:
    """The words of each line that has any."""
    return [words for line in text.splitlines() if (words := line.split())]


def _number(texts: Texts, name: str, missing: int = 0) -> int:
    return _value(texts[name].strip(), missing) if name in texts else missing


def _signed(texts: Texts, name: str) -> int:
    text = texts.get(name, "").strip()
    return -int(text[1:]) if text[:1] == "-" and text[1:].isdigit() else _value(text)


def _value(text: str, missing: int = 0) -> int:
    return NO_LIMIT if text == "max" else int(text) if text.isdigit() else missing


def _numbers(texts: Texts, name: str) -> tuple[int, ...]:
    """The numbers of a list such as "0-2,7"."""
    found: list[int] = []
    for part in texts.get(name, "").strip().split(","):
        first, _, last = part.partition("-")
        last = last or first
        if first.isdigit() and last.isdigit() and int(last) <= _LAST_NUMBER:
            found += range(int(first), int(last) + 1)
    return tuple(found)


# ---- JSON ----------------------------------------------------------------------------------------


def _filled(**members: Any) -> dict[str, Any]:
    """Those members that are not 0 or empty."""
    return {name: value for name, value in members.items() if value}


def _cpu_json(cpu: CpuStats, full: bool) -> dict[str, Any]:
    times = _filled(
        total=cpu.total,
        percpu=list(cpu.percpu),
        percpu_kernel=list(cpu.percpu_kernel),
        percpu_user=list(cpu.percpu_user),
    )
    throttling = cpu.throttling
    shown: dict[str, Any] = {
        "usage": {**times, "kernel": cpu.kernel, "user": cpu.user},
        "throttling": _filled(
            periods=throttling.periods,
            throttledPeriods=throttling.throttled_periods,
            throttledTime=throttling.throttled_time,
        ),
    }
    if full:
        shown["burst"] = {"periods": throttling.burst_periods, "time": throttling.burst_time}
    return {**shown, **_psi_json(cpu.psi)}


def _cpuset_json(cpuset: CpusetStats) -> dict[str, Any]:
    flags = {field: getattr(cpuset, field) for field in CpusetStats._fields[2:]}
    return {**_filled(cpus=list(cpuset.cpus), mems=list(cpuset.mems)), **flags}


def _memory_json(memory: MemoryStats, full: bool) -> dict[str, Any]:
    shown = _filled(cache=memory.cache)
    shown["usage"] = _counter_json(memory.usage)
    shown["swap"] = _counter_json(memory.swap)
    shown["kernel"] = _counter_json(memory.kernel)
    shown["kernelTCP"] = _counter_json(memory.kernel_tcp)
    shown |= _filled(raw=memory.raw)
    if full:
        shown["swapOnly"] = _counter_json(memory.swap_only)
        shown |= {"events": memory.events, "numa": memory.numa, "useHierarchy": memory.use_hierarchy}
    return {**shown, **_psi_json(memory.psi)}


def _counter_json(counter: Counter, *, limit: bool = True) -> dict[str, int]:
    shown = {"limit": counter.limit} if limit else {}
    return {**shown, **_filled(usage=counter.usage, max=counter.max), "failcnt": counter.failcnt}


def _blkio_json(blkio: BlockStats, full: bool) -> dict[str, Any]:
    shown = _filled(
        ioServiceBytesRecursive=_entries_json(blkio.service_bytes),
        ioServicedRecursive=_entries_json(blkio.serviced),
        ioQueueRecursive=_entries_json(blkio.queued),
        ioServiceTimeRecursive=_entries_json(blkio.service_time),
        ioWaitTimeRecursive=_entries_json(blkio.wait_time),
        ioMergedRecursive=_entries_json(blkio.merged),
        ioTimeRecursive=_entries_json(blkio.time),
        sectorsRecursive=_entries_json(blkio.sectors),
    )
    if full:
        shown["cost"] = {name: _entries_json(entries) for name, entries in blkio.cost.items()}
    return {**shown, **_psi_json(blkio.psi)}


def _entries_json(entries: tuple[BlockEntry, ...]) -> list[dict[str, Any]]:
    return [_filled(major=one.major, minor=one.minor, op=one.op, value=one.value) for one in entries]


def _psi_json(psi: Pressure | None) -> dict[str, Any]:
    if psi is None:
        return {}
    return {"psi": {"some": _line_json(psi.some), "full": _line_json(psi.full)}}


def _line_json(line: PressureLine) -> dict[str, float]:
    return {"avg10": line.avg10, "avg60": line.avg60, "avg300": line.avg300, "total": line.total}
