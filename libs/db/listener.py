"""One listening connection per process: it proves that it hears, and comes back by itself."""

import asyncio
import os
import random
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg import sql

from libs.db.database import Database
from libs.observability import log

_log = log.get(__name__)

Heard = Callable[[str, str], None]

_PROBE_SECONDS = 2.0
_PING_SECONDS = 5.0
_DEAF_SECONDS = 60.0
_LONGEST_WAIT = 10.0


class Listener:
    """Calls heard(channel, payload) for each wake-up, and heard(channel, "") after every (re)connection, since some
    may be lost.

    A transaction-pooling proxy swallows LISTEN silently; the probe notices, `working` stays False, and pollers
    carry on alone.
    """

    def __init__(
        self, database: Database, channels: Sequence[str], heard: Heard, *, probe_seconds: float = _PROBE_SECONDS
    ) -> None:
        self.working = False
        self._settings = database.settings()
        self._channels = tuple(channels)
        self._heard = heard
        self._probe_seconds = probe_seconds
        self._probe = f"holdfast_probe_{os.urandom(8).hex()}"
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin listening in the background, whether or not the database is there."""
        self._task = asyncio.create_task(self._run(), name="listener")

    def refuse(self) -> None:
        """Nothing: hearing harms nobody."""

    async def drain(self, seconds: float) -> None:
        """Nothing: who is woken decides what to do."""

    async def stop(self) -> None:
        """Close the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.working = False

    async def listen(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Listen until the connection breaks; returns only when the probe shows that nothing can be heard here."""
        for channel in (self._probe, *self._channels):
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        if not await self._hears_itself(connection):
            _log.warning(
                "Wake-ups do not arrive through this connection (a pooling proxy?); polling goes on without them."
            )
            return
        self.working = True
        for channel in self._channels:
            self._heard(channel, "")
        while True:
            async for notice in connection.notifies(timeout=_PING_SECONDS):
                if notice.channel != self._probe:
                    self._heard(notice.channel, notice.payload)
            await connection.execute("SELECT 1")

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(**self._settings, autocommit=True) as connection:
                    failures = 0
                    await self.listen(connection)
                wait = _DEAF_SECONDS
            except (psycopg.Error, OSError) as error:
                _log.info("not listening", error=type(error).__name__)
                failures += 1
                wait = min(_LONGEST_WAIT, 0.1 * 2**failures)
            finally:
                self.working = False
            await asyncio.sleep(random.uniform(wait / 2, wait))

    async def _hears_itself(self, connection: psycopg.AsyncConnection[Any]) -> bool:
        # From another connection: behind a proxy, one's own call comes back with the answer to one's own statement.
        async with await psycopg.AsyncConnection.connect(**self._settings, autocommit=True) as other:
            await other.execute("SELECT pg_notify(%s, '')", [self._probe])
        early: list[psycopg.Notify] = []
        async for notice in connection.notifies(timeout=self._probe_seconds):
            if notice.channel == self._probe:
                for found in early:
                    self._heard(found.channel, found.payload)
                return True
            early.append(notice)
        return False
