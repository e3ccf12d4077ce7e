"""Every fault in a random order, one after the other, on workers under load while an old transaction stays open.

FAULTS_ROUNDS and FAULTS_SECONDS bound it, FAULTS_SEED repeats an order that was printed.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from tests.jobs.faults.conftest import Durable
from tests.jobs.faults.fleet import Fleet, Process, stopped
from tests.jobs.faults.wire import CLAIM, SETTLE, Wire, wire
from tests.jobs.faults.worker import Deaf, Step
from tests.support.waiting import until

pytestmark = pytest.mark.sweep
ROUNDS = int(os.environ.get("FAULTS_ROUNDS", "60"))
SECONDS = float(os.environ.get("FAULTS_SECONDS", "240"))
LOAD = [Step(seconds=0.01), Step("parent"), Step(), Step(seconds=0.3)]
WORKERS = 3
_BETWEEN_SECONDS = 0.1


class Sweep:
    """One run: its workers reach the database over *line* only."""

    def __init__(self, fleet: Fleet, durable: Durable, line: Wire, chance: random.Random) -> None:
        self.fleet, self.durable, self.line, self.chance = fleet, durable, line, chance
        self.alive: list[Process] = []
        self._started = 0
        self._old: psycopg.Connection[Any] | None = None

    def keep_open(self) -> None:
        """Have a transaction open that is as old as it can be: since the last crash."""
        if self._old is None or self._old.closed:
            self._old = self.fleet.database.admin()
            self._old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        try:
            self._old.execute("SELECT count(*) FROM jobs.queues")
        except psycopg.OperationalError:
            self._old.close()
            self.keep_open()

    def close(self) -> None:
        """End what is left of it."""
        if self._old is not None:
            self._old.close()
        self.fleet.kill_all()

    async def add(self) -> None:
        """One more worker, with any clock."""
        self._started += 1
        ahead = self.chance.choice([0.0, 0.0, 7 * 3600.0, -7 * 3600.0])
        self.alive += await self.fleet.start(f"w{self._started}", ahead_seconds=ahead, ticks=True, pooler=True)

    def _one(self) -> Process:
        return self.chance.choice(self.alive)

    async def kill(self) -> None:
        doomed = self._one()
        self.alive.remove(doomed)
        doomed.kill()
        await self.add()

    async def replace(self) -> None:
        old = self._one()
        self.alive.remove(old)
        old.signal(signal.SIGTERM)
        await self.add()
        assert await old.ends() == 0

    async def stop_for_long(self) -> None:
        with stopped(self._one()):
            await self._later(self.chance.uniform(1.0, 2.5) * self.fleet.dead_seconds)

    async def block(self) -> None:
        await self.fleet.put(Step("block", seconds=self.chance.uniform(0.5, 2.0) * self.fleet.dead_seconds))

    async def ignore(self) -> None:
        [job] = await self.fleet.put(Deaf())
        await eventually(lambda: self._ended(job), "the run of a job that another worker cannot end")
        for process in self.alive:
            process.signal(signal.SIGUSR2)

    def _ended(self, job: str) -> bool:
        return any(process.said("end", job) for process in self.fleet.processes)

    async def cut_connections(self) -> None:
        self.fleet.cut_connections()

    async def cut_at(self) -> None:
        self.line.was_cut.clear()
        self.line.cut(self.chance.choice([CLAIM, SETTLE]), after_commit=self.chance.random() < 0.7)
        async with asyncio.timeout(20):
            await self.line.was_cut.wait()

    async def crash(self) -> None:
        self.durable.crash()
        await self._later(self.chance.choice([0.0, 0.5, 1.5]) * self.fleet.dead_seconds)
        self.durable.recover()

    async def refuse(self) -> None:
        refuse, relent = self.chance.choice(
            [
                ("ALTER ROLE holdfast_files CONNECTION LIMIT 0", "ALTER ROLE holdfast_files CONNECTION LIMIT -1"),
                ("REVOKE DELETE ON jobs.ready FROM holdfast_files", "GRANT DELETE ON jobs.ready TO holdfast_files"),
                ("REVOKE INSERT ON jobs.history FROM holdfast_files", "GRANT INSERT ON jobs.history TO holdfast_files"),
            ]
        )
        self.fleet.as_owner(refuse)
        await self._later(self.chance.uniform(0.2, 1.5) * self.fleet.dead_seconds)
        self.fleet.as_owner(relent)

    async def _later(self, seconds: float) -> None:
        # How long a fault lasts; nothing is waited for here.
        await asyncio.sleep(seconds)


FAULTS = [
    Sweep.kill, Sweep.replace, Sweep.stop_for_long, Sweep.block, Sweep.ignore, Sweep.cut_connections, Sweep.cut_at,
    Sweep.crash, Sweep.refuse,
]  # fmt: skip


@asynccontextmanager
async def sweeping(fleet: Fleet, durable: Durable, chance: random.Random) -> AsyncIterator[Sweep]:
    cluster = durable.database.cluster
    async with wire(cluster.socket_dir, cluster.port) as line:
        fleet.login = replace(durable.database.login("files"), database_host=str(line.directory))
        sweep = Sweep(fleet, durable, line, chance)
        for _ in range(WORKERS):
            await sweep.add()
        try:
            yield sweep
        finally:
            sweep.close()


async def progress(fleet: Fleet, jobs: int = 20) -> None:
    before = fleet.recorder.finished()
    await eventually(lambda: fleet.recorder.finished() >= before + jobs, "progress after the fault")


async def eventually(condition: Callable[[], bool], what: str) -> None:
    """As until, on a machine that does much else: several faults' ends may fall into one wait."""
    for _ in range(3):
        with suppress(AssertionError):
            await until(condition, what)
            return
    raise AssertionError(f"{what} did not happen")


