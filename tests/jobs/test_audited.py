"""The ends of claims of a type that asks for it are in the audit trail, and of no other."""

import asyncio
import math
import queue
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import psycopg
import pytest

from libs.db import Database, Tx
from libs.jobqueue import Discard, Lease, Worker, heart, in_transaction, put
from libs.jobqueue.audited import Trail, trail
from libs.jobqueue.claim import Claimer
from libs.jobqueue.completion import Told, settle
from libs.jobqueue.rescue import rescue
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


def recording(*types: type[Any]) -> Trail:
    found = trail(types or [Erase, SendNote])
    assert found is not None
    return found


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
    also = recording().ended
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
    also = recording().ended
    await given(files, Erase("all"))
    for _ in range(2):
        with database.admin() as admin:
            admin.execute("UPDATE jobs.jobs SET max_attempts = 2")
        [found] = await Claimer(files, "files", "w1").claim(1)
        await settle(files, "files", [Told(found.lease, found.type, "retry")], also=also)
    assert [state for _, state, _ in entries(database)[before:]] == ["ready", "dead"]


def told(database: TestDatabase, *jobs: str) -> list[tuple[Any, ...]]:
    """(action, state before, state after, actor) of these jobs' entries."""
    with database.admin() as admin:
        return admin.execute(
            "SELECT action, facts ->> 'old_state', facts ->> 'new_state', actor_id FROM audit.entries"
            " WHERE facts ->> 'job' = ANY (%s) ORDER BY id",
            [list(jobs)],
        ).fetchall()


async def test_each_transition_of_a_type_that_asks_for_it_is_audited(files: Database, database: TestDatabase) -> None:
    job, plain = await given(files, Erase("all")), await given(files, SendNote("hello"))
    also = recording()
    assert len(await Claimer(files, "files", "dead", also=also.claimed).claim(2)) == 2
    with database.admin() as admin:
        admin.execute("INSERT INTO jobs.workers (id, service, beat_at) VALUES ('dead', 'files', '-infinity')")
    assert len(await rescue(files, "files", dead_seconds=40, also=also.taken_back)) == 2

    async def erase(tx: Tx, _job: Erase, _lease: Lease) -> None:
        return

    async def note(_job: SendNote, _lease: Lease) -> None:
        return

    worker = Worker(files, "files", {Erase: in_transaction(files, erase), SendNote: note}, timing=SHORT)
    await worker.start()
    try:
        await until(lambda: len(told(database, job)) == 5, "five entries")
    finally:
        await worker.drain(5)
        await worker.stop()
    assert told(database, job) == [
        ("job.put", None, "ready", "anna"),
        ("job.claimed", "ready", "running", "files"),
        ("job.taken_back", "running", "ready", "files"),
        ("job.claimed", "ready", "running", "files"),
        ("job.ended", "running", "done", "anna"),
    ]
    assert told(database, plain) == []


async def test_what_a_heart_takes_back_past_its_deadline_is_audited(files: Database, database: TestDatabase) -> None:
    """It was counted alone: a handler that blocks its event loop left no trace of the end of its claim."""
    job, plain = await given(files, Erase("all")), await given(files, SendNote("hello"))
    found = await Claimer(files, "files", "w9").claim(2)
    with database.admin() as admin:
        admin.execute("UPDATE jobs.jobs SET deadline_at = clock_timestamp() - interval '1 hour'")
    held = {one.lease.job_id: heart.Hold(one.lease.lease, -math.inf) for one in found}
    heard: queue.Queue[heart.Told] = queue.Queue()
    made = heart.Heart(
        files.settings(), ("files", "w9", "default"), beat_seconds=3600, dead_seconds=3600, held=lambda: held,
        tell=heard.put, also=recording(Erase).overran,
    )  # fmt: skip
    made.start()
    try:
        taken = (await asyncio.to_thread(heard.get, timeout=20)).taken
    finally:
        await asyncio.to_thread(made.stop)
    assert sorted(taken) == [("erase", "ready"), ("send_note", "ready")]
    assert told(database, job)[1:] == [("job.taken_back", "running", "ready", "files")]
    assert told(database, plain) == []


async def test_a_job_that_cannot_be_taken_back_costs_its_worker_no_beat(
    files: Database, database: TestDatabase
) -> None:
    """The worker took itself for dead, and all its other jobs were lost with that one."""

    def refused(*_: Any) -> None:
        raise psycopg.errors.InsufficientPrivilege

    await given(files, SendNote("late"))
    [found] = await Claimer(files, "files", "w9").claim(1)
    with database.admin() as admin:
        admin.execute("UPDATE jobs.jobs SET deadline_at = clock_timestamp() - interval '1 hour'")
    late = heart.Hold(found.lease.lease, -math.inf)
    heard: queue.Queue[heart.Told] = queue.Queue()
    made = heart.Heart(
        files.settings(), ("files", "w9", "default"), beat_seconds=3600, dead_seconds=3600,
        held=lambda: {found.lease.job_id: late, "stolen": heart.Hold(1, math.inf)}, tell=heard.put, also=refused,
    )  # fmt: skip
    made.start()
    try:
        await until(lambda: made.alive, "a beat")
        made.hurry()
        # By the second beat: one that is gone has just been finished, most likely.
        assert (await asyncio.to_thread(heard.get, timeout=20)).lost == {"stolen": 1}
        assert made.alive
    finally:
        await asyncio.to_thread(made.stop)
    with database.admin() as admin:
        assert admin.execute("SELECT state, lease, crashes FROM jobs.jobs").fetchall() == [("running", 1, 0)]


async def test_of_two_leases_of_a_job_that_end_in_one_batch_only_the_accepted_one_is_audited(
    files: Database, database: TestDatabase
) -> None:
    """Both were looked up by the job's id, so the stale one was counted and audited as done as well."""
    job = await given(files, Erase("all"))
    [first] = await Claimer(files, "files", "w8").claim(1)
    with database.admin() as admin:
        admin.execute("INSERT INTO jobs.workers (id, service, beat_at) VALUES ('w8', 'files', '-infinity')")
    await rescue(files, "files", dead_seconds=40)
    [second] = await Claimer(files, "files", "w9").claim(1)
    ends = [Told(one.lease, one.type, "done") for one in (first, second)]
    assert await settle(files, "files", ends, also=recording().ended) == {(job, 2): "finished"}
    with database.admin() as admin:
        told = admin.execute(
            "SELECT facts ->> 'lease' FROM audit.entries WHERE action = 'job.ended' AND facts ->> 'job' = %s", [job]
        ).fetchall()
    assert told == [("2",)]


async def test_a_claim_that_was_not_wanted_leaves_no_entry(files: Database, database: TestDatabase) -> None:
    job = await given(files, Erase("all"))
    refusing = Claimer(files, "files", "w1", wanted=lambda: False, also=recording().claimed)
    assert await refusing.claim(1) == []
    assert [action for action, *_ in told(database, job)] == ["job.put"]


async def test_nothing_is_recorded_for_workers_without_such_a_type() -> None:
    assert trail([SendNote]) is None
