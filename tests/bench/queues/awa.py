"""awa-pg by its documentation: its queue storage, enqueue_many_copy, one queue of many workers, its own defaults."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

# In the benchmark's own environment.
from awa import AsyncClient, migrate  # type: ignore[import-not-found]

from tests.bench.queues import contract

WORKERS = int(os.environ.get("BENCH_CONCURRENCY", "1000"))
GROUP = 5000
PRODUCERS = 4
QUEUE = "bench"


@dataclass
class Nothing:
    """A job that does nothing."""

    sent: float


class Awa:
    """Everything but the handler runs in its Rust core."""

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[Callable[[Sequence[float]], Awaitable[None]]]:
        """See contract.Queue."""
        client = AsyncClient(address(), max_connections=PRODUCERS + 2)
        limit = asyncio.Semaphore(PRODUCERS)

        async def group(jobs: Sequence[float]) -> None:
            async with limit:
                await client.enqueue_many_copy([Nothing(sent) for sent in jobs], queue=QUEUE)

        async def send(jobs: Sequence[float]) -> None:
            await asyncio.gather(*(group(jobs[at : at + GROUP]) for at in range(0, len(jobs), GROUP)))

        try:
            yield send
        finally:
            await client.close()

    @asynccontextmanager
    async def worker(self, handle: contract.Handle) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
        """See contract.Queue."""
        client = AsyncClient(address(), max_connections=20)

        async def nothing(job: Any) -> None:
            handle(job.args.sent)

        async def left() -> bool:
            return any(stat.total_queued or stat.running for stat in await client.queue_stats())

        async def settled(_jobs: int) -> None:
            await contract.until_none(left)

        client.task(Nothing, queue=QUEUE)(nothing)
        await client.start([(QUEUE, WORKERS)])
        try:
            yield settled
        finally:
            await client.shutdown()
            await client.close()


def address() -> str:
    """The database as a URL. Its driver wants a host before it heeds the socket's directory."""
    user, password, name, port = (os.environ[key] for key in ("PGUSER", "PGPASSWORD", "PGDATABASE", "PGPORT"))
    return f"postgresql://{user}:{password}@localhost/{name}?host={os.environ['PGHOST']}&port={port}"


async def schema() -> None:
    """Make its tables, and choose the storage it was made for."""
    await migrate(address())
    client = AsyncClient(address())
    await client.install_queue_storage()
    await client.close()


if __name__ == "__main__":
    contract.main(Awa(), schema)
