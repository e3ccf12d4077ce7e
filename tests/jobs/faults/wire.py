"""A wire between a worker and Postgres that can be cut at one exact place."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

_CHUNK = 1 << 16
_IDLE = b"Z\0\0\0\5I"
"""PostgreSQL's ReadyForQuery outside a transaction: what was asked is durable. Source: its message formats."""

CLAIM, SETTLE = b"DELETE FROM jobs.ready", b"INSERT INTO jobs.history"
"""What the text of a claim, and of a job's end, holds."""


class Wire:
    """Listens as a Postgres of its own in `directory`. Statements are to be sent as text, so that they are known."""

    def __init__(self, directory: Path, target: str) -> None:
        self.directory, self._target = directory, target
        self._sign, self._keep_answer = b"", False
        self.was_cut = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self, sign: bytes, *, after_commit: bool) -> None:
        """Cut the first connection on which *sign* is asked: before Postgres hears of it, or once it has committed and
        before the worker hears of that.
        """
        self._sign, self._keep_answer = sign, after_commit

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(_close, writer)
            # With no server there the worker is to see what it would see without the wire.
            with suppress(OSError):
                to_reader, to_writer = await asyncio.open_unix_connection(self._target)
                stack.push_async_callback(_close, to_writer)
                await self._both_ways(reader, writer, to_reader, to_writer)

    async def _both_ways(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        to_reader: asyncio.StreamReader,
        to_writer: asyncio.StreamWriter,
    ) -> None:
        doomed = asyncio.Event()
        ways = [self._questions(reader, to_writer, doomed), self._answers(to_reader, writer, doomed)]
        tasks = [asyncio.create_task(way) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _questions(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, doomed: asyncio.Event) -> None:
        while data := await reader.read(_CHUNK):
            if self._sign and self._sign in data:
                self._sign = b""
                if not self._keep_answer:
                    self.was_cut.set()
                    return
                doomed.set()
            to.write(data)

    async def _answers(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, doomed: asyncio.Event) -> None:
        while data := await reader.read(_CHUNK):
            if doomed.is_set() and data.endswith(_IDLE):
                self.was_cut.set()
                return
            to.write(data)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


@asynccontextmanager
async def wire(socket: Path, port: int) -> AsyncIterator[Wire]:
    """A wire to the Postgres that listens in the directory *socket*."""
    name = f".s.PGSQL.{port}"
    made = Wire(Path(tempfile.mkdtemp(prefix="hfw-", dir="/tmp")), str(socket / name))
    try:
        async with await asyncio.start_unix_server(made.accept, made.directory / name):
            yield made
    finally:
        await made.close()
        shutil.rmtree(made.directory)
