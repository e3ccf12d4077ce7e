"""What a repository holds, in our words whatever the engine."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class BackupType(Enum):
    """How much a backup holds by itself."""

    FULL = "full"
    DIFFERENTIAL = "diff"
    INCREMENTAL = "incr"


@dataclass(frozen=True, slots=True)
class Stored:
    """One backup in the repository.

    started_at, ended_at: aware UTC, whole seconds as the engine keeps them. database_bytes: what a restore writes;
    repository_bytes: what this backup added. wal_start, wal_stop: the segments it needs to be consistent.
    stop_lsn: where it ends in the WAL, in bytes: recovery can stop anywhere after it, exactly.
    damaged: page checksums failed while it was taken; None when the engine did not say, which is not "no".
    """

    label: str
    type: BackupType
    started_at: datetime
    ended_at: datetime
    database_bytes: int
    repository_bytes: int
    wal_start: str
    wal_stop: str
    stop_lsn: int
    damaged: bool | None


@dataclass(frozen=True, slots=True)
class Repository:
    """The state of the stanza now.

    healthy: the engine's own status is good. message: its words when not. backups: oldest first. archive_min,
    archive_max: first and last segment of the running database's archive, "" when there is none. running_percent:
    progress of a backup that holds the engine's lock, None when none does.
    """

    healthy: bool
    message: str
    backups: tuple[Stored, ...]
    archive_min: str
    archive_max: str
    running_percent: float | None

    def newest(self) -> Stored | None:
        """The backup that ended last."""
        return self.backups[-1] if self.backups else None
