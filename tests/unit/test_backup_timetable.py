"""When drills are due, what they foretell, and when their absence is told."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, cast

import pytest

from libs.observability.metric import Metrics, exposition
from services.backup.domain import forecast, status
from services.backup.domain.drill import Check, Drill, Kind, Phase, not_made
from services.backup.domain.progress import State
from services.backup.domain.repository import BackupType, Repository, Stored
from services.backup.domain.timetable import due, newest
from services.backup.ops.drill_figures import DrillFigures
from services.backup.ops.drills import Drills
from services.backup.ops.timetable import Timetable

NOW = datetime(2026, 11, 22, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def test_a_drill_is_due_once_its_time_is_over_and_at_most_the_jitter_earlier() -> None:
    assert due(NOW, NOW - DAY, DAY, HOUR)
    assert due(NOW, NOW - 30 * DAY, DAY, HOUR)
    assert not due(NOW, NOW - DAY + HOUR, DAY, HOUR)
    early = [due(NOW, NOW - DAY + HOUR * part / 100, DAY, HOUR) for part in range(1, 100)]
    assert 20 < sum(early) < 80


def test_a_restart_draws_no_second_time() -> None:
    last = NOW - DAY + HOUR / 2
    assert len({due(NOW, last, DAY, HOUR) for _ in range(5)}) == 1


def test_a_record_from_the_future_does_not_stop_drills() -> None:
    assert due(NOW, NOW + 400 * DAY, DAY, HOUR)
    assert not due(NOW, NOW, DAY, HOUR)


def test_a_drill_begun_by_a_clock_that_was_ahead_does_not_have_one_due_at_each_look() -> None:
    ahead, now = Drill("2", NOW + 3 * DAY, kind=Kind.LIGHT), Drill("1", NOW, kind=Kind.LIGHT)
    assert newest([ahead], Kind.LIGHT, now=NOW) is ahead
    assert newest([now, ahead], Kind.LIGHT, now=NOW) is now
    assert newest([now, ahead], Kind.LIGHT, now=NOW + 3 * DAY) is ahead
    assert newest([now, ahead], Kind.DEEP, now=NOW) is None
    last = newest([now, ahead], Kind.LIGHT, now=NOW + HOUR)
    assert last is not None
    assert not due(NOW + HOUR, last.created_at, DAY, HOUR)


def drill(
    number: int, *, size: int = 100, restore: float = 10.0, segments: int = 4, replay: float = 2.0, rest: float = 1.0
) -> Drill:
    """A good light drill that ended *number* days after NOW."""
    phases = (Phase("restore", State.SUCCEEDED, NOW, restore), Phase("replay", State.SUCCEEDED, NOW, replay))
    made = Drill(str(number), NOW, phases=phases, kind=Kind.LIGHT, database_bytes=size, wal_segments=segments)
    ended = replace(made, state=State.SUCCEEDED, ended_at=NOW + number * DAY)
    return replace(ended, rto_seconds=restore + replay + rest)


def test_a_restore_is_foretold_from_the_bytes_and_segments_it_will_have() -> None:
    before = [drill(1), drill(2)]
    assert forecast.rto_seconds(before, database_bytes=100, wal_segments=4) == pytest.approx(13.0)
    assert forecast.rto_seconds(before, database_bytes=200, wal_segments=4) == pytest.approx(23.0)
    assert forecast.rto_seconds(before, database_bytes=100, wal_segments=8) == pytest.approx(15.0)


def test_without_a_good_drill_nothing_is_foretold() -> None:
    failed = replace(drill(1), state=State.FAILED)
    assert forecast.rto_seconds([], database_bytes=1, wal_segments=1) is None
    assert forecast.rto_seconds([failed], database_bytes=1, wal_segments=1) is None
    assert forecast.error([drill(1)]) is None


def test_the_error_of_forecasts_is_what_the_drills_after_them_took() -> None:
    told = [replace(drill(1), predicted_seconds=13.0), replace(drill(2), predicted_seconds=26.0)]
    assert forecast.error(told) == pytest.approx(0.5)
    assert forecast.error(told[:1]) == 0.0


def held(days: float) -> Repository:
    """A repository whose only backup is so old."""
    at = NOW - timedelta(days=days)
    one = Stored("A", BackupType.FULL, at, at, 100, 10, "0" * 24, "", 0, None)
    return Repository(True, "ok", (one,), "", "0" * 23 + "3", None)


def test_eight_days_without_a_good_drill_are_told_and_a_newer_one_silences_it() -> None:
    assert "No drill has succeeded" in status.undrilled(held(9), [], now=NOW)
    assert status.undrilled(held(7), [], now=NOW) == ""
    assert status.undrilled(held(9), [drill(-7)], now=NOW) == ""
    assert "No drill has succeeded" in status.undrilled(held(9), [drill(-9)], now=NOW)
    assert "No drill has succeeded" in status.undrilled(held(9), [replace(drill(-1), state=State.FAILED)], now=NOW)


def test_the_status_foretells_the_newest_backup_and_names_the_newest_good_drill_of_each_kind() -> None:
    seen = status.foresight(held(1), [drill(-3), replace(drill(-2), kind=Kind.DEEP), drill(-1)])
    assert seen.rto_seconds == pytest.approx(13.0)
    assert (seen.good_light_at, seen.good_deep_at) == (NOW - DAY, NOW - 2 * DAY)
    assert status.foresight(None, []).rto_seconds is None


def test_a_check_that_could_not_be_made_neither_fails_a_drill_nor_carries_it() -> None:
    begun = Drill("01", NOW).entered("select", now=NOW)
    right, skipped = Check("a", True, 1, ""), not_made("b", "no store")
    assert replace(begun, checks=(right, skipped)).ended(now=NOW).state is State.SUCCEEDED
    assert replace(begun, checks=(skipped,)).ended(now=NOW).state is State.FAILED


class NothingYet:
    """A repository without a backup, and drills that were never begun; counts who asks to begin one."""

    backups: tuple[Stored, ...] = ()

    def __init__(self) -> None:
        self.begun = 0

    def newest(self, kind: Kind) -> None:
        return None

    async def inspect(self) -> "NothingYet":
        return self

    async def create(self, who: object, **wanted: object) -> None:
        self.begun += 1


async def test_without_a_backup_no_drill_is_due_although_the_clock_goes_on_between_two_looks_at_it() -> None:
    """Regression: "now" was read before the moment that it was compared with, which so lay in the future."""
    ticks, nothing = count(), NothingYet()
    table = Timetable(
        cast(Drills, nothing),
        cast(Any, nothing),
        DrillFigures(Metrics()),
        every={Kind.LIGHT: DAY, Kind.DEEP: 7 * DAY},
        jitter=HOUR,
        now=lambda: NOW + next(ticks) * timedelta(milliseconds=1),
    )
    await table.look()
    assert nothing.begun == 0
    nothing.backups = (Stored("F", BackupType.FULL, NOW - DAY, NOW - DAY, 1, 1, "0" * 24, "", 0, None),)
    await table.look()
    assert nothing.begun == 1


def test_series_of_drills_are_there_before_the_first_one() -> None:
    metrics = Metrics()
    DrillFigures(metrics)
    shown = exposition(metrics.registry).decode()
    assert 'backup_drill_refused_total{kind="deep",reason="DISK_SHORT"} 0.0' in shown
    assert 'backup_drill_rto_seconds{kind="light"} NaN' in shown
    assert "backup_rto_prediction_error_ratio NaN" in shown
