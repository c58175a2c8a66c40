"""The library in asyncio tasks and `with` blocks: whatever happens, nothing is left."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.harness import PATIENCE, Bundle, only, requires
from pyocirun import Container, ContainerNotExist, Error, Factory

pytestmark = [requires("root"), only("pyocirun")]


class Runner:
    """Runs the probe in containers of a factory."""

    def __init__(self, place: Path, bundle: Bundle) -> None:
        self.factory = Factory(str(place / "root"))
        self.bundle = bundle
        self.id = f"aio{os.getpid()}-{place.name}"

    def wishes(self, *args: str) -> dict[str, Any]:
        self.bundle.args(*(args or ("sleep", "60"))).save()
        return {"bundle": str(self.bundle.path)}

    def exists(self) -> bool:
        try:
            self.factory.load(self.id)
        except ContainerNotExist:
            return False
        return True


@pytest.fixture
def runner(place: Path, bundle: Bundle) -> Iterator[Runner]:
    runner = Runner(place, bundle)
    yield runner
    assert not runner.exists()


def test_a_with_block_deletes_a_container_that_runs(runner: Runner) -> None:
    with runner.factory.run(runner.id, **runner.wishes()) as container:
        status = container.status

    assert status == "running"
    assert not runner.exists()


def test_a_with_block_deletes_a_container_after_an_error(runner: Runner) -> None:
    with pytest.raises(ZeroDivisionError), runner.factory.run(runner.id, **runner.wishes()):
        _ = 1 // 0

    assert not runner.exists()


def test_a_with_block_may_delete_the_container_itself(runner: Runner) -> None:
    with runner.factory.run(runner.id, **runner.wishes("exit", "3")) as container:
        status = container.wait(10 * PATIENCE)
        container.delete()

    assert status == 3


def test_what_does_not_start_is_deleted(runner: Runner) -> None:
    wishes = runner.wishes()
    runner.bundle.config["hooks"] = {"startContainer": [{"path": "/no/such/hook"}]}
    runner.bundle.save()

    with pytest.raises(Error):
        runner.factory.run(runner.id, **wishes)

    assert not runner.exists()


def test_a_task_waits_for_a_container_while_others_run(runner: Runner) -> None:
    async def main() -> tuple[int, int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        async with await runner.factory.run_async(runner.id, **runner.wishes("exit", "7")) as container:
            ticker = asyncio.create_task(tick())
            status = await container.wait_async(10)
            await asyncio.sleep(0.05)
            ticker.cancel()
        return status, ticks

    status, ticks = asyncio.run(main())

    assert status == 7
    assert ticks > 0


def test_a_task_waits_for_a_process_of_exec(runner: Runner) -> None:
    async def main() -> int:
        async with await runner.factory.run_async(runner.id, **runner.wishes()) as container:
            return await container.exec(args=["/bin/probe", "exit", "5"]).wait_async(10)

    assert asyncio.run(main()) == 5


def test_waiting_gives_up_after_its_timeout(runner: Runner) -> None:
    async def main() -> None:
        async with await runner.factory.run_async(runner.id, **runner.wishes()) as container:
            await container.wait_async(0.1)

    with pytest.raises(TimeoutError):
        asyncio.run(main())


def test_a_cancelled_task_leaves_nothing(runner: Runner) -> None:
    async def work(started: asyncio.Event) -> None:
        async with await runner.factory.run_async(runner.id, **runner.wishes()) as container:
            started.set()
            await container.wait_async()

    async def main() -> bool:
        started = asyncio.Event()
        task = asyncio.create_task(work(started))
        await started.wait()
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return True
        return False

    assert asyncio.run(main())
    assert not runner.exists()


def test_a_task_that_is_cancelled_while_it_creates_leaves_nothing(runner: Runner) -> None:
    async def main() -> bool:
        task = asyncio.create_task(runner.factory.run_async(runner.id, **runner.wishes()))
        await asyncio.sleep(0.001)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return True
        return False

    assert asyncio.run(main())
    assert not runner.exists()


def test_ten_containers_run_in_ten_tasks(runner: Runner) -> None:
    async def one(number: int) -> int:
        wishes = runner.wishes("exit", "4")
        async with await runner.factory.run_async(f"{runner.id}-{number}", **wishes) as container:
            return await container.wait_async(30)

    async def main() -> list[int]:
        return await asyncio.gather(*(one(number) for number in range(10)))

    assert asyncio.run(main()) == [4] * 10
    assert runner.factory.list() == []


def test_a_container_is_its_own_context(runner: Runner) -> None:
    container = runner.factory.create(runner.id, **runner.wishes())

    with container as same:
        assert same is container

    assert isinstance(container, Container)
    assert not runner.exists()
