"""The history of RPO exposure: on this disk at once, in the database whenever it listens."""

import asyncio
from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from libs.clock import Clock
from libs.db import Database
from libs.errors import AppError
from libs.principal import System
from services.backup.adapters.samples import Samples
from services.backup.domain.exposure import KEPT, Sample
from services.backup.store import exposures as rows

N = TypeVar("N", int, float)

_WHO = System("backup")
_BATCH = 500
_MOST_UNSENT = 2 * 24 * 60
_FORGET_EVERY = timedelta(hours=1)


class Exposures:
    """Keeps 35 days. What was measured while the database was away is added when it is back: two days at most."""

    def __init__(self, db: Database, samples: Samples, *, now: Clock) -> None:
        self._db = db
        self._samples = samples
        self._now = now
        self._unsent: deque[Sample] = deque(maxlen=_MOST_UNSENT)
        self._begun = False
        self._forgotten_at: datetime | None = None

    async def add(self, sample: Sample) -> None:
        """Keep *sample*; raises nothing when the database is away."""
        await asyncio.to_thread(self._samples.append, sample)
        self._unsent.append(sample)
        try:
            await self._send()
        except AppError:
            # It stays in the queue: the next minute tries again.
            return

    async def history(self, begin: datetime, end: datetime, step: timedelta) -> list[Sample]:
        """The worst of each *step*, ascending: the database's word, or the disk's of this host when it is away."""
        try:
            async with self._db.begin(_WHO) as tx:
                return await rows.history(tx, begin, end, step)
        except AppError:
            found = await asyncio.to_thread(self._samples.since, begin)
            return worst([one for one in found if one.minute < end], begin, step)

    async def _send(self) -> None:
        async with self._db.begin(_WHO) as tx:
            if not self._begun:
                newest = await rows.newest(tx)
                recent = self._now() - timedelta(minutes=_MOST_UNSENT)
                missed = await asyncio.to_thread(self._samples.since, max(recent, newest or recent))
                self._unsent.extendleft(one for one in reversed(missed) if one not in self._unsent)
            batch = [self._unsent[index] for index in range(min(_BATCH, len(self._unsent)))]
            await rows.save(tx, batch)
            now = self._now()
            if self._forgotten_at is None or now - self._forgotten_at > _FORGET_EVERY:
                await rows.forget(tx, now - KEPT)
                self._forgotten_at = now
        self._begun = True
        for _ in batch:
            self._unsent.popleft()


def worst(samples: Sequence[Sample], begin: datetime, step: timedelta) -> list[Sample]:
    """The worst of each *step* from *begin* on, as the database would say it."""
    found: dict[datetime, Sample] = {}
    for one in samples:
        at = begin + step * ((one.minute - begin) // step)
        known = found.get(at, Sample(at, None, None, broken=False))
        found[at] = Sample(
            at,
            _greatest(known.exposure_seconds, one.exposure_seconds),
            _greatest(known.waiting, one.waiting),
            known.broken or one.broken,
        )
    return [found[at] for at in sorted(found)]


def _greatest(one: N | None, other: N | None) -> N | None:
    given = [value for value in (one, other) if value is not None]
    return max(given) if given else None
