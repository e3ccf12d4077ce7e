"""Wake-ups after commit: the first at once, then a cool-down in which repeats melt into one. Latency only, never correctness."""

import asyncio
import logging
from typing import Any

import psycopg

from libs.db.database import Database

_log = logging.getLogger(__name__)

COOL_DOWN_SECONDS = 0.1
_STOP_SECONDS = 1.0


class Waker:
    """Sends NOTIFY outside every transaction, on a connection of its own. A libs.process.Part; losing a wake-up is allowed."""

    def __init__(self, database: Database, *, cool_down_seconds: float = COOL_DOWN_SECONDS) -> None:
        self._settings = database.settings()
        self._cool_down = cool_down_seconds
        self._wanted: dict[tuple[str, str], None] = {}
        self._pending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._connection: psycopg.AsyncConnection[Any] | None = None

    def notify(self, channel: str, payload: str = "") -> None:
        """Ask for one wake-up of *channel*; for Tx.after_commit. Returns at once, never raises."""
        self._wanted[channel, payload] = None
        self._pending.set()

    async def start(self) -> None:
        """Begin sending; the connection is opened by the first wake-up."""
        self._task = asyncio.create_task(self._run(), name="waker")

    def refuse(self) -> None:
        """Nothing: what still runs may still wake others."""

    async def drain(self, seconds: float) -> None:
        """Nothing: sending goes on until stop."""

    async def stop(self) -> None:
        """Send what is asked for already, within a second, and close the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await asyncio.wait_for(self._flush(), _STOP_SECONDS)
        except TimeoutError:
            _log.warning("The last wake-ups were not sent in time.")
        await self._close()

    async def _run(self) -> None:
        while True:
            await self._pending.wait()
            self._pending.clear()
            await self._flush()
            await asyncio.sleep(self._cool_down)

    async def _flush(self) -> None:
        wanted, self._wanted = self._wanted, {}
        if not wanted:
            return
        channels, payloads = [channel for channel, _ in wanted], [payload for _, payload in wanted]
        try:
            connection = await self._connected()
            statement = "SELECT pg_notify(c, p) FROM unnest(%s::text[], %s::text[]) AS wanted (c, p)"
            await connection.execute(statement, [channels, payloads])
        except psycopg.Error as error:
            # Those who wait poll as well, so a lost wake-up costs them one interval.
            _log.warning("Wake-ups were lost: %s", type(error).__name__)
            await self._close()

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(**self._settings, autocommit=True)
        return self._connection

    async def _close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
