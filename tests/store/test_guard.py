"""The guard: a database that has gone back in time runs none of its old jobs until an operator says so."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from libs.db import Database
from libs.jobqueue import StaleLease, complete, put
from libs.jobqueue.claim import Claimer
from libs.principal import Operator, User
from services.backup.adapters.ledger import Ledger
from services.backup.domain.errors import GuardOpen
from services.backup.domain.heartbeat import Beat
from services.backup.ops.guard import Guard
from services.backup.ops.heartbeats import Heartbeats
from tests.jobs.samples import SendNote, TryTwice
from tests.support.jobs import IN_AN_HOUR
from tests.support.postgres import TestDatabase
from tests.support.waiting import until

ANNA, ROOT = User("oak", "anna"), Operator("uid:0")


@pytest.fixture
async def files(database: TestDatabase) -> AsyncIterator[Database]:
    with database.admin() as admin:
        admin.execute("TRUNCATE jobs.jobs, jobs.ready, jobs.lanes, jobs.history, jobs.workers")
        admin.execute("INSERT INTO jobs.workers (id, service) VALUES ('w1', 'files')")
        admin.execute(
            "UPDATE jobs.guard SET state = 'open', timeline = (SELECT database_timeline FROM jobs.guard_told())"
        )
    made = database.connect("files")
    yield made
    await made.stop()


@pytest.fixture
async def guard(database: TestDatabase, files: Database) -> AsyncIterator[Guard]:
    db = database.connect("backup")
    made = Guard(db)
    yield made
    await made.stop()
    await db.stop()


@pytest.fixture
def heart(database: TestDatabase, guard: Guard, tmp_path: Path) -> Callable[[], Heartbeats]:
    """The heartbeats of a service that was started anew, with its ledger."""
    ledger = tmp_path / "ledger"

    def started() -> Heartbeats:
        return Heartbeats(
            guard._db,
            Ledger(ledger),
            guard=guard,
            key=b"k" * 32,
            period_seconds=60,
            now=lambda: pytest.fail("no clock"),
        )

    return started


def rows(database: TestDatabase, query: str) -> list[tuple[Any, ...]]:
    with database.admin() as admin:
        return admin.execute(query.encode()).fetchall()


def go_back(database: TestDatabase, beats: int) -> None:
    """Take the newest *beats* heartbeats out of the database, as a restore to before them does."""
    with database.admin() as admin:
        admin.execute("SET session_replication_role = replica")
        admin.execute(
            "DELETE FROM backup.heartbeats WHERE sequence > (SELECT newest - %s FROM backup.heartbeat_counter)", [beats]
        )
        admin.execute("UPDATE backup.heartbeat_counter SET newest = newest - %s", [beats])


def other_timeline(database: TestDatabase) -> None:
    """Make the guard believe that jobs belong to another timeline than the database's."""
    with database.admin() as admin:
        admin.execute("UPDATE jobs.guard SET timeline = timeline + 7")


async def given(db: Database, job: Any, **how: Any) -> str:
    async with db.begin(ANNA) as tx:
        return await put(tx, job, **how)


async def claimed(files: Database) -> list[str]:
    return [found.lease.job_id for found in await Claimer(files, "files", "w1").claim(10)]


async def beaten(heart: Heartbeats, times: int = 1) -> list[Beat]:
    made = [await heart.beat() for _ in range(times)]
    return [beat for beat in made if beat is not None]


@pytest.mark.control("B6", "no job of a restored database runs before an operator has released it")
async def test_a_database_behind_its_heartbeats_runs_nothing_until_an_operator_releases_it(
    files: Database, guard: Guard, database: TestDatabase, heart: Callable[[], Heartbeats]
) -> None:
    await beaten(heart(), 3)
    waiting = [await given(files, SendNote("ready")), await given(files, SendNote("later"), run_at=IN_AN_HOUR)]
    assert (await guard.told()).may_run
    go_back(database, 2)
    [beat] = await beaten(heart())
    held = await guard.told()
    assert (held.state, held.may_run, held.changed_by) == ("held", False, "backup")
    assert str(beat.sequence + 1) in held.reason
    await guard.quarantine()
    assert rows(database, "SELECT DISTINCT state FROM jobs.jobs") == [("quarantined",)]
    assert rows(database, "SELECT count(*) FROM jobs.ready") == [(0,)]
    assert await claimed(files) == []
    done = await guard.release(ROOT, discard=False)
    assert (done.requeued, done.discarded, done.dead) == (2, 0, 0)
    assert [(await guard.told()).changed_by, (await guard.told()).may_run] == ["uid:0", True]
    assert await claimed(files) == waiting[:1]
    assert rows(database, "SELECT state FROM jobs.jobs ORDER BY id") == [("running",), ("scheduled",)]


