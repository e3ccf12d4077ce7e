"""What the program of each queue is asked and answers, so that all are measured by the same code.

Standard library only: it is imported in environments that hold nothing of Holdfast. The database is named by PGHOST,
PGPORT, PGDATABASE, PGUSER and PGPASSWORD. A job's one argument is the moment it was sent, by the clock that all
processes of this machine share (CLOCK_MONOTONIC).

schema         make the queue's tables
put N          put N jobs as fast as the queue can; answers {"seconds"}
drain N S      run one worker until N jobs that are there are finished durably, or for S seconds; answers {"seconds"
               since its start, "first": seconds until its first job began, "handled", "cpu": its processor seconds}
produce R S    put R jobs a second for S seconds, a group each 20 ms; answers {"sent", "seconds"}
one N          put N jobs, one at a time, each on an idle queue; answers {"sent"}
consume N S    run one worker; says "ready", runs N jobs, for S seconds at most; answers {"p50", "p95": seconds from
               sent to its handler, "handled"}; the first tenth is not counted
"""

import asyncio
import gc
import json
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

TICK_SECONDS = 0.02
ASK_SECONDS = 0.005
IDLE_SECONDS = (0.15, 0.35)

Handle = Callable[[float], None]
"""Called by the queue's handler, in the event loop's thread, with the job's argument."""


class Queue(Protocol):
    """One queue library, set up as its own documentation advises for throughput."""

    def producer(self) -> AbstractAsyncContextManager[Callable[[Sequence[float]], Awaitable[None]]]:
        """A connected producer: called with the arguments of jobs, it returns once they are durable."""
        ...

    def worker(self, handle: Handle) -> AbstractAsyncContextManager[Callable[[int], Awaitable[None]]]:
        """A running worker: called with N once N jobs were handled, it returns when all N are finished durably."""
        ...


class Count:
    """Counts handled jobs and notes how long each was on its way."""

    def __init__(self, wanted: int) -> None:
        self.wanted, self.handled = wanted, 0
        self.first = 0.0
        self.latencies: list[float] = []
        self._reached = asyncio.Event()

    def handle(self, sent: float) -> None:
        """One more."""
        at = time.monotonic()
        self.first = self.first or at
        self.handled += 1
        self.latencies.append(at - sent)
        if self.handled == self.wanted:
            self._reached.set()

    async def within(self, seconds: float) -> bool:
        """Whether all were handled in that time."""
        try:
            async with asyncio.timeout(seconds):
                await self._reached.wait()
        except TimeoutError:
            return False
        return True


async def put(queue: Queue, jobs: float) -> dict[str, Any]:
    """See the module."""
    async with queue.producer() as send:
        began = time.monotonic()
        await send([began] * int(jobs))
        return {"seconds": time.monotonic() - began}


async def drain(queue: Queue, jobs: float, seconds: float) -> dict[str, Any]:
    """See the module."""
    count = Count(int(jobs))
    began, spent = time.monotonic(), time.process_time()
    async with queue.worker(count.handle) as settled:
        if await count.within(seconds):
            await settled(count.wanted)
        taken, handled, cpu = time.monotonic() - began, count.handled, time.process_time() - spent
    return {"seconds": taken, "first": count.first - began, "handled": handled, "cpu": cpu}


async def produce(queue: Queue, rate: float, seconds: float) -> dict[str, Any]:
    """See the module."""
    group, sent = max(1, round(rate * TICK_SECONDS)), 0
    async with queue.producer() as send:
        began = time.monotonic()
        while sent < rate * seconds:
            await asyncio.sleep(began + sent / rate - time.monotonic())
            await send([time.monotonic()] * group)
            sent += group
        return {"sent": sent, "seconds": time.monotonic() - began}


async def one(queue: Queue, jobs: float) -> dict[str, Any]:
    """See the module."""
    async with queue.producer() as send:
        for _ in range(int(jobs)):
            await asyncio.sleep(random.uniform(*IDLE_SECONDS))
            await send([time.monotonic()])
    return {"sent": int(jobs)}


async def consume(queue: Queue, jobs: float, seconds: float) -> dict[str, Any]:
    """See the module."""
    count = Count(int(jobs))
    async with queue.worker(count.handle) as settled:
        print("ready", flush=True)
        if await count.within(seconds):
            await settled(count.wanted)
    counted = sorted(count.latencies[count.wanted // 10 :]) or [float("inf")]
    p95 = counted[min(len(counted) - 1, int(len(counted) * 0.95))]
    return {"p50": statistics.median(counted), "p95": p95, "handled": count.handled}


async def until_none(left: Callable[[], Awaitable[Any]]) -> None:
    """Ask every few milliseconds whether unfinished jobs are left."""
    while True:
        if not await left():
            return
        await asyncio.sleep(ASK_SECONDS)


def calm_collector() -> None:
    """The collector as our services set it (libs.process), for all queues alike: at the interpreter's own thresholds a
    busy worker spends much of its time on it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def ended(task: "asyncio.Task[None]") -> None:
    """For the tasks of a worker: one that fails ends the program."""
    if not task.cancelled() and task.exception() is not None:
        sys.exit(f"the worker failed: {task.exception()!r}")


COMMANDS: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "put": put,
    "drain": drain,
    "produce": produce,
    "one": one,
    "consume": consume,
}


def main(queue: Queue, schema: Callable[[], Awaitable[None]]) -> None:
    """Do what the arguments ask and print the answer as one line of JSON. schema makes the queue's tables."""
    command, *numbers = sys.argv[1:]

    async def run() -> dict[str, Any]:
        if command == "schema":
            await schema()
            return {}
        return await COMMANDS[command](queue, *map(float, numbers))

    calm_collector()
    print(json.dumps(asyncio.run(run())), flush=True)
