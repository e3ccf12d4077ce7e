"""What is counted of jobs: asked of the database when somebody scrapes, and of nobody else's rows."""

from collections.abc import AsyncIterator, Sequence

import httpx
import pytest

from libs.db import Database
from libs.jobqueue import Lease, Retry, Worker, put
from libs.jobqueue.figures import Figures
from libs.observability.metric import Metrics, MetricsServer, exposition
from libs.principal import System, User
from tests.jobs.samples import SHORT, SendNote, TryTwice
from tests.support.jobs import IN_AN_HOUR
from tests.support.postgres import TestDatabase
from tests.support.waiting import until

ANNA = User("oak", "anna")
HERE = 'queue="default"'


@pytest.fixture(scope="module")
def database_trees() -> Sequence[str]:
    return ("db",)


@pytest.fixture
async def files(database: TestDatabase) -> AsyncIterator[Database]:
    with database.admin() as admin:
        admin.execute("TRUNCATE jobs.jobs, jobs.ready, jobs.lanes, jobs.history, jobs.workers, jobs.queues")
        admin.execute("UPDATE jobs.guard SET state = 'open'")
    made = database.connect("files")
    yield made
    await made.stop()


def shown(metrics: Metrics) -> dict[str, float]:
    """Series of jobs by their name and labels."""
    lines = [line for line in exposition(metrics.registry).decode().splitlines() if line.startswith("holdfast_jobs_")]
    return {line.rpartition(" ")[0].removeprefix("holdfast_jobs_"): float(line.rpartition(" ")[2]) for line in lines}


async def test_queues_are_counted_when_somebody_scrapes_and_not_of_another_service(
    files: Database, database: TestDatabase
) -> None:
    auth = database.connect("auth")
    async with auth.begin(System("auth")) as tx:
        await put(tx, SendNote("of auth"))
    async with files.begin(ANNA) as tx:
        await put(tx, SendNote("one"))
        await put(tx, SendNote("two"), run_at=IN_AN_HOUR)
    with database.admin() as admin:
        admin.execute(
            "UPDATE jobs.jobs SET run_at = clock_timestamp() - interval '1 minute' WHERE service = 'files'"
            " AND state = 'ready'"
        )
        admin.execute("INSERT INTO jobs.queues VALUES ('files', 'slow', clock_timestamp(), 'uid:0', '')")
    metrics = Metrics()
    figures = Figures(metrics, files, "files")
    assert not any(name.startswith("ready") for name in shown(metrics))
    server = MetricsServer("127.0.0.1:0", metrics.registry, refresh=figures.refresh)
    await server.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://{server.address}", trust_env=False) as client:
            assert (await client.get("/metrics")).status_code == 200
    finally:
        await server.stop()
    found = shown(metrics)
    told = [found[f"{name}{{{HERE}}}"] for name in ("ready", "running", "scheduled", "dead", "workers", "paused")]
    assert told == [1, 0, 1, 0, 0, 0]
    assert 60 <= found[f"oldest_ready_age_seconds{{{HERE}}}"] < 120
    assert found['paused{queue="slow"}'] == 1
    assert 'dead_tuples{table="ready"}' in found


async def test_what_workers_did_is_counted_by_type_and_outcome(files: Database, database: TestDatabase) -> None:
    metrics = Metrics()
    figures = Figures(metrics, files, "files")

    async def note(job: SendNote, lease: Lease) -> None:
        return

    async def fail(job: TryTwice, lease: Lease) -> Retry:
        return Retry(reason="no")

    worker = Worker(files, "files", {SendNote: note, TryTwice: fail}, timing=SHORT, observe=figures.observe)
    await worker.start()
    try:
        async with files.begin(ANNA) as tx:
            await put(tx, SendNote("one"))
            await put(tx, TryTwice("two"))
        await until(
            lambda: (
                shown(metrics).get('outcomes_total{outcome="retry",type="try_twice"}') == 1.0
                and shown(metrics).get('outcomes_total{outcome="done",type="send_note"}') == 1.0
            ),
            "both ends",
        )
        assert shown(metrics)['claimed_total{type="send_note"}'] == 1
        await figures.refresh()
        assert shown(metrics)[f"workers{{{HERE}}}"] == 1
        with database.admin() as admin:
            admin.execute("UPDATE jobs.guard SET state = 'held'")
        await until(lambda: shown(metrics)["held"] == 1, "the hold")
    finally:
        await worker.drain(5)
        await worker.stop()


def test_a_counter_is_there_before_its_first_event_or_no_alert_sees_it_rise(database: TestDatabase) -> None:
    metrics = Metrics()
    figures = Figures(metrics, database.connect("files"), "files")
    assert 'stale_writes_total{type="send_note"}' not in shown(metrics)
    figures.declare([SendNote])
    found = shown(metrics)
    for series in ("stale_writes_total", "rescued_total", "claimed_total"):
        assert found[f'{series}{{type="send_note"}}'] == 0
    assert found['outcomes_total{outcome="dead",type="send_note"}'] == 0


async def test_whoever_holds_an_old_snapshot_is_seen(files: Database, database: TestDatabase) -> None:
    metrics = Metrics()
    figures = Figures(metrics, files, "files")
    async with database.session("holdfast_auth") as session:
        await session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await session.execute("SELECT count(*) FROM jobs.jobs")
        for _ in range(5):
            async with files.begin(ANNA) as tx:
                await put(tx, SendNote("one"))
        await figures.refresh()
        assert shown(metrics)["oldest_snapshot_transactions"] >= 5


async def test_a_database_that_is_away_leaves_no_stale_counts(files: Database, database: TestDatabase) -> None:
    async with files.begin(ANNA) as tx:
        await put(tx, SendNote("one"))
    metrics = Metrics()
    away = database.connect("events")
    figures = Figures(metrics, files, "files")
    await figures.refresh()
    assert f"ready{{{HERE}}}" in shown(metrics)
    figures._database, figures._refreshed_at = away, float("-inf")
    with database.admin() as admin:
        admin.execute("ALTER ROLE holdfast_events NOLOGIN")
    try:
        await figures.refresh()
    finally:
        with database.admin() as admin:
            admin.execute("ALTER ROLE holdfast_events LOGIN")
    assert f"ready{{{HERE}}}" not in shown(metrics)
