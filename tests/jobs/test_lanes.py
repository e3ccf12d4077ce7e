"""Hints of a claim: marks in lanes, the list of lanes, and the look that puts both right."""

import asyncio

import pytest

from libs.db import Database
from libs.jobqueue import put
from libs.jobqueue.claim import Claimer
from libs.jobqueue.lanes import look
from libs.jobqueue.marks import LAG_SECONDS, Marks
from libs.principal import User
from tests.jobs.doing import ANNA, execute, given, rows
from tests.jobs.samples import SendNote
from tests.support.postgres import TestDatabase

OAK, ELM = ("oak", 0), ("elm", 5)
LANES = "SELECT tenant, priority FROM jobs.lanes ORDER BY tenant, priority"


class Moment:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def lag(self, times: float = 1.0) -> None:
        self.now += times * LAG_SECONDS * 1.001


async def taken(claimer: Claimer, slots: int = 10) -> list[str]:
    return [found.lease.job_id for found in await claimer.claim(slots)]


def test_a_mark_counts_between_one_and_two_lags_after_its_claim_and_never_goes_back() -> None:
    moment = Moment()
    marks = Marks(moment)
    marks.claimed(OAK, 7)
    marks.claimed(OAK, 5)
    moment.lag(0.9)
    assert marks.current() == {}
    moment.lag(0.2)
    assert marks.current() == {}
    marks.claimed(OAK, 9)
    moment.lag()
    assert marks.current() == {OAK: 7}
    moment.lag()
    assert marks.current() == {OAK: 9}
    marks.claimed(OAK, 3)
    moment.lag(5)
    marks.current()
    moment.lag(5)
    assert marks.current() == {OAK: 9}


def test_a_lane_in_which_something_was_left_behind_is_begun_before_it_whenever_its_mark_would_have_counted() -> None:
    moment = Moment()
    marks = Marks(moment)
    for position in (10, 20, 30):
        marks.claimed(OAK, position)
        marks.claimed(ELM, position)
        moment.lag()
        marks.current()
    marks.left_behind([(OAK, 4)])
    assert marks.current() == {OAK: 3, ELM: 20}
    moment.lag()
    assert marks.current() == {OAK: 3, ELM: 30}
    marks.left_behind([(ELM, 31)])
    assert marks.current() == {OAK: 3, ELM: 30}
    marks.forget()
    assert marks.current() == {}


def test_of_many_lanes_those_that_stood_still_for_longest_are_begun_at_their_front() -> None:
    moment = Moment()
    marks = Marks(moment)
    for turn in range(3):
        for tenant in range(600):
            marks.claimed((f"t{turn}-{tenant}", 0), 1)
        marks.claimed(OAK, turn + 1)
        moment.lag()
        marks.current()
    moment.lag()
    kept = marks.current()
    assert len(kept) == 1000
    assert kept[OAK] == 3
    assert ("t2-0", 0) in kept
    assert ("t0-0", 0) not in kept


async def test_a_ready_job_whose_lane_is_not_listed_is_found_by_a_look(files: Database, database: TestDatabase) -> None:
    [job] = await given(files, SendNote("x"))
    execute(database, "TRUNCATE jobs.lanes")
    claimer = Claimer(files, "files", "w1")
    assert await taken(claimer) == []
    assert [lane for lane, _ in (await claimer.look()).lowest] == [OAK]
    assert rows(database, LANES) == [OAK]
    assert await taken(claimer) == [job]


async def test_a_job_that_commits_behind_a_mark_is_found_by_a_look(files: Database, database: TestDatabase) -> None:
    moment = Moment()
    claimer = Claimer(files, "files", "w1")
    claimer._marks = Marks(moment)
    async with files.begin(ANNA) as tx:
        late = await put(tx, SendNote("late"))
        [early] = await given(files, SendNote("early"))
        assert await taken(claimer) == [early]
        for _ in range(2):
            moment.lag()
            assert await taken(claimer) == []
    # It got its place before the other one, and is there only now.
    assert await taken(claimer) == []
    await claimer.look()
    assert await taken(claimer) == [late]


