"""Periodic jobs: which ticks are due, and never a double, whoever makes them."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from libs.db import Database
from libs.jobqueue import JobInvalid, Lease, Periodic, Timetable, periodic
from libs.principal import System
from tests.jobs.doing import execute, rows, working
from tests.jobs.samples import SendNote
from tests.support.postgres import TestDatabase
from tests.support.waiting import until

HOUR = timedelta(hours=1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
JOBS = "SELECT id FROM jobs.jobs ORDER BY id"
TICKS = "SELECT tick FROM jobs.ticks WHERE job_id <> '' ORDER BY tick"


def hourly(**how: Any) -> Periodic:
    return Periodic(SendNote("tick"), every=HOUR, **how)


def missed(database: TestDatabase, hours: int) -> None:
    """Leave the task as it was after its tick *hours* before the last one."""
    tick = "date_trunc('hour', clock_timestamp()) - %s * interval '1 hour'"
    execute(database, "TRUNCATE jobs.ticks, jobs.jobs, jobs.ready")
    execute(database, f"INSERT INTO jobs.ticks SELECT 'files', 'send_note', {tick}, ''", hours)


def test_ticks_lie_at_multiples_of_the_interval_since_1970_whoever_asks_and_when() -> None:
    day = Periodic(SendNote("x"), every=24 * HOUR, offset=3 * HOUR)
    assert day.last_tick(NOON) == datetime(2026, 3, 1, 3, tzinfo=UTC)
    assert day.last_tick(datetime(2026, 3, 1, 2, 59, 59, 999_999, tzinfo=UTC)) == datetime(2026, 2, 28, 3, tzinfo=UTC)
    assert day.last_tick(NOON.astimezone(tz=None)) == day.last_tick(NOON)
    assert hourly().last_tick(NOON) == hourly().last_tick(NOON + timedelta(minutes=59)) == NOON


@pytest.mark.parametrize(
    ("misfire", "late", "expected"),
    [
        ("once", timedelta(0), [0]),
        ("once", timedelta(minutes=50), [0]),
        ("skip", timedelta(minutes=4), [0]),
        ("skip", timedelta(minutes=6), []),
        ("all", timedelta(minutes=50), [-4, -3, -2, -1, 0]),
    ],
)
def test_what_was_missed_is_made_up_for_as_asked(misfire: Any, late: timedelta, expected: list[int]) -> None:
    due = hourly(misfire=misfire).due(NOON + late, NOON - 5 * HOUR)
    assert due == [NOON + hours * HOUR for hours in expected]
    assert hourly(misfire=misfire).due(NOON + late, NOON) == []
    assert hourly(misfire=misfire).due(NOON, NOON + HOUR) == []


def test_no_more_missed_ticks_are_made_up_for_than_asked() -> None:
    due = hourly(misfire="all", at_most=2).due(NOON, NOON - 5 * HOUR)
    assert due == [NOON - HOUR, NOON]
    # After a change of the interval the newest tick is none of the new ones.
    assert hourly(misfire="all").due(NOON, NOON - timedelta(minutes=90)) == [NOON - HOUR, NOON]


@pytest.mark.parametrize(
    "how",
    [{"every": timedelta(seconds=0.5)}, {"at_most": 0}, {"at_most": 1001}, {"name": "a\0"}, {"name": "x" * 192}],
)
def test_a_task_that_could_never_be_made_is_refused_at_once(how: dict[str, Any]) -> None:
    with pytest.raises(JobInvalid):
        Periodic(SendNote("x"), **{"every": HOUR, **how})
    with pytest.raises(JobInvalid):
        Periodic(b"no job", every=HOUR)


async def test_two_tasks_of_one_name_are_refused(files: Database) -> None:
    with pytest.raises(JobInvalid):
        Timetable(files, "files", [hourly(), hourly()])
    Timetable(files, "files", [hourly(), hourly(name="other")])


async def test_a_new_task_begins_at_its_next_tick(files: Database, database: TestDatabase) -> None:
    timetable = Timetable(files, "files", [hourly()])
    for _ in range(2):
        assert 0 < await timetable.make_due() <= 60
    assert (rows(database, JOBS), rows(database, "SELECT count(*) FROM jobs.ticks")) == ([], [(1,)])
    missed(database, 1)
    await timetable.make_due()
    assert len(rows(database, JOBS)) == 1


@pytest.mark.parametrize(("misfire", "made"), [("once", 1), ("all", 3)])
async def test_after_a_downtime_the_missed_jobs_are_made_once_by_whoever_comes_first(
    files: Database, database: TestDatabase, misfire: Any, made: int
) -> None:
    missed(database, 3)
    replicas = [Timetable(files, "files", [hourly(misfire=misfire)]) for _ in range(3)]
    await asyncio.gather(*(replica.make_due() for replica in replicas))
    await replicas[0].make_due()
    assert len(rows(database, JOBS)) == len(rows(database, TICKS)) == made
    assert rows(database, "SELECT job_id FROM jobs.ticks WHERE job_id <> '' ORDER BY job_id") == rows(database, JOBS)
    assert rows(database, "SELECT DISTINCT organization_id, state FROM jobs.jobs") == [("", "ready")]


async def test_who_comes_late_to_a_tick_undoes_his_job(files: Database, database: TestDatabase) -> None:
    missed(database, 1)
    task = hourly()
    slow, quick = Timetable(files, "files", [task]), Timetable(files, "files", [task])
    [(now,)] = rows(database, "SELECT clock_timestamp()")
    await quick.make_due()
    for tick in (task.last_tick(now), task.last_tick(now) - HOUR, task.last_tick(now) - 2 * HOUR):
        await slow._record(task, tick)
    assert len(rows(database, JOBS)) == len(rows(database, TICKS)) == 1


async def test_one_task_that_fails_keeps_no_other_from_being_made(files: Database, database: TestDatabase) -> None:
    missed(database, 1)
    execute(database, "INSERT INTO jobs.ticks SELECT service, 'a broken one', tick, '' FROM jobs.ticks")
    broken = replace(hourly(name="a broken one"))
    object.__setattr__(broken, "job", b"no job")
    await Timetable(files, "files", [broken, hourly()]).make_due()
    assert rows(database, "SELECT task FROM jobs.ticks WHERE job_id <> ''") == [("send_note",)]


async def test_a_task_that_stands_still_because_of_a_tick_in_the_future_is_told(
    files: Database, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a clock of the database leaves one that was ahead for a while: no job was made, and nobody told."""
    said: list[str] = []
    log = SimpleNamespace(error=lambda words, **facts: said.append(facts["task"]))
    monkeypatch.setattr(periodic, "_log", log)
    for hours_ago, told in ((1, []), (-24, ["send_note"])):
        missed(database, hours_ago)
        await Timetable(files, "files", [hourly()]).make_due()
        assert said == told


