"""Drills that nobody has to ask for: a light one each day, a deep one each week, one at a time.

When each kind was last begun is read from the drills' own journals, so nothing else has to survive a restart, and what
was missed while the service was down is caught up with once.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from libs import process
from libs.clock import Clock
from libs.errors import AppError
from libs.observability import log
from libs.principal import System
from services.backup.adapters.engine import Engine
from services.backup.domain.drill import Drill, Kind
from services.backup.domain.errors import BackupBusy, Interrupted
from services.backup.domain.timetable import due
from services.backup.ops.drill_figures import DrillFigures
from services.backup.ops.drills import Drills

_log = log.get(__name__)
_WHO = System("backup")
# A new installation first gets its heartbeats and its first backup; an interrupted drill is tried again after as long.
_SETTLED = timedelta(hours=1)
_AFTER_REFUSAL = timedelta(minutes=15)
_LOOK_SECONDS = 60.0


class Timetable:
    """A Part: looks what is due. every: by kind; a kind that is not in it is never begun by itself."""

    def __init__(
        self,
        drills: Drills,
        engine: Engine,
        figures: DrillFigures,
        *,
        every: Mapping[Kind, timedelta],
        jitter: timedelta,
        now: Clock,
    ) -> None:
        self._drills = drills
        self._engine = engine
        self._figures = figures
        self._every = every
        self._jitter = jitter
        self._now = now
        self._not_before: dict[Kind, datetime] = {}
        self._task: asyncio.Task[None] | None = None

    async def look(self) -> Drill | None:
        """Begin what is due and may begin; at most one drill, which is returned. Who has waited longest goes first."""
        for kind in sorted(self._every, key=self._begun):
            if kind in self._not_before and self._now() < self._not_before[kind]:
                continue
            try:
                last, period = await self._since(kind, self._every[kind])
                if due(self._now(), last, period, self._jitter):  # now is read last, or "now" lies in the future
                    return await self._drills.create(_WHO, kind=kind, scheduled=True)
            except BackupBusy:
                return None
            except AppError as error:
                _log.warning("drill_refused", kind=kind.value, reason=error.reason, fault=error.message)
                self._figures.refused(kind, error.reason)
                await self._drills.refused(kind, error)
                self._not_before[kind] = self._now() + _AFTER_REFUSAL
        return None

    async def start(self) -> None:
        """Begin to look."""
        if self._every:
            self._task = process.spawn(self._loop(), name="drill-timetable")

    def refuse(self) -> None:
        """Begin no more."""
        self._every = {}

    async def drain(self, seconds: float) -> None:
        """Nothing to hand over: a running drill is the keeper's."""

    async def stop(self) -> None:
        """End the loop."""
        await process.cancel(self._task)

    def _begun(self, kind: Kind) -> datetime:
        """When the newest drill of this kind was begun."""
        last = self._drills.newest(kind)
        return last.created_at if last else datetime.min.replace(tzinfo=UTC)

    async def _since(self, kind: Kind, every: timedelta) -> tuple[datetime, timedelta]:
        """When the count began, and how long it is."""
        last = self._drills.newest(kind)
        if last is not None:
            cut_off = last.error is not None and last.error.reason == Interrupted.reason
            return last.created_at, min(every, _SETTLED) if cut_off else every
        # Without backups nothing is due: that is another alarm's business.
        held = (await self._engine.inspect()).backups
        return (held[0].ended_at, min(every, _SETTLED)) if held else (self._now(), every)

    async def _loop(self) -> None:
        pause = min(_LOOK_SECONDS, *(every.total_seconds() / 10 for every in self._every.values()))
        while True:
            try:
                await self.look()
            except OSError as error:
                _log.error("timetable_failed", fault=error.strerror)
            await asyncio.sleep(pause)
