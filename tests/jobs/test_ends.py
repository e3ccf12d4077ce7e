"""Ends that nobody planned: a job cancelled while it runs, a handler that never returns, an answer nobody can write."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from libs.db import Database
from libs.jobqueue import (
    Discard,
    JobInvalid,
    Lease,
    Outcome,
    Retry,
    Snooze,
    Timing,
    completion,
    heart,
    put_many,
    rescue,
)
from libs.jobqueue.enqueue import CANCEL, channel
from tests.jobs.doing import ANNA, execute, given, rows, working
from tests.jobs.samples import SHORT, Brief, SendNote, TryTwice
from tests.support.postgres import TestDatabase
from tests.support.waiting import until

RARELY = Timing(poll_seconds=0.2, beat_seconds=60, dead_seconds=240, reap_seconds=60, flush_seconds=0.01)
"""So rare a beat is not what ends the job."""


@pytest.mark.parametrize("told", [True, False], ids=["by a wake-up", "by the next beat"])
async def test_a_running_job_whose_end_is_asked_for_is_cancelled(
    files: Database, database: TestDatabase, told: bool
) -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def handle(job: SendNote, lease: Lease) -> None:
        if job.text == "short":
            return
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    [job] = await given(files, SendNote("long"))
    async with working(files, {SendNote: handle}, timing=RARELY if told else SHORT) as worker:
        async with asyncio.timeout(20):
            await begun.wait()
        if told:
            await until(lambda: worker._listener.working, "listening")
        execute(database, "UPDATE jobs.jobs SET cancel_requested_at = clock_timestamp() WHERE id = %s", job)
        if told:
            execute(database, "SELECT pg_notify(%s, %s)", channel("files"), CANCEL)
        async with asyncio.timeout(20):
            await stopped.wait()
        [other] = await given(files, SendNote("short"))
        await until(lambda: len(rows(database, "SELECT 1 FROM jobs.history")) == 2, "both ends")
    assert dict(rows(database, "SELECT id, outcome FROM jobs.history")) == {job: "cancelled", other: "done"}
    assert rows(database, "SELECT 1 FROM jobs.jobs") == []


@pytest.mark.control("J1", "a late writer changes nothing")
async def test_a_handler_that_ignores_its_end_loses_the_job_and_its_late_answer_does_not_count(
    files: Database, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (heart, rescue):
        monkeypatch.setattr(module, "GRACE_SECONDS", 0.2)
    released, ended = asyncio.Event(), list[int]()

    async def handle(job: Brief, lease: Lease) -> Outcome | None:
        while lease.lease == 1 and not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue
        ended.append(lease.lease)
        return Discard("too late") if lease.lease == 1 else None

    events: list[tuple[str, str]] = []
    [job] = await given(files, Brief("x"))
    async with working(files, {Brief: handle}, events, concurrency=2):
        try:
            await until(lambda: rows(database, "SELECT 1 FROM jobs.history") != [], "the second run")
            assert ended == [2]
        finally:
            released.set()
        await until(lambda: ended == [2, 1], "the first one's late end")
        [after] = await given(files, Brief("y"))
        execute(database, "UPDATE jobs.jobs SET lease = 5")
        await until(lambda: len(rows(database, "SELECT 1 FROM jobs.history")) == 2, "the next job")
    found = rows(database, "SELECT id, lease, outcome, crashes, failures FROM jobs.history ORDER BY lease")
    assert found == [(job, 2, "done", 1, 0), (after, 6, "done", 0, 0)]
    assert rows(database, "SELECT 1 FROM jobs.jobs") == []


async def test_a_job_taken_back_past_its_deadline_is_counted_as_one_of_a_dead_worker_is(
    files: Database, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (heart, rescue):
        monkeypatch.setattr(module, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(rescue, "MAX_CRASHES", 2)
    released = asyncio.Event()

    async def handle(job: Brief, lease: Lease) -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    events: list[tuple[str, str]] = []
    await given(files, Brief("x"))
    async with working(files, {Brief: handle}, events, concurrency=3):
        try:
            await until(lambda: ("dead", "brief") in events, "the count of the second time")
        finally:
            released.set()
    assert events.count(("rescued", "brief")) == 1
    assert rows(database, "SELECT state, crashes, failures FROM jobs.jobs") == [("dead", 2, 0)]


async def test_a_job_that_no_release_knows_outlives_its_attempts_and_is_a_dead_letter_in_the_end(
    files: Database, database: TestDatabase
) -> None:
    async def handle(job: SendNote, lease: Lease) -> None:
        return None

    [job] = await given(files, TryTwice("?"))
    execute(database, "UPDATE jobs.jobs SET failures = max_attempts")
    events: list[tuple[str, str]] = []
    async with working(files, {SendNote: handle}, events):
        waits = "SELECT 1 FROM jobs.jobs WHERE state = 'scheduled' AND failures = %s"
        await until(lambda: rows(database, waits, TryTwice.max_attempts + 1) != [], "its next time")
        execute(database, "UPDATE jobs.jobs SET failures = %s, run_at = now()", completion.UNKNOWN_ATTEMPTS - 1)
        await until(lambda: rows(database, "SELECT 1 FROM jobs.jobs WHERE state = 'dead'") != [], "the dead letter")
        await until(lambda: ("dead", "try_twice") in events, "its count")
    found = rows(database, "SELECT id, failures, crashes, error FROM jobs.jobs")
    assert found == [(job, completion.UNKNOWN_ATTEMPTS, 0, "no handler for try_twice in this release")]


LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
LATER = datetime(2030, 1, 1, tzinfo=UTC)
ENDLESS = datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))
ANSWERS: dict[str, tuple[Any, tuple[str, str]]] = {
    "a zero character": (Discard("a\0b"), ("discarded", "ab")),
    "half a character": (Discard("a\ud800b"), ("discarded", "a?b")),
    "a long text": (Discard("x" * 5000), ("discarded", "x" * 500)),
    "no text": (Discard(None), ("dead", "its end could not be written")),  # type: ignore[arg-type]  # as careless code
    "no time": (Snooze("whenever"), ("dead", "JobInvalid: Snooze.at has to be a datetime.")),  # type: ignore[arg-type]
    "a time without a zone": (Snooze(LATER.replace(tzinfo=None)), ("scheduled", "")),
    "behind the end of time": (Retry(ENDLESS, "busy"), ("scheduled", "busy")),
    "before all time": (Snooze(datetime.min.replace(tzinfo=timezone(timedelta(hours=12)))), ("done", "")),
    "the beginning of time": (Snooze(datetime.min.replace(tzinfo=UTC)), ("done", "")),
    "no outcome at all": ("done", ("done", "")),
    "later": (Snooze(LATER), ("scheduled", "")),
    "fine": (None, ("done", "")),
}


async def test_an_answer_that_cannot_be_written_stops_no_other(files: Database, database: TestDatabase) -> None:
    barrier = asyncio.Barrier(len(ANSWERS))

    async def handle(job: SendNote, lease: Lease) -> Any:
        if lease.lease > 1:
            return None
        await barrier.wait()
        return ANSWERS[job.text][0]

    names = {(await given(files, SendNote(text)))[0]: text for text in ANSWERS}
    async with working(files, {SendNote: handle}, concurrency=50):
        await until(lambda: rows(database, "SELECT 1 FROM jobs.jobs WHERE state IN ('ready', 'running')") == [], "ends")
    found = rows(
        database, "SELECT id, outcome, error FROM jobs.history UNION ALL SELECT id, state, error FROM jobs.jobs"
    )
    assert {names[job]: (end, error) for job, end, error in found} == {
        text: expected for text, (_, expected) in ANSWERS.items()
    }
    times = dict(rows(database, "SELECT payload ->> 'text', run_at FROM jobs.jobs WHERE state = 'scheduled'"))
    assert times["a time without a zone"] == times["later"] == LATER
    assert times["behind the end of time"].year == 9999


A_SNOOZE: Any = Snooze
A_RETRY: Any = Retry
CARELESS = {
    "a length of time": (A_SNOOZE(timedelta(minutes=5)), "Snooze.at has to be a datetime."),
    "seconds": (A_RETRY(5), "Retry.at has to be a datetime."),
    "no time to wait for": (A_SNOOZE(None), "Snooze.at has to be a datetime."),
    "a class": (A_RETRY, "The handler answered the class Retry, not a value of it."),
}


@pytest.mark.parametrize(("answer", "error"), CARELESS.values(), ids=CARELESS)
async def test_an_answer_that_says_no_time_is_a_dead_letter_and_does_not_stop_its_worker(
    files: Database, database: TestDatabase, answer: Any, error: str
) -> None:
    async def handle(job: SendNote, lease: Lease) -> Any:
        return answer if job.text == "careless" else None

    await given(files, SendNote("careless"), SendNote("fine"))
    async with working(files, {SendNote: handle}):
        await until(lambda: rows(database, "SELECT 1 FROM jobs.jobs WHERE state IN ('ready', 'running')") == [], "ends")
    assert rows(database, "SELECT state, failures, error FROM jobs.jobs") == [("dead", 1, f"JobInvalid: {error}")]
    assert rows(database, "SELECT outcome FROM jobs.history") == [("done",)]


@pytest.mark.parametrize(
    "run_at",
    [ENDLESS, timedelta(days=40_000), timedelta.max, datetime.min.replace(tzinfo=timezone(timedelta(hours=12)))],
)
async def test_a_job_for_outside_of_time_is_refused_at_once(files: Database, run_at: Any) -> None:
    with pytest.raises(JobInvalid):
        await given(files, SendNote("x"), run_at=run_at)
    assert await given(files, SendNote("x"), run_at=timedelta(days=36_500))


async def test_a_handler_whose_own_wait_was_cancelled_spends_an_attempt_and_does_not_run_for_ever(
    files: Database, database: TestDatabase
) -> None:
    async def handle(job: TryTwice, lease: Lease) -> None:
        waiting = asyncio.ensure_future(asyncio.Event().wait())
        waiting.cancel()
        await waiting

    await given(files, TryTwice("x"))
    async with working(files, {TryTwice: handle}):
        await until(lambda: rows(database, "SELECT 1 FROM jobs.jobs WHERE state = 'dead'") != [], "the dead letter")
    assert rows(database, "SELECT lease, failures, error FROM jobs.jobs") == [(2, 2, "CancelledError")]


async def test_a_job_whose_end_was_asked_for_while_it_failed_does_not_run_again(
    files: Database, database: TestDatabase
) -> None:
    leases: list[int] = []

    async def handle(job: SendNote, lease: Lease) -> Outcome:
        leases.append(lease.lease)
        execute(database, "UPDATE jobs.jobs SET cancel_requested_at = clock_timestamp()")
        return Retry(LONG_AGO)

    await given(files, SendNote("x"))
    async with working(files, {SendNote: handle}, timing=RARELY):
        await until(lambda: rows(database, "SELECT 1 FROM jobs.history") != [], "the end")
    assert rows(database, "SELECT outcome, lease FROM jobs.history") == [("cancelled", 2)]
    assert leases == [1]


async def test_a_job_that_an_operator_retries_runs_although_its_end_was_asked_for_before(
    files: Database, database: TestDatabase
) -> None:
    async def handle(job: SendNote, lease: Lease) -> None:
        return None

    [job] = await given(files, SendNote("x"), run_at=timedelta(hours=1))
    execute(database, "UPDATE jobs.jobs SET cancel_requested_at = clock_timestamp()")
    execute(database, "SELECT jobs.retry_job(%s)", job)
    async with working(files, {SendNote: handle}):
        await until(lambda: rows(database, "SELECT 1 FROM jobs.history") != [], "its end")
    assert rows(database, "SELECT outcome FROM jobs.history") == [("done",)]


async def test_a_job_whose_end_was_asked_for_before_a_restore_does_not_run_after_it(
    files: Database, database: TestDatabase
) -> None:
    ran: list[str] = []

    async def handle(job: SendNote, lease: Lease) -> None:
        ran.append(job.text)

    cancelled, _ = await given(files, SendNote("cancelled"), SendNote("other"))
    execute(database, "UPDATE jobs.jobs SET cancel_requested_at = clock_timestamp() WHERE id = %s", cancelled)
    execute(database, "SELECT jobs.hold('restored', 'test')")
    execute(database, "SELECT jobs.quarantine('', 1000)")
    execute(database, "SELECT jobs.open_guard('released', 'test')")
    execute(database, "SELECT jobs.release_page('files', false, '-infinity', '', 1000)")
    async with working(files, {SendNote: handle}):
        await until(lambda: len(rows(database, "SELECT 1 FROM jobs.history")) == 2, "both ends")
    assert ran == ["other"]
    assert rows(database, "SELECT id FROM jobs.history WHERE outcome = 'cancelled'") == [(cancelled,)]


async def test_jobs_that_become_due_at_once_do_not_wait_a_poll_for_each_thousand(
    files: Database, database: TestDatabase
) -> None:
    async def handle(job: SendNote, lease: Lease) -> None:
        return None

    async with files.begin(ANNA) as tx:
        await put_many(tx, [SendNote("x")] * 2001, run_at=timedelta(hours=1))
    execute(database, "UPDATE jobs.jobs SET run_at = clock_timestamp()")
    never = Timing(poll_seconds=3600, beat_seconds=60, dead_seconds=240, reap_seconds=60, flush_seconds=0.01)
    async with working(files, {SendNote: handle}, timing=never, concurrency=200):
        await until(lambda: rows(database, "SELECT count(*) FROM jobs.history") == [(2001,)], "the end of all")


@pytest.mark.control("J1", "what no handler can read goes to the dead letters")
@pytest.mark.parametrize("column", ["payload", "progress"])
@pytest.mark.parametrize("value", ["[" * 3000 + "]" * 3000, "1e5000"], ids=["too deep", "too long a number"])
async def test_a_job_whose_stored_json_python_cannot_read_is_a_dead_letter_and_holds_nobody_up(
    files: Database, database: TestDatabase, column: str, value: str
) -> None:
    """It failed each claim it was in, and with it every job behind it, for ever."""

    async def handle(job: SendNote, lease: Lease) -> None:
        return

    unreadable, _ = await given(files, SendNote("x"), SendNote("y"))
    execute(database, f"UPDATE jobs.jobs SET {column} = %s WHERE id = %s", value, unreadable)
    async with working(files, {SendNote: handle}):
        await until(lambda: rows(database, "SELECT 1 FROM jobs.history") != [], "the end of the other one")
        await until(lambda: rows(database, "SELECT 1 FROM jobs.jobs WHERE state = 'dead'") != [], "the dead letter")
    [(id_, failures, error)] = rows(database, "SELECT id, failures, error FROM jobs.jobs")
    assert (id_, failures) == (unreadable, 1)
    assert error.startswith("JobInvalid: The ")
