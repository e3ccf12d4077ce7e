"""A network that drops packets and says nothing: a worker behind it stops its jobs when others take it for dead."""

import asyncio
from dataclasses import replace

import pytest

from libs.db import Database, Limits
from libs.jobqueue import Lease
from tests.jobs.doing import given, rows, working
from tests.jobs.samples import SendNote
from tests.support.postgres import TestDatabase
from tests.support.silence import Line, line
from tests.support.waiting import until

__all__ = ["line"]
pytestmark = pytest.mark.faults


async def test_a_worker_whose_database_has_fallen_silent_stops_its_jobs_and_another_runs_them(
    files: Database, database: TestDatabase, line: Line
) -> None:
    """Its heart waited for an answer that never came, and never got to say that its time was over."""
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def long(job: SendNote, lease: Lease) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async def short(job: SendNote, lease: Lease) -> None:
        return

    login = replace(database.login("files"), database_host=str(line.directory))
    through = Database.connect(login, limits=Limits(connections=4))
    await given(files, SendNote("x"))
    async with working(through, {SendNote: long}):
        await until(begun.is_set, "its beginning")
        line.cut = True
        await until(stopped.is_set, "its end, by a worker that hears nothing")
        async with working(files, {SendNote: short}):
            await until(lambda: rows(database, "SELECT 1 FROM jobs.history") != [], "its end elsewhere")
        assert rows(database, "SELECT lease, crashes FROM jobs.history") == [(2, 1)]
        # The network heals: what waits for answers learns that none will come.
        line.cut = False
        await line.end()
    await through.stop()