async def test_a_database_that_has_its_heartbeats_is_left_alone(
    files: Database, guard: Guard, heart: Callable[[], Heartbeats]
) -> None:
    job = await given(files, SendNote("ready"))
    await beaten(heart(), 2)
    await beaten(heart(), 2)
    assert (await guard.told()).state == "open"
    assert await claimed(files) == [job]
    with pytest.raises(GuardOpen):
        await guard.release(ROOT, discard=True)


async def test_a_released_database_is_not_held_again_by_what_the_ledger_knew(
    guard: Guard, database: TestDatabase, heart: Callable[[], Heartbeats]
) -> None:
    await beaten(heart(), 5)
    go_back(database, 4)
    await beaten(heart())
    assert (await guard.told()).state == "held"
    await guard.release(ROOT, discard=False)
    for _ in range(2):
        await beaten(heart(), 2)
        assert (await guard.told()).state == "open"
    go_back(database, 1)
    await beaten(heart())
    assert (await guard.told()).state == "held"


async def test_a_restored_database_that_has_caught_up_in_numbers_is_found_by_its_signature(
    guard: Guard, database: TestDatabase, heart: Callable[[], Heartbeats], tmp_path: Path
) -> None:
    await beaten(heart(), 3)
    go_back(database, 2)
    other = Heartbeats(
        guard._db, Ledger(tmp_path / "other"), guard=guard, key=b"k" * 32, period_seconds=60,
        now=lambda: pytest.fail("no clock"),
    )  # fmt: skip
    await beaten(other, 5)
    assert (await guard.told()).state == "open"
    await beaten(heart())
    held = await guard.told()
    assert (held.state, "is not the one that is known" in held.reason) == ("held", True)


async def test_a_failover_that_lost_no_heartbeat_is_accepted_and_said(
    files: Database, guard: Guard, database: TestDatabase, heart: Callable[[], Heartbeats]
) -> None:
    job = await given(files, SendNote("ready"))
    await beaten(heart(), 2)
    other_timeline(database)
    assert await claimed(files) == []
    await beaten(heart())
    now = await guard.told()
    assert (now.state, now.may_run, now.timeline) == ("open", True, now.database_timeline)
    assert "no heartbeat is missing" in now.reason
    assert rows(database, "SELECT action FROM audit.entries ORDER BY id DESC LIMIT 1") == [("jobs.timeline_accepted",)]
    assert await claimed(files) == [job]


async def test_a_failover_that_lost_a_heartbeat_is_held(
    files: Database, guard: Guard, database: TestDatabase, heart: Callable[[], Heartbeats]
) -> None:
    await beaten(heart(), 2)
    other_timeline(database)
    go_back(database, 1)
    await beaten(heart())
    now = await guard.told()
    assert (now.state, now.may_run) == ("held", False)
    assert rows(database, "SELECT action FROM audit.entries ORDER BY id DESC LIMIT 1") == [("jobs.held",)]


async def test_a_new_timeline_is_held_where_no_heartbeat_is_kept(
    guard: Guard, database: TestDatabase, heart: Callable[[], Heartbeats]
) -> None:
    other_timeline(database)
    await beaten(heart())
    assert (await guard.told()).state == "held"
    await guard.release(ROOT, discard=False)
    await beaten(heart())
    assert (await guard.told()).state == "open"


