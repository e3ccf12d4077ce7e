"""What most tests of the queue do: look at rows, put jobs, run a worker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from libs.db import Database
from libs.jobqueue import Handler, Worker, put
from libs.jobqueue.claim import Claimer, Found
from libs.principal import Principal, User
from tests.jobs.samples import SHORT
from tests.support.postgres import TestDatabase

ANNA = User("oak", "anna")


def rows(database: TestDatabase, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """What *query* finds, whatever row-level security says."""
    with database.admin() as admin:
        return admin.execute(query.encode(), values or None).fetchall()


def execute(database: TestDatabase, statement: str, *values: Any) -> None:
    """Arrange rows behind the queue's back."""
    with database.admin() as admin:
        admin.execute(statement.encode(), values)


async def given(files: Database, *jobs: Any, who: Principal = ANNA, **how: Any) -> list[str]:
    """The ids of *jobs*, put in one transaction."""
    async with files.begin(who) as tx:
        return [await put(tx, job, **how) for job in jobs]


async def claimed(files: Database, worker: str = "w1") -> Found:
    """The one job that is ready."""
    [found] = await Claimer(files, "files", worker).claim(1)
    return found


@asynccontextmanager
async def working(
    files: Database, handlers: dict[type[Any], Handler[Any]], events: list[tuple[str, str]] | None = None, **how: Any
) -> AsyncIterator[Worker]:
    """A worker in this process; *events* collects what it observes."""
    seen: list[tuple[str, str]] = [] if events is None else events

    def observe(event: str, kind: str, count: int) -> None:
        seen.extend([(event, kind)] * count)

    worker = Worker(files, "files", handlers, timing=how.pop("timing", SHORT), observe=observe, **how)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.drain(5)
        await worker.stop()
