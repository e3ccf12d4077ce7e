"""Which backup a drill restores, where it stops, and which heartbeats must then be there."""

from datetime import UTC, datetime, timedelta

import pytest

from services.backup.domain import plan as planning
from services.backup.domain.errors import (
    BackupNotFound,
    DiskShort,
    NoBackup,
    TargetBeforeFirstBackup,
    TargetNotArchived,
)
from services.backup.domain.heartbeat import Beat, archived
from services.backup.domain.repository import BackupType, Repository, Stored

START = datetime(2026, 11, 22, tzinfo=UTC)
NOW = START + timedelta(hours=3)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def stored(label: str, minutes: float, stop_lsn: int = 0) -> Stored:
    return Stored(label, BackupType.FULL, at(minutes - 1), at(minutes), 100, 10, "", "", stop_lsn, None)


def beat(sequence: int, minutes: float, segment: int, lsn: str = "0/0") -> Beat:
    return Beat(sequence, at(minutes), lsn, 1, f"0000000100000000{segment:08X}")


def repository(*backups: Stored, newest: int = 9) -> Repository:
    return Repository(True, "ok", backups, "", f"0000000100000000{newest:08X}", None)


BEATS = [beat(4, 30, 3), beat(5, 40, 5)]


def test_the_newest_backup_before_the_target_is_chosen_and_the_beats_around_it_are_known() -> None:
    held = repository(stored("A", 10), stored("B", 20), stored("C", 36))
    found = planning.plan(held, BEATS, target=at(35), wanted=None, now=NOW)
    assert found == planning.Plan("B", 100, at(35), 4, 4, at(40))


def test_a_wanted_backup_is_taken_and_refused_when_it_ends_after_the_target() -> None:
    held = repository(stored("A", 10), stored("B", 20), stored("C", 36))
    assert planning.plan(held, BEATS, target=at(35), wanted=held.backups[0], now=NOW).label == "A"
    with pytest.raises(TargetBeforeFirstBackup):
        planning.plan(held, BEATS, target=at(35), wanted=held.backups[2], now=NOW)


def test_a_target_inside_the_commit_of_a_beat_may_show_the_beat_before_it() -> None:
    held = repository(stored("A", 10))
    within = at(30) + timedelta(milliseconds=500)
    assert planning.plan(held, BEATS, target=within, wanted=None, now=NOW).at_least == 3
    assert planning.plan(held, BEATS, target=at(30) + timedelta(seconds=1), wanted=None, now=NOW).at_least == 4


def test_a_backup_that_ended_in_this_very_second_counts_when_a_beat_has_passed_its_end() -> None:
    just = repository(stored("A", 30, stop_lsn=0x2000138))
    target = at(30) + timedelta(milliseconds=400)
    passed = [beat(4, 30, 3, "0/3000000"), beat(5, 40, 5)]
    before = [beat(4, 30, 3, "0/2000000"), beat(5, 40, 5)]
    assert planning.plan(just, passed, target=target, wanted=None, now=NOW).label == "A"
    with pytest.raises(TargetBeforeFirstBackup):
        planning.plan(just, before, target=target, wanted=None, now=NOW)


def test_a_target_that_nothing_can_prove_is_refused() -> None:
    held = repository(stored("A", 10))
    with pytest.raises(NoBackup):
        planning.plan(repository(), BEATS, target=at(35), wanted=None, now=NOW)
    with pytest.raises(TargetNotArchived):
        planning.plan(held, BEATS, target=NOW + timedelta(seconds=1), wanted=None, now=NOW)
    with pytest.raises(TargetNotArchived):
        planning.plan(repository(stored("A", 10), newest=4), BEATS, target=at(35), wanted=None, now=NOW)
    with pytest.raises(TargetNotArchived):
        planning.plan(held, BEATS[:1], target=at(35), wanted=None, now=NOW)
    with pytest.raises(TargetBeforeFirstBackup):
        planning.plan(held, BEATS, target=at(5), wanted=None, now=NOW)
    with pytest.raises(TargetBeforeFirstBackup):
        planning.plan(held, BEATS[1:], target=at(35), wanted=None, now=NOW)
    with pytest.raises(TargetNotArchived):
        planning.plan(held, [], target=None, wanted=None, now=NOW)
    with pytest.raises(BackupNotFound):
        planning.named(held, "Z")


def test_a_refused_moment_is_named_with_what_to_do_next() -> None:
    held = repository(stored("A", 10))
    with pytest.raises(TargetNotArchived, match=r"T.*Z lies in the future: here it is .*holdfast recovery status"):
        planning.plan(held, BEATS, target=NOW + timedelta(seconds=1), wanted=None, now=NOW)
    with pytest.raises(TargetBeforeFirstBackup, match=r"the oldest backup, A, ended at .*holdfast backup list"):
        planning.plan(held, BEATS, target=at(5), wanted=None, now=NOW)
    with pytest.raises(TargetBeforeFirstBackup, match=r"backup, A, ended at .*, or an older backup"):
        planning.plan(held, BEATS, target=at(5), wanted=stored("A", 10), now=NOW)
    with pytest.raises(TargetNotArchived, match=r"follows .*Z, .*holdfast recovery status --advance"):
        planning.plan(held, BEATS[:1], target=at(35), wanted=None, now=NOW)
    with pytest.raises(NoBackup, match="holdfast backup create"):
        planning.plan(repository(), BEATS, target=at(35), wanted=None, now=NOW)
    with pytest.raises(BackupNotFound, match="no backup Z: `holdfast backup list`"):
        planning.named(held, "Z")


def test_the_end_of_the_archive_asks_for_every_archived_beat() -> None:
    held = repository(stored("A", 10), newest=4)
    assert planning.plan(held, BEATS, target=None, wanted=None, now=NOW) == planning.Plan("A", 100, None, 4, None, None)


def test_a_beat_is_archived_when_its_last_segment_is_and_an_older_timeline_does_not_hide_it() -> None:
    newest = "000000010000000000000005"
    assert archived(beat(1, 0, 5), newest)
    assert not archived(beat(1, 0, 6), newest)
    assert archived(beat(1, 0, 5), "000000020000000000000007")
    assert not archived(Beat(1, START, "0/0", 3, "000000030000000000000005"), "000000020000000000000007")
    assert not archived(beat(1, 0, 5), "")


def test_a_copy_needs_room_for_itself_and_some_more() -> None:
    planning.room(2 << 30, 1 << 30)
    with pytest.raises(DiskShort):
        planning.room(1 << 30, 1 << 30)
