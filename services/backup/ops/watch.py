"""The live look at what could be lost: each minute the archive's lag, now and then every object in the repository.

A hole in the archive breaks every promise of RPO and is told by nothing else: the server has archived all, the engine
lists all, and a restore stops early. So the objects themselves are listed. A hole is believed when it is seen twice and
its segments do not wait on the server: WAL may arrive out of order.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from libs import process
from libs.clock import Clock
from libs.db import Database
from libs.errors import AppError
from libs.observability import log
from libs.principal import System
from services.backup.adapters.engine import Engine
from services.backup.adapters.journal import Journal
from services.backup.domain import breach as breaches
from services.backup.domain.breach import Breach
from services.backup.domain.condition import Name
from services.backup.domain.exposure import Sample, minute
from services.backup.domain.listing import Listing
from services.backup.domain.repository import Repository
from services.backup.domain.retention import CEILING
from services.backup.domain.status import Window, stuck, window, without
from services.backup.domain.wal import SEGMENT_BYTES, Hole
from services.backup.ops.conditions import Conditions
from services.backup.ops.evidence import Evidence
from services.backup.ops.exposures import Exposures
from services.backup.ops.heartbeats import Heartbeats
from services.backup.ops.keeping_figures import KeepingFigures
from services.backup.store import archiver
from services.backup.store import heartbeats as rows
from services.backup.store.archiver import Archiver

_log = log.get(__name__)
_WHO = System("backup")
_LOOK_SECONDS = 60.0


class Watch:
    """A Part. inventory: how often all objects are listed. urgent: called when a full backup is needed at once."""

    def __init__(
        self,
        db: Database,
        engine: Engine,
        heartbeats: Heartbeats,
        exposures: Exposures,
        journal: Journal[Breach],
        conditions: Conditions,
        figures: KeepingFigures,
        evidence: Evidence,
        *,
        inventory: timedelta,
        now: Clock,
    ) -> None:
        self._db = db
        self._engine = engine
        self._heartbeats = heartbeats
        self._exposures = exposures
        self._journal = journal
        self._conditions = conditions
        self._figures = figures
        self._evidence = evidence
        self._inventory = inventory
        self._now = now
        self._breaches = journal.load()
        self._held: Repository | None = None
        self._suspected: set[str] = set()
        self._listed_at: datetime | None = None
        self._segment_bytes = SEGMENT_BYTES
        self._task: asyncio.Task[None] | None = None
        self.urgent: Callable[[], None] = _nobody

    @property
    def held(self) -> Repository | None:
        """The repository as it was last read; None before that."""
        return self._held

    @property
    def open(self) -> list[Breach]:
        """Holes that cut off the newest data now, oldest first."""
        return [one for one in self._breaches.values() if one.open]

    def open_in(self, held: Repository) -> list[Breach]:
        """Of these, what no backup of *held* has ended; the next look will tell of the others."""
        return [one for one in self.open if breaches.healer(one, held) is None]

    @property
    def breaches(self) -> list[Breach]:
        """Every hole that was ever found, oldest first."""
        return list(self._breaches.values())

    def limited(self, seen: Window) -> Window:
        """*seen*, ending where the first open hole begins: what is archived behind it cannot be restored.

        It begins behind an ended hole when nothing before that one can be restored either; any other is cut out of it.
        """
        return self._pierced(self._ended_earlier(self._begun_later(seen)))

    def _ended_earlier(self, seen: Window) -> Window:
        if not self.open or seen.latest is None:
            return seen
        first = self.open[0]
        begin = breaches.latest(first, self._held) if self._held else first.lost_from
        if begin is None:
            return Window(None, None, None, ())
        if begin >= seen.latest:
            return seen
        exposure = (self._now() - begin).total_seconds()
        recent = tuple(beat for beat in seen.recent if beat.created_at <= begin)
        return replace(seen, latest=begin, exposure_seconds=max(0.0, exposure), recent=recent)

    def _begun_later(self, seen: Window) -> Window:
        for one in self._breaches.values():
            again = one.restorable_again
            if again and self._held and seen.earliest and breaches.latest(one, self._held) is None:
                seen = replace(seen, earliest=max(seen.earliest, again))
        return seen

    def _pierced(self, seen: Window) -> Window:
        if not self._held or seen.earliest is None or seen.latest is None:
            return seen
        return without(seen, breaches.inside(self.breaches, self._held, seen.earliest, seen.latest))

    async def look(self) -> Sample:
        """One look; what it saw is kept as a sample, in figures and in conditions."""
        held, server = await self._inspect(), await self._archiver()
        if held is not None:
            self._held = held
            self._figures.held(held)
            await self._heal(held)
            if self._due():
                await self._list(held)
        beats = await self._heartbeats.recent()
        if held is not None and server is not None and server.on and stuck(held, beats, waiting=server.waiting):
            await self._end_segment()
        # A store that is away makes nothing younger: what was known last is what counts.
        seen = self.limited(window(self._held, beats, now=self._now()))
        restorable = self._held is None or seen.latest is not None
        waiting = server.waiting if server else None
        sample = Sample(minute(self._now()), seen.exposure_seconds, waiting, bool(self.open))
        await self._exposures.add(sample)
        self._show(sample, server, restorable=restorable)
        return sample

    async def start(self) -> None:
        """Begin to look."""
        self._task = process.spawn(self._loop(), name="watch")

    def refuse(self) -> None:
        """Nothing: looking harms nobody."""

    async def drain(self, seconds: float) -> None:
        """Nothing to hand over."""

    async def stop(self) -> None:
        """End the loop."""
        await process.cancel(self._task)

    async def _loop(self) -> None:
        while True:
            try:
                await self.look()
            except OSError as error:
                _log.error("watch_failed", fault=error.strerror)
            await asyncio.sleep(_until_next(self._now()))

    async def _inspect(self) -> Repository | None:
        try:
            held = await self._engine.inspect()
        except AppError as error:
            remedy = "Follow what it says; nothing can be restored or backed up until it is mended."
            self._conditions.tell(Name.REPOSITORY_UNREADABLE, f"{error.message.rstrip('.')}.", remedy)
            return None
        self._conditions.clear(Name.REPOSITORY_UNREADABLE)
        return held

    async def _archiver(self) -> Archiver | None:
        try:
            async with self._db.begin(_WHO) as tx:
                found = await archiver.status(tx)
        except AppError:
            return None
        self._segment_bytes = found.segment_bytes
        return found

    async def _end_segment(self) -> None:
        try:
            async with self._db.begin(_WHO) as tx:
                ended = await rows.switch_wal(tx)
        except AppError as error:
            _log.warning("segment_not_ended", reason=error.reason, fault=error.message)
            return
        _log.warning("segment_ended", wal=ended)

    def _due(self) -> bool:
        """Whether to list all objects now: a period has passed, the clock went back, or there is a suspicion."""
        last, now = self._listed_at, self._now()
        return last is None or bool(self._suspected) or now < last or now - last >= self._inventory

    async def _list(self, held: Repository) -> None:
        try:
            listing, dropped = await self._engine.listing(), await self._engine.dropped()
        except AppError as error:
            _log.warning("inventory_failed", reason=error.reason, fault=error.message)
            return
        self._listed_at = self._now()
        self._age(listing)
        segments = listing.segments(held.archive)
        holes = breaches.needed(held, segments, dropped, segment_bytes=self._segment_bytes)
        await self._judge(holes, held)

    def _age(self, listing: Listing) -> None:
        now = self._now()
        old = listing.older_than(CEILING, now=now)
        self._figures.listed(listing, len(old), now=now)
        if not old:
            self._conditions.clear(Name.DATA_PAST_CEILING)
            return
        oldest = listing.oldest()
        text = f"{len(old)} objects hold data of more than 30 days ago, the oldest of {oldest:%Y-%m-%d %H:%M} UTC."
        remedy = "See why expiry fails or why there is no newer good full backup (holdfast backup schedule)."
        self._conditions.tell(Name.DATA_PAST_CEILING, text, remedy)

    async def _judge(self, holes: list[Hole], held: Repository) -> None:
        fresh = breaches.fresh(holes, self._breaches.values(), segment_bytes=self._segment_bytes)
        waiting = await self._waiting() if fresh else frozenset()
        missing = [hole for hole in fresh if hole.first not in waiting and hole.last not in waiting]
        believed = [hole for hole in missing if hole.first in self._suspected]
        self._suspected = {hole.first for hole in missing} - {hole.first for hole in believed}
        for hole in believed:
            await self._declare(hole, held.database_id)
        if believed:
            await self._heal(held)
        if self.open:
            self.urgent()

    async def _waiting(self) -> frozenset[str]:
        try:
            async with self._db.begin(_WHO) as tx:
                return await archiver.ready(tx)
        except AppError:
            return frozenset()

    async def _declare(self, hole: Hole, database_id: int) -> None:
        last = await self._heartbeats.within(hole.after)
        begin = last.created_at if last else None
        found = Breach(hole.first, hole.last, hole.count, self._now(), begin, database_id=database_id)
        self._keep(found)
        _log.error("rpo_broken", first=found.first, last=found.last, segments=found.count)
        facts = {"outcome": "failed", "segments": found.count, "found_at": found.found_at, "lost_from": found.lost_from}
        inner = {"first": found.first, "last": found.last}
        await self._evidence.append("rpo_breach", f"breaches/{found.id}", facts, inner)

    async def _heal(self, held: Repository) -> None:
        for breach in self.open:
            by = breaches.healer(breach, held)
            if by is None:
                continue
            ended = breach.healed(by)
            self._keep(ended)
            _log.info("rpo_restored", first=ended.first, backup=by.label)
            facts = {"outcome": "succeeded", "lost_from": ended.lost_from, "lost_until": ended.lost_until}
            inner = {"first": ended.first, "last": ended.last, "backup": by.label}
            await self._evidence.append("rpo_breach_ended", f"breaches/{ended.id}", facts, inner)
        self._tell()

    def _keep(self, breach: Breach) -> None:
        self._journal.keep(breach.id, breach.to_json())
        self._breaches[breach.id] = breach
        self._tell()

    def _tell(self) -> None:
        self._figures.broken.set(bool(self.open))
        if not self.open:
            self._conditions.clear(Name.RPO_BROKEN)
            return
        first = self.open[0]
        begin = f"{first.lost_from:%Y-%m-%d %H:%M:%S} UTC" if first.lost_from else "an unknown moment"
        text = f"WAL segment {first.first} and {first.count - 1} more are lost: nothing after {begin} can be restored."
        if first.count == 1:
            text = f"WAL segment {first.first} is lost: nothing after {begin} can be restored."
        remedy = "A full backup is taken at once and ends this; find out who removed or dropped the segment."
        self._conditions.tell(Name.RPO_BROKEN, text, remedy)

    def _show(self, sample: Sample, server: Archiver | None, *, restorable: bool) -> None:
        self._figures.exposed(sample.exposure_seconds, restorable=restorable)
        self._figures.watched.set(self._now().timestamp())
        if server is not None:
            self._figures.queue.set(server.waiting)
            self._figures.failing.set(server.failing_since is not None)


def _until_next(now: datetime) -> float:
    """Seconds to the next whole minute: a pause of a minute after each look would now and then skip one."""
    return _LOOK_SECONDS - now.timestamp() % _LOOK_SECONDS


def _nobody() -> None:
    return
