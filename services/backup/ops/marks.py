"""Taking high-water marks, each hour."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from libs import process
from libs.clock import Clock
from libs.db import Database
from libs.errors import AppError
from libs.ids import earliest
from libs.observability import log
from libs.principal import System
from services.backup.domain import mark as marking
from services.backup.domain.mark import Mark
from services.backup.store import marks as rows

_log = log.get(__name__)
_WHO = System("backup")
_KEPT = timedelta(days=2)
# How far back audit entries are looked for: an organization that did nothing for longer has its older mark no more.
_AUDITED = timedelta(days=7)


class Marks:
    """key: of the signatures, at least 32 bytes. A Part: it runs the loop; period_seconds: 0 for none.

    taken: is told when this period's mark is there, and at the start, from which a first one has its time.
    """

    def __init__(
        self, db: Database, *, key: bytes, period_seconds: float, taken: Callable[[datetime], None], now: Clock
    ) -> None:
        self._db = db
        self._key = key
        self._period_seconds = period_seconds
        self._taken = taken
        self._now = now
        self._task: asyncio.Task[None] | None = None

    async def take(self, *, tick: int) -> Mark | None:
        """Take one; None when this *tick*'s is there. Raises Unavailable without a database."""
        since = earliest(self._now() - _AUDITED)
        async with self._db.begin(_WHO) as tx:
            mark = await rows.take(tx, lambda bare: marking.sign(bare, self._key), tick=tick, since=since)
            await rows.forget(tx, now=self._now(), age=_KEPT)
        self._taken(self._now())
        return mark

    async def start(self) -> None:
        """Begin the loop."""
        if self._period_seconds:
            self._taken(self._now())
            self._task = process.spawn(self._loop(), name="marks")

    def refuse(self) -> None:
        """Nothing: marks go on as long as the process does."""

    async def drain(self, seconds: float) -> None:
        """Nothing to hand over."""

    async def stop(self) -> None:
        """End the loop."""
        await process.cancel(self._task)

    async def _loop(self) -> None:
        while True:
            period = self._period_seconds
            tick = int(self._now().timestamp() // period)
            try:
                await self.take(tick=tick)
            except AppError as error:
                _log.warning("mark_not_taken", reason=error.reason)
            # Until this tick has ended: the next one may have begun meanwhile, and is not passed over.
            await asyncio.sleep(min(period, max(0.0, (tick + 1) * period - self._now().timestamp())))
