"""Wake-ups: after the commit, few, to whoever listens; and a listener that knows whether it hears."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import psycopg
import pytest

from libs.db import Database, Listener
from libs.principal import System
from tests.support.postgres import TestDatabase
from tests.support.waiting import until


@pytest.fixture(scope="module")
def database_trees() -> Sequence[str]:
    return ("db",)


@pytest.fixture
async def files(database: TestDatabase) -> AsyncIterator[Database]:
    made = database.connect("files")
    yield made
    await made.stop()


@pytest.fixture
async def heard(files: Database) -> AsyncIterator[list[tuple[str, str]]]:
    """What a working listener of `news` has heard since it began to work."""
    found: list[tuple[str, str]] = []
    listener = Listener(files, ["news"], lambda channel, payload: found.append((channel, payload)))
    await listener.start()
    await until(lambda: listener.working, "listening")
    assert found == [("news", "")], "whoever waits is told to look once after each connection"
    found.clear()
    yield found
    await listener.stop()


async def test_a_wake_up_follows_the_commit_and_not_a_rollback(files: Database, heard: list[tuple[str, str]]) -> None:
    async def change(payload: str, fault: Exception | None) -> None:
        async with files.begin(System("files")) as tx:
            tx.wake("news", payload)
            if fault is not None:
                raise fault

    with pytest.raises(LookupError):
        await change("undone", LookupError())
    await change("done", None)
    await until(lambda: bool(heard), "the wake-up")
    assert heard == [("news", "done")]


async def test_a_burst_becomes_one_wake_up_at_once_and_one_after_the_cool_down(
    files: Database, heard: list[tuple[str, str]]
) -> None:
    files.waker.notify("news", "first")
    await until(lambda: len(heard) == 1, "the first wake-up")
    for _ in range(100):
        files.waker.notify("news", "burst")
    files.waker.notify("news", "last")
    await until(lambda: ("news", "last") in heard, "the last wake-up")
    assert heard == [("news", "first"), ("news", "burst"), ("news", "last")]


async def test_what_is_asked_for_before_the_stop_is_still_sent(
    database: TestDatabase, heard: list[tuple[str, str]]
) -> None:
    other = database.connect("auth")
    for payload in ("one", "two"):
        other.waker.notify("news", payload)
    await other.stop()
    await until(lambda: len(heard) == 2, "both wake-ups")


async def test_a_listener_that_was_cut_off_comes_back_and_says_so(
    files: Database, database: TestDatabase, heard: list[tuple[str, str]]
) -> None:
    with database.admin() as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' OR query = 'SELECT 1'"
        )
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'holdfast_files'")
    await until(lambda: heard == [("news", "")], "the new connection")
    files.waker.notify("news", "again")
    await until(lambda: ("news", "again") in heard, "the wake-up")


class Deaf(psycopg.AsyncConnection[tuple[object, ...]]):
    """A connection as a transaction-pooling proxy gives it: LISTEN is answered and means nothing."""

    async def execute(self, query, params=None, **how):  # type: ignore[no-untyped-def]  # only passes on
        if "LISTEN" in str(query):
            query = "SELECT 1"
        return await super().execute(query, params, **how)


async def test_a_listener_that_hears_nothing_knows_it(files: Database) -> None:
    listener = Listener(files, ["news"], lambda _channel, _payload: None, probe_seconds=0.2)
    async with await psycopg.AsyncConnection.connect(**files.settings(), autocommit=True) as hearing:
        listening = asyncio.create_task(listener.listen(hearing))
        await until(lambda: listener.working, "hearing")
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    listener = Listener(files, ["news"], lambda _channel, _payload: None, probe_seconds=0.2)
    async with await Deaf.connect(**files.settings(), autocommit=True) as deaf:
        await listener.listen(deaf)
    assert not listener.working
