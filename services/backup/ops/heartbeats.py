"""Writing heartbeats: on a period, and on demand."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from libs import process
from libs.clock import Clock
from libs.db import Database
from libs.errors import AppError
from libs.observability import log
from libs.principal import System
from services.backup.adapters.ledger import Ledger
from services.backup.domain import heartbeat
from services.backup.domain.heartbeat import Beat
from services.backup.ops.guard import Guard
from services.backup.store import heartbeats as rows

_log = log.get(__name__)
_WHO = System("backup")
_RECENT = 50


class Heartbeats:
    """key: of the signatures, at least 32 bytes. ledger: the copy outside the database. guard: compares the two before
    each beat. A Part: it runs the loop.
    """

    def __init__(
        self, db: Database, ledger: Ledger, *, guard: Guard, key: bytes, period_seconds: float, now: Clock
    ) -> None:
        self._db = db
        self._guard = guard
        self._writing = asyncio.Lock()
        self._ledger = ledger
        self._key = key
        self._period_seconds = period_seconds
        self._now = now
        self._task: asyncio.Task[None] | None = None

    async def beat(self, *, tick: int | None = None) -> Beat | None:
        """Write one; None when another replica wrote this *tick*'s. Raises Unavailable without a database."""
        async with self._writing:
            known = await asyncio.to_thread(self._ledger.beats)
            async with self._db.begin(_WHO) as tx:
                behind = await self._guard.look(tx, known[-1] if known else None)
                beat = await rows.append(tx, lambda bare: heartbeat.sign(bare, self._key), tick=tick)
                # From here on the ledger follows the restored database.
                kept = await rows.newest(tx, 1) if behind else [beat]
            for one in kept:
                if one is not None:
                    await asyncio.to_thread(self._ledger.append, one)
        if behind:
            self._guard.quarantine_soon()
        return beat

    async def recent(self) -> list[Beat]:
        """The newest beats, ascending: the database's word, or the ledger's when there is no database."""
        try:
            async with self._db.begin(_WHO) as tx:
                return await rows.newest(tx, _RECENT)
        except AppError:
            return (await asyncio.to_thread(self._ledger.beats))[-_RECENT:]

    async def around(self, at: datetime | None) -> list[Beat]:
        """What a drill to *at* needs: the beats on either side, or the recent ones for the end of the archive."""
        if at is None:
            return await self.recent()
        try:
            async with self._db.begin(_WHO) as tx:
                return await rows.around(tx, at)
        except AppError:
            return _around(await asyncio.to_thread(self._ledger.beats), at)

    async def around_lsn(self, lsn: str) -> list[Beat]:
        """What a drill to *lsn* needs: the beats on either side of that place in the WAL."""
        try:
            async with self._db.begin(_WHO) as tx:
                return await rows.around_lsn(tx, lsn)
        except AppError:
            known, place = await asyncio.to_thread(self._ledger.beats), heartbeat.position(lsn)
            before = [beat for beat in known if heartbeat.position(beat.lsn) <= place]
            return [*before[-1:], *known[len(before) :][:1]]

    async def within(self, segment: str) -> Beat | None:
        """The newest beat that can be restored from an archive ending with *segment*; None when none is known."""
        try:
            async with self._db.begin(_WHO) as tx:
                return await rows.within(tx, segment)
        except AppError:
            known = await asyncio.to_thread(self._ledger.beats)
            return next((beat for beat in reversed(known) if heartbeat.archived(beat, segment)), None)

    async def remembered(self) -> int:
        """The newest number in the ledger, 0 when it is empty; a database behind it has been restored."""
        known = await asyncio.to_thread(self._ledger.beats)
        return known[-1].sequence if known else 0

    async def start(self) -> None:
        """Begin the loop; it waits for nothing."""
        self._task = process.spawn(self._loop(), name="heartbeats")

    def refuse(self) -> None:
        """Nothing: heartbeats go on as long as the process does."""

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
                await self.beat(tick=tick)
            except AppError as error:
                _log.warning("heartbeat_not_written", reason=error.reason)
            except OSError as error:
                _log.error("heartbeat_not_kept", fault=str(error))
            # Until this tick has ended: the next one may have begun meanwhile, and is not passed over.
            await asyncio.sleep(min(period, max(0.0, (tick + 1) * period - self._now().timestamp())))


def _around(beats: Sequence[Beat], at: datetime) -> list[Beat]:
    before = [beat for beat in beats if beat.created_at <= at]
    after = [beat for beat in beats if beat.created_at > at]
    return [*before[-1:], *after[:1]]
