"""What the queue reads depends on what it takes: not on how much waits, not on what is finished and cannot be cleaned
away.

Each plan is the one Postgres ran for the real code, with row-level security armed, in the first rounds and after its
plans have become generic ones, without statistics and with them.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from libs.db import Database
from libs.jobqueue import put_many
from libs.jobqueue.claim import Claimer, Found
from libs.jobqueue.completion import Told, settle
from libs.jobqueue.marks import LAG_SECONDS, Marks
from libs.jobqueue.rescue import rescue
from libs.principal import User
from tests.jobs.doing import execute
from tests.jobs.filling import PRIORITIES, TENANTS, Plan, Plans, explain_all, fill
from tests.jobs.samples import SendNote
from tests.support.postgres import MakeDatabase, TestDatabase

ROUNDS = 12  # a prepared statement's plan is a generic one after ten
BATCH = 100
LARGE = {"jobs", "ready", "history"}


@dataclass(frozen=True, slots=True)
class Queue:
    """A filled database and the plans of what `files` does there."""

    database: TestDatabase
    files: Database
    plans: Plans

    async def plans_of(self, word: str, rounds: int = ROUNDS) -> list[Plan]:
        """The plans taken, of the statements with *word*."""
        found = self.plans.taken(word)
        assert len(found) == rounds
        return found


async def opened(make_database: MakeDatabase, **rows: int) -> AsyncIterator[Queue]:
    database = make_database(("db",))
    with database.admin() as admin:
        for table in ("jobs", "ready", "lanes"):
            # Vacuum would change the numbers in between.
            admin.execute(f"ALTER TABLE jobs.{table} SET (autovacuum_enabled = off)".encode())
        fill(admin, **rows)
        # However long the test takes, only who is made dead is dead.
        admin.execute(
            "INSERT INTO jobs.workers (id, service, beat_at) SELECT 'w' || n, 'files', 'infinity'"
            " FROM generate_series(1, 9) n"
        )
        explain_all(admin, database.name)
    files = database.connect("files")
    yield Queue(database, files, Plans(files))
    await database.close()
    with database.admin() as admin:
        # To drop the database would wait for every session of the cluster, also one that a test has cut off.
        admin.execute(f"TRUNCATE {', '.join(f'jobs.{table}' for table in sorted(LARGE))}".encode())


@pytest.fixture(scope="module")
async def small(make_database: MakeDatabase) -> AsyncIterator[Queue]:
    async for made in opened(make_database, ready=10_000, scheduled=10_000, history=10_000):
        yield made


@pytest.fixture(scope="module")
async def large(make_database: MakeDatabase) -> AsyncIterator[Queue]:
    async for made in opened(make_database, ready=1_000_000, scheduled=100_000, history=100_000):
        yield made


def lean(plan: Plan) -> None:
    """Every row of the large tables that was read was wanted, and found by an index or by its place."""
    for node in plan.nodes:
        if node.get("Relation Name", "") in LARGE and node["Node Type"].endswith("Scan"):
            assert node["Node Type"] == "Tid Scan" or "Index Cond" in node, node
            assert node.get("Rows Removed by Filter", 0) == 0, node


def per_job(plans: list[Plan], jobs: int = BATCH) -> float:
    """The blocks that the dearest of *plans* read for each of its *jobs*."""
    return max(plan.blocks for plan in plans) / jobs


def ends(found: list[Found], kind: str) -> list[Told]:
    return [Told(one.lease, one.type, kind) for one in found]


async def looks(queue: Queue) -> float:
    """Blocks for each lane of a look at all."""
    for _ in range(ROUNDS):
        assert len((await Claimer(queue.files, "files", "w1").look()).lowest) == TENANTS * PRIORITIES
    plans = await queue.plans_of("RECURSIVE live")
    for plan in plans:
        lean(plan)
        # Else each lane was held against each other one: with 10,000 of them for seconds.
        assert all(node.get("Rows Removed by Join Filter", 0) == 0 for node in plan.nodes)
    # The first one passes what earlier claims left, and makes the index forget it.
    return per_job(plans[1:], TENANTS * PRIORITIES)


async def claims_and_ends(queue: Queue) -> dict[str, float]:
    """Blocks for each job claimed, done, and given back."""
    claimer = Claimer(queue.files, "files", "w1")
    claimed, done, returned = [], [], []
    for _ in range(ROUNDS):
        found = await claimer.claim(BATCH)
        claimed += await queue.plans_of("WITH marks", 1)
        await settle(queue.files, "files", ends(found, "done"))
        done += await queue.plans_of("'done' AS kind", 1)
        found = await claimer.claim(BATCH)
        await settle(queue.files, "files", ends(found, "release"))
        returned += await queue.plans_of("decided AS", 1)
    for plan in [*claimed, *done, *returned]:
        lean(plan)
    for plan in claimed:
        scans = [node for node in plan.on("ready") if node["Node Type"] != "Tid Scan"]
        assert len(scans) == 3
        for scan in scans:
            assert all(f"({part}" in scan["Index Cond"] for part in ("tenant =", "priority =", '"position" >'))
            assert "Filter" not in scan
    return {"claim": per_job(claimed), "done": per_job(done), "release": per_job(returned)}


async def puts(queue: Queue) -> float:
    for _ in range(ROUNDS):
        async with queue.files.begin(User("t0", "u")) as tx:
            await put_many(tx, [SendNote(str(n)) for n in range(BATCH)])
    plans = await queue.plans_of("INSERT INTO jobs.jobs")
    for plan in plans:
        lean(plan)
    return per_job(plans)


async def promotions(queue: Queue) -> float:
    """Blocks for each job that has become due, while all others wait for another day."""
    claimer, plans = Claimer(queue.files, "files", "w1"), []
    for _ in range(ROUNDS):
        execute(
            queue.database,
            "UPDATE jobs.jobs SET run_at = clock_timestamp() WHERE id = ANY (ARRAY("
            f" SELECT id FROM jobs.jobs WHERE state = 'scheduled' ORDER BY service, run_at, id LIMIT {BATCH}))",
        )
        assert await claimer.promote() == BATCH
        plans += await queue.plans_of("WITH due", 1)
    assert await claimer.promote() == 0
    [idle] = await queue.plans_of("WITH due", 1)
    for plan in [*plans, idle]:
        lean(plan)
    return per_job([*plans, idle])


async def rescues(queue: Queue) -> float:
    """Blocks for each job of a dead worker, beside a living one that runs as many."""
    plans = []
    for _ in range(ROUNDS):
        for worker in ("w2", "w3"):
            assert len(await Claimer(queue.files, "files", worker).claim(BATCH)) == BATCH
        execute(queue.database, "UPDATE jobs.workers SET beat_at = '-infinity' WHERE id = 'w2'")
        queue.plans.taken("")
        assert len(await rescue(queue.files, "files", dead_seconds=40)) == BATCH
        plans += await queue.plans_of("WITH silent", 1)
        execute(queue.database, "INSERT INTO jobs.workers (id, service) VALUES ('w2', 'files')")
    for plan in plans:
        lean(plan)
    return per_job(plans)


async def figures(queue: Queue) -> dict[str, float]:
    """Blocks for each job of everything the queue does all day."""
    found = {"look": await looks(queue), "put": await puts(queue), **await claims_and_ends(queue)}
    return {**found, "promote": await promotions(queue), "rescue": await rescues(queue)}


BOUNDS = {"look": 40, "put": 15, "claim": 40, "done": 15, "release": 30, "promote": 20, "rescue": 25}


@pytest.mark.control("J2", "what the queue reads depends on what it takes")
async def test_what_a_statement_reads_depends_on_what_it_takes_and_not_on_a_million_jobs(
    small: Queue, large: Queue
) -> None:
    for statistics in (False, True):
        if statistics:
            for queue in (small, large):
                execute(queue.database, "ANALYZE jobs.jobs, jobs.ready, jobs.lanes, jobs.history")
        few, many = await figures(small), await figures(large)
        assert {name: blocks for name, blocks in many.items() if blocks > 1.5 * few[name] + 1} == {}, few
        assert {name: blocks for name, blocks in many.items() if blocks > BOUNDS[name]} == {}


@pytest.fixture
async def long_snapshot(make_database: MakeDatabase) -> AsyncIterator[Queue]:
    """A queue in whose database somebody has begun to read and does not end."""
    async for made in opened(make_database, ready=54_000):
        with made.database.admin() as reader:
            reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            reader.execute("SELECT count(*) FROM jobs.workers")
            yield made
            assert reader.execute("SELECT count(*) FROM jobs.ready").fetchone() == (54_000,)


@pytest.mark.control("J2", "what the queue reads depends on what it takes")
async def test_what_is_finished_and_cannot_be_cleaned_away_is_not_read_again(long_snapshot: Queue) -> None:
    queue, moment = long_snapshot, 0.0
    claimer = Claimer(queue.files, "files", "w1")
    claimer._marks = Marks(lambda: moment)

    async def round_of(jobs: int) -> dict[str, float]:
        nonlocal moment
        moment += LAG_SECONDS
        found = await claimer.claim(jobs)
        assert len(found) == jobs
        claimed = await queue.plans_of("WITH marks", 1)
        await settle(queue.files, "files", ends(found, "done"))
        return {"claim": per_job(claimed, jobs), "done": per_job(await queue.plans_of("'done' AS kind", 1), jobs)}

    first = [await round_of(BATCH) for _ in range(3)]
    for _ in range(50):
        await round_of(1000)
    # The marks of these are two lags old by the time that counts.
    last = [await round_of(BATCH) for _ in range(5)][2:]
    for name in ("claim", "done"):
        assert max(each[name] for each in last) <= 1.5 * max(each[name] for each in first) + 1, (first, last)
    claimer._marks.forget()
    assert (await round_of(BATCH))["claim"] > 10 * last[-1]["claim"]
