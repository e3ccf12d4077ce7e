"""JobService: what an operator sees of every service's jobs and does with them, on real rows over a real server."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from holdfast.jobs.v1 import job_service_pb2 as pb
from libs.db import Database
from libs.jobqueue import Lease, StaleLease, Timing, Worker, complete, put, put_many
from libs.jobqueue.claim import Claimer
from libs.jobqueue.completion import Told, settle
from libs.principal import System, User
from services.backup.store import jobs as store
from tests.jobs.samples import SendNote, TryTwice
from tests.support import jobs as support
from tests.support.jobs import Desk
from tests.support.postgres import TestDatabase
from tests.support.waiting import until
from tests.support.wire import refused, told

ANNA = User("oak", "anna")
TABLES = "jobs.jobs, jobs.ready, jobs.lanes, jobs.history, jobs.workers, jobs.queues"


@pytest.fixture(scope="module")
def database_trees() -> Sequence[str]:
    return ("db",)


@pytest.fixture
async def files(database: TestDatabase) -> AsyncIterator[Database]:
    with database.admin() as admin:
        admin.execute(f"TRUNCATE {TABLES}".encode())
        admin.execute("INSERT INTO jobs.workers (id, service) VALUES ('w1', 'files')")
    made = database.connect("files")
    yield made
    await made.stop()


@pytest.fixture
async def desk(database: TestDatabase, files: Database) -> AsyncIterator[Desk]:
    async with support.desk(database) as made:
        yield made


def rows(database: TestDatabase, query: str) -> list[tuple[Any, ...]]:
    with database.admin() as admin:
        return admin.execute(query.encode()).fetchall()


def change(database: TestDatabase, statement: str) -> None:
    with database.admin() as admin:
        admin.execute(statement.encode())


@pytest.fixture
def audited(database: TestDatabase) -> Callable[[], list[str]]:
    """The actions of this process's user that were recorded during the test."""
    query = f"SELECT action FROM audit.entries WHERE actor_id = 'uid:{os.geteuid()}' ORDER BY id"
    before = len(rows(database, query))
    return lambda: [action for (action,) in rows(database, query)[before:]]


async def given(db: Database, job: Any, **how: Any) -> str:
    async with db.begin(ANNA) as tx:
        return await put(tx, job, **how)


async def dead(db: Database, *jobs: Any, **how: Any) -> list[str]:
    """Jobs that are dead letters now, in the order they died."""
    ids = [await given(db, job, **how) for job in jobs]
    for found in sorted(await Claimer(db, "files", "w1").claim(100), key=lambda found: ids.index(found.lease.job_id)):
        await settle(db, "files", [Told(found.lease, found.type, "dead", error="OSError")])
    return ids


def names(jobs: Sequence[pb.Job]) -> list[str]:
    return [job.name.removeprefix("jobs/") for job in jobs]


async def test_jobs_of_every_state_are_listed_in_pages_and_by_filter(
    files: Database, desk: Desk, database: TestDatabase
) -> None:
    assert await desk.list() == []
    assert await desk.list("dead") == []
    gone = await dead(files, *(SendNote(str(number)) for number in range(5)))
    ready = [await given(files, SendNote("ready")) for _ in range(3)]
    later = [await given(files, TryTwice("later"), run_at=support.IN_AN_HOUR) for _ in range(3)]
    mails = database.connect("auth")
    async with mails.begin(System("auth")) as tx:
        other = await put(tx, SendNote("of auth"))
    assert names(await desk.list("dead")) == gone[::-1]
    assert names(await desk.list("ready")) == [other, *ready[::-1]]
    assert names(await desk.list("scheduled")) == later
    assert set(names(await desk.list())) == {*gone, *ready, *later, other}
    assert names(await desk.list("scheduled", type="send_note")) == []
    assert names(await desk.list(service="auth")) == [other]
    assert names(await desk.list("ready", service="files", queue="default")) == ready[::-1]
    assert await desk.list(queue="slow") == []
    [claimed] = await Claimer(mails, "auth", "w9").claim(1)
    [running] = await desk.list("running")
    assert (running.name, running.worker, running.lease) == (f"jobs/{other}", "w9", 1)
    await settle(mails, "auth", [Told(claimed.lease, claimed.type, "discarded", error="no longer wanted")])
    [ended] = await desk.list("discarded")
    assert (ended.name, ended.service, ended.error) == (f"jobs/{other}", "auth", "no longer wanted")
    assert await desk.list("done") == await desk.list("running") == []


