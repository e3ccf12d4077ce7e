"""Queues of one service, their pause, the guard against restored databases, and the share of one tenant."""

import asyncio
import enum
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Literal

import pytest

from libs.db import Database
from libs.jobqueue import JobInvalid, Lease, Worker, put, put_many
from libs.jobqueue.claim import Claimer
from libs.jobqueue.job import decode
from libs.principal import User
from tests.jobs.samples import SHORT, SendNote
from tests.support.postgres import TestDatabase
from tests.support.waiting import until

ANNA = User("oak", "anna")


@dataclass(frozen=True, slots=True)
class CopyArchive:
    """Takes hours, so it has a queue of its own."""

    queue: ClassVar[str] = "bulk"
    name: str


@dataclass(frozen=True, slots=True)
class Misnamed:
    queue: ClassVar[str] = "No Spaces"
    name: str


class Colour(enum.StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Painted:
    colour: Colour


@dataclass(frozen=True, slots=True)
class Lettered:
    letter: Literal["a", "b"]


@dataclass(frozen=True, slots=True)
class Listed:
    names: list[str] | str


@pytest.fixture(scope="module")
def database_trees() -> Sequence[str]:
    return ("db",)


@pytest.fixture
async def files(database: TestDatabase) -> AsyncIterator[Database]:
    with database.admin() as admin:
        admin.execute("TRUNCATE jobs.jobs, jobs.ready, jobs.lanes, jobs.history, jobs.workers, jobs.queues")
        admin.execute("INSERT INTO jobs.workers (id, service) VALUES ('w1', 'files')")
        admin.execute("UPDATE jobs.guard SET state = 'open', timeline = 1")
    made = database.connect("files")
    yield made
    await made.stop()


def rows(database: TestDatabase, query: str) -> list[tuple[Any, ...]]:
    with database.admin() as admin:
        return admin.execute(query.encode()).fetchall()


def execute(database: TestDatabase, statement: str) -> None:
    with database.admin() as admin:
        admin.execute(statement.encode())


async def given(files: Database, who: User, *jobs: Any, **how: Any) -> list[str]:
    async with files.begin(who) as tx:
        return [await put(tx, job, **how) for job in jobs]


@pytest.mark.control("J2", "worker pools follow the classification")
async def test_a_queue_full_of_long_jobs_keeps_no_other_queue_waiting(files: Database) -> None:
    long_ones = await given(files, ANNA, *(CopyArchive(str(n)) for n in range(3)))
    [quick] = await given(files, ANNA, SendNote("quick"))
    assert [found.lease.job_id for found in await Claimer(files, "files", "w1").claim(10)] == [quick]
    bulk = Claimer(files, "files", "w1", queue="bulk")
    assert [found.lease.job_id for found in await bulk.claim(10)] == long_ones


async def test_a_paused_queue_gives_nothing_until_it_is_resumed(files: Database, database: TestDatabase) -> None:
    [job] = await given(files, ANNA, SendNote("wait"))
    [other] = await given(files, ANNA, CopyArchive("goes on"))
    execute(database, "INSERT INTO jobs.queues (service, queue, paused_at) VALUES ('files', 'default', now())")
    claimer = Claimer(files, "files", "w1")
    assert await claimer.claim(5) == []
    assert [f.lease.job_id for f in await Claimer(files, "files", "w1", queue="bulk").claim(5)] == [other]
    execute(database, "UPDATE jobs.queues SET paused_at = NULL")
    assert [found.lease.job_id for found in await claimer.claim(5)] == [job]


@pytest.mark.control("B6", "no job of a restored database runs before an operator has released it")
@pytest.mark.parametrize("why", ["state = 'held'", "timeline = 7"])
async def test_a_database_that_may_be_a_restored_one_gives_no_job_away(
    files: Database, database: TestDatabase, why: str
) -> None:
    [job] = await given(files, ANNA, SendNote("sent before"))
    execute(database, f"UPDATE jobs.guard SET {why}")
    claimer = Claimer(files, "files", "w1")
    assert await claimer.claim(5) == []
    assert not (await claimer.look()).may_run
    execute(database, "UPDATE jobs.guard SET state = 'open', timeline = 1")
    assert [found.lease.job_id for found in await claimer.claim(5)] == [job]
    assert (await claimer.look()).may_run


@pytest.mark.control("J2", "one tenant runs no more at once than its slots")
async def test_one_tenant_runs_no_more_at_once_than_its_slots_and_others_use_the_rest(files: Database) -> None:
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    gate = asyncio.Event()

    async def handle(job: SendNote, lease: Lease) -> None:
        running[job.text] += 1
        most[job.text] = max(most[job.text], running[job.text])
        await gate.wait()
        running[job.text] -= 1

    await given(files, User("large", "u"), *(SendNote("large") for _ in range(10)))
    await given(files, User("small", "u"), *(SendNote("small") for _ in range(2)))
    ended: Counter[str] = Counter()
    worker = Worker(
        files, "files", {SendNote: handle}, concurrency=8, tenant_slots=3, timing=SHORT,
        observe=lambda event, _kind, count: ended.update({event: count}),
    )  # fmt: skip
    await worker.start()
    await until(lambda: running == Counter(large=3, small=2), "as many at once as may run")
    gate.set()
    await until(lambda: ended["done"] == 12, "the end of all")
    await worker.stop()
    assert most == Counter(large=3, small=2)


async def test_a_job_put_for_later_by_a_length_of_time_is_due_by_the_databases_clock(
    files: Database, database: TestDatabase
) -> None:
    [job] = await given(files, ANNA, SendNote("later"), run_at=timedelta(hours=2))
    [(ahead,)] = rows(database, f"SELECT run_at - created_at FROM jobs.jobs WHERE id = '{job}'")
    assert timedelta(hours=2) <= ahead < timedelta(hours=2, minutes=1)
    [now] = await given(files, ANNA, SendNote("now"), run_at=timedelta(0))
    assert [found.lease.job_id for found in await Claimer(files, "files", "w1").claim(5)] == [now]


@pytest.mark.parametrize(
    ("job", "how", "says"),
    [
        (SendNote("x"), {"run_at": timedelta(seconds=-1)}, "negative"),
        (SendNote("x"), {"run_at": datetime(2026, 1, 1)}, "time zone"),  # noqa: DTZ001 - that is what is refused
        (SendNote("x"), {"unique": "a\0b"}, "zero"),
        (SendNote("x"), {"unique": "a\ud800"}, "half"),
        (Painted(Colour.RED), {}, "declared"),
        (Lettered("a"), {}, "declared"),
        (Listed("a"), {}, "declared"),
        (SendNote("a\0b"), {}, "zero character"),
        (SendNote("\ud800"), {}, "cannot be stored"),
        (Misnamed("x"), {}, "queue"),
    ],
    ids=[
        "negative delay",
        "naive time",
        "zero in the key",
        "half a character in the key",
        "an enum",
        "a literal",
        "a list",
        "zero in the payload",
        "half a character",
        "queue's name",
    ],
)
async def test_what_cannot_be_put_is_refused_with_the_reason(
    files: Database, database: TestDatabase, job: Any, how: dict[str, Any], says: str
) -> None:
    with pytest.raises(JobInvalid, match=says):
        await given(files, ANNA, job, **how)
    assert rows(database, "SELECT id FROM jobs.jobs") == []
    await given(files, ANNA, SendNote("fine"), run_at=datetime.now(UTC))
    assert len(rows(database, "SELECT id FROM jobs.jobs")) == 1


async def test_jobs_of_several_types_put_at_once_go_to_their_queues_in_order(
    files: Database, database: TestDatabase
) -> None:
    async with files.begin(ANNA) as tx:
        made = await put_many(tx, [SendNote('with "quotes", \\ and {braces}'), CopyArchive("a"), SendNote("b")])
    found = rows(database, "SELECT id, queue, payload FROM jobs.jobs ORDER BY id")
    assert sorted(found) == sorted(
        [
            (made[0], "default", {"text": 'with "quotes", \\ and {braces}', "times": 1}),
            (made[1], "bulk", {"name": "a"}),
            (made[2], "default", {"text": "b", "times": 1}),
        ]
    )
    lanes = rows(database, "SELECT queue, tenant, priority FROM jobs.lanes ORDER BY queue")
    assert lanes == [("bulk", "oak", 0), ("default", "oak", 0)]


@pytest.mark.control("J2", "a tenant's single job does not wait for another tenant's queue")
@pytest.mark.parametrize("late", ["flood0005", "last"], ids=["just passed", "at the end of the round"])
@pytest.mark.parametrize(("tenants", "batch"), [(1, 4), (9, 4), (25, 10), (40, 7)])
async def test_with_n_tenants_each_is_served_within_n_over_b_claims_and_one(
    files: Database, tenants: int, batch: int, late: str
) -> None:
    for tenant in range(tenants - 1):
        async with files.begin(User(f"flood{tenant:03}", "u")) as tx:
            await put_many(tx, [SendNote("flood")] * 300)
    claimer = Claimer(files, "files", "w1")
    # Somewhere in the middle of a round another tenant's only job arrives.
    await claimer.claim(batch)
    await given(files, User(late, "u"), SendNote("mine"))
    bound = -(-tenants // batch) + 1
    claims = 0
    seen: list[Any] = []
    while "mine" not in seen and claims < bound + 5:
        claims += 1
        seen += [decode(SendNote, found.payload).text for found in await claimer.claim(batch)]
    assert claims <= bound
