"""Many jobs run again at once: the command ends, whatever they do meanwhile, and tells what it did."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import text

from holdfast.cli import main
from holdfast.jobs.v1 import job_service_pb2 as pb
from libs.db import Database
from libs.jobqueue import put
from libs.jobqueue.claim import Claimer
from libs.jobqueue.completion import Told, settle
from libs.principal import User
from services.backup.store import jobs as store
from tests.jobs.samples import TryTwice
from tests.support import jobs as support
from tests.support.jobs import Desk
from tests.support.postgres import TestDatabase
from tests.support.waiting import until
from tests.support.wire import refused, told
from tests.unit.lines import Lines

ANNA = User("oak", "anna")
FAILED_ANEW = """
    UPDATE jobs.jobs SET state = '{state}', claimed_at = clock_timestamp(), finished_at = clock_timestamp(),
        run_at = clock_timestamp() + interval '1 day' WHERE state = 'ready'
"""
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest.fixture(scope="module")
def database_trees() -> Sequence[str]:
    return ("db",)


@pytest.fixture
async def files(database: TestDatabase) -> AsyncIterator[Database]:
    with database.admin() as admin:
        admin.execute("TRUNCATE jobs.jobs, jobs.ready, jobs.lanes, jobs.history, jobs.workers, jobs.queues")
    made = database.connect("files")
    yield made
    await made.stop()


@pytest.fixture
async def desk(database: TestDatabase, files: Database, lines: Lines) -> AsyncIterator[Desk]:
    async with support.desk(database) as made:
        yield made


async def given(db: Database, **how: Any) -> str:
    async with db.begin(ANNA) as tx:
        return await put(tx, TryTwice("x"), **how)


async def dead(db: Database, *keys: str) -> None:
    """Dead letters with these unique keys, in the order they died."""
    for key in keys:
        await given(db, unique=key)
        [found] = await Claimer(db, "files", "w1").claim(5)
        await settle(db, "files", [Told(found.lease, found.type, "dead", error="OSError")])


async def bulk(desk: Desk, state: str, **fields: Any) -> pb.BulkRetryJobsResponse:
    asked = pb.BulkRetryJobsRequest(filter=support.filtered(state, service="files"), **fields)
    answer: pb.BulkRetryJobsResponse = await told(desk.stub.BulkRetryJobs(asked, timeout=20))
    return answer


def before_each_page(monkeypatch: pytest.MonkeyPatch, meanwhile: Any) -> None:
    """Have *meanwhile* happen before each page, of which there may be nine."""
    retry_page, pages = store.retry_page, 0

    async def page(*arguments: Any, **more: Any) -> store.Page:
        nonlocal pages
        pages += 1
        assert pages < 10
        await meanwhile()
        return await retry_page(*arguments, **more)

    monkeypatch.setattr(store, "retry_page", page)
    monkeypatch.setattr("services.backup.ops.jobs.PAGE", 2)


@pytest.mark.parametrize("state", ["dead", "scheduled"])
async def test_the_command_ends_although_what_it_retries_fails_anew_between_its_calls(
    files: Database, desk: Desk, database: TestDatabase, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    async def they_fail() -> None:
        with database.admin() as admin:
            admin.execute(FAILED_ANEW.format(state=state).encode())

    await dead(files, *"abcd")
    with database.admin() as admin:
        admin.execute("UPDATE jobs.jobs SET state = %s", [state])
    before_each_page(monkeypatch, they_fail)
    monkeypatch.setattr("services.backup.ops.jobs.AT_ONCE", 2)
    words = ["jobs", "retry", "--state", state, "--service", "files", "--yes", "--json", "--socket", str(desk.socket)]
    done = await asyncio.to_thread(CliRunner().invoke, main, words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["retried_jobs"] == "4"


@pytest.mark.parametrize("state", ["dead", "scheduled"])
async def test_calls_that_go_on_with_a_bulk_retry_leave_what_failed_anew_meanwhile(
    files: Database, desk: Desk, database: TestDatabase, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """Each call counted from its own beginning, so a command went on for as long as its jobs failed."""
    monkeypatch.setattr("services.backup.ops.jobs.PAGE", 2)
    monkeypatch.setattr("services.backup.ops.jobs.AT_ONCE", 2)
    await dead(files, *"abcd")
    with database.admin() as admin:
        admin.execute("UPDATE jobs.jobs SET state = %s", [state])
    answers = [await bulk(desk, state)]
    while answers[-1].more and len(answers) < 10:
        with database.admin() as admin:
            admin.execute(FAILED_ANEW.format(state=state).encode())
        answers.append(await bulk(desk, state, before_time=answers[-1].before_time))
    assert (sum(one.retried_jobs for one in answers), answers[-1].more) == (4, False)
    with database.admin() as admin:
        admin.execute(FAILED_ANEW.format(state=state).encode())
    # The control: a call that does not go on with them takes them again.
    assert (await bulk(desk, state)).retried_jobs == 2


async def test_a_bulk_retry_of_scheduled_jobs_ends_although_each_one_that_runs_puts_the_next_one(
    files: Database, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def they_go_on() -> None:
        for _ in range(2):
            await given(files, run_at=timedelta(days=2))

    for _ in range(2):
        await given(files, run_at=support.IN_AN_HOUR)
    before_each_page(monkeypatch, they_go_on)
    done = await bulk(desk, "scheduled")
    assert (done.retried_jobs, done.more) == (2, False)
    monkeypatch.undo()
    assert (await bulk(desk, "scheduled")).retried_jobs == 4


async def test_a_bulk_retry_is_bounded_by_now_when_a_later_moment_is_asked_for(files: Database, desk: Desk) -> None:
    await dead(files, "a")
    later = datetime.now(UTC) + timedelta(days=1)
    done = await bulk(desk, "dead", before_time=later)
    assert (done.retried_jobs, done.before_time.ToDatetime(tzinfo=UTC) < later) == (1, True)


async def test_a_moment_that_is_none_is_refused(files: Database, desk: Desk) -> None:
    for wrong in (Timestamp(seconds=10**12), Timestamp(seconds=-(10**12)), Timestamp(nanos=-1)):
        with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
            await bulk(desk, "dead", before_time=wrong)
    assert (await bulk(desk, "dead", before_time=Timestamp())).retried_jobs == 0


async def test_a_page_of_a_bulk_retry_that_loses_a_deadlock_is_done_again_and_all_pages_are_counted(
    files: Database, desk: Desk, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    await dead(files, *"xyzacb")
    monkeypatch.setattr("services.backup.ops.jobs.PAGE", 3)
    with database.admin() as admin:
        # Only the page, which closes the circle, looks whether there is one.
        admin.execute(f"ALTER ROLE holdfast_files IN DATABASE {database.name} SET deadlock_timeout = '1h'".encode())
    other = database.connect("files")

    def waiting(sessions: int) -> bool:
        with database.admin() as admin:
            return admin.execute(WAITING).fetchall() == [(sessions,)]

    async def cross() -> None:
        async with other.begin(ANNA) as tx:
            await put(tx, TryTwice("x"), unique="b")
            holds.set()
            await page_waits.wait()
            await put(tx, TryTwice("x"), unique="a")

    holds, page_waits = asyncio.Event(), asyncio.Event()
    crossing = asyncio.create_task(cross())
    await holds.wait()
    async with other.begin(ANNA) as tx:
        await put(tx, TryTwice("x"), unique="c")
        retrying = asyncio.create_task(bulk(desk, "dead"))
        await until(lambda: waiting(1), "the page at c")
        page_waits.set()
        await until(lambda: waiting(2), "the other at a")
        await tx.execute(text("DELETE FROM jobs.jobs WHERE unique_key = 'c' AND state = 'ready'"))
    await crossing
    done = await retrying
    assert (done.retried_jobs, done.skipped_jobs, done.more) == (4, 2, False)
    await other.stop()