async def test_finished_jobs_are_listed_from_the_newest_back_over_days(
    files: Database, desk: Desk, database: TestDatabase
) -> None:
    change(
        database,
        "INSERT INTO jobs.history (id, service, type, organization_id, user_id, outcome, lease, failures, crashes,"
        " created_at, finished_at) SELECT 'h' || lpad(n::text, 2, '0'), 'files', 'send_note', '', '', 'done', 1, 0, 0,"
        " clock_timestamp(), clock_timestamp() - n * interval '7 hours' FROM generate_series(1, 20) AS n",
    )
    assert names(await desk.list("done")) == [f"h{number:02}" for number in range(1, 21)]
    assert await desk.list("done", service="auth") == []


async def test_a_finished_job_is_found_by_its_id_and_an_unknown_one_is_not(files: Database, desk: Desk) -> None:
    job = await given(files, SendNote("hello"))
    [found] = await Claimer(files, "files", "w1").claim(1)
    async with files.begin(ANNA) as tx:
        await complete(tx, found.lease)
    assert (await desk.get(job)).state == pb.JOB_STATE_DONE
    for unknown in ("0" * 26, job[:-1] + ("0" if job[-1] != "0" else "1"), "short"):
        with refused("NOT_FOUND", "JOB_NOT_FOUND"):
            await desk.get(unknown)


async def test_a_payload_is_shown_only_when_asked_for_and_that_is_audited(
    files: Database, desk: Desk, database: TestDatabase, audited: Callable[[], list[str]]
) -> None:
    job = await given(files, SendNote("a secret of Anna's"))
    shown = await desk.get(job)
    assert (shown.payload, shown.owner) == ("", "organizations/oak/users/anna")
    assert audited() == []
    told = await desk.get(job, payload=True)
    assert (json.loads(told.payload)["text"], told.progress) == ("a secret of Anna's", "")
    assert audited() == ["job.payload_read"]


async def test_a_payload_and_a_progress_that_python_cannot_read_are_shown_all_the_same(
    files: Database, desk: Desk, database: TestDatabase
) -> None:
    job, deep = await given(files, SendNote("hello")), "[" * 3000 + "]" * 3000
    with database.admin() as admin:
        admin.execute("UPDATE jobs.jobs SET payload = '1e5000', progress = %s WHERE id = %s", [deep, job])
    told = await desk.get(job, payload=True)
    assert (len(told.payload), told.progress) == (5001, deep)


@pytest.mark.control("J1", "an operator finds dead letters and runs them again, with an audit entry")
async def test_a_dead_job_that_is_retried_starts_from_zero_and_runs_again(
    files: Database, desk: Desk, database: TestDatabase, audited: Callable[[], list[str]]
) -> None:
    [job] = await dead(files, TryTwice("again"))
    change(database, "UPDATE jobs.jobs SET crashes = 2")
    retried = await desk.retry(job)
    assert (retried.state, retried.failures, retried.crashes, retried.lease) == (pb.JOB_STATE_READY, 0, 0, 1)
    [found] = await Claimer(files, "files", "w1").claim(5)
    assert (found.lease.job_id, found.lease.attempt, found.lease.lease) == (job, 1, 2)
    assert audited() == ["job.retried"]


async def test_a_scheduled_job_that_is_retried_runs_now(files: Database, desk: Desk) -> None:
    job = await given(files, SendNote("later"), run_at=support.IN_AN_HOUR)
    assert await Claimer(files, "files", "w1").claim(5) == []
    assert (await desk.retry(job)).state == pb.JOB_STATE_READY
    assert [found.lease.job_id for found in await Claimer(files, "files", "w1").claim(5)] == [job]


