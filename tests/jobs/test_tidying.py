"""What a worker does beside its jobs must not stand in their way."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest

from libs.db import Database
from libs.errors import Unavailable
from libs.jobqueue import JobInvalid, Lease, Worker, put
from libs.jobqueue.claim import Claimer
from libs.jobqueue.rescue import rotate
from libs.principal import User
from tests.jobs.samples import SHORT, SendNote
from tests.support.postgres import TestDatabase
from tests.support.waiting import until

TOMORROW = "SELECT to_regclass('jobs.history_' || to_char(current_date + 1, 'YYYYMMDD'))"


@pytest.fixture(scope="module")
def database_trees() -> Sequence[str]:
    return ("db",)


@pytest.fixture
async def files(database: TestDatabase) -> AsyncIterator[Database]:
    with database.admin() as admin:
        admin.execute("INSERT INTO jobs.workers (id, service) VALUES ('w1', 'files')")
    made = database.connect("files")
    yield made
    await made.stop()


async def handle(job: SendNote, lease: Lease) -> None:
    """Done."""


async def test_a_long_reader_of_the_history_keeps_no_job_from_its_rescue(
    files: Database, database: TestDatabase
) -> None:
    async with files.begin(User("oak", "anna")) as tx:
        job = await put(tx, SendNote("lost"))
    assert len(await Claimer(files, "files", "w1").claim(1)) == 1
    with database.admin() as admin, database.admin() as reader:
        admin.execute("UPDATE jobs.workers SET beat_at = '-infinity' WHERE id = 'w1'")
        [(tomorrow,)] = admin.execute(TOMORROW).fetchall()
        admin.execute(f"DROP TABLE {tomorrow}".encode())
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM jobs.history")
        with pytest.raises(Unavailable):
            await rotate(files, "files")
        worker = Worker(files, "files", {SendNote: handle}, timing=SHORT)
        await worker.start()
        await until(lambda: _history(database) == [(job,)], "the rescued job's end")
        assert admin.execute(TOMORROW).fetchall() == [(None,)]
        reader.execute("ROLLBACK")
        await until(lambda: admin.execute(TOMORROW).fetchall() != [(None,)], "the next day of the history")
        await worker.stop()


def _history(database: TestDatabase) -> list[tuple[object, ...]]:
    with database.admin() as admin:
        return admin.execute("SELECT id FROM jobs.history_rest UNION ALL SELECT id FROM jobs.history").fetchall()[:1]


async def test_two_job_types_of_one_name_are_refused(files: Database) -> None:
    def another() -> type:
        @dataclass(frozen=True)
        class SendNote:
            """Another one."""

        return SendNote

    with pytest.raises(JobInvalid, match="same name"):
        Worker(files, "files", {SendNote: handle, another(): handle})
