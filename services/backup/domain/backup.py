"""A backup as it is asked for and followed; once it has ended, the repository is the truth about it."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

from libs.errors import AppError
from services.backup.domain.progress import Fault, State
from services.backup.domain.reading import Document, Name, Small
from services.backup.domain.repository import BackupType, Stored


@dataclass(frozen=True, slots=True)
class Backup(Document):
    """id: ours, or the label of a backup that we did not ask for. Sizes and segments are known once it has ended."""

    id: Name
    type: BackupType
    state: State
    started_at: datetime
    label: str = ""
    ended_at: datetime | None = None
    database_bytes: int = 0
    repository_bytes: int = 0
    wal_start: str = ""
    wal_stop: str = ""
    progress_percent: Small = 0
    error: Fault | None = None

    def completed(self, stored: Stored, *, now: datetime) -> Self:
        """The engine took it and the repository lists it."""
        known = Backup.of(stored)
        return replace(
            self,
            state=State.SUCCEEDED,
            type=known.type,
            label=stored.label,
            ended_at=now,
            database_bytes=known.database_bytes,
            repository_bytes=known.repository_bytes,
            wal_start=known.wal_start,
            wal_stop=known.wal_stop,
            progress_percent=100,
        )

    def failed(self, error: AppError, *, now: datetime) -> Self:
        """It ended badly."""
        return replace(self, state=State.FAILED, ended_at=now, error=Fault.of(error))

    @classmethod
    def of(cls, stored: Stored) -> "Backup":
        """A backup that only the repository knows."""
        return Backup(
            id=stored.label,
            type=stored.type,
            state=State.SUCCEEDED,
            started_at=stored.started_at,
            label=stored.label,
            ended_at=stored.ended_at,
            database_bytes=stored.database_bytes,
            repository_bytes=stored.repository_bytes,
            wal_start=stored.wal_start,
            wal_stop=stored.wal_stop,
            progress_percent=100,
        )