async def test_a_retry_is_refused_for_what_is_neither_dead_nor_scheduled(files: Database, desk: Desk) -> None:
    job = await given(files, SendNote("ready"))
    with refused("FAILED_PRECONDITION", "JOB_STATE_UNFIT") as caught:
        await desk.retry(job)
    assert "is ready" in caught.value.message
    [found] = await Claimer(files, "files", "w1").claim(1)
    with refused("FAILED_PRECONDITION", "JOB_STATE_UNFIT"):
        await desk.retry(job)
    await settle(files, "files", [Told(found.lease, found.type, "done")])
    with refused("FAILED_PRECONDITION", "JOB_STATE_UNFIT") as caught:
        await desk.retry(job)
    assert "is done" in caught.value.message
    with refused("NOT_FOUND", "JOB_NOT_FOUND"):
        await desk.retry("0" * 26)


async def test_a_retry_is_refused_while_another_job_has_the_unique_key_and_names_it(
    files: Database, desk: Desk, database: TestDatabase
) -> None:
    [first] = await dead(files, TryTwice("first"), unique="once")
    second = await given(files, TryTwice("second"), unique="once")
    with refused("FAILED_PRECONDITION", "JOB_KEY_TAKEN") as caught:
        await desk.retry(first)
    assert second in caught.value.message
    assert (await desk.get(first)).state == pb.JOB_STATE_DEAD
    assert rows(database, "SELECT job_id FROM jobs.ready") == [(second,)]
    await desk.cancel(second)
    assert (await desk.retry(first)).state == pb.JOB_STATE_READY


async def test_many_are_retried_by_filter_and_those_whose_key_is_taken_are_left(
    files: Database, desk: Desk, database: TestDatabase, audited: Callable[[], list[str]]
) -> None:
    kept = await dead(files, SendNote("other type"))
    twins = [(await dead(files, TryTwice(str(number)), unique="once"))[0] for number in range(2)]
    again = await dead(files, *(TryTwice(str(number)) for number in range(5)))
    asked = pb.BulkRetryJobsRequest(filter=support.filtered("dead", type="try_twice"))
    done = await told(desk.stub.BulkRetryJobs(asked, timeout=20))
    assert (done.retried_jobs, done.skipped_jobs, done.more) == (6, 1, False)
    assert set(names(await desk.list("ready"))) == {twins[0], *again}
    assert set(names(await desk.list("dead"))) == {twins[1], *kept}
    assert audited() == ["jobs.retried"]
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        await told(desk.stub.BulkRetryJobs(pb.BulkRetryJobsRequest(filter=support.filtered("ready")), timeout=20))
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        await desk.list(service="nobody")


