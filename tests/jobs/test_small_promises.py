"""Small promises of the queue that no other test would miss: a count, a margin, a wake-up, the last page."""

import asyncio
import math
import queue
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from holdfast.jobs.v1 import job_service_pb2 as pb
from libs.db import Database, Listener
from libs.jobqueue import Lease, heart, rescue
from libs.jobqueue.claim import Claimer
from libs.jobqueue.completion import Told, settle
from libs.jobqueue.enqueue import channel
from libs.jobqueue.figures import Figures
from libs.jobqueue.settler import Settler
from libs.jobqueue.strays import Strays
from libs.observability.metric import Metrics
from libs.principal import User
from tests.jobs.doing import claimed, execute, given, rows, working
from tests.jobs.samples import SendNote
from tests.support import jobs as support
from tests.support.postgres import TestDatabase
from tests.support.waiting import until

HOUR = 3600.0
DIED = "UPDATE jobs.workers SET beat_at = clock_timestamp() - interval '1 hour' WHERE id = %s"
LIVES = "UPDATE jobs.workers SET beat_at = clock_timestamp() WHERE id = %s"
PAST_DEADLINE = "UPDATE jobs.jobs SET deadline_at = clock_timestamp() - %s * interval '1 second'"


@pytest.mark.control("J1", "what no handler can read goes to the dead letters")
async def test_a_job_that_goes_straight_to_the_dead_letters_counts_one_failure(
    files: Database, database: TestDatabase
) -> None:
    async def handle(job: SendNote, lease: Lease) -> None:
        return None

    await given(files, SendNote("x"))
    execute(database, "UPDATE jobs.jobs SET payload = %s", '{"colour": true}')
    async with working(files, {SendNote: handle}):
        await until(lambda: rows(database, "SELECT 1 FROM jobs.jobs WHERE state = 'dead'") != [], "the dead letter")
    assert rows(database, "SELECT lease, failures, crashes FROM jobs.jobs") == [(1, 1, 0)]


@asynccontextmanager
async def replica(files: Database, database: TestDatabase) -> AsyncIterator[Callable[[str], Awaitable[list[str]]]]:
    """Another one, asked what it has heard since it was asked last; the word it is given comes last of that."""
    other, heard = database.connect("files"), list[str]()
    listener = Listener(other, [channel("files")], lambda _channel, payload: heard.append(payload))

    async def heard_until(last: str) -> list[str]:
        # Wake-ups of one process keep their order, so what came before this one has been heard with it.
        files.waker.notify(channel("files"), last)
        await until(lambda: last in heard, last)
        found, heard[:] = list(heard), []
        return found

    await listener.start()
    try:
        await until(lambda: listener.working, "listening")
        await heard_until("the beginning")
        yield heard_until
    finally:
        await listener.stop()


async def test_ends_that_make_a_job_ready_wake_other_replicas_and_ends_that_do_not_wake_nobody(
    files: Database, database: TestDatabase
) -> None:
    await given(files, SendNote("done"), SendNote("dead"), SendNote("released"))
    done, dead, released = (Told(f.lease, f.type, "") for f in await Claimer(files, "files", "w1").claim(3))
    async with replica(files, database) as heard_until:
        assert len(await settle(files, "files", [done._replace(kind="done"), dead._replace(kind="dead")])) == 2
        assert await heard_until("those that ended") == ["those that ended"]
        assert list((await settle(files, "files", [released._replace(kind="release")])).values()) == ["ready"]
        assert await heard_until("the released one") == ["", "the released one"]


async def test_jobs_taken_back_from_a_dead_worker_wake_other_replicas_and_dead_letters_wake_nobody(
    files: Database, database: TestDatabase
) -> None:
    await given(files, SendNote("x"), SendNote("y"))
    for worker in ("w1", "w2"):
        await claimed(files, worker)
        execute(database, DIED, worker)
    most = rescue.MAX_CRASHES
    async with replica(files, database) as heard_until:
        for crashes, state, told in ((most - 1, "dead", []), (0, "ready", [""])):
            execute(database, "UPDATE jobs.jobs SET crashes = %s WHERE state = 'running'", crashes)
            execute(database, LIVES if state == "dead" else DIED, "w2")
            found = await rescue.rescue(files, "files", dead_seconds=40)
            assert (found, await heard_until(state)) == ([("send_note", state)], [*told, state])