@pytest.mark.control("J1", "a late writer changes nothing")
async def test_a_worker_that_ran_a_job_when_it_was_quarantined_changes_nothing(
    files: Database, guard: Guard, database: TestDatabase, heart: Callable[[], Heartbeats]
) -> None:
    await beaten(heart(), 2)
    job, after = await given(files, SendNote("runs")), None
    [found] = await Claimer(files, "files", "w1").claim(1)
    go_back(database, 1)
    await beaten(heart())
    await guard.quarantine()
    with pytest.raises(StaleLease):
        async with files.begin(ANNA) as tx:
            await complete(tx, found.lease)
    await guard.release(ROOT, discard=False)
    [after] = await Claimer(files, "files", "w1").claim(1)
    assert (after.lease.job_id, after.lease.lease) == (job, found.lease.lease + 1)
    async with files.begin(ANNA) as tx:
        await complete(tx, after.lease)


def _waits(database: TestDatabase, sessions: int) -> bool:
    return rows(database, "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted") >= [(sessions,)]


@pytest.mark.control("B6", "no job of a restored database runs before an operator has released it")
async def test_a_quarantine_that_still_runs_does_not_take_a_released_job_back(
    files: Database, guard: Guard, database: TestDatabase, heart: Callable[[], Heartbeats]
) -> None:
    await beaten(heart(), 2)
    job = await given(files, SendNote("ready"))
    go_back(database, 1)
    await beaten(heart())
    await guard.quarantine()
    other = Guard(guard._db)
    with database.admin() as admin:
        admin.execute("BEGIN")
        admin.execute("SELECT FROM jobs.guard FOR UPDATE")
        released = asyncio.create_task(guard.release(ROOT, discard=False))
        await until(lambda: _waits(database, 1), "a release that waits for the guard")
        late = asyncio.create_task(other.quarantine())
        await until(lambda: late.done() or _waits(database, 2), "a quarantine that runs beside it")
        admin.execute("COMMIT")
    await asyncio.gather(released, late)
    assert await claimed(files) == [job]


async def test_a_release_that_was_broken_off_gives_up_no_newer_job_when_it_is_repeated(
    files: Database, guard: Guard, database: TestDatabase, heart: Callable[[], Heartbeats]
) -> None:
    await beaten(heart(), 2)
    old = await given(files, SendNote("old"))
    go_back(database, 1)
    await beaten(heart())
    await guard.quarantine()
    with database.admin() as admin:
        admin.execute("SELECT jobs.open_guard('released', 'uid:0')")
    new = await given(files, SendNote("new"))
    done = await guard.release(ROOT, discard=True)
    assert (done.requeued, done.discarded) == (0, 1)
    assert rows(database, "SELECT id, outcome FROM jobs.history") == [(old, "cancelled")]
    assert await claimed(files) == [new]


async def test_quarantined_jobs_can_be_given_up_and_dead_letters_stay(
    files: Database, guard: Guard, database: TestDatabase, heart: Callable[[], Heartbeats]
) -> None:
    await beaten(heart(), 2)
    dead, job = await given(files, SendNote("dead")), await given(files, SendNote("old"))
    with database.admin() as admin:
        admin.execute("UPDATE jobs.jobs SET state = 'dead', finished_at = clock_timestamp() WHERE id = %s", [dead])
    go_back(database, 1)
    await beaten(heart())
    done = await guard.release(ROOT, discard=True)
    assert (done.requeued, done.discarded) == (0, 1)
    assert rows(database, "SELECT id, outcome FROM jobs.history") == [(job, "cancelled")]
    assert rows(database, "SELECT id, state FROM jobs.jobs") == [(dead, "dead")]


async def test_jobs_of_another_timeline_are_given_up_also_before_a_heartbeat_has_held_them(
    files: Database, guard: Guard, database: TestDatabase
) -> None:
    job = await given(files, SendNote("old"))
    other_timeline(database)
    done = await guard.release(ROOT, discard=True)
    assert (done.requeued, done.discarded) == (0, 1)
    assert rows(database, "SELECT id, outcome FROM jobs.history") == [(job, "cancelled")]
    new = await given(files, SendNote("new"))
    assert await claimed(files) == [new]


