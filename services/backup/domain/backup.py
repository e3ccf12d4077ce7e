"""A backup as it is asked for and followed; once it has ended, the repository is the truth about it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Self

from libs.errors import AppError
from services.backup.domain.progress import Fault, State, moment, stamp
from services.backup.domain.repository import BackupType, Stored


@dataclass(frozen=True, slots=True)
class Backup:
    """id: ours, or the label of a backup that we did not ask for. Sizes and segments are known once it has ended."""

    id: str
    type: BackupType
    state: State
    started_at: datetime
    label: str = ""
    ended_at: datetime | None = None
    database_bytes: int = 0
    repository_bytes: int = 0
    wal_start: str = ""
    wal_stop: str = ""
    progress_percent: int = 0
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

    def to_json(self) -> dict[str, Any]:
        """Every field as JSON; moments as ISO 8601."""
        document: dict[str, Any] = stamp(asdict(self))
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The value that to_json wrote. Raises KeyError, TypeError or ValueError for anything else."""
        started, error = moment(document["started_at"]), document["error"]
        if started is None:
            raise ValueError("a backup has a start")
        fields = dict(document)
        fields["started_at"], fields["ended_at"] = started, moment(document["ended_at"])
        fields["type"], fields["state"] = BackupType(document["type"]), State(document["state"])
        fields["error"] = Fault.from_json(error) if error else None
        return cls(**fields)