async def test_a_stray_that_its_worker_has_claimed_again_meanwhile_is_left_to_it(
    files: Database, database: TestDatabase
) -> None:
    await given(files, SendNote("x"))
    first = (await claimed(files)).lease
    strays, held = Strays(files, "files", "w1"), set[tuple[str, int]]()

    async def look() -> list[tuple[str, str]]:
        strays._not_before = 0.0
        return await strays.give_back(lambda job, lease: (job, lease) in held, lambda: (1, 1))

    assert await look() == []
    execute(database, "UPDATE jobs.jobs SET lease = lease + 1")
    held.add((first.job_id, first.lease + 1))
    assert await look() == []
    assert rows(database, "SELECT state, lease, crashes FROM jobs.jobs") == [("running", first.lease + 1, 0)]
    # The control: that claim's answer got lost as well.
    held.clear()
    assert await look() == []
    assert await look() == [("send_note", "ready")]


async def test_a_batch_of_ends_that_is_full_does_not_wait_for_the_tick(files: Database, database: TestDatabase) -> None:
    await given(files, *(SendNote(str(number)) for number in range(3)))
    settled: asyncio.Queue[int] = asyncio.Queue()
    settler = Settler(
        files, "files", HOUR, many=3, settled=lambda batch, states: settled.put_nowait(len(batch) + len(states))
    )
    running = asyncio.create_task(settler.run())
    for found in await Claimer(files, "files", "w1").claim(3):
        settler.tell(Told(found.lease, found.type, "done"))
        # So that it waits for the tick with fewer than are enough.
        await asyncio.sleep(0)
    async with asyncio.timeout(20):
        assert await settled.get() == 6
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.control("J1", "a job of a dead worker runs again")
async def test_a_dead_workers_row_stays_until_the_last_page_of_its_jobs(
    files: Database, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescue, "_PAGE", 2)
    await given(files, *(SendNote(str(number)) for number in range(3)))
    assert len(await Claimer(files, "files", "w1").claim(3)) == 3
    execute(database, DIED, "w1")
    left = (
        "SELECT (SELECT count(*) FROM jobs.jobs WHERE state = 'running'), array_agg(id ORDER BY id) FROM jobs.workers"
    )
    assert len(await rescue.rescue(files, "files", dead_seconds=40)) == 2
    assert rows(database, left) == [(1, ["w1", "w2"])]
    assert len(await rescue.rescue(files, "files", dead_seconds=40)) == 1
    assert rows(database, left) == [(0, ["w2"])]


async def test_a_worker_that_starts_runs_the_job_of_a_worker_that_nobody_knows(
    files: Database, database: TestDatabase
) -> None:
    async def handle(job: SendNote, lease: Lease) -> None:
        return None

    await given(files, SendNote("lost"))
    await claimed(files, "never heard of")
    async with working(files, {SendNote: handle}):
        await until(lambda: rows(database, "SELECT 1 FROM jobs.history") != [], "its end")
    assert rows(database, "SELECT outcome, lease, crashes FROM jobs.history") == [("done", 2, 1)]


@pytest.mark.control("J1", "a job of a dead worker runs again")
async def test_a_job_of_a_worker_that_nobody_knows_is_given_back_once_adopted(
    files: Database, database: TestDatabase
) -> None:
    await given(files, SendNote("lost"))
    lost = await claimed(files, "never heard of")
    await given(files, SendNote("runs"))
    runs = await claimed(files, "w2")
    assert await rescue.rescue(files, "files", dead_seconds=40) == []
    await rescue.adopt(files, "files")
    assert await rescue.rescue(files, "files", dead_seconds=40) == [("send_note", "ready")]
    states = dict(rows(database, "SELECT id, state FROM jobs.jobs"))
    assert states == {lost.lease.job_id: "ready", runs.lease.job_id: "running"}


async def test_a_job_past_its_deadline_is_left_to_its_worker_until_the_grace_is_over_by_the_databases_clock(
    files: Database, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescue, "GRACE_SECONDS", HOUR)
    await given(files, SendNote("late"))
    held = (await claimed(files)).lease
    asked = rescue.overrun("files", {held.job_id: held.lease})

    def taken_back(seconds_past: float) -> list[tuple[Any, ...]]:
        execute(database, PAST_DEADLINE, seconds_past)
        with psycopg.connect(**files.settings(), autocommit=True) as connection:
            return connection.execute(rescue.OVERRUN.encode(), asked).fetchall()

    assert taken_back(HOUR / 2) == []
    assert rows(database, "SELECT state, crashes FROM jobs.jobs") == [("running", 0)]
    assert [row[1:3] for row in taken_back(HOUR * 2)] == [("send_note", "ready")]


