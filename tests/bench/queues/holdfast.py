"""Ours: libs.jobqueue by its public API, jobs of several organizations, fairness and fencing on."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from libs.db import Database, Limits
from libs.jobqueue import Lease, Worker, put_many
from libs.principal import Organization
from tests.bench.queues import contract

SERVICE = "files"
TENANTS = int(os.environ.get("BENCH_TENANTS", "10"))
CONCURRENCY = int(os.environ.get("BENCH_CONCURRENCY", "6000"))
GROUP = 5000
"""Jobs in one transaction at most; up to ALONE of them stay with one tenant."""
ALONE = 100
PRODUCERS = 4


@dataclass(frozen=True, slots=True)
class Nothing:
    """A job that does nothing."""

    sent: float


@dataclass(frozen=True, slots=True)
class Password:
    """A secret as the configuration holds one."""

    def reveal(self) -> bytes:
        """The secret."""
        return os.environ["PGPASSWORD"].encode()


@dataclass(frozen=True, slots=True)
class Login:
    """What libs.db needs of a service's configuration."""

    service: str = SERVICE
    database_host: str = field(default_factory=lambda: os.environ["PGHOST"])
    database_port: int = field(default_factory=lambda: int(os.environ["PGPORT"]))
    database_name: str = field(default_factory=lambda: os.environ["PGDATABASE"])
    database_user: str = field(default_factory=lambda: os.environ["PGUSER"])
    database_password: Password = Password()
    database_tls: str = "off"
    database_ca_file: str = ""


class Holdfast:
    """put_many on four connections at once; one Worker."""

    def __init__(self) -> None:
        self._turn = 0

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[Callable[[Sequence[float]], Awaitable[None]]]:
        """See contract.Queue."""
        database = Database.connect(Login(), limits=Limits(connections=PRODUCERS, statement_seconds=60))
        limit = asyncio.Semaphore(PRODUCERS)

        async def group(jobs: Sequence[float]) -> None:
            self._turn += 1
            async with limit, database.begin(Organization(f"bench-{self._turn % TENANTS:05d}")) as tx:
                await put_many(tx, [Nothing(sent) for sent in jobs])

        async def send(jobs: Sequence[float]) -> None:
            size = len(jobs) if len(jobs) <= ALONE else min(GROUP, -(-len(jobs) // TENANTS))
            await asyncio.gather(*(group(jobs[at : at + size]) for at in range(0, len(jobs), size)))

        try:
            await database.check()
            yield send
        finally:
            await database.stop()

    @asynccontextmanager
    async def worker(self, handle: contract.Handle) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
        """See contract.Queue."""
        database = Database.connect(Login(), limits=Limits(connections=10))
        finished, changed = 0, asyncio.Event()

        async def nothing(job: Nothing, _lease: Lease) -> None:
            handle(job.sent)

        def observe(event: str, _type: str, count: int) -> None:
            nonlocal finished
            if event == "done":  # told only once the database has accepted it
                finished += count
                changed.set()

        async def settled(jobs: int) -> None:
            while finished < jobs:
                changed.clear()
                await changed.wait()

        worker = Worker(database, SERVICE, {Nothing: nothing}, concurrency=CONCURRENCY, observe=observe)
        await worker.start()
        try:
            yield settled
        finally:
            await worker.stop()
            await database.stop()


async def schema() -> None:
    """Nothing: its tables come with the migrations."""


if __name__ == "__main__":
    contract.main(Holdfast(), schema)
