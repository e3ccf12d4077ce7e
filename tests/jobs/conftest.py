"""The queue of the service `files`, empty at the beginning of each test."""

from collections.abc import AsyncIterator, Sequence

import pytest

from libs.db import Database
from tests.support.postgres import TestDatabase


@pytest.fixture(scope="module")
def database_trees() -> Sequence[str]:
    return ("db",)


@pytest.fixture
async def files(database: TestDatabase) -> AsyncIterator[Database]:
    with database.admin() as admin:
        admin.execute("TRUNCATE jobs.jobs, jobs.ready, jobs.lanes, jobs.history, jobs.workers, jobs.queues")
        admin.execute("TRUNCATE jobs.ticks, jobs.inbox")
        admin.execute("INSERT INTO jobs.workers (id, service) VALUES ('w1', 'files'), ('w2', 'files')")
    made = database.connect("files")
    yield made
    await made.stop()
