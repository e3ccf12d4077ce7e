"""The ends of claims of a type that asks for it are in the audit trail, and of no other."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from libs.db import Database
from libs.jobqueue import Discard, Lease, Worker, put
from libs.jobqueue.audited import recorder
from libs.jobqueue.claim import Claimer
from libs.jobqueue.completion import Told, settle
from libs.principal import User
from tests.jobs.samples import SHORT, SendNote
from tests.support.postgres import TestDatabase
from tests.support.waiting import until

ANNA = User("oak", "anna")


@dataclass(frozen=True, slots=True)
class Erase:
    """Somebody will ask whether it was done."""

    audited: ClassVar[bool] = True
    what: str


@pytest.fixture(scope="module")
def database_trees() -> Sequence[str]:
    return ("db",)


@pytest.fixture
async def files(database: TestDatabase) -> AsyncIterator[Database]:
    with database.admin() as admin:
        admin.execute("TRUNCATE jobs.jobs, jobs.ready, jobs.lanes, jobs.history, jobs.workers")
    made = database.connect("files")
    yield made
    await made.stop()


def entries(database: TestDatabase) -> list[tuple[Any, ...]]:
    with database.admin() as admin:
        return admin.execute(
            "SELECT facts ->> 'job', facts ->> 'new_state', facts ->> 'organization' FROM audit.entries"
            " WHERE action = 'job.ended' ORDER BY id"
        ).fetchall()


async def given(files: Database, job: Any) -> str:
    async with files.begin(ANNA) as tx:
        return await put(tx, job)


async def test_ends_of_a_type_that_asks_for_it_are_audited_and_of_no_other(
    files: Database, database: TestDatabase
) -> None:
    async def erase(job: Erase, lease: Lease) -> Discard | None:
        return Discard("gone already") if job.what == "nothing" else None

    async def note(job: SendNote, lease: Lease) -> None:
        return

    before = len(entries(database))
    worker = Worker(files, "files", {Erase: erase, SendNote: note}, timing=SHORT)
    await worker.start()
    try:
        await given(files, SendNote("hello"))
        jobs = [await given(files, Erase("all")), await given(files, Erase("nothing"))]
        await until(lambda: len(entries(database)) == before + 2, "two entries")
    finally:
        await worker.drain(5)
        await worker.stop()
    assert sorted(entries(database)[before:]) == sorted([(jobs[0], "done", "oak"), (jobs[1], "discarded", "oak")])


async def test_an_end_that_changed_nothing_leaves_no_entry(files: Database, database: TestDatabase) -> None:
    before = len(entries(database))
    also = recorder([Erase])
    await given(files, Erase("all"))
    [found] = await Claimer(files, "files", "w1").claim(1)
    for expected in (1, 0):
        states = await settle(files, "files", [Told(found.lease, found.type, "done")], also=also)
        assert len(states) == expected
    assert [state for _, state, _ in entries(database)[before:]] == ["done"]


async def test_an_attempt_that_was_the_last_one_is_audited_as_a_dead_letter_and_not_as_a_retry(
    files: Database, database: TestDatabase
) -> None:
    before = len(entries(database))
    also = recorder([Erase])
    await given(files, Erase("all"))
    for _ in range(2):
        with database.admin() as admin:
            admin.execute("UPDATE jobs.jobs SET max_attempts = 2")
        [found] = await Claimer(files, "files", "w1").claim(1)
        await settle(files, "files", [Told(found.lease, found.type, "retry")], also=also)
    assert [state for _, state, _ in entries(database)[before:]] == ["ready", "dead"]


async def test_nothing_is_recorded_for_workers_without_such_a_type() -> None:
    assert recorder([SendNote]) is None