async def test_a_deployment_during_an_outage_ends_and_loses_nothing(durable_fleet: Fleet, durable: Durable) -> None:
    old = await durable_fleet.start("old1", "old2", drain_seconds=1.0)
    jobs = await durable_fleet.put(*[Step("hold")] * 6)
    for process in old:
        await process.says("begin", times=2)
    durable.crash()
    for process in old:
        process.signal(signal.SIGTERM)
    assert [await process.ends() for process in old] == [0, 0]
    durable.recover()
    [new] = await durable_fleet.start("new", concurrency=8)
    await new.says("begin", times=6)
    new.let_go()
    history = await durable_fleet.finish()
    assert all(history.began(job)[-1][0] == "new" for job in jobs)


@pytest.mark.control("J1", "any faults in any order lose no job and finish none twice")
@pytest.mark.control("J2", "periodic jobs never double")
async def test_any_faults_in_any_order_lose_no_job_and_finish_none_twice(
    durable_fleet: Fleet, durable: Durable
) -> None:
    seed = int(os.environ.get("FAULTS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
    chance, until_time = random.Random(seed), time.monotonic() + SECONDS
    print(f"\nfaults of the job queue: FAULTS_SEED={seed}, at most {ROUNDS} rounds and {SECONDS:g} s")
    done: list[str] = []
    async with AsyncExitStack() as stack:
        sweep = await stack.enter_async_context(sweeping(durable_fleet, durable, chance))
        stop = asyncio.Event()
        producing = asyncio.create_task(durable_fleet.produce(stop, LOAD, _BETWEEN_SECONDS))
        await progress(durable_fleet)
        bag: list[int] = []
        while len(done) < ROUNDS and time.monotonic() < until_time:
            bag = bag or chance.sample(range(len(FAULTS)), len(FAULTS))
            sweep.keep_open()
            fault, began = FAULTS[bag.pop()], time.monotonic()
            done.append(fault.__name__)
            await fault(sweep)
            await progress(durable_fleet)
            durable_fleet.judge()
            print(f"{len(done):3} {fault.__name__}: {time.monotonic() - began:.1f} s", flush=True)
        stop.set()
        await producing
        history = await durable_fleet.settle()
    dead = [job for job, left in history.left.items() if left.state == "dead"]
    print(f"{len(done)} faults, {len(history.put())} jobs, {len(history.ticks)} ticks, {len(dead)} dead letters")
    assert len(history.finished()) + len(dead) >= len(history.put()) + len(history.ticks)
    assert len(dead) < len(history.put()) / 100