async def test_a_bulk_retry_goes_page_by_page(
    files: Database,
    desk: Desk,
    database: TestDatabase,
    audited: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.backup.ops.jobs.PAGE", 2)
    await dead(files, *(SendNote(str(number)) for number in range(5)))
    asked = pb.BulkRetryJobsRequest(filter=support.filtered("dead"))
    assert (await told(desk.stub.BulkRetryJobs(asked, timeout=20))).retried_jobs == 5
    assert len(audited()) == 3


@pytest.mark.control("J1", "an operator ends jobs that wait and jobs that run")
async def test_a_bulk_retry_ends_although_what_it_retries_dies_again_at_once(
    files: Database, desk: Desk, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    retry_page, pages = store.retry_page, 0

    async def meanwhile_they_died(*arguments: Any, **more: Any) -> store.Page:
        nonlocal pages
        pages += 1
        assert pages < 10
        change(database, "UPDATE jobs.jobs SET state = 'dead', finished_at = clock_timestamp() WHERE state = 'ready'")
        return await retry_page(*arguments, **more)

    monkeypatch.setattr("services.backup.ops.jobs.PAGE", 2)
    monkeypatch.setattr(store, "retry_page", meanwhile_they_died)
    await dead(files, *(SendNote(str(number)) for number in range(4)))
    asked = pb.BulkRetryJobsRequest(filter=support.filtered("dead", service="files"))
    done = await told(desk.stub.BulkRetryJobs(asked, timeout=20))
    assert (done.retried_jobs, done.more) == (4, False)


async def test_a_queued_job_that_is_cancelled_ends_at_once_and_never_runs(
    files: Database, desk: Desk, database: TestDatabase, audited: Callable[[], list[str]]
) -> None:
    ready, kept = await given(files, SendNote("ready")), await given(files, SendNote("kept"))
    later = await given(files, SendNote("later"), run_at=support.IN_AN_HOUR)
    for job in (ready, later):
        assert (await desk.cancel(job)).state == pb.JOB_STATE_CANCELLED
    assert [found.lease.job_id for found in await Claimer(files, "files", "w1").claim(5)] == [kept]
    assert sorted(rows(database, "SELECT id, outcome FROM jobs.history")) == [
        (ready, "cancelled"),
        (later, "cancelled"),
    ]
    with refused("FAILED_PRECONDITION", "JOB_STATE_UNFIT"):
        await desk.cancel(ready)
    with refused("NOT_FOUND", "JOB_NOT_FOUND"):
        await desk.cancel("0" * 26)
    assert audited() == ["job.cancelled"] * 2


async def test_a_claim_that_meets_a_cancelled_jobs_ready_row_drops_it(
    files: Database, desk: Desk, database: TestDatabase
) -> None:
    await desk.cancel(await given(files, SendNote("gone")))
    assert rows(database, "SELECT count(*) FROM jobs.ready") == [(1,)]
    assert await Claimer(files, "files", "w1").claim(5) == []
    assert rows(database, "SELECT count(*) FROM jobs.ready") == [(0,)]


async def test_a_claim_goes_on_behind_places_in_line_of_cancelled_jobs_of_every_tenant(
    files: Database, desk: Desk, database: TestDatabase
) -> None:
    for tenant in ("ash", "birch", "cedar"):
        async with files.begin(User(tenant, "u")) as tx:
            gone = await put_many(tx, [SendNote("gone")] * 5)
        for job in gone:
            await desk.cancel(job)
    kept = await given(files, SendNote("kept"))
    assert [found.lease.job_id for found in await Claimer(files, "files", "w1").claim(1)] == [kept]
    assert rows(database, "SELECT state FROM jobs.jobs") == [("running",)]


async def test_a_cancel_of_a_running_job_asks_and_leaves_its_lease(files: Database, desk: Desk) -> None:
    job = await given(files, SendNote("long"))
    [found] = await Claimer(files, "files", "w1").claim(1)
    asked = await desk.cancel(job)
    assert (asked.state, asked.lease, asked.HasField("cancel_time")) == (pb.JOB_STATE_RUNNING, 1, True)
    async with files.begin(ANNA) as tx:
        await complete(tx, found.lease)
    assert (await desk.get(job)).state == pb.JOB_STATE_DONE


@pytest.mark.control("J1", "an operator ends jobs that wait and jobs that run")
async def test_a_running_job_that_is_cancelled_stops_at_once_however_rarely_its_worker_beats(
    files: Database, desk: Desk
) -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def handle(job: SendNote, lease: Lease) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    worker = Worker(files, "files", {SendNote: handle}, timing=Timing(beat_seconds=3600, dead_seconds=14400))
    await worker.start()
    try:
        job = await given(files, SendNote("long"))
        await until(begun.is_set, "the job's beginning")
        await desk.cancel(job)
        await until(stopped.is_set, "the job's end")
        await until(lambda: _ended(desk, job), "the job's history")
    finally:
        await worker.drain(5)
        await worker.stop()


async def _ended(desk: Desk, job: str) -> bool:
    return (await desk.get(job)).state == pb.JOB_STATE_CANCELLED


@pytest.mark.control("J1", "a late writer changes nothing")
async def test_a_late_writer_of_a_retried_dead_job_changes_nothing(files: Database, desk: Desk) -> None:
    job = await given(files, SendNote("again"))
    [found] = await Claimer(files, "files", "w1").claim(1)
    await settle(files, "files", [Told(found.lease, found.type, "dead", error="OSError")])
    await desk.retry(job)
    with pytest.raises(StaleLease):
        async with files.begin(ANNA) as tx:
            await complete(tx, found.lease)
    [again] = await Claimer(files, "files", "w1").claim(1)
    assert await settle(files, "files", [Told(found.lease, found.type, "done")]) == {}
    assert await settle(files, "files", [Told(again.lease, again.type, "done")]) == {
        (job, again.lease.lease): "finished"
    }


async def test_a_paused_queue_lets_nothing_begin_until_it_is_resumed(
    files: Database, desk: Desk, database: TestDatabase, audited: Callable[[], list[str]]
) -> None:
    job = await given(files, SendNote("waits"))
    name = "services/files/queues/default"
    paused = await told(desk.stub.PauseQueue(pb.PauseQueueRequest(name=name, reason="too hot"), timeout=20))
    assert (paused.queue.paused_by, paused.queue.pause_reason) == (f"uid:{os.geteuid()}", "too hot")
    assert await Claimer(files, "files", "w1").claim(5) == []
    shown = (await desk.queues())[name]
    assert (shown.ready_jobs, shown.running_jobs, shown.workers) == (1, 0, 1)
    assert shown.pause_time == paused.queue.pause_time
    for _ in range(2):
        resumed = await told(desk.stub.ResumeQueue(pb.ResumeQueueRequest(name=name), timeout=20))
        assert not resumed.queue.HasField("pause_time")
    assert [found.lease.job_id for found in await Claimer(files, "files", "w1").claim(5)] == [job]
    assert audited() == ["queue.paused", "queue.resumed"]
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        await told(desk.stub.PauseQueue(pb.PauseQueueRequest(name="services/nobody/queues/default"), timeout=20))


async def test_queues_tell_what_is_in_them(files: Database, desk: Desk, database: TestDatabase) -> None:
    change(database, "DELETE FROM jobs.workers")
    assert await desk.queues() == {}
    await dead(files, SendNote("dead"))
    await given(files, SendNote("later"), run_at=support.IN_AN_HOUR)
    for number in range(3):
        await given(files, SendNote(str(number)))
    await Claimer(files, "files", "w1").claim(1)
    change(database, "UPDATE jobs.jobs SET run_at = clock_timestamp() - interval '90 seconds' WHERE state = 'ready'")
    [(name, queue)] = (await desk.queues()).items()
    assert name == "services/files/queues/default"
    assert (queue.ready_jobs, queue.running_jobs, queue.scheduled_jobs, queue.dead_jobs) == (2, 1, 1, 1)
    assert queue.workers == 0
    assert 90 <= queue.oldest_ready_seconds < 200


async def test_nobody_but_backup_may_reach_another_services_jobs(files: Database, database: TestDatabase) -> None:
    job = await given(files, SendNote("of files"))
    calls = ("jobs.cancel_job('x')", "jobs.retry_job('x')", "jobs.hold('a', 'b')", "jobs.get_job('x', now(), true)")
    for service in ("auth", "files", "events"):
        async with database.session(f"holdfast_{service}") as session:
            for call in calls:
                with pytest.raises(Exception, match="permission denied"):
                    await session.execute(f"SELECT {call}".encode())
    async with database.session("holdfast_backup") as session:
        found = await session.execute("SELECT count(*) FROM jobs.jobs")
        assert await found.fetchone() == (0,)
        found = await session.execute("SELECT outcome FROM jobs.cancel_job(%s)", [job])
        assert await found.fetchone() == ("ended",)
        with pytest.raises(Exception, match="permission denied"):
            await session.execute("SELECT jobs.make_ready('x', true)")
