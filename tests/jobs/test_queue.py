"""The queue without a worker: putting, claiming in turn, the fence, rescue."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from libs.db import Database
from libs.jobqueue import JobInvalid, StaleLease, complete, put, put_many
from libs.jobqueue.claim import Claimer, Found
from libs.jobqueue.completion import Told, settle
from libs.jobqueue.job import decode, type_name
from libs.jobqueue.rescue import rescue, rotate
from libs.jobqueue.run import backoff_seconds
from libs.principal import Organization, Principal, System, User
from tests.jobs.samples import SendNote, TryTwice
from tests.support.postgres import TestDatabase

ANNA = User("oak", "anna")


@pytest.fixture(scope="module")
def database_trees() -> Sequence[str]:
    return ("db",)


@pytest.fixture
async def files(database: TestDatabase) -> AsyncIterator[Database]:
    with database.admin() as admin:
        admin.execute("TRUNCATE jobs.jobs, jobs.ready, jobs.lanes, jobs.history, jobs.workers")
        admin.execute("INSERT INTO jobs.workers (id, service) VALUES ('w1', 'files'), ('w2', 'files')")
    made = database.connect("files")
    yield made
    await made.stop()


async def given(files: Database, who: Principal, *jobs: Any, **how: Any) -> list[str]:
    async with files.begin(who) as tx:
        return [await put(tx, job, **how) for job in jobs]


def rows(database: TestDatabase, query: str) -> list[tuple[Any, ...]]:
    with database.admin() as admin:
        return admin.execute(query.encode()).fetchall()


def kill(database: TestDatabase, worker: str) -> None:
    """Make *worker*'s last heartbeat an hour old."""
    with database.admin() as admin:
        admin.execute("UPDATE jobs.workers SET beat_at = clock_timestamp() - interval '1 hour' WHERE id = %s", [worker])


def told(found: Found, kind: str = "done", **how: Any) -> Told:
    return Told(found.lease, found.type, kind, **how)


@pytest.mark.control("J2", "a job is there if and only if its transaction commits")
async def test_a_job_is_there_if_and_only_if_its_transaction_commits(files: Database, database: TestDatabase) -> None:
    async def undone() -> None:
        async with files.begin(ANNA) as tx:
            await put(tx, SendNote("undone"))
            raise LookupError

    with pytest.raises(LookupError):
        await undone()
    assert rows(database, "SELECT id FROM jobs.jobs") == rows(database, "SELECT job_id FROM jobs.ready") == []
    [kept] = await given(files, ANNA, SendNote("kept"))
    assert rows(database, "SELECT id FROM jobs.jobs") == rows(database, "SELECT job_id FROM jobs.ready") == [(kept,)]


async def test_a_claimed_job_carries_ids_of_whom_it_works_for(files: Database) -> None:
    for who in (replace(ANNA, actor="gateway"), Organization("elm"), System("files")):
        [job] = await given(files, who, SendNote("hello", 3))
        [found] = await Claimer(files, "files", "w1").claim(5)
        assert (found.lease.job_id, found.lease.principal, found.lease.attempt, found.lease.lease) == (job, who, 1, 1)
        assert (found.type, decode(SendNote, found.payload)) == ("send_note", SendNote("hello", 3))


async def test_put_many_keeps_the_order_and_priority_comes_first(files: Database) -> None:
    async with files.begin(ANNA) as tx:
        first = await put_many(tx, [SendNote(str(n)) for n in range(3)])
    [urgent] = await given(files, ANNA, SendNote("urgent"), priority=5)
    claimer = Claimer(files, "files", "w1")
    assert [(await claimer.claim(1))[0].lease.job_id for _ in range(4)] == [urgent, *first]


@pytest.mark.control("J1", "no job is claimed twice")
async def test_no_job_is_claimed_twice_while_another_claim_is_open(files: Database) -> None:
    jobs = await given(files, ANNA, *(SendNote(str(n)) for n in range(6)))
    first, second = Claimer(files, "files", "w1"), Claimer(files, "files", "w2")
    async with files.begin(System("files")) as tx:
        held = {row.id for row in await first._claimed(tx, 4)}
        other = {found.lease.job_id for found in await second.claim(4)}
    assert (len(held), len(other), held | other) == (4, 2, set(jobs))
    assert await first.claim(4) == []


