"""Workers in this process and what becomes of the jobs they answer."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from libs.db import Database
from libs.jobqueue import Cancelled, Discard, Lease, Outcome, Retry, Snooze, complete, put
from libs.jobqueue.claim import Found
from libs.jobqueue.completion import Told, settle
from libs.jobqueue.run import Run
from libs.principal import User
from tests.jobs.doing import ANNA, rows, working
from tests.jobs.samples import Brief, SendNote, TryTwice
from tests.support.postgres import TestDatabase
from tests.support.waiting import until


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


async def given(files: Database, job: Any, **how: Any) -> str:
    async with files.begin(ANNA) as tx:
        return await put(tx, job, **how)


async def test_a_job_put_is_run_once_for_its_principal_and_leaves_a_line_of_history(
    files: Database, database: TestDatabase
) -> None:
    ran: list[tuple[SendNote, Lease]] = []

    async def handle(job: SendNote, lease: Lease) -> None:
        ran.append((job, lease))

    async with working(files, {SendNote: handle}):
        job = await given(files, SendNote("hello", 2))
        await until(
            lambda: rows(database, "SELECT id, outcome FROM jobs.history") == [(job, "done")], "the end of the job"
        )
    assert ran == [(SendNote("hello", 2), Lease(job, 1, 1, User("oak", "anna", actor="files")))]
    assert rows(database, "SELECT id FROM jobs.jobs UNION ALL SELECT job_id FROM jobs.ready") == []


@pytest.mark.control("J1", "retries wait longer each time")
async def test_each_answer_of_a_handler_ends_its_job_its_own_way(
    files: Database, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.jobqueue.run.backoff_seconds", lambda attempt: 60.0)  # not due before it is looked at
    later = datetime.now(UTC) + timedelta(hours=2)
    answers: dict[str, Outcome | None] = {
        "discard": Discard("too old"),
        "cancel": Cancelled(),
        "snooze": Snooze(later),
        "retry": Retry(later, "busy"),
        "backoff": Retry(),
    }

    async def handle(job: SendNote, lease: Lease) -> Outcome | None:
        if job.text == "complete":
            async with files.begin(lease.principal) as tx:
                return await complete(tx, lease)
        if job.text == "raise":
            raise KeyError("a value that must not be stored")
        return answers[job.text]

    jobs = {text: await given(files, SendNote(text)) for text in [*answers, "complete", "raise"]}
    events: list[tuple[str, str]] = []
    async with working(files, {SendNote: handle}, events):
        await until(lambda: rows(database, "SELECT 1 FROM jobs.jobs WHERE state <> 'scheduled'") == [], "their ends")
    finished = {text: (outcome, error) for text, outcome, error in _history(database, jobs)}
    assert finished == {"discard": ("discarded", "too old"), "cancel": ("cancelled", ""), "complete": ("done", "")}
    waiting = dict(rows(database, "SELECT payload ->> 'text', (failures, error)::text FROM jobs.jobs"))
    assert waiting == {"snooze": '(0,"")', "retry": "(1,busy)", "backoff": '(1,"")', "raise": "(1,KeyError)"}
    assert rows(database, "SELECT 1 FROM jobs.jobs WHERE run_at <= clock_timestamp()") == []
    assert ("stale", "send_note") not in events


def _history(database: TestDatabase, jobs: dict[str, str]) -> list[tuple[str, str, str]]:
    names = {job: text for text, job in jobs.items()}
    return [
        (names[job], outcome, error)
        for job, outcome, error in rows(database, "SELECT id, outcome, error FROM jobs.history")
    ]


async def test_a_job_that_is_due_does_not_wait_for_the_queue_to_empty(files: Database, database: TestDatabase) -> None:
    ran = asyncio.Event()

    async def handle(job: SendNote, lease: Lease) -> None:
        if job.text == "due":
            ran.set()
        elif not ran.is_set():
            async with files.begin(lease.principal) as tx:
                await put(tx, SendNote("endless"))

    await given(files, SendNote("due"), run_at=datetime.now(UTC) + timedelta(seconds=0.3))
    for _ in range(4):
        await given(files, SendNote("endless"))
    async with working(files, {SendNote: handle}, concurrency=2):
        async with asyncio.timeout(20):
            await ran.wait()


@pytest.mark.control("J1", "what no handler can read goes to the dead letters")
async def test_an_unreadable_payload_is_a_dead_letter_an_unknown_type_waits_for_a_newer_release_and_others_go_on(
    files: Database, database: TestDatabase
) -> None:
    async def handle(job: SendNote, lease: Lease) -> None:
        return None

    unknown, broken = await given(files, TryTwice("?")), await given(files, SendNote("x"))
    with database.admin() as admin:
        admin.execute('UPDATE jobs.jobs SET payload = \'{"text": 5, "colour": true}\' WHERE id = %s', [broken])
    good = await given(files, SendNote("fine"))
    async with working(files, {SendNote: handle}):
        await until(lambda: rows(database, "SELECT id FROM jobs.jobs WHERE state = 'ready'") == [], "their ends")
        await until(lambda: rows(database, "SELECT id FROM jobs.jobs WHERE state = 'running'") == [], "their ends")
    assert rows(database, "SELECT id FROM jobs.jobs WHERE state = 'dead'") == [(broken,)]
    waiting = rows(database, "SELECT id, failures, error FROM jobs.jobs WHERE state = 'scheduled'")
    assert waiting == [(unknown, 1, "no handler for try_twice in this release")]
    assert rows(database, "SELECT id FROM jobs.history") == [(good,)]


async def test_a_handler_past_its_time_is_stopped_and_its_job_retried(files: Database, database: TestDatabase) -> None:
    stopped = asyncio.Event()

    async def handle(job: Brief, lease: Lease) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    await given(files, Brief("slow"))
    async with working(files, {Brief: handle}):
        await until(
            lambda: rows(database, "SELECT failures FROM jobs.jobs WHERE state = 'scheduled'") == [(1,)], "the retry"
        )
    assert stopped.is_set()
    assert rows(database, "SELECT error, crashes FROM jobs.jobs") == [("TimeoutError", 0)]


async def test_draining_gives_unfinished_jobs_back_unharmed_and_claims_nothing_more(
    files: Database, database: TestDatabase
) -> None:
    begun = asyncio.Event()

    async def handle(job: SendNote, lease: Lease) -> None:
        begun.set()
        await asyncio.Event().wait()

    job = await given(files, SendNote("long"))
    async with working(files, {SendNote: handle}, concurrency=2) as worker:
        async with asyncio.timeout(20):
            await begun.wait()
        worker.refuse()
        other = await given(files, SendNote("untouched"))
        await worker.drain(0.05)
    found = rows(database, "SELECT id, state, lease, failures, crashes FROM jobs.jobs ORDER BY id")
    assert found == [(job, "ready", 1, 0, 0), (other, "ready", 0, 0, 0)]
    # Whoever reaps next looks after what it may have left, then removes it.
    assert rows(database, "SELECT id FROM jobs.workers WHERE beat_at > '-infinity'") == []


_BUSY = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND usename <> user AND state <> 'idle'"
_SLOW_COMMIT = """
    CREATE FUNCTION jobs.slowly() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER slowly AFTER UPDATE ON jobs.jobs DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION jobs.slowly();
