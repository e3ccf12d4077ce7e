"""A plan to a place in the WAL: which backup ends before it, and which two heartbeats enclose it.

An LSN has no time and no timeline. Production's heartbeats give it both: it is one of the history they were written
in, and between two of different timelines it is refused, since it may lie on either.
"""

from collections.abc import Sequence

from services.backup.domain import heartbeat
from services.backup.domain.errors import NoBackup, TargetBeforeFirstBackup, TargetNotArchived
from services.backup.domain.heartbeat import Beat, position
from services.backup.domain.plan import NOTHING_HELD, Plan, segments_between
from services.backup.domain.repository import Repository, Stored

# A beat's commit follows its lsn by what other sessions write in the same milliseconds.
COMMIT_BYTES = 1 << 20


def plan_lsn(repository: Repository, beats: Sequence[Beat], *, lsn: str, wanted: Stored | None) -> Plan:
    """How to reach *lsn* from *wanted* (None: the newest backup that ends before it).

    beats: the last at or before *lsn* and the first one behind it, ascending. Recovery ends after the first record that
    begins at *lsn* or behind it, which is before the commit of the second of these beats. Raises NoBackup,
    TargetBeforeFirstBackup and TargetNotArchived.
    """
    if not repository.backups:
        raise NoBackup(NOTHING_HELD)
    target = position(lsn)
    before = [beat for beat in beats if position(beat.lsn) <= target]
    after = [beat for beat in beats if position(beat.lsn) > target]
    chosen = _ending_before(repository, lsn, wanted)
    if not before:
        raise TargetBeforeFirstBackup(
            f"No heartbeat precedes {lsn}, so the copy could not be judged. Choose a later place, or a moment.",
            target=lsn,
        )
    newest = before[-1]
    if not after or not heartbeat.archived(after[0], repository.archive_max):
        raise TargetNotArchived(
            f"No archived heartbeat follows {lsn}: it lies in the future, or its WAL is not in the repository yet. The"
            f" last heartbeat at or before it, {newest.sequence}, is at {newest.lsn}. Choose an LSN before that, or run"
            " `holdfast recovery status --advance` and try again.",
            target=lsn,
        )
    _on_one_timeline(newest, after[0], lsn)
    committing = target - position(newest.lsn) < COMMIT_BYTES and newest.sequence > 1
    return Plan(
        chosen.label,
        chosen.database_bytes,
        None,
        newest.sequence - 1 if committing else newest.sequence,
        newest.sequence,
        after[0].created_at,
        chosen.damaged,
        segments_between(chosen.wal_start, newest.wal),
        lsn,
    )


def _on_one_timeline(newest: Beat, after: Beat, lsn: str) -> None:
    if newest.timeline != after.timeline:
        raise TargetNotArchived(
            f"The server changed from timeline {newest.timeline} to {after.timeline} between heartbeat"
            f" {newest.sequence} at {newest.lsn} and {after.sequence} at {after.lsn}: {lsn} may lie on either."
            " Choose an LSN outside of these, or a moment.",
            target=lsn,
        )


def _ending_before(repository: Repository, lsn: str, wanted: Stored | None) -> Stored:
    """The newest backup of the running database that ends at *lsn* or before; LSNs of another one mean nothing here."""
    own = [one for one in repository.backups if one.database_id == repository.database_id and one.stop_lsn]
    asked = own if wanted is None else [one for one in own if one.label == wanted.label]
    if not asked:
        which = f"Backup {wanted.label} is not" if wanted else "No backup is"
        raise TargetBeforeFirstBackup(
            f"{which} of the database that runs now, and {lsn} means nothing in another one. Choose a moment, or"
            " another backup: `holdfast backup list` shows each.",
            target=lsn,
        )
    fitting = [one for one in asked if one.stop_lsn <= position(lsn)]
    if not fitting:
        first = asked[0]
        raise TargetBeforeFirstBackup(
            f"No backup ends before {lsn}: {first.label} ends at {_text(first.stop_lsn)}, and before that its copy is"
            f" not consistent. Choose an LSN from there on{', or an older backup' if wanted else ''}.",
            target=lsn,
        )
    return fitting[-1]


def _text(place: int) -> str:
    return f"{place >> 32:X}/{place & 0xFFFFFFFF:X}"