async def test_a_job_that_commits_soon_is_found_without_a_look(files: Database) -> None:
    moment = Moment()
    claimer = Claimer(files, "files", "w1")
    claimer._marks = Marks(moment)
    async with files.begin(ANNA) as tx:
        late = await put(tx, SendNote("late"))
        [early] = await given(files, SendNote("early"))
        assert await taken(claimer) == [early]
        moment.lag(0.9)
    assert await taken(claimer) == [late]


async def test_a_lane_that_has_long_been_idle_or_is_listed_twice_is_dropped(
    files: Database, database: TestDatabase
) -> None:
    [job] = await given(files, SendNote("x"))
    execute(database, "INSERT INTO jobs.lanes (service, queue, tenant, priority) SELECT 'files', 'default', 'elm', 5")
    execute(database, "INSERT INTO jobs.lanes (service, queue, tenant, priority) SELECT 'auth', 'default', 'elm', 5")
    execute(database, "INSERT INTO jobs.lanes SELECT * FROM jobs.lanes WHERE service = 'files'")
    await look(files, "files", "default")
    assert len(rows(database, LANES)) == 5
    await look(files, "files", "default", idle_seconds=0)
    assert rows(database, LANES.replace("ORDER", "WHERE service = 'files' ORDER")) == [OAK]
    assert len(rows(database, LANES)) == 2
    assert await taken(Claimer(files, "files", "w1")) == [job]


async def test_a_lane_dropped_while_a_job_for_it_is_under_way_is_listed_again_by_the_next_look(
    files: Database, database: TestDatabase
) -> None:
    claimer = Claimer(files, "files", "w1")
    await given(files, SendNote("first"))
    await taken(claimer)
    async with files.begin(ANNA) as tx:
        job = await put(tx, SendNote("second"))
        await look(files, "files", "default", idle_seconds=0)
    assert rows(database, LANES) == []
    assert await taken(claimer) == []
    await claimer.look()
    assert await taken(claimer) == [job]


async def test_replicas_that_look_at_once_wait_for_nobody_and_lose_no_lane(
    files: Database, database: TestDatabase
) -> None:
    jobs = []
    for tenant in range(20):
        jobs += await given(files, SendNote("x"), who=User(f"t{tenant:02}", "u"))
    for _ in range(5):
        execute(database, "TRUNCATE jobs.lanes")
        await asyncio.gather(*(look(files, "files", "default", idle_seconds=0) for _ in range(3)))
        await asyncio.gather(*(look(files, "files", "default", idle_seconds=0) for _ in range(3)))
        assert {tenant for tenant, _ in rows(database, LANES)} == {f"t{tenant:02}" for tenant in range(20)}
    execute(database, "INSERT INTO jobs.lanes (service, queue, tenant, priority) SELECT 'files', 'default', 'idle', 0")
    with database.admin() as other:
        other.execute("BEGIN")
        other.execute("SELECT FROM jobs.lanes FOR UPDATE")
        async with asyncio.timeout(4):
            await look(files, "files", "default", idle_seconds=0)
        other.execute("ROLLBACK")
    await look(files, "files", "default", idle_seconds=0)
    assert len(rows(database, LANES)) == 20
    assert sorted(await taken(Claimer(files, "files", "w1"), 50)) == sorted(jobs)


@pytest.mark.parametrize("held", [False, True])
async def test_a_look_tells_whether_jobs_may_run(files: Database, database: TestDatabase, held: bool) -> None:
    if held:
        execute(database, "UPDATE jobs.guard SET state = 'held'")
    try:
        assert (await look(files, "files", "default")).may_run is not held
    finally:
        execute(database, "UPDATE jobs.guard SET state = 'open'")