async def test_a_worker_claims_no_more_some_time_before_others_take_it_for_dead(
    files: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held() -> Mapping[str, heart.Hold]:
        return {}

    told: list[heart.Told] = []
    made = heart.Heart(
        files.settings(), ("files", "w3", "default"),
        beat_seconds=HOUR, dead_seconds=10 * HOUR, held=held, tell=told.append,
    )  # fmt: skip
    assert not made.alive
    made.start()
    try:
        await until(lambda: made.alive, "the first beat")
    finally:
        await asyncio.to_thread(made.stop)
    beaten = time.monotonic()
    alive = list[bool]()
    for hours in (5, 9):
        monkeypatch.setattr(heart, "time", SimpleNamespace(monotonic=lambda at=beaten + hours * HOUR: at))
        alive.append(made.alive)
    assert (alive, told) == ([True, False], [])


async def test_a_job_that_its_handler_has_just_finished_is_lost_by_the_second_beat_and_a_stolen_one_by_the_first(
    files: Database, database: TestDatabase
) -> None:
    await given(files, SendNote("stolen"))
    stolen = (await claimed(files, "w3")).lease
    execute(database, "UPDATE jobs.jobs SET lease = lease + 1")
    holds = {"finished": heart.Hold(1, math.inf), stolen.job_id: heart.Hold(stolen.lease, math.inf)}
    told: queue.Queue[heart.Told] = queue.Queue()
    made = heart.Heart(
        files.settings(), ("files", "w3", "default"),
        beat_seconds=HOUR, dead_seconds=10 * HOUR, held=lambda: holds, tell=told.put,
    )  # fmt: skip
    made.start()
    try:
        first = await asyncio.to_thread(told.get, timeout=20)
        del holds[stolen.job_id]
        made.hurry()
        second = await asyncio.to_thread(told.get, timeout=20)
    finally:
        await asyncio.to_thread(made.stop)
    assert (first.lost, second.lost) == ({stolen.job_id: stolen.lease}, {"finished": 1})


async def test_the_age_of_the_oldest_ready_job_is_that_of_the_oldest_over_all_lanes(
    files: Database, database: TestDatabase
) -> None:
    for tenant, texts, priority in (("ash", "3", 0), ("birch", "10 2", 0), ("birch", "1", 5), ("cedar", "5", 0)):
        await given(files, *(SendNote(text) for text in texts.split()), who=User(tenant, "u"), priority=priority)
    execute(database, "UPDATE jobs.jobs SET run_at = clock_timestamp() - (payload ->> 'text')::int * interval '1 hour'")
    metrics = Metrics()
    await Figures(metrics, files, "files").refresh()
    age = metrics.registry.get_sample_value("holdfast_jobs_oldest_ready_age_seconds", {"queue": "default"})
    assert age is not None
    assert 10 * HOUR <= age < 11 * HOUR


async def test_a_cancelled_job_at_the_head_of_its_lane_hides_the_age_of_none_behind_it(
    files: Database, database: TestDatabase
) -> None:
    first, *_ = await given(files, SendNote("x"), SendNote("y"))
    execute(database, "UPDATE jobs.jobs SET run_at = clock_timestamp() - interval '10 hours'")
    execute(database, "SELECT jobs.cancel_job(%s)", first)
    metrics = Metrics()
    await Figures(metrics, files, "files").refresh()
    age = metrics.registry.get_sample_value("holdfast_jobs_oldest_ready_age_seconds", {"queue": "default"})
    assert age is not None
    assert age >= 10 * HOUR


@pytest.mark.control("J1", "an operator ends jobs that wait and jobs that run")
@pytest.mark.parametrize("state", ["dead", "quarantined"])
async def test_a_job_that_waits_for_an_operator_is_ended_by_its_cancel_and_another_is_not(
    files: Database, database: TestDatabase, state: str
) -> None:
    gone, kept = await given(files, SendNote("gone"), SendNote("kept"))
    execute(database, "UPDATE jobs.jobs SET state = %s, finished_at = clock_timestamp(), error = 'OSError'", state)
    async with support.desk(database) as desk:
        ended = await desk.cancel(gone)
        assert (ended.state, ended.error) == (pb.JOB_STATE_CANCELLED, "OSError")
        assert (await desk.get(gone)).state == pb.JOB_STATE_CANCELLED
    assert rows(database, "SELECT id, state FROM jobs.jobs") == [(kept, state)]
    assert rows(database, "SELECT id, outcome FROM jobs.history") == [(gone, "cancelled")]


async def test_a_running_job_that_is_cancelled_twice_keeps_the_time_of_the_first(
    files: Database, database: TestDatabase
) -> None:
    [job] = await given(files, SendNote("long"))
    await claimed(files)
    async with support.desk(database) as desk:
        first = await desk.cancel(job)
        second = await desk.cancel(job)
    assert first.HasField("cancel_time")
    assert (second.state, second.cancel_time) == (pb.JOB_STATE_RUNNING, first.cancel_time)
