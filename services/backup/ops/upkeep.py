"""Keeping the repository as it should be: expiry, the hard end of thirty days, verification, the stanza."""

from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from libs.clock import Clock
from libs.db import Database
from libs.errors import AppError
from libs.observability import log
from libs.principal import System
from services.backup.adapters.engine import Engine
from services.backup.adapters.exclusive import Exclusive
from services.backup.domain import retention
from services.backup.domain.breach import wanting
from services.backup.domain.condition import Name
from services.backup.domain.errors import EngineFailed
from services.backup.domain.repository import Repository, Server
from services.backup.domain.verification import Verification
from services.backup.domain.wal import SEGMENT_BYTES
from services.backup.ops.conditions import Conditions
from services.backup.ops.evidence import Evidence
from services.backup.ops.record import Recorder
from services.backup.store import archiver

T = TypeVar("T")

_log = log.get(__name__)
_WHO = System("backup")


class Upkeep:
    """period: from one expiry to the next, so that what would grow too old in between goes now."""

    def __init__(
        self,
        db: Database,
        engine: Engine,
        lock: Callable[[], Exclusive],
        conditions: Conditions,
        evidence: Evidence,
        recorder: Recorder,
        *,
        period: timedelta,
        now: Clock,
    ) -> None:
        self._db = db
        self._engine = engine
        self._lock = lock
        self._conditions = conditions
        self._evidence = evidence
        self._recorder = recorder
        self._period = period
        self._now = now

    async def expire(self) -> None:
        """Delete what is no longer to be kept. Raises BackupBusy, EngineAway and EngineFailed."""
        began = self._now()
        try:
            before, held = await self._alone("expire", self._expired)
        except AppError as error:
            if error.reason != "BACKUP_BUSY":
                facts = {"outcome": "failed", "began_at": began, "removed": 0, "reason": error.reason}
                await self._evidence.append("expire", f"expiries/{began.isoformat()}", facts, {"fault": error.message})
            raise
        after = _labels(held)
        oldest = held.backups[0].started_at if held.backups else None
        facts = {"outcome": "succeeded", "began_at": began, "removed": len(before - after), "kept": len(after)}
        subject = f"expiries/{began.isoformat()}"
        inner = {"removed": sorted(before - after)}
        await self._evidence.append("expire", subject, {**facts, "oldest_backup_at": oldest}, inner)

    async def verify(self) -> None:
        """Read the whole repository again. Raises BackupBusy, EngineAway, and EngineFailed when anything is wrong."""
        began = self._now()
        subject = f"verifications/{began.isoformat()}"
        try:
            found = await self._alone("verify", self._verified)
        except AppError as error:
            if error.reason != "BACKUP_BUSY":
                facts = {"outcome": "failed", "began_at": began, "reason": error.reason}
                await self._evidence.append("verify", subject, facts, {"fault": error.message})
            raise
        facts = {
            "outcome": "succeeded" if found.ok else "failed",
            "began_at": began,
            "backups": found.backups,
            "files": found.files,
            "segments": found.segments,
            "faults": len(found.faults),
        }
        inner = {"faults": list(found.faults[:50]), "leftovers": list(found.leftovers)}
        await self._evidence.append("verify", subject, facts, inner)
        if found.ok:
            self._conditions.clear(Name.REPOSITORY_DAMAGED)
            return
        words = "; ".join(found.faults[:5])
        remedy = "Do not delete anything; take a full backup now, then drill each older one (holdfast drill run)."
        self._conditions.tell(Name.REPOSITORY_DAMAGED, f"The repository is damaged: {words}.", remedy)
        raise EngineFailed(f"The repository is damaged: {words}. {remedy}", command="verify", faults=len(found.faults))

    async def follow(self, held: Repository, *, taken: bool) -> bool:
        """Make or upgrade the stanza when the server is not the one it knows; whether anything was done.

        taken: whether backups are known to have been taken, so that an empty repository is a loss. Nothing is done
        while the database is away. Raises BackupBusy, EngineAway and EngineFailed.
        """
        server = await self._server()
        if server is None or held.server == server:
            return False
        if held.server is None and held.stanza:
            return False
        if not held.stanza and taken:
            text = "The repository holds nothing any more, although backups had been taken into it."
            remedy = "Find out who emptied it, and whether the store can give it back; a new full backup is taken."
            self._conditions.tell(Name.REPOSITORY_EMPTIED, text, remedy)
        await self._alone("stanza", self._engine.upgrade_stanza if held.stanza else self._engine.create_stanza)
        action = "stanza.upgraded" if held.stanza else "stanza.created"
        _log.warning(action.replace(".", "_"), system_id=server.system_id, version=server.version)
        await self._recorder.audit(_WHO, action, system_id=str(server.system_id), version=server.version)
        return True

    async def _expired(self) -> tuple[frozenset[str], Repository]:
        """The labels before it, and what the repository holds after it."""
        before = _labels(await self._engine.inspect())
        await self._engine.expire()
        return before, await self._sweep(await self._engine.inspect())

    async def _verified(self) -> Verification:
        found = await self._engine.verify()
        return replace(found, faults=(*found.faults, *await self._wanting()))

    async def _sweep(self, held: Repository) -> Repository:
        """The hard end, which the engine's own retention does not know."""
        found = retention.sweep(held, now=self._now(), period=self._period)
        for label in found.labels:
            _log.warning("backup_swept", backup=label)
            await self._engine.remove(label)
        if found.kept:
            text = f"Backup {found.kept} is older than 30 days and stays, for it is the last good full one."
            remedy = "Mend what makes backups fail (holdfast backup schedule); it goes as soon as a new one is good."
            self._conditions.tell(Name.LAST_GOOD_PAST_CEILING, text, remedy)
        else:
            self._conditions.clear(Name.LAST_GOOD_PAST_CEILING)
        return await self._engine.inspect() if found.labels else held

    async def _server(self) -> Server | None:
        try:
            async with self._db.begin(_WHO) as tx:
                return await archiver.server(tx)
        except AppError:
            return None

    async def _wanting(self) -> list[str]:
        """What backups need and the archive lacks: the engine's own verification does not compare the two."""
        held = await self._engine.inspect()
        segments = (await self._engine.listing()).segments(held.archive)
        lost = wanting(held, segments, segment_bytes=await self._segment_bytes())
        return [f"backup {label} needs WAL segment {name}, which is not there" for name, label in lost.items()]

    async def _segment_bytes(self) -> int:
        try:
            async with self._db.begin(_WHO) as tx:
                return (await archiver.status(tx)).segment_bytes
        except AppError:
            return SEGMENT_BYTES

    async def _alone(self, what: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What *work* gives while nobody else works on the repository."""
        lock = self._lock()
        await lock.take(what)
        try:
            return await lock.guard(work())
        finally:
            await lock.free()


def _labels(held: Repository) -> frozenset[str]:
    return frozenset(one.label for one in held.backups)
