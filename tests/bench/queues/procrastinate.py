"""procrastinate by its documentation: batch_defer_async, an asynchronous worker of several jobs at once, LISTEN on."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

# These are in the benchmark's own environment.
import uvloop  # type: ignore[import-not-found]
from procrastinate import App, PsycopgConnector  # type: ignore[import-not-found]

from tests.bench.queues import contract

CONCURRENCY = int(os.environ.get("BENCH_CONCURRENCY", "20"))
CONNECTIONS = 10
GROUP = 1000
PRODUCERS = 4
LEFT = "SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing')) AS left"


class Procrastinate:
    """Jobs are deleted when they succeed, which spares it a growing table."""

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[Callable[[Sequence[float]], Awaitable[None]]]:
        """See contract.Queue."""
        app = App(connector=PsycopgConnector(min_size=PRODUCERS, max_size=PRODUCERS))
        nothing = app.task(name="nothing", queue="bench")(_never)
        limit = asyncio.Semaphore(PRODUCERS)

        async def group(jobs: Sequence[float]) -> None:
            async with limit:
                await nothing.batch_defer_async(*({"sent": sent} for sent in jobs))

        async def send(jobs: Sequence[float]) -> None:
            await asyncio.gather(*(group(jobs[at : at + GROUP]) for at in range(0, len(jobs), GROUP)))

        async with app.open_async():
            yield send

    @asynccontextmanager
    async def worker(self, handle: contract.Handle) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
        """See contract.Queue."""
        connector = PsycopgConnector(min_size=CONNECTIONS, max_size=CONNECTIONS)
        app = App(connector=connector)

        async def nothing(sent: float) -> None:
            handle(sent)

        async def left() -> bool:
            return bool((await connector.execute_query_one_async(LEFT))["left"])

        async def settled(_jobs: int) -> None:
            await contract.until_none(left)

        app.task(name="nothing", queue="bench")(nothing)
        async with app.open_async():
            work = app.run_worker_async(
                queues=["bench"], concurrency=CONCURRENCY, delete_jobs="successful", install_signal_handlers=False
            )
            running = asyncio.create_task(work)
            running.add_done_callback(contract.ended)
            try:
                yield settled
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)


async def _never(sent: float) -> None:
    """A producer's tasks are run elsewhere."""


async def schema() -> None:
    """Make its tables."""
    app = App(connector=PsycopgConnector())
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


if __name__ == "__main__":
    uvloop.install()
    contract.main(Procrastinate(), schema)
