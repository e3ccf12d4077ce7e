"""Writes how jobs ended, many at a time: after a short tick or when enough have come, and again until the database
takes them.
"""

import asyncio
import random
from collections.abc import Callable, Sequence

import sqlalchemy.exc

from libs.db import Database
from libs.errors import Unavailable
from libs.jobqueue.completion import Also, States, Told, settle
from libs.observability import log

_log = log.get(__name__)

_MOST = 1000
_LONGEST_WAIT = 5.0


class Settler:
    """settled(batch, states) is called once for each batch, only after the database has accepted or refused it.

    many: so many are written at once, without waiting for flush_seconds. also: see libs.jobqueue.completion.settle.
    """

    def __init__(
        self,
        database: Database,
        service: str,
        flush_seconds: float,
        *,
        many: int,
        settled: Callable[[Sequence[Told], States], None],
        also: Also | None = None,
    ) -> None:
        self._database, self._service = database, service
        self._flush_seconds, self._enough, self._settled = flush_seconds, many, settled
        self._also = also
        self._waiting: list[Told] = []
        self._any, self._many = asyncio.Event(), asyncio.Event()

    def tell(self, told: Told) -> None:
        """Take one for the next batch."""
        self._waiting.append(told)
        if len(self._waiting) == 1:
            self._any.set()
        if len(self._waiting) >= self._enough:
            self._many.set()

    async def run(self) -> None:
        """Write batches until cancelled."""
        while True:
            await self._any.wait()
            if len(self._waiting) < self._enough:
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
                states = await settle(self._database, self._service, batch, also=self._also)
            except Exception as error:
                if not _passing(error):
                    _log.exception("these jobs cannot be settled as they ended", jobs=len(batch))
                    await self._write_singly(batch)
                    return
                # A repeat is harmless: what was accepted already is a stale lease the second time.
                _log.warning(
                    "cannot settle jobs yet", jobs=len(batch), error=str(getattr(error, "message", type(error)))
                )
                await asyncio.sleep(random.uniform(wait / 2, wait))
                wait = min(_LONGEST_WAIT, wait * 2)
            else:
                self._settled(batch, states)
                return

    async def _write_singly(self, batch: list[Told]) -> None:
        """What is wrong with one must not hold up the others: that one goes to the dead letters."""
        if len(batch) > 1:
            for told in batch:
                await self._write([told])
        elif batch[0].kind != "dead":
            await self._write([Told(batch[0].lease, batch[0].type, "dead", error="its end could not be written")])
        else:
            self._settled(batch, {})


def _passing(error: Exception) -> bool:
    """Whether the database, not the batch, is at fault: it is away, or somebody took a privilege or a column away."""
    own = (sqlalchemy.exc.DataError, sqlalchemy.exc.IntegrityError)
    return isinstance(error, Unavailable) or (
        isinstance(error, sqlalchemy.exc.DBAPIError) and not isinstance(error, own)
    )
