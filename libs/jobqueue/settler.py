"""Writes how jobs ended, many at a time: after a short tick or a hundred of them, and again until the database takes
them.
"""

import asyncio
import random
from collections.abc import Callable

from libs.db import Database
from libs.errors import Unavailable
from libs.jobqueue.completion import Told, settle
from libs.observability import log

_log = log.get(__name__)

_BATCH = 100
_MOST = 1000
_LONGEST_WAIT = 5.0


class Settler:
    """settled(told, state) is called once for each, only after the database has accepted or refused it."""

    def __init__(
        self, database: Database, service: str, flush_seconds: float, *, settled: Callable[[Told, str], None]
    ) -> None:
        self._database, self._service = database, service
        self._flush_seconds, self._settled = flush_seconds, settled
        self._waiting: list[Told] = []
        self._any, self._many = asyncio.Event(), asyncio.Event()

    def tell(self, told: Told) -> None:
        """Take one for the next batch."""
        self._waiting.append(told)
        self._any.set()
        if len(self._waiting) >= _BATCH:
            self._many.set()

    async def run(self) -> None:
        """Write batches until cancelled."""
        while True:
            await self._any.wait()
            await self._tick()
            self._any.clear()
            self._many.clear()
            while self._waiting:
                batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
                await self._write(batch)

    async def _tick(self) -> None:
        try:
            async with asyncio.timeout(self._flush_seconds):
                await self._many.wait()
        except TimeoutError:
            return

    async def _write(self, batch: list[Told]) -> None:
        wait = 0.1
        while True:
            try:
                states = await settle(self._database, self._service, batch)
            except Unavailable as error:
                # A repeat is harmless: what was accepted already is a stale lease the second time.
                _log.warning("cannot settle jobs yet", jobs=len(batch), error=error.message)
                await asyncio.sleep(random.uniform(wait / 2, wait))
                wait = min(_LONGEST_WAIT, wait * 2)
                continue
            for told in batch:
                self._settled(told, states.get(told.lease.job_id, ""))
            return
