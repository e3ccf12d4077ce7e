"""From when to when can be restored, and what a loss now would cost."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from libs.errors import AppError
from services.backup.domain.drill import Check, Drill, Kind
from services.backup.domain.errors import ChecksFailed, DrillCancelled, Interrupted
from services.backup.domain.heartbeat import Beat
from services.backup.domain.repository import BackupType, Repository, Stored
from services.backup.domain.status import RECENT, behind, disproved, window

START = datetime(2026, 11, 22, tzinfo=UTC)
NOW = START + timedelta(hours=1)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def beat(number: int) -> Beat:
    return Beat(number, at(number), "0/0", 1, f"0000000100000000{number:08X}")


def repository(*ended: float, newest: int) -> Repository:
    backups = tuple(Stored(str(one), BackupType.FULL, at(one - 1), at(one), 1, 1, "", "", 0, None) for one in ended)
    return Repository(True, "ok", backups, "", f"0000000100000000{newest:08X}", None)


def test_the_window_ends_at_the_newest_beat_whose_segment_is_in_the_repository() -> None:
    found = window(repository(5, 10, newest=30), [beat(number) for number in range(15, 41)], now=NOW)
    assert (found.earliest, found.latest, found.exposure_seconds) == (at(5) + timedelta(seconds=1), at(30), 1800.0)
    assert [one.sequence for one in found.recent] == [*range(30, 30 - RECENT, -1)]


def test_a_backup_newer_than_every_archived_beat_ends_the_window_itself() -> None:
    for beats in ([beat(15)], []):
        found = window(repository(20, newest=30), beats, now=NOW)
        assert found.earliest == found.latest == at(20) + timedelta(seconds=1)
        assert found.exposure_seconds == 2399.0


def test_without_a_backup_or_a_repository_nothing_is_restorable() -> None:
    for held in (None, repository(newest=30)):
        found = window(held, [beat(15)], now=NOW)
        assert (found.earliest, found.latest, found.exposure_seconds) == (None, None, None)


def test_a_database_behind_the_ledger_has_been_restored() -> None:
    assert behind([beat(3)], 4)
    assert behind([], 1)
    assert not behind([beat(4)], 4)
    assert not behind([], 0)


def drill(id: str, kind: Kind, error: AppError | None = None) -> Drill:
    begun = Drill(id, NOW, kind=kind, checks=(Check("a", True, 1, ""),))
    return (begun.failed(error, now=NOW) if error else begun).ended(now=NOW)


def test_a_drill_that_failed_is_warned_of_until_one_of_its_kind_is_good() -> None:
    """A status ended with 0 and without a word after a drill that disproved the restore."""
    wrong = ChecksFailed("The copy failed heartbeats.")
    failed = drill("02", Kind.LIGHT, wrong)
    (told,) = disproved([drill("01", Kind.LIGHT), failed])
    assert "The newest light drill failed" in told
    assert "The copy failed heartbeats." in told
    assert "holdfast drill show drills/02" in told
    assert disproved([failed, drill("03", Kind.DEEP)]) == [told]
    assert disproved([failed, drill("03", Kind.LIGHT)]) == []
    assert disproved([drill("03", Kind.CHOSEN, wrong)]) == []
    # These say nothing of a backup, good or bad.
    for error in (DrillCancelled("x"), Interrupted("x")):
        assert disproved([failed, drill("03", Kind.LIGHT, error)]) == [told]
        assert disproved([drill("03", Kind.LIGHT, error)]) == []
        # But for what their checks had found by then.
        found = replace(drill("04", Kind.LIGHT, error), checks=(Check("removed", False, 3, "left: x"),))
        assert len(disproved([found])) == 1