@pytest.mark.control("J2", "a tenant's single job does not wait for another tenant's queue")
async def test_a_single_job_is_claimed_within_a_round_whatever_others_have_queued(files: Database) -> None:
    for tenant in range(6):
        await given(files, User(f"flood{tenant}", "u"), *(SendNote(str(n)) for n in range(20)))
    await given(files, User("modest", "u"), SendNote("mine"))
    claimer, seen = Claimer(files, "files", "w1"), []
    for _ in range(-(-7 // 2) + 1):
        batch = await claimer.claim(2)
        assert len(batch) == 2
        seen += [found.lease.principal for found in batch]
    assert User("modest", "u", actor="files") in seen
    assert len({getattr(who, "organization_id", "") for who in seen}) == 7


async def test_free_slots_are_used_by_the_tenants_that_have_work(files: Database) -> None:
    await given(files, User("large", "u"), *(SendNote(str(n)) for n in range(20)))
    await given(files, User("small", "u"), SendNote("one"))
    claimer = Claimer(files, "files", "w1")
    assert [len(await claimer.claim(8)) for _ in range(4)] == [5, 8, 8, 0]


async def test_a_scheduled_job_waits_outside_the_ready_rows_until_it_is_due(
    files: Database, database: TestDatabase
) -> None:
    [job] = await given(files, ANNA, SendNote("later"), run_at=datetime.now(UTC) + timedelta(hours=1))
    claimer = Claimer(files, "files", "w1")
    assert (await claimer.promote(), await claimer.claim(1)) == (0, [])
    assert rows(database, "SELECT job_id FROM jobs.ready") == []
    with database.admin() as admin:
        admin.execute("UPDATE jobs.jobs SET run_at = clock_timestamp()")
    assert await claimer.promote() == 1
    assert [found.lease.job_id for found in await claimer.claim(1)] == [job]
    [overdue] = await given(files, ANNA, SendNote("past"), run_at=datetime.now(UTC) - timedelta(hours=1))
    assert [found.lease.job_id for found in await claimer.claim(1)] == [overdue]


async def test_more_due_jobs_than_a_page_are_promoted_by_the_next_call_however_long_they_have_been_due(
    files: Database, database: TestDatabase
) -> None:
    async with files.begin(ANNA) as tx:
        await put_many(tx, [SendNote("x")] * 1001, run_at=timedelta(hours=1))
    with database.admin() as admin:
        admin.execute("UPDATE jobs.jobs SET run_at = clock_timestamp() - interval '1 hour'")
    claimer = Claimer(files, "files", "w1")
    assert [await claimer.promote() for _ in range(3)] == [1000, 1, 0]


async def test_a_job_that_commits_long_after_it_was_due_is_promoted_by_a_call_that_begins_at_the_front(
    files: Database, database: TestDatabase
) -> None:
    claimer = Claimer(files, "files", "w1")
    assert await claimer.promote() == 0
    await given(files, ANNA, SendNote("late"), run_at=timedelta(hours=1))
    with database.admin() as admin:
        admin.execute("UPDATE jobs.jobs SET run_at = clock_timestamp() - interval '1 hour'")
    assert await claimer.promote() == 0
    assert sum([await claimer.promote() for _ in range(60)]) == 1


@pytest.mark.control("J1", "no job is claimed twice")
@pytest.mark.parametrize("state", ["running", "scheduled", "dead", "quarantined"])
async def test_a_second_place_in_line_gives_no_job_away_that_is_not_ready(
    files: Database, database: TestDatabase, state: str
) -> None:
    await given(files, ANNA, SendNote("once"))
    with database.admin() as admin:
        admin.execute(
            "INSERT INTO jobs.ready (service, queue, tenant, priority, job_id)"
            " SELECT service, queue, tenant, priority, job_id FROM jobs.ready"
        )
        assert len(await Claimer(files, "files", "w1").claim(1)) == 1
        admin.execute("UPDATE jobs.jobs SET state = %s", [state])
    assert await Claimer(files, "files", "w2").claim(1) == []
    assert rows(database, "SELECT state, lease FROM jobs.jobs") == [(state, 1)]
    assert rows(database, "SELECT count(*) FROM jobs.ready") == [(0,)]


async def test_all_free_slots_are_given_out_also_when_tenants_do_not_divide_them(files: Database) -> None:
    for tenant in range(3):
        await given(files, User(f"t{tenant}", "u"), *(SendNote(str(n)) for n in range(9)))
    claimer = Claimer(files, "files", "w1")
    assert [len(await claimer.claim(8)) for _ in range(3)] == [8, 8, 8]


async def test_a_tenant_that_has_no_slot_left_takes_no_turn_from_others(files: Database) -> None:
    for tenant in ("ash", "birch"):
        await given(files, User(tenant, "u"), SendNote(tenant), SendNote(tenant))
    claimer = Claimer(files, "files", "w1")
    claimer._cursor = ""
    [found] = await claimer.claim(1, most=2, free={"ash": 0})
    assert decode(SendNote, found.payload) == SendNote("birch")


async def test_a_job_given_back_keeps_why_it_failed_before(files: Database, database: TestDatabase) -> None:
    await given(files, ANNA, SendNote("x"))
    claimer = Claimer(files, "files", "w1")
    for kind, error in (("retry", "OSError"), ("snooze", ""), ("release", "")):
        [found] = await claimer.claim(1)
        await settle(files, "files", [told(found, kind, error=error)])
    assert rows(database, "SELECT error, failures FROM jobs.jobs") == [("OSError", 1)]


@pytest.mark.control("J1", "a late writer changes nothing")
@pytest.mark.parametrize("kind", ["done", "retry", "snooze", "release", "dead", "discarded", "cancelled"])
async def test_a_late_writer_changes_nothing(files: Database, database: TestDatabase, kind: str) -> None:
    await given(files, ANNA, SendNote("once"))
    [zombie] = await Claimer(files, "files", "w1").claim(1)
    kill(database, "w1")
    assert await rescue(files, "files", dead_seconds=40) == [("send_note", "ready")]
    assert await settle(files, "files", [told(zombie, kind)]) == {}
    [heir] = await Claimer(files, "files", "w2").claim(1)
    before = rows(database, "SELECT * FROM jobs.jobs")
    assert await settle(files, "files", [told(zombie, kind)]) == {}
    assert rows(database, "SELECT * FROM jobs.jobs") == before
    assert rows(database, "SELECT * FROM jobs.ready") == rows(database, "SELECT * FROM jobs.history") == []
    assert heir.lease.lease == zombie.lease.lease + 1
    assert list(await settle(files, "files", [told(heir, kind)])) == [(heir.lease.job_id, heir.lease.lease)]


async def test_a_late_transactional_completion_undoes_the_handlers_writes(
    files: Database, database: TestDatabase
) -> None:
    await given(files, ANNA, SendNote("once"))
    [zombie] = await Claimer(files, "files", "w1").claim(1)
    kill(database, "w1")
    await rescue(files, "files", dead_seconds=40)
    [heir] = await Claimer(files, "files", "w2").claim(1)

    async def write_and_complete(found: Found, text: str) -> None:
        async with files.begin(found.lease.principal) as tx:
            await put(tx, SendNote(text))
            await complete(tx, found.lease)

    with pytest.raises(StaleLease):
        await write_and_complete(zombie, "late")
    await write_and_complete(heir, "in time")
    assert rows(database, "SELECT payload ->> 'text' FROM jobs.jobs") == [("in time",)]
    assert rows(database, "SELECT id, outcome, lease FROM jobs.history") == [(heir.lease.job_id, "done", 2)]


@pytest.mark.control("J1", "a job of a dead worker runs again")
async def test_only_a_dead_workers_jobs_are_taken_back(files: Database, database: TestDatabase) -> None:
    await given(files, ANNA, SendNote("a"), SendNote("b"))
    [lost] = await Claimer(files, "files", "w1").claim(1)
    [running] = await Claimer(files, "files", "w2").claim(1)
    kill(database, "w1")
    assert len(await rescue(files, "files", dead_seconds=40)) == 1
    states = dict(rows(database, "SELECT id, state FROM jobs.jobs"))
    assert states == {lost.lease.job_id: "ready", running.lease.job_id: "running"}
    assert rows(database, "SELECT crashes, failures FROM jobs.jobs WHERE state = 'ready'") == [(1, 0)]


@pytest.mark.control("J1", "a job that kills its workers goes to the dead letters")
async def test_a_job_that_kills_its_workers_goes_to_the_dead_letters(files: Database, database: TestDatabase) -> None:
    await given(files, ANNA, SendNote("poison"))
    ended = []
    for worker in ("w3", "w4", "w5"):
        with database.admin() as admin:
            admin.execute("INSERT INTO jobs.workers (id, service) VALUES (%s, 'files')", [worker])
        [found] = await Claimer(files, "files", worker).claim(1)
        assert found.lease.attempt == 1
        kill(database, worker)
        ended += await rescue(files, "files", dead_seconds=40)
    assert [state for _, state in ended] == ["ready", "ready", "dead"]
    assert rows(database, "SELECT state, crashes, failures, error FROM jobs.jobs") == [
        ("dead", 3, 0, "the worker died")
    ]


async def test_the_last_failed_attempt_goes_to_the_dead_letters(files: Database, database: TestDatabase) -> None:
    [job] = await given(files, ANNA, TryTwice("x"))
    claimer = Claimer(files, "files", "w1")
    states: list[str] = []
    for _ in range(2):
        [found] = await claimer.claim(1)
        states += (await settle(files, "files", [told(found, "retry", error="KeyError")])).values()
    assert states == ["ready", "dead"]
    assert rows(database, "SELECT id, failures, error FROM jobs.jobs") == [(job, 2, "KeyError")]


async def test_a_snooze_spends_no_attempt(files: Database, database: TestDatabase) -> None:
    await given(files, ANNA, TryTwice("x"))
    claimer = Claimer(files, "files", "w1")
    for lease in range(1, 5):
        [found] = await claimer.claim(1)
        assert (found.lease.lease, found.lease.attempt) == (lease, 1)
        await settle(files, "files", [told(found, "snooze")])


async def test_a_unique_key_is_held_until_the_job_ends_and_by_organization(files: Database) -> None:
    [first] = await given(files, ANNA, SendNote("a"), unique="k")
    assert await given(files, ANNA, SendNote("b"), unique="k") == [first]
    [other] = await given(files, User("birch", "bert"), SendNote("c"), unique="k")
    assert other != first
    found = await Claimer(files, "files", "w1").claim(2)
    assert await given(files, ANNA, SendNote("d"), unique="k") == [first]
    await settle(files, "files", [told(one) for one in found])
    [again] = await given(files, ANNA, SendNote("e"), unique="k")
    assert again not in (first, other)


async def test_a_service_sees_and_changes_its_own_queue_only(files: Database, database: TestDatabase) -> None:
    [job] = await given(files, ANNA, SendNote("files' own"))
    auth = database.connect("auth")
    try:
        assert await Claimer(auth, "files", "w1").claim(5) == []
        assert await Claimer(auth, "auth", "w1").claim(5) == []
    finally:
        await auth.stop()
    assert [found.lease.job_id for found in await Claimer(files, "files", "w1").claim(5)] == [job]


@dataclass(frozen=True)
class Holder:
    content: str


CARELESS: Any = Holder
LARGEST = "x" * (64 * 1024 - len('{"content":""}'))


@pytest.mark.parametrize(
    ("job", "how"),
    [
        (CARELESS(b"bytes"), {}),
        (CARELESS({"a": 1}), {}),
        (Holder(LARGEST + "x"), {}),
        ("no dataclass", {}),
        (Holder("x"), {"priority": 101}),
        (Holder("x"), {"priority": -101}),
        (Holder("x"), {"run_at": datetime(2026, 1, 1)}),  # noqa: DTZ001 - the missing zone is the point
        (Holder("x"), {"unique": "k" * 201}),
    ],
)
async def test_a_job_that_cannot_be_stored_is_refused_at_once(
    files: Database, database: TestDatabase, job: Any, how: dict[str, Any]
) -> None:
    with pytest.raises(JobInvalid):
        await given(files, ANNA, job, **how)
    assert rows(database, "SELECT id FROM jobs.jobs") == []
    await given(files, ANNA, Holder(LARGEST), priority=100, unique="k" * 200)
    await given(files, ANNA, Holder(LARGEST), priority=-100)
    assert rows(database, "SELECT count(*) FROM jobs.jobs") == [(2,)]


async def test_history_lies_in_days_and_old_days_are_dropped_whole(files: Database, database: TestDatabase) -> None:
    with database.admin() as admin:
        admin.execute(
            "CREATE TABLE jobs.history_20200101 PARTITION OF jobs.history"
            " FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')"
        )
    await given(files, ANNA, SendNote("today"))
    [found] = await Claimer(files, "files", "w1").claim(1)
    await settle(files, "files", [told(found)])
    today = "SELECT tableoid::regclass::text = 'jobs.history_' || to_char(current_date, 'YYYYMMDD') FROM jobs.history"
    assert rows(database, today) == [(True,)]
    await rotate(files, "files")
    assert rows(database, "SELECT to_regclass('jobs.history_20200101') IS NULL") == [(True,)]
    assert rows(database, "SELECT count(*) >= 3 FROM pg_inherits WHERE inhparent = 'jobs.history'::regclass") == [
        (True,)
    ]
    assert rows(database, today) == [(True,)]


@pytest.mark.parametrize(("name", "kind"), [("ExpireUpload", "expire_upload"), ("SendHTTPNote", "send_http_note")])
def test_a_types_name_is_its_class_in_snake_case(name: str, kind: str) -> None:
    assert type_name(type(name, (), {})) == kind


def test_backoff_doubles_up_to_an_hour_and_never_coincides() -> None:
    for attempt, middle in ((1, 1), (2, 2), (5, 16), (13, 3600), (10_000, 3600)):
        drawn = [backoff_seconds(attempt) for _ in range(50)]
        assert all(middle * 0.5 <= seconds <= middle * 1.5 for seconds in drawn)
        assert len(set(drawn)) > 40