async def test_an_earlier_one_that_has_not_finished_can_keep_the_next_from_being_made(
    files: Database, database: TestDatabase
) -> None:
    for alone, expected in ((True, 1), (False, 3)):
        missed(database, 3)
        await Timetable(files, "files", [hourly(misfire="all", alone=alone)]).make_due()
        assert (len(rows(database, TICKS)), len(rows(database, JOBS))) == (3, expected)


async def test_old_ticks_are_removed(files: Database, database: TestDatabase) -> None:
    missed(database, 300)
    execute(database, "INSERT INTO jobs.ticks SELECT service, task, tick + interval '250 hours', '' FROM jobs.ticks")
    execute(database, "INSERT INTO jobs.ticks SELECT 'auth', task, tick, job_id FROM jobs.ticks")
    await Timetable(files, "files", [hourly()]).make_due()
    assert rows(database, "SELECT service, count(*) FROM jobs.ticks GROUP BY service ORDER BY service") == [
        ("auth", 2),
        ("files", 2),
    ]


async def test_nothing_is_made_while_the_database_may_be_a_restored_one(
    files: Database, database: TestDatabase
) -> None:
    missed(database, 2)
    timetable = Timetable(files, "files", [hourly()])
    execute(database, "UPDATE jobs.guard SET state = 'held'")
    try:
        await timetable.make_due()
        assert rows(database, JOBS) == []
    finally:
        execute(database, "UPDATE jobs.guard SET state = 'open'")
    await timetable.make_due()
    assert len(rows(database, JOBS)) == 1


async def test_a_periodic_job_runs_for_the_service_itself(files: Database, database: TestDatabase) -> None:
    ran: list[Lease] = []

    async def handle(job: SendNote, lease: Lease) -> None:
        ran.append(lease)

    timetable = Timetable(files, "files", [Periodic(SendNote("x"), every=timedelta(seconds=1))])
    async with working(files, {SendNote: handle}):
        await timetable.start()
        await until(lambda: len(ran) >= 2, "two ticks")
        timetable.refuse()
        await timetable.stop()
        await until(lambda: len(ran) == len(rows(database, TICKS)), "the last one")
    assert {lease.principal for lease in ran} == {System("files")}


@asynccontextmanager
async def replica(database: TestDatabase, hours: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that makes periodic jobs by a clock that is off; it ends with its standard input."""
    login = asdict(database.login("files"))
    login["database_password"] = login["database_password"]["value"].decode()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.jobs.ticking", json.dumps(login), str(hours),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=os.environ,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"started\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.control("J2", "periodic jobs never double")
async def test_three_replicas_with_clocks_hours_apart_make_each_tick_once_and_one_killed_is_not_missed(
    files: Database, database: TestDatabase
) -> None:
    def made(task: str) -> list[datetime]:
        return [tick for (tick,) in rows(database, f"{TICKS.replace('ORDER', 'AND task = %s ORDER')}", task)]

    async with replica(database, 7) as first, replica(database, -9), replica(database, 0):
        await until(lambda: len(made("sweep_up")) >= 3, "three ticks of three replicas")
        first.kill()
        await until(lambda: len(made("sweep_up")) >= 6, "three more of two")
    for task, seconds in (("sweep_up", 1), ("lock_up", 2)):
        ticks = made(task)
        assert ticks == [ticks[0] + n * timedelta(seconds=seconds) for n in range(len(ticks))]
        assert all(tick.timestamp() % seconds == 0 for tick in ticks)
        jobs = rows(database, "SELECT id FROM jobs.jobs WHERE type = %s ORDER BY id", task)
        known = "SELECT job_id FROM jobs.ticks WHERE task = %s AND job_id <> '' ORDER BY job_id"
        assert jobs == rows(database, known, task)
        assert len(jobs) == len(ticks) >= 3 / seconds
    assert rows(database, "SELECT 1 FROM jobs.ticks WHERE abs(extract(epoch FROM made_at - tick)) > 3600") == []
