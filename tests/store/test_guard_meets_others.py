"""The guard's pages meet workers that write how their jobs ended."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.backup.ops.guard import Guard
from tests.jobs.doing import given, rows
from tests.jobs.samples import SendNote
from tests.support.postgres import TestDatabase
from tests.support.waiting import until

WAITING = "SELECT 1 FROM pg_locks WHERE NOT granted"


@pytest.fixture
async def guard(database: TestDatabase) -> AsyncIterator[Guard]:
    db = database.connect("backup")
    made = Guard(db)
    yield made
    await made.stop()
    await db.stop()


async def test_a_quarantine_that_locks_jobs_crosswise_with_a_worker_is_not_cut_off(
    database: TestDatabase, guard: Guard
) -> None:
    files = database.connect("files")
    first, second = sorted(await given(files, SendNote("first"), SendNote("second")))
    with database.admin() as worker:
        worker.execute("SELECT jobs.hold('restored', 'test')")
        # So that the quarantine is the one that finds the deadlock, and gives way.
        worker.execute("SET deadlock_timeout = '1h'")
        worker.execute("BEGIN")
        worker.execute("SELECT FROM jobs.jobs WHERE id = %s FOR UPDATE", [second])
        quarantine = asyncio.create_task(guard.quarantine())
        await until(lambda: rows(database, WAITING) != [], "a quarantine that waits for the second")
        await asyncio.to_thread(worker.execute, "SELECT FROM jobs.jobs WHERE id = %s FOR UPDATE", [first])
        worker.execute("COMMIT")
        await quarantine
    assert rows(database, "SELECT DISTINCT state FROM jobs.jobs") == [("quarantined",)]
    await files.stop()
