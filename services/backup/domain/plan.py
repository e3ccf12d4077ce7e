"""Which backup to restore, where to stop, which heartbeats must then be there: decided before anything starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.backup.domain import heartbeat
from services.backup.domain.errors import (
    BackupNotFound,
    DiskShort,
    NoBackup,
    TargetBeforeFirstBackup,
    TargetNotArchived,
)
from services.backup.domain.heartbeat import Beat
from services.backup.domain.repository import Repository, Stored

# Recovery compares a target with commit times. A beat's commit follows its row's time by less than this.
COMMIT_WINDOW = timedelta(seconds=1)
# The engine keeps whole seconds, cut off: a backup that ended "at 12" may have ended at 12.9.
STOP_PRECISION = timedelta(seconds=1)
# Room for replayed WAL, temporary files and the log, beside the copy itself.
SPARE_BYTES = 512 << 20
NOTHING_HELD = "The repository holds no backup. Take one: holdfast backup create --type full"
_GROWTH = 1.2


@dataclass(frozen=True, slots=True)
class Plan:
    """stop_at, stop_lsn: where recovery is told to stop; None and "" for the end of the archive.

    at_least, at_most: the newest heartbeat of the copy has to lie between these numbers, both included; at_most is None
    at the end of the archive. They differ only when the target falls into the commit of a beat. ended_before: time of
    beat at_most + 1, which must be absent; None at the end of the archive. damaged: what the engine says of the pages
    it read for the backup, None when it says nothing. wal_segments: how many are to be replayed, about.
    """

    label: str
    database_bytes: int
    stop_at: datetime | None
    at_least: int
    at_most: int | None
    ended_before: datetime | None
    damaged: bool | None = None
    wal_segments: int = 0
    stop_lsn: str = ""

    @property
    def to_the_end(self) -> bool:
        """Whether all that is archived is replayed."""
        return self.stop_at is None and not self.stop_lsn


def plan(
    repository: Repository, beats: Sequence[Beat], *, target: datetime | None, wanted: Stored | None, now: datetime
) -> Plan:
    """How to reach *target* (None: the end of the archive) from *wanted* (None: the newest backup that fits).

    beats: production's newest heartbeats, ascending; at least those around the target. Raises NoBackup,
    TargetBeforeFirstBackup and TargetNotArchived.
    """
    if not repository.backups:
        raise NoBackup(NOTHING_HELD)
    if target is None:
        return _to_the_end(repository, beats, wanted)
    if target > now:
        raise TargetNotArchived(
            f"{told(target)} lies in the future: here it is {told(now)}. Choose a moment that has passed: `holdfast"
            " recovery status` says up to when one can be restored.",
            target=told(target),
            now=told(now),
        )
    before = [beat for beat in beats if beat.created_at <= target]
    chosen = _ending_before(repository, target, heartbeat.position(before[-1].lsn) if before else 0, wanted)
    return _between_beats(chosen, repository.archive_max, beats, target)


def _to_the_end(repository: Repository, beats: Sequence[Beat], wanted: Stored | None) -> Plan:
    chosen = wanted or repository.backups[-1]
    known = [beat.sequence for beat in beats if heartbeat.archived(beat, repository.archive_max)]
    if not known:
        raise TargetNotArchived(
            "No heartbeat is archived yet, so the copy could not be judged. Run `holdfast recovery status --advance`"
            " and try again."
        )
    segments = segments_between(chosen.wal_start, repository.archive_max)
    return Plan(chosen.label, chosen.database_bytes, None, max(known), None, None, chosen.damaged, segments)


def _ending_before(repository: Repository, target: datetime, passed: int, wanted: Stored | None) -> Stored:
    """The newest backup ending before *target*, by the clock or because a beat before it has *passed* its end."""
    fitting = [
        backup
        for backup in repository.backups
        if backup.ended_at + STOP_PRECISION <= target or 0 < backup.stop_lsn <= passed
    ]
    if wanted is not None:
        fitting = [backup for backup in fitting if backup.label == wanted.label]
    if not fitting:
        raise _too_early(wanted or repository.backups[0], target, chosen=wanted is not None)
    return fitting[-1]


def _too_early(first: Stored, target: datetime, *, chosen: bool) -> TargetBeforeFirstBackup:
    """first: the oldest backup, or the one that was *chosen*."""
    which, other = ("backup", ", or an older backup") if chosen else ("the oldest backup", "")
    ended = told(first.ended_at + STOP_PRECISION)
    return TargetBeforeFirstBackup(
        f"Nothing restores {told(target)}: {which}, {first.label}, ended at {ended}. Choose a moment after that{other};"
        " `holdfast backup list` shows each.",
        target=told(target),
        backup=first.label,
        ended=ended,
    )


def _between_beats(chosen: Stored, archive_max: str, beats: Sequence[Beat], target: datetime) -> Plan:
    before = [beat for beat in beats if beat.created_at <= target]
    after = [beat for beat in beats if beat.created_at > target]
    if not after or not heartbeat.archived(after[0], archive_max):
        raise TargetNotArchived(
            f"No archived heartbeat follows {told(target)}, so the copy could not be judged. Choose an earlier moment,"
            " or run `holdfast recovery status --advance` and try again.",
            target=told(target),
        )
    if not before:
        raise TargetBeforeFirstBackup(
            f"No heartbeat precedes {told(target)}, so the copy could not be judged: the first one is of"
            f" {told(after[0].created_at)}. Choose a moment after that.",
            target=told(target),
            first=told(after[0].created_at),
        )
    newest = before[-1]
    committing = target - newest.created_at < COMMIT_WINDOW and newest.sequence > 1
    at_least = newest.sequence - 1 if committing else newest.sequence
    return Plan(
        chosen.label,
        chosen.database_bytes,
        target,
        at_least,
        newest.sequence,
        after[0].created_at,
        chosen.damaged,
        segments_between(chosen.wal_start, newest.wal),
    )


def segments_between(first: str, last: str) -> int:
    """How many WAL segments of 16 MiB there are from *first* to *last*, both by name and included; 0 when unknown."""
    if len(first) < 24 or len(last) < 24:
        return 0
    return max(0, _segment(last) - _segment(first) + 1)


def _segment(name: str) -> int:
    return (int(name[8:16], 16) << 8) + int(name[16:24], 16)


def some_moment(repository: Repository, beats: Sequence[Beat], fraction: float) -> datetime:
    """A moment at *fraction* (0 to 1) of the time between the oldest backup's end and the newest archived heartbeat.

    beats: production's newest ones, ascending. Raises NoBackup and TargetNotArchived.
    """
    if not repository.backups:
        raise NoBackup(NOTHING_HELD)
    first = repository.backups[0].ended_at + STOP_PRECISION
    archived = [beat for beat in beats if heartbeat.archived(beat, repository.archive_max)]
    if not archived or archived[-1].created_at <= first:
        raise TargetNotArchived("No heartbeat that came after the oldest backup is archived yet.")
    return first + (archived[-1].created_at - first) * fraction


def between(beats: Sequence[Beat]) -> datetime | None:
    """The middle between the two *beats* around a moment; None when one of them is not there."""
    if len(beats) < 2:
        return None
    return beats[0].created_at + (beats[1].created_at - beats[0].created_at) / 2


def named(repository: Repository, label: str) -> Stored:
    """The backup with this label. Raises BackupNotFound."""
    for backup in repository.backups:
        if backup.label == label:
            return backup
    raise BackupNotFound(
        f"The repository holds no backup {label}: `holdfast backup list` shows each.", backup=label
    )  # fmt: skip


def told(at: datetime) -> str:
    """A moment as operators write it, in UTC."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def room(free_bytes: int, database_bytes: int, *, spare_bytes: int = SPARE_BYTES) -> None:
    """Raise DiskShort when a copy of *database_bytes* does not fit into *free_bytes* and leave *spare_bytes*."""
    needed = int(database_bytes * _GROWTH) + spare_bytes
    if free_bytes < needed:
        raise DiskShort(
            f"The disk has too little room for the restored copy: {needed >> 20} MiB are needed where copies go,"
            f" {free_bytes >> 20} MiB are free. Make room there, or move state_dir to a larger volume.",
            free_bytes=free_bytes,
            needed_bytes=needed,
        )
