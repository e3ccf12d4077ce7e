"""What could be restored now, and what is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.backup.domain import forecast, heartbeat
from services.backup.domain.backup import Backup
from services.backup.domain.breach import Breach
from services.backup.domain.drill import AT_LEAST_EVERY, Drill, Kind
from services.backup.domain.errors import DrillCancelled, Interrupted
from services.backup.domain.heartbeat import Beat
from services.backup.domain.object_rpo import ObjectRpo
from services.backup.domain.plan import STOP_PRECISION, segments_between
from services.backup.domain.repository import Repository

RECENT = 10
SEGMENT_AT_MOST = timedelta(minutes=2)
"""From a heartbeat to the end of its segment: archive_timeout is one minute, and the archive takes some seconds."""


@dataclass(frozen=True, slots=True)
class Window:
    """earliest, latest: ends of the restorable time, None without a backup. exposure_seconds: what is lost now.

    lost: ended breaches that cut a piece out of that time, with the piece's ends.
    """

    earliest: datetime | None
    latest: datetime | None
    exposure_seconds: float | None
    recent: tuple[Beat, ...]
    lost: tuple[Breach, ...] = ()


@dataclass(frozen=True, slots=True)
class Foresight:
    """What drills say of a restore now. rto_seconds: how long it would take; error: how wrong such words were.

    good_light_at, good_deep_at: when the newest good one of the kind ended.
    """

    rto_seconds: float | None = None
    error: float | None = None
    good_light_at: datetime | None = None
    good_deep_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """waiting: WAL segments not archived yet. recent: archived beats, newest first. warnings: in plain words.

    objects: what a restore would lack of the files' bytes. unreadable: the repository could not be asked.
    """

    window: Window
    waiting: int
    last_archived_wal: str
    failing_since: datetime | None
    newest_heartbeat: int
    last_backup: Backup | None
    last_drill: Drill | None
    warnings: tuple[str, ...]
    objects: ObjectRpo
    foresight: Foresight = Foresight()
    unreadable: bool = False


def foresight(repository: Repository | None, drills: Sequence[Drill]) -> Foresight:
    """What *drills*, oldest first, foretell of restoring the newest backup to the end of the archive."""
    newest = repository.newest() if repository else None
    rto = None
    if repository and newest:
        segments = segments_between(newest.wal_start, repository.archive_max)
        rto = forecast.rto_seconds(drills, database_bytes=newest.database_bytes, wal_segments=segments)
    good = {drill.kind: drill.ended_at for drill in drills if drill.good}
    return Foresight(rto, forecast.error(drills), good.get(Kind.LIGHT), good.get(Kind.DEEP))


def undrilled(repository: Repository | None, drills: Sequence[Drill], *, now: datetime) -> str:
    """A warning when backups have been there for eight days and none of them was drilled well meanwhile; else ""."""
    if not repository or not repository.backups or now - repository.backups[0].ended_at < AT_LEAST_EVERY:
        return ""
    good = [drill.ended_at for drill in drills if drill.good and drill.ended_at]
    if good and now - max(good) < AT_LEAST_EVERY:
        return ""
    return "No drill has succeeded for 8 days: run one (holdfast drill run), and see why the last ones failed."


def disproved(drills: Sequence[Drill]) -> list[str]:
    """A warning for each kind of the timetable whose newest drill failed by itself. drills: oldest first."""
    newest = {
        drill.kind: drill for drill in drills if drill.ended_at and not drill.ended_by(DrillCancelled, Interrupted)
    }
    return [
        f"The newest {kind.value} drill failed, so a restore may fail now; holdfast drill show drills/{newest[kind].id}"
        f" tells what it found. {newest[kind].fault}"
        for kind in (Kind.LIGHT, Kind.DEEP)
        if kind in newest and not newest[kind].good
    ]


def torn(objects: ObjectRpo) -> str:
    """A warning while rows are known to have lost their objects; else ""."""
    if not objects.seconds:
        return ""
    return (
        f"Files have lost their bytes: objects are whole only up to {objects.seconds:.0f} s before the moment that"
        f" drills/{objects.drill} restored. Which ones: holdfast drill show drills/{objects.drill}"
    )


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


def without(seen: Window, lost: Sequence[Breach]) -> Window:
    """*seen* without the pieces of *lost*, and without the heartbeats in them, which no restore would reach."""
    recent = tuple(beat for beat in seen.recent if not any(one.covers(beat.created_at) for one in lost))
    return replace(seen, lost=tuple(lost), recent=recent)


def stuck(repository: Repository, beats: Sequence[Beat], *, waiting: int) -> bool:
    """Whether the server has to be told to end its segment: it should have by itself, and nothing waits to be archived.

    After a clean start PostgreSQL 15 looks at archive_timeout only once checkpoint_timeout has passed, so that an idle
    server would keep its newest heartbeats to itself for as long. Source: its checkpointer.c, CheckpointerMain.
    """
    archived = [beat.created_at for beat in beats if heartbeat.archived(beat, repository.archive_max)]
    return bool(archived) and not waiting and beats[-1].created_at - archived[-1] >= SEGMENT_AT_MOST


def behind(beats: Sequence[Beat], remembered: int) -> bool:
    """Whether the database knows fewer heartbeats than the disk beside it: it has been restored, or replaced."""
    return bool(remembered) and (not beats or beats[-1].sequence < remembered)
