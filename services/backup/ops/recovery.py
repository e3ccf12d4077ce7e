"""Live recovery status: what can be restored, to when, and how far the archive lags."""

import asyncio
from pathlib import Path

from libs.clock import Clock
from libs.db import Database
from libs.errors import AppError
from libs.principal import System
from services.backup.adapters.engine import Engine
from services.backup.adapters.escrow import Escrow
from services.backup.adapters.journal import unreadable
from services.backup.domain import object_rpo
from services.backup.domain.condition import Name
from services.backup.domain.errors import EngineAway
from services.backup.domain.heartbeat import Beat
from services.backup.domain.repository import Repository
from services.backup.domain.status import Status, behind, disproved, foresight, torn, undrilled, window
from services.backup.ops.backups import Backups
from services.backup.ops.conditions import Conditions
from services.backup.ops.drills import Drills
from services.backup.ops.evidence import Evidence
from services.backup.ops.guard import Guard
from services.backup.ops.heartbeats import Heartbeats
from services.backup.ops.watch import Watch
from services.backup.store import archiver
from services.backup.store import heartbeats as rows

_WHO = System("backup")
_POLL_SECONDS = 0.2


class Recovery:
    """Answers also when the database, the repository or both are away, and says so in its warnings."""

    def __init__(
        self,
        db: Database,
        engine: Engine,
        heartbeats: Heartbeats,
        guard: Guard,
        backups: Backups,
        drills: Drills,
        evidence: Evidence,
        escrow: Escrow,
        watch: Watch,
        conditions: Conditions,
        *,
        state: Path,
        archive_wait_seconds: float,
        now: Clock,
    ) -> None:
        self._db = db
        self._engine = engine
        self._heartbeats = heartbeats
        self._guard = guard
        self._backups = backups
        self._drills = drills
        self._evidence = evidence
        self._escrow = escrow
        self._watch = watch
        self._conditions = conditions
        self._state = state
        self._archive_wait_seconds = archive_wait_seconds
        self._now = now

    async def status(self) -> Status:
        """What is known now."""
        warnings: list[str] = []
        repository = await self._repository(warnings)
        archiving = await self._archiver(warnings)
        beats = await self._heartbeats.recent()
        if behind(beats, await self._heartbeats.remembered()):
            warnings.append(
                "The database's newest heartbeat is behind the one on disk: it has been restored or replaced."
            )
        taken = self._backups.merge(repository) if repository else []
        seen = self._watch.limited(window(repository, beats, now=self._now()))
        if repository and not taken:
            warnings.append("There is no backup.")
        drills = self._drills.list()
        objects = object_rpo.newest(drills, now=self._now())
        told = (undrilled(repository, drills[::-1], now=self._now()), torn(objects))
        warnings += [warning for warning in told if warning]
        warnings += disproved(drills[::-1])
        warnings += self._evidence.warnings()
        warnings += self._escrow.warnings()
        warnings += self._standing()
        warnings += await asyncio.to_thread(unreadable, self._state)
        warnings += await asyncio.to_thread(self._drills.leftovers)
        warnings += await self._guard.warnings()
        return Status(
            window=seen,
            waiting=archiving.waiting if archiving else 0,
            last_archived_wal=repository.archive_max if repository else "",
            failing_since=archiving.failing_since if archiving else None,
            newest_heartbeat=beats[-1].sequence if beats else 0,
            last_backup=taken[0] if taken else None,
            last_drill=drills[0] if drills else None,
            warnings=tuple(warnings),
            objects=objects,
            foresight=foresight(repository, drills[::-1]),
            unreadable=repository is None,
        )

    async def advance(self) -> Beat:
        """Write a heartbeat, end the segment, and wait until it is in the repository; the heartbeat.

        Raises Unavailable without a database, EngineAway when the segment is not archived in time.
        """
        deadline = asyncio.get_running_loop().time() + self._archive_wait_seconds
        while True:
            beat = await self._heartbeats.beat()
            async with self._db.begin(_WHO) as tx:
                ended = await rows.switch_wal(tx)
            # Near a segment's end the beat's commit may lie in the next one: then that one has to be ended too.
            if beat is not None and beat.wal <= ended:
                break
        while (await self._engine.inspect()).archive_max < ended:
            if asyncio.get_running_loop().time() > deadline:
                raise EngineAway("The newest WAL segment was not archived in time.", wal=ended)
            await asyncio.sleep(_POLL_SECONDS)
        return beat

    def _standing(self) -> list[str]:
        """What stands wrong, but for what was just found out anew."""
        found = [one for one in self._conditions.standing() if one.name is not Name.REPOSITORY_UNREADABLE]
        return [f"{one.text} {one.remedy}" for one in found]

    async def _repository(self, warnings: list[str]) -> Repository | None:
        try:
            found = await self._engine.inspect()
        except AppError as error:
            warnings.append(f"The repository cannot be read: {error.message}")
            return None
        if not found.healthy and found.backups:
            warnings.append(f"The repository says: {found.message}")
        return found

    async def _archiver(self, warnings: list[str]) -> archiver.Archiver | None:
        try:
            async with self._db.begin(_WHO) as tx:
                found = await archiver.status(tx)
        except AppError:
            warnings.append("The database does not answer; heartbeats are those remembered on disk.")
            return None
        if not found.on:
            warnings.append("The database does not archive.")
        if found.failing_since:
            warnings.append(f"Archiving has been failing since {found.failing_since:%Y-%m-%d %H:%M:%S} UTC.")
        return found
