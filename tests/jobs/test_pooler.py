"""The queue behind a pooler that hands out a session for each transaction: slower to wake, right all the same."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from libs.db import Database, Limits, Listener, Tx
from libs.jobqueue import (
    Lease,
    Outcome,
    Periodic,
    Retry,
    Timetable,
    Worker,
    first_time,
    in_transaction,
    progress,
    put,
    put_many,
)
from libs.jobqueue.enqueue import channel
from libs.principal import System
from tests.jobs.doing import ANNA, execute, rows
from tests.jobs.samples import SHORT, SendNote, TryTwice
from tests.support.pooler import SESSIONS, pooled
from tests.support.postgres import TestDatabase
from tests.support.waiting import until


@pytest.fixture
async def shared(files: Database, database: TestDatabase) -> AsyncIterator[Database]:
    """The database of `files` by way of the pooler."""
    async with pooled(database, "files") as login:
        made = Database.connect(login, limits=Limits(connections=4, pooler=True))
        yield made
        await made.stop()


async def test_every_job_runs_once_when_workers_share_few_sessions(shared: Database, database: TestDatabase) -> None:
    ran: Counter[str] = Counter()

    async def handle(job: SendNote, lease: Lease) -> None:
        ran[lease.job_id] += 1

    workers = [Worker(shared, "files", {SendNote: handle}, concurrency=20, timing=SHORT) for _ in range(4)]
    for worker in workers:
        await worker.start()
    jobs: list[str] = []
    for number in range(20):
        async with shared.begin(ANNA) as tx:
            jobs += await put_many(tx, [SendNote(f"{number}.{n}") for n in range(25)])
    await until(lambda: rows(database, "SELECT count(*) FROM jobs.history") == [(500,)], "their ends")
    for worker in workers:
        await worker.drain(5)
        await worker.stop()
    assert ran == Counter(jobs)
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'holdfast_files' AND datname = current_database()"
    # Besides those of the pooler nobody has one.
    assert rows(database, sessions)[0][0] <= SESSIONS


async def test_progress_inbox_periodic_jobs_and_handlers_within_a_transaction_work_behind_a_pooler(
    shared: Database, database: TestDatabase
) -> None:
    seen: list[object] = []

    async def handle(job: SendNote, lease: Lease) -> Outcome | None:
        if job.text == "tick":
            return None
        seen.append(lease.progress)
        async with shared.begin(lease.principal) as tx:
            await progress(tx, lease, lease.attempt)
            seen.append(await first_time(tx, "once"))
        return Retry(datetime.now(UTC)) if lease.attempt == 1 else None

    async def within(tx: Tx, job: TryTwice, lease: Lease) -> None:
        assert tx.principal == lease.principal
        await put(tx, SendNote("follow-up"), unique="one")

    timetable = Timetable(shared, "files", [Periodic(SendNote("tick"), every=timedelta(seconds=1), name="tick")])
    worker = Worker(shared, "files", {SendNote: handle, TryTwice: in_transaction(shared, within)}, timing=SHORT)
    await worker.start()
    await timetable.start()
    async with shared.begin(ANNA) as tx:
        await put(tx, TryTwice("x"))
    ticks = "SELECT count(*) FROM jobs.ticks WHERE job_id <> ''"
    await until(lambda: rows(database, ticks)[0][0] >= 2, "two ticks")
    await timetable.stop()
    await until(lambda: rows(database, "SELECT 1 FROM jobs.jobs") == [], "all ends")
    await worker.drain(5)
    await worker.stop()
    assert seen == [None, True, 1, False]
    assert len(rows(database, "SELECT 1 FROM jobs.history")) == 2 + rows(database, ticks)[0][0]


async def test_a_listener_behind_a_pooler_knows_that_it_hears_nothing_and_polling_goes_on(
    shared: Database, files: Database
) -> None:
    heard: list[str] = []
    deaf = Listener(shared, [channel("files")], lambda _channel, payload: heard.append(payload), probe_seconds=0.3)
    async with await psycopg.AsyncConnection.connect(**shared.settings(), autocommit=True) as connection:
        # It comes back only when it has found out.
        async with asyncio.timeout(20):
            await deaf.listen(connection)
    assert (deaf.working, heard) == (False, [])
    ran = asyncio.Event()

    async def handle(job: SendNote, lease: Lease) -> None:
        ran.set()

    worker = Worker(shared, "files", {SendNote: handle}, timing=SHORT)
    await worker.start()
    async with files.begin(ANNA) as tx:
        await put(tx, SendNote("x"))
    async with asyncio.timeout(20):
        await ran.wait()
    await worker.drain(5)
    await worker.stop()


async def test_a_running_job_is_cancelled_by_the_next_beat_behind_a_pooler(
    shared: Database, database: TestDatabase
) -> None:
    begun = asyncio.Event()

    async def handle(job: SendNote, lease: Lease) -> None:
        begun.set()
        await asyncio.Event().wait()

    worker = Worker(shared, "files", {SendNote: handle}, timing=SHORT)
    await worker.start()
    async with shared.begin(System("files")) as tx:
        job = await put(tx, SendNote("long"))
    async with asyncio.timeout(20):
        await begun.wait()
    execute(database, "UPDATE jobs.jobs SET cancel_requested_at = clock_timestamp() WHERE id = %s", job)
    await until(lambda: rows(database, "SELECT outcome FROM jobs.history") == [("cancelled",)], "its end")
    await worker.drain(5)
    await worker.stop()
