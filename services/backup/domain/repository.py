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
    database_id: which of the stanza's databases it is of; 0 when unknown.
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
    database_id: int = 0

    @property
    def good(self) -> bool:
        """Whether nothing says that it is damaged."""
        return not self.damaged

    @property
    def full(self) -> bool:
        """Whether it needs no other backup."""
        return self.type is BackupType.FULL


@dataclass(frozen=True, slots=True)
class Server:
    """A database server: its system identifier, 64 bits, and its major version, e.g. "15"."""

    system_id: int
    version: str


@dataclass(frozen=True, slots=True)
class Repository:
    """The state of the stanza now.

    healthy: the engine's own status is good. message: its words when not. backups: oldest first. archive_min,
    archive_max: first and last segment of the running database's archive, "" when there is none. running_percent:
    progress of a backup that holds the engine's lock, None when none does. stanza: whether it has been made.
    server, database_id: whose backups are taken now, and that server's number here; None and 0 without a stanza.
    """

    healthy: bool
    message: str
    backups: tuple[Stored, ...]
    archive_min: str
    archive_max: str
    running_percent: float | None
    stanza: bool = True
    server: Server | None = None
    database_id: int = 0

    @property
    def archive(self) -> str:
        """The id of the running database's archive, e.g. "15-1"; "" without a stanza."""
        return f"{self.server.version}-{self.database_id}" if self.server else ""

    def fulls(self) -> list[Stored]:
        """Good full backups of the running database, oldest first."""
        return [one for one in self.backups if one.full and one.good and one.database_id == self.database_id]

    def newest(self) -> Stored | None:
        """The backup that ended last."""
        return self.backups[-1] if self.backups else None
