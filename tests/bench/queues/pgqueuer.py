"""pgqueuer by its guide: asyncpg, uvloop, `pgq autovac`, large batches for short jobs, a connection a manager."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

# These are in the benchmark's own environment.
import asyncpg  # type: ignore[import-not-found]
import uvloop  # type: ignore[import-not-found]
from pgqueuer import QueueManager  # type: ignore[import-not-found]
from pgqueuer.db import AsyncpgDriver  # type: ignore[import-not-found]
from pgqueuer.queries import Queries  # type: ignore[import-not-found]

from tests.bench.queues import contract

MANAGERS = int(os.environ.get("BENCH_MANAGERS", "2"))
BATCH = int(os.environ.get("BENCH_BATCH", "100"))
GROUP = 5000
PRODUCERS = 4


class PgQueuer:
    """Several QueueManagers in one process, as in its own benchmark; arrays of jobs put on four connections."""

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[Callable[[Sequence[float]], Awaitable[None]]]:
        """See contract.Queue."""
        async with AsyncExitStack() as stack:
            free: asyncio.Queue[Any] = asyncio.Queue()
            for _ in range(PRODUCERS):
                free.put_nowait(await _queries(stack))

            async def group(jobs: Sequence[float]) -> None:
                queries = await free.get()
                await queries.enqueue(["nothing"] * len(jobs), [str(sent).encode() for sent in jobs], [0] * len(jobs))
                free.put_nowait(queries)

            async def send(jobs: Sequence[float]) -> None:
                await asyncio.gather(*(group(jobs[at : at + GROUP]) for at in range(0, len(jobs), GROUP)))

            yield send

    @asynccontextmanager
    async def worker(self, handle: contract.Handle) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
        """See contract.Queue."""
        async with AsyncExitStack() as stack:
            managers = [QueueManager(await _queries(stack)) for _ in range(MANAGERS)]
            watch = await _queries(stack)

            async def nothing(job: Any) -> None:
                handle(float(job.payload))

            async def left() -> bool:
                # A finished job's row is deleted.
                return bool((await watch.driver.fetch("SELECT EXISTS (SELECT FROM pgqueuer) AS left"))[0]["left"])

            async def settled(_jobs: int) -> None:
                await contract.until_none(left)

            for manager in managers:
                manager.entrypoint("nothing")(nothing)
            running = [asyncio.create_task(manager.run(batch_size=BATCH)) for manager in managers]
            for task in running:
                task.add_done_callback(contract.ended)
            try:
                yield settled
            finally:
                for manager in managers:
                    manager.shutdown.set()
                await asyncio.gather(*running)


async def _queries(stack: AsyncExitStack) -> Any:
    connection = await asyncpg.connect()
    stack.push_async_callback(connection.close)
    return Queries(AsyncpgDriver(connection))


async def schema() -> None:
    """Make its tables, all logged, and set autovacuum as its guide advises."""
    async with AsyncExitStack() as stack:
        queries = await _queries(stack)
        await queries.install()
        await queries.optimize_autovacuum()


if __name__ == "__main__":
    uvloop.install()
    contract.main(PgQueuer(), schema)
