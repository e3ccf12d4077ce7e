"""The inbox: what a handler did once, it does not do again."""

import asyncio

import pytest

from libs.db import Database
from libs.jobqueue import JobInvalid, Lease, first_time, inbox, rescue
from libs.principal import System
from tests.jobs.doing import ANNA, execute, rows
from tests.support.postgres import TestDatabase
from tests.support.waiting import until

_WAITS = (
    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    " AND query LIKE 'INSERT INTO jobs.inbox%%'"
)


async def asked(files: Database, key: str) -> bool:
    async with files.begin(ANNA) as tx:
        return await first_time(tx, key)


async def test_a_key_is_new_once_and_only_what_commits_counts(files: Database, database: TestDatabase) -> None:
    async def fail() -> None:
        async with files.begin(ANNA) as tx:
            assert await first_time(tx, "mail 7")
            assert not await first_time(tx, "mail 7")
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert [await asked(files, key) for key in ("mail 7", "mail 7", "mail 8")] == [True, False, True]
    assert rows(database, "SELECT key FROM jobs.inbox ORDER BY key") == [("mail 7",), ("mail 8",)]


async def test_services_do_not_share_keys_and_the_job_is_kept_beside_its_key(
    files: Database, database: TestDatabase
) -> None:
    auth = database.connect("auth")
    async with auth.begin(System("auth")) as tx:
        assert await first_time(tx, "k")
    async with files.begin(System("files")) as tx:
        assert await first_time(tx, "k", lease=Lease("job7", 1, 1, ANNA))
    await auth.stop()
    found = rows(database, "SELECT service, job_id FROM jobs.inbox ORDER BY service")
    assert found == [("auth", ""), ("files", "job7")]


@pytest.mark.parametrize("commits", [True, False])
async def test_of_two_at_once_the_second_waits_and_is_first_only_when_the_first_rolls_back(
    files: Database, database: TestDatabase, commits: bool
) -> None:
    async def hold(ended: asyncio.Event) -> None:
        async with files.begin(ANNA) as tx:
            assert await first_time(tx, "k")
            await ended.wait()
            if not commits:
                raise LookupError

    ended = asyncio.Event()
    first = asyncio.create_task(hold(ended))
    await until(lambda: rows(database, "SELECT 1 FROM pg_locks WHERE relation = 'jobs.inbox'::regclass") != [], "a key")
    second = asyncio.create_task(asked(files, "k"))
    await until(lambda: rows(database, _WAITS) != [], "the second's wait")
    ended.set()
    assert await second is not commits
    await asyncio.gather(first, return_exceptions=True)
    assert await asked(files, "k") is False


@pytest.mark.parametrize("key", ["", "k" * 201, "a\0b", "a\ud800"])
async def test_a_key_that_cannot_be_stored_is_refused(files: Database, key: str) -> None:
    with pytest.raises(JobInvalid):
        await asked(files, key)
    assert await asked(files, "k" * 200)


async def test_keys_are_removed_after_thirty_days_page_by_page(files: Database, database: TestDatabase) -> None:
    execute(
        database,
        "INSERT INTO jobs.inbox (service, key, job_id, made_at) SELECT s, 'k' || n, '',"
        " clock_timestamp() - n * interval '1 day' - interval '1 minute'"
        " FROM unnest(ARRAY['files', 'auth']) s, generate_series(28, 34) n",
    )
    kept = "SELECT service, count(*) FROM jobs.inbox GROUP BY service ORDER BY service"
    with database.admin() as other:
        other.execute("BEGIN")
        other.execute("SELECT pg_advisory_xact_lock(hashtextextended('jobs.inbox.files', 0))")
        assert await inbox.forget(files, "files", page=2) == 0
        other.execute("ROLLBACK")
    assert await inbox.forget(files, "files", page=2) == 5
    assert rows(database, kept) == [("auth", 7), ("files", 2)]
    execute(database, "UPDATE jobs.inbox SET made_at = made_at - interval '1 day' WHERE service = 'files'")
    await rescue.rotate(files, "files")
    assert rows(database, kept) == [("auth", 7), ("files", 1)]
