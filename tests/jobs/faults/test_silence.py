"""A network that drops packets and says nothing: a worker behind it stops its jobs when others take it for dead."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from libs.db import Database, Limits
from libs.jobqueue import Lease
from tests.jobs.doing import given, rows, working
from tests.jobs.samples import SendNote
from tests.support.postgres import TestDatabase
from tests.support.scratch import scratch
from tests.support.waiting import until

pytestmark = pytest.mark.faults


class Line:
    """A socket before the server's that passes everything on; once `cut`, it takes everything and answers nothing."""

    def __init__(self, directory: Path, server: Path) -> None:
        self._directory, self._server = directory, server
        self._pumps: set[asyncio.Task[None]] = set()
        self.cut = False

    async def listen(self) -> asyncio.Server:
        return await asyncio.start_unix_server(self._serve, self._directory / self._server.name)

    async def end(self) -> None:
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_unix_connection(self._server)
        self._pumps |= {asyncio.create_task(self._pump(*way)) for way in ((reader, ours), (theirs, writer))}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                if not self.cut:
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()


@pytest.fixture
async def line(database: TestDatabase) -> AsyncIterator[Line]:
    cluster = database.cluster
    with scratch("l") as base:
        made = Line(base, cluster.socket_dir / f".s.PGSQL.{cluster.port}")
        async with await made.listen():
            yield made
            await made.end()


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

    login = replace(database.login("files"), database_host=str(line._directory))
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