async def test_what_is_put_while_jobs_are_held_waits_and_is_not_quarantined(
    files: Database, guard: Guard, database: TestDatabase, heart: Callable[[], Heartbeats]
) -> None:
    await beaten(heart(), 2)
    old = await given(files, TryTwice("old"), unique="once")
    go_back(database, 1)
    await beaten(heart())
    await guard.quarantine()
    new = await given(files, TryTwice("new"), unique="once")
    await guard.quarantine()
    assert new != old
    assert rows(database, "SELECT id, state FROM jobs.jobs ORDER BY id") == [(old, "quarantined"), (new, "ready")]
    assert await claimed(files) == []
    done = await guard.release(ROOT, discard=False)
    assert (done.requeued, done.dead) == (0, 1)
    assert rows(database, "SELECT state FROM jobs.jobs WHERE id = " + f"'{old}'") == [("dead",)]
    assert await claimed(files) == [new]


async def test_a_ledger_whose_numbers_went_back_forgets_what_was_lost(
    heart: Callable[[], Heartbeats], guard: Guard, database: TestDatabase, tmp_path: Path
) -> None:
    made = await beaten(heart(), 4)
    go_back(database, 3)
    [after] = await beaten(heart())
    assert Ledger(tmp_path / "ledger").beats() == [made[0], after]


def epoch(database: TestDatabase) -> str:
    [(found,)] = rows(database, "SELECT epoch FROM events.epoch")
    return str(found)


@pytest.mark.control("B6", "the event epoch is bumped after a restore")
async def test_a_restored_database_begins_one_new_epoch_whoever_finds_it_and_how_often(
    guard: Guard, database: TestDatabase, heart: Callable[[], Heartbeats], tmp_path: Path
) -> None:
    before = epoch(database)
    await beaten(heart(), 3)
    assert epoch(database) == before
    # Another host that knows of the same future, or this one after a crash before it noted what it had done.
    shutil.copytree(tmp_path / "ledger", tmp_path / "other")
    other = Heartbeats(
        guard._db, Ledger(tmp_path / "other"), guard=guard, key=b"k" * 32, period_seconds=60,
        now=lambda: pytest.fail("no clock"),
    )  # fmt: skip
    go_back(database, 2)
    await beaten(heart())
    after = epoch(database)
    assert after != before
    await beaten(heart(), 2)
    await guard.release(ROOT, discard=False)
    await beaten(heart())
    go_back(database, 3)
    await beaten(other)
    assert (await guard.told()).state == "held"
    assert epoch(database) == after


@pytest.mark.control("B6", "the event epoch is bumped after a restore")
async def test_a_database_that_is_restored_again_while_it_is_held_begins_another_epoch(
    guard: Guard, database: TestDatabase, heart: Callable[[], Heartbeats]
) -> None:
    await beaten(heart(), 3)
    epochs = [epoch(database)]
    for _ in range(3):
        go_back(database, 1)
        await beaten(heart())
        epochs.append(epoch(database))
    assert (await guard.told()).state == "held"
    assert len(set(epochs)) == 4


@pytest.mark.control("B6", "the event epoch is bumped after a restore")
async def test_a_failover_keeps_the_epoch_unless_it_lost_a_heartbeat(
    guard: Guard, database: TestDatabase, heart: Callable[[], Heartbeats]
) -> None:
    before = epoch(database)
    await beaten(heart(), 2)
    other_timeline(database)
    await beaten(heart())
    assert ("no heartbeat is missing" in (await guard.told()).reason, epoch(database)) == (True, before)
    other_timeline(database)
    go_back(database, 1)
    await beaten(heart())
    assert epoch(database) != before


async def test_an_epoch_that_a_wrong_clock_dated_ahead_stops_no_new_one(
    guard: Guard, database: TestDatabase, heart: Callable[[], Heartbeats]
) -> None:
    before = epoch(database)
    with database.admin() as admin:
        admin.execute("UPDATE events.epoch SET changed_at = now() + interval '1 year'")
    await beaten(heart(), 2)
    go_back(database, 1)
    await beaten(heart())
    after = epoch(database)
    assert after != before
    await beaten(heart(), 2)
    assert epoch(database) == after


async def test_a_new_timeline_where_no_heartbeat_is_kept_begins_a_new_epoch(
    guard: Guard, database: TestDatabase, heart: Callable[[], Heartbeats]
) -> None:
    before = epoch(database)
    other_timeline(database)
    await beaten(heart())
    after = epoch(database)
    assert after != before
    await beaten(heart(), 2)
    assert epoch(database) == after
