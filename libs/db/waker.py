"""Wake-ups after commit: the first at once, then a cool-down in which repeats melt into one. For latency only."""

import asyncio
from collections.abc import Mapping
from typing import Any

import psycopg

from libs.observability import log
from libs.timeouts import within

_log = log.get(__name__)

COOL_DOWN_SECONDS = 0.1
_STOP_SECONDS = 1.0


class Waker:
    """Sends NOTIFY outside every transaction, on a connection of its own; losing a wake-up is allowed.

    Database.waker is the process's one; Tx.wake uses it. It runs only while there is something to send.
    """

    def __init__(self, settings: Mapping[str, Any], *, cool_down_seconds: float = COOL_DOWN_SECONDS) -> None:
        self._settings = dict(settings)
        self._cool_down = cool_down_seconds
        self._wanted: dict[tuple[str, str], None] = {}
        self._task: asyncio.Task[None] | None = None
        self._connection: psycopg.AsyncConnection[Any] | None = None

    def notify(self, channel: str, payload: str = "") -> None:
        """Ask for one wake-up of *channel*; for Tx.after_commit. Returns at once, from the event loop's thread only."""
        self._wanted[channel, payload] = None
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="waker")

    async def stop(self) -> None:
        """Send what is asked for already, within a second, and close the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await within(_STOP_SECONDS, self._flush())
        except TimeoutError:
            _log.warning("the last wake-ups were not sent in time")
        await self._close()

    async def _run(self) -> None:
        while self._wanted:
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
            _log.warning("wake-ups were lost", error=type(error).__name__)
            await self._close()

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(**self._settings, autocommit=True)
        return self._connection

    async def _close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
