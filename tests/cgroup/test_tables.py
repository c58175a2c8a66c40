"""What holds for any limits in the tables of cgroup v1, of v2 and of systemd: what is not asked for is not touched, no
limit is another thing than none named, and the same once more changes nothing.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyocirun.cgroup import v1, v2
from pyocirun.cgroup.properties import INFINITY, changes
from pyocirun.spec.resources import CPU, Memory, Pids, Resources

NAMED = st.none() | st.sampled_from([-1, 0]) | st.integers(1 << 12, 1 << 40)
CPUS = st.builds(
    CPU,
    shares=st.none() | st.integers(2, 262144),
    quota=st.none() | st.sampled_from([-1, 0]) | st.integers(1000, 1 << 30),
    period=st.none() | st.integers(1000, 1000000),
    burst=st.none() | st.integers(0, 1 << 20),
    idle=st.none() | st.integers(0, 1),
)
IN_FORCE = st.tuples(st.just("max") | st.integers(1000, 1 << 30).map(str), st.integers(1000, 1000000))


@st.composite
def limits(draw: st.DrawFn) -> Resources:
    limit = draw(NAMED)
    swap = draw(st.none() | st.just(-1))
    if limit is not None and limit > 0 and draw(st.booleans()):
        swap = limit + draw(st.integers(0, 1 << 40))
    return Resources(
        memory=Memory(limit=limit, swap=swap, reservation=draw(NAMED)), cpu=draw(CPUS), pids=Pids(limit=draw(NAMED))
    )


def written(writes: list[v1.Write]) -> dict[str, str]:
    """What the files say afterwards."""
    return {write.file: write.value for write in writes}


def shown(limit: int | None, none: str) -> str | None:
    """What a file gets: nothing for what is not named, the word for no limit, the number."""
    return None if not limit else none if limit == -1 else str(limit)


@given(limits(), st.none() | st.builds(v1.Now, memory_limit=st.integers(1 << 12, 1 << 40)))
def test_v1_touches_what_is_named_and_minus_one_is_no_limit(resources: Resources, now: v1.Now | None) -> None:
    memory, cpu, pids = resources.memory, resources.cpu, resources.pids
    assert memory is not None and cpu is not None and pids is not None

    files = written(v1.writes(resources, now, devices=False))

    assert files.get("memory.limit_in_bytes") == shown(memory.limit, "-1")
    assert files.get("memory.soft_limit_in_bytes") == shown(memory.reservation, "-1")
    assert files.get("memory.memsw.limit_in_bytes") == shown(memory.swap or (-1 if memory.limit == -1 else None), "-1")
    assert files.get("cpu.cfs_quota_us") == shown(cpu.quota, "-1")
    assert files.get("cpu.cfs_period_us") == shown(cpu.period, "")
    assert files.get("cpu.shares") == shown(cpu.shares, "")
    assert files.get("pids.max") == ("1" if pids.limit == 0 else shown(pids.limit, "max"))
    assert ("cpu.idle" in files, "cpu.cfs_burst_us" in files) == (cpu.idle is not None, cpu.burst is not None)


@given(limits())
def test_systemd_is_told_what_is_named_and_minus_one_is_infinity(resources: Resources) -> None:
    memory, cpu, pids = resources.memory, resources.cpu, resources.pids
    assert memory is not None and cpu is not None and pids is not None

    told = {each.name: each.value for each in changes(resources, 257, unified=True, devices=False)}

    for name, limit in (("MemoryMax", memory.limit), ("MemoryLow", memory.reservation)):
        assert told.get(name) == ((INFINITY if limit == -1 else limit) if limit else None)
    assert ("TasksMax" in told) == (pids.limit is not None)
    assert (told.get("TasksMax") == INFINITY) == (pids.limit == -1)
    assert ("CPUQuotaPerSecUSec" in told) == bool(cpu.quota or cpu.period)
    assert ("CPUWeight" in told) == bool(cpu.shares or cpu.idle)


@given(limits(), st.integers(1 << 12, 1 << 40))
def test_the_same_update_twice_leaves_v1_as_it_was(resources: Resources, limit: int) -> None:
    once = written(v1.writes(resources, v1.Now(memory_limit=limit), devices=False))

    in_force = int(once.get("memory.limit_in_bytes", limit))
    again = v1.writes(resources, v1.Now(memory_limit=in_force if in_force > 0 else 1 << 62), devices=False)

    assert once | written(again) == once


@given(limits(), IN_FORCE)
def test_the_same_update_twice_leaves_v2_and_the_unit_as_they_were(
    resources: Resources, in_force: tuple[str, int]
) -> None:
    before = f"{in_force[0]} {in_force[1]}"

    first = v2.complete(resources, before)
    once = written(v2.writes(first))
    second = v2.complete(resources, once.get("cpu.max", before))

    assert written(v2.writes(second)) == once
    told = [changes(each, 257, unified=True, devices=False) for each in (first, second)]
    assert told[0] == told[1]
