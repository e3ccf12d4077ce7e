"""A network that drops packets and says nothing: a socket before the database's own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.postgres import TestDatabase
from tests.support.scratch import scratch


class Line:
    """A socket before the server's that passes everything on; once `cut`, it takes everything and answers nothing."""

    def __init__(self, directory: Path, server: Path) -> None:
        self.directory, self._server = directory, server
        self._pumps: set[asyncio.Task[None]] = set()
        self.cut = False

    async def listen(self) -> asyncio.Server:
        return await asyncio.start_unix_server(self._serve, self.directory / self._server.name)

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