"""


@pytest.mark.parametrize(
    ("hold", "waiting", "lease"),
    [
        ("LOCK TABLE jobs.ready IN EXCLUSIVE MODE", "relation", 0),
        ("SELECT pg_advisory_xact_lock(7)", "advisory", 1),
    ],
    ids=["before it found the job", "while it is committed"],
)
async def test_a_claim_under_way_at_a_refusal_leaves_its_job_unharmed_for_others(
    files: Database, database: TestDatabase, hold: str, waiting: str, lease: int
) -> None:
    ran: list[int] = []

    async def handle(job: SendNote, lease: Lease) -> None:
        ran.append(lease.lease)

    job = await given(files, SendNote("untouched"))
    with database.admin() as admin:
        admin.execute(_SLOW_COMMIT)
        try:
            with database.admin() as holder:
                holder.execute("BEGIN")
                holder.execute(hold.encode())
                async with working(files, {SendNote: handle}) as worker:
                    await until(lambda: rows(database, _stuck(waiting)) != [], "the claim under way")
                    worker.refuse()
                    holder.execute("ROLLBACK")
                    await until(lambda: rows(database, _BUSY) == [], "the end of the claim")
        finally:
            admin.execute("DROP FUNCTION jobs.slowly CASCADE")
    found = rows(database, "SELECT id, state, lease, failures, crashes FROM jobs.jobs")
    assert (ran, found) == ([], [(job, "ready", lease, 0, 0)])
    async with working(files, {SendNote: handle}):
        await until(lambda: ran == [lease + 1], "the next worker's run")


def _stuck(waiting: str) -> str:
    """Asks for the claim, or its commit, that waits for a lock of this kind."""
    query = "COMMIT" if waiting == "advisory" else "%WITH marks%"
    return (
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        f" AND wait_event = '{waiting}' AND query LIKE '{query}'"
    )


async def test_a_job_given_back_before_its_handler_is_reached_is_given_back_all_the_same() -> None:
    ran: list[str] = []

    async def handle(job: SendNote, lease: Lease) -> None:
        ran.append(job.text)

    told: asyncio.Queue[Told] = asyncio.Queue()
    found = Found("send_note", '{"text": "early", "times": 1}', Lease("a", 1, 1, ANNA), 5)
    for early in (True, False):
        run = Run(found, (SendNote, handle), until=0.0, ended=told.put_nowait, vanished=lambda _run: None)
        run.start(asyncio.get_running_loop())
        if early:
            run.release()
        async with asyncio.timeout(20):
            assert (await told.get()).kind == ("release" if early else "done")
    assert ran == ["early"]


@pytest.mark.control("J1", "a late writer changes nothing")
async def test_a_worker_that_lost_a_job_stops_it_and_its_result_does_not_count(
    files: Database, database: TestDatabase
) -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def handle(job: SendNote, lease: Lease) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    job = await given(files, SendNote("long"))
    async with working(files, {SendNote: handle}):
        async with asyncio.timeout(20):
            await begun.wait()
        with database.admin() as admin:
            admin.execute("UPDATE jobs.jobs SET lease = lease + 1, worker_id = 'other' WHERE id = %s", [job])
            admin.execute(
                "INSERT INTO jobs.workers (id, service, beat_at) VALUES ('other', 'files', now() + interval '1 day')"
            )
        async with asyncio.timeout(20):
            await stopped.wait()
    assert rows(database, "SELECT state, lease, worker_id FROM jobs.jobs") == [("running", 2, "other")]
    heir = Told(Lease(job, 2, 1, ANNA), "send_note", "done")
    assert await settle(files, "files", [heir]) == {(job, heir.lease.lease): "finished"}


@pytest.mark.control("J1", "workers go on when the database comes back")
async def test_a_worker_whose_connections_are_cut_goes_on(files: Database, database: TestDatabase) -> None:
    ran = asyncio.Event()

    async def handle(job: SendNote, lease: Lease) -> None:
        ran.set()

    async with working(files, {SendNote: handle}):
        first = await given(files, SendNote("before"))
        await until(lambda: rows(database, "SELECT id FROM jobs.history") == [(first,)], "the first job")
        with database.admin() as admin:
            cut = admin.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'holdfast_files'"
            )
            assert cut.fetchall()[0][0] >= 2
        second = await given(files, SendNote("after"))
        await until(
            lambda: {row[0] for row in rows(database, "SELECT id FROM jobs.history")} == {first, second},
            "the second job",
        )
