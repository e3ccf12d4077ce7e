"""What could be restored now, and what is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.backup.domain import heartbeat
from services.backup.domain.backup import Backup
from services.backup.domain.drill import Drill
from services.backup.domain.heartbeat import Beat
from services.backup.domain.plan import STOP_PRECISION
from services.backup.domain.repository import Repository

RECENT = 10


@dataclass(frozen=True, slots=True)
class Window:
    """earliest, latest: ends of the restorable time, None without a backup. exposure_seconds: what is lost now."""

    earliest: datetime | None
    latest: datetime | None
    exposure_seconds: float | None
    recent: tuple[Beat, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """waiting: WAL segments not archived yet. recent: archived beats, newest first. warnings: in plain words."""

    window: Window
    waiting: int
    last_archived_wal: str
    failing_since: datetime | None
    newest_heartbeat: int
    last_backup: Backup | None
    last_drill: Drill | None
    warnings: tuple[str, ...]


def window(repository: Repository | None, beats: Sequence[Beat], *, now: datetime) -> Window:
    """The restorable time: from the end of the oldest backup to the newest heartbeat whose WAL is in the repository.

    A backup that ended after that heartbeat is restorable to its own end, so then that is the latest moment.
    """
    if repository is None:
        return Window(None, None, None, ())
    archived = [beat for beat in beats if heartbeat.archived(beat, repository.archive_max)]
    recent = tuple(archived[::-1][:RECENT])
    if not repository.backups:
        return Window(None, None, None, recent)
    newest = max([repository.backups[-1].ended_at + STOP_PRECISION, *(beat.created_at for beat in archived[-1:])])
    exposure = max(0.0, (now - newest).total_seconds())
    return Window(repository.backups[0].ended_at + STOP_PRECISION, newest, exposure, recent)


def behind(beats: Sequence[Beat], remembered: int) -> bool:
    """Whether the database knows fewer heartbeats than the disk beside it: it has been restored, or replaced."""
    return bool(remembered) and (not beats or beats[-1].sequence < remembered)
