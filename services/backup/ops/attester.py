"""Ended backups and drills into evidence, once each."""

from datetime import datetime

from libs.errors import AppError
from services.backup.adapters.circumstances import Circumstances
from services.backup.domain.backup import Backup
from services.backup.domain.drill import Drill, Kind
from services.backup.domain.testimony import backup_entry, drill_entry, refusal_entry
from services.backup.ops.evidence import Evidence


class Attester:
    """Adds to what a backup or drill says of itself what stood around it."""

    def __init__(self, evidence: Evidence, circumstances: Circumstances) -> None:
        self._evidence = evidence
        self._circumstances = circumstances

    async def backup(self, ended: Backup) -> None:
        """The record of *ended*; nothing when there is one."""
        if not self._evidence.holds("backup", f"backups/{ended.id}"):
            await self._evidence.append_entry(backup_entry(ended, await self._circumstances.now()))

    async def refused(self, kind: Kind, error: AppError, *, at: datetime) -> None:
        """The record of a scheduled drill that could not begin: one for each day and reason."""
        await self._evidence.append_entry(refusal_entry(kind, error, at=at))

    async def drill(self, ended: Drill) -> None:
        """The record of *ended*; nothing when there is one."""
        if not self._evidence.holds("drill", f"drills/{ended.id}"):
            await self._evidence.append_entry(drill_entry(ended, await self._circumstances.now()))
