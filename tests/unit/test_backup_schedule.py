"""When backups, expiry and verification are due; clocks that jump, services that were away, faults that stay."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.backup.domain.repository import BackupType, Repository, Stored
from services.backup.domain.retention import sweep
from services.backup.domain.schedule import Attempt, Due, Rules, Situation, Task, agenda, due_now, tried

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
RULES = Rules(
    full_at=HOUR, window=HOUR, between=6 * HOUR, first_full=timedelta(minutes=10), expire=6 * HOUR, verify=DAY
)
MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)
NOON = MIDNIGHT + 12 * HOUR


def stored(at: datetime, *, full: bool = True, damaged: bool = False, database: int = 1) -> Stored:
    kind, letter = (BackupType.FULL, "F") if full else (BackupType.DIFFERENTIAL, "D")
    label = f"{at:%Y%m%d-%H%M%S}{letter}"
    return Stored(label, kind, at, at + timedelta(minutes=1), 100, 10, "", "", 0, damaged, database)


def repository(*backups: Stored) -> Repository:
    return Repository(True, "ok", tuple(sorted(backups, key=lambda one: one.started_at)), "", "", None, database_id=1)


def seen(*backups: Stored, now: datetime = NOON, **changes: object) -> Situation:
    blank = Situation(repository(*backups), {}, now, MIDNIGHT - DAY)
    return replace(blank, **changes)  # type: ignore[arg-type]  # names are the dataclass' own


def next_of(task: Task, situation: Situation) -> Due:
    (found,) = [due for due in agenda(RULES, situation) if due.task is task]
    return found


TODAY = stored(MIDNIGHT + HOUR + timedelta(minutes=10))


def test_a_full_backup_is_due_once_a_day_within_its_window() -> None:
    assert next_of(Task.FULL, seen(TODAY)).at >= MIDNIGHT + DAY + HOUR
    for day in range(1, 30):
        due = next_of(Task.FULL, seen(stored(TODAY.started_at + (day - 1) * DAY), now=NOON + (day - 1) * DAY))
        assert MIDNIGHT + day * DAY + HOUR <= due.at <= MIDNIGHT + day * DAY + 2 * HOUR
        assert due_now([due], due.at) == due


def test_two_hosts_and_a_restart_draw_the_same_moment_and_two_days_different_ones() -> None:
    first, second = (next_of(Task.FULL, seen(TODAY, seed="holdfast", since=NOON - n * HOUR)).at for n in (1, 2))
    other = next_of(Task.FULL, seen(stored(TODAY.started_at + DAY), now=NOON + DAY, seed="holdfast")).at
    assert first == second
    assert other - first != DAY


def test_a_new_installation_is_left_alone_for_a_while_and_then_gets_its_first_full_backup() -> None:
    situation = seen(since=NOON)
    assert [due.task for due in agenda(RULES, situation)] == [Task.FULL]
    assert next_of(Task.FULL, situation).at == NOON + RULES.first_full


def test_what_was_missed_is_caught_up_with_at_once_and_once() -> None:
    long_ago = stored(NOON - 9 * DAY)
    due = next_of(Task.FULL, seen(long_ago))
    assert due.at <= NOON
    assert "missed" in due.why
    assert next_of(Task.FULL, seen(long_ago, stored(NOON))).at > NOON


def test_a_damaged_full_backup_fills_no_slot() -> None:
    damaged = stored(TODAY.started_at, damaged=True)
    yesterday = stored(TODAY.started_at - DAY)
    assert next_of(Task.FULL, seen(yesterday, damaged)).at <= NOON
    assert next_of(Task.FULL, seen(yesterday, TODAY)).at > NOON


def test_differential_backups_lie_between_the_full_ones() -> None:
    assert next_of(Task.DIFFERENTIAL, seen(TODAY)).at == MIDNIGHT + 7 * HOUR
    at_seven = stored(MIDNIGHT + 7 * HOUR, full=False)
    assert next_of(Task.DIFFERENTIAL, seen(TODAY, at_seven)).at == MIDNIGHT + 13 * HOUR
    late = seen(TODAY, stored(MIDNIGHT + 19 * HOUR, full=False), now=MIDNIGHT + 20 * HOUR)
    assert next_of(Task.DIFFERENTIAL, late).at == MIDNIGHT + DAY + 7 * HOUR


def test_a_full_backup_that_is_due_comes_before_any_other() -> None:
    first, *_ = agenda(RULES, seen(stored(NOON - 3 * DAY)))
    assert first.task is Task.FULL


def test_an_urgent_full_backup_waits_for_no_slot() -> None:
    due = next_of(Task.FULL, seen(TODAY, urgent=("rpo 1", "a segment is lost")))
    assert (due.at, due.why) == (NOON, "a segment is lost")


def test_a_server_that_was_upgraded_gets_a_full_backup_at_once() -> None:
    situation = seen(stored(TODAY.started_at, database=7))
    assert next_of(Task.FULL, situation).at <= NOON
    assert not [due for due in agenda(RULES, situation) if due.task is Task.DIFFERENTIAL]


def test_a_fault_that_may_pass_is_tried_again_soon_and_then_more_slowly() -> None:
    due = next_of(Task.FULL, seen(stored(NOON - DAY)))
    attempt, pauses = None, []
    for _ in range(8):
        attempt = tried(attempt, due, now=NOON, again=True, fault="the store is away")
        waiting = next_of(Task.FULL, seen(stored(NOON - DAY), attempts={Task.FULL: attempt}))
        pauses.append((waiting.at - NOON) / timedelta(minutes=1))
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert "the store is away" in waiting.why


def test_a_fault_that_needs_a_person_is_not_repeated_every_minute() -> None:
    due = next_of(Task.FULL, seen(stored(NOON - DAY)))
    attempt = tried(None, due, now=NOON, fault="the cipher pass is wrong")
    waiting = next_of(Task.FULL, seen(stored(NOON - DAY), attempts={Task.FULL: attempt}))
    assert waiting.at == NOON + RULES.between
    assert "a person" in waiting.why


def test_success_ends_the_pause_and_the_next_slot_begins_anew() -> None:
    due = next_of(Task.FULL, seen(stored(NOON - DAY)))
    failed = tried(None, due, now=NOON, fault="x")
    good = tried(failed, due, now=NOON)
    assert (good.ok, good.failures, good.good_at) == (True, 0, NOON)
    later = tried(good, replace(due, slot="another"), now=NOON + DAY, fault="y")
    assert (later.failures, later.good_at) == (1, NOON)
    tomorrow = seen(stored(NOON - DAY), now=NOON + DAY, attempts={Task.FULL: failed})
    assert next_of(Task.FULL, tomorrow).at <= NOON + DAY


def test_a_clock_that_jumps_forward_causes_one_backup_of_each_slot_and_no_storm() -> None:
    """The repository's times are real, the service's clock is three days ahead: a slot done is remembered as done."""
    ahead = NOON + 3 * DAY
    due = next_of(Task.FULL, seen(TODAY, now=ahead))
    assert due.at <= ahead
    done = tried(None, due, now=ahead)
    real = stored(NOON)
    assert next_of(Task.FULL, seen(TODAY, real, now=ahead, attempts={Task.FULL: done})).at > ahead


def test_a_clock_that_jumps_back_stalls_nothing() -> None:
    """Backups and attempts of a future that has been taken back prove nothing."""
    back = NOON - 3 * DAY
    attempt = Attempt("2026-11-22T01:00Z", NOON, False, again=False, failures=3, fault="x")
    ended = dict.fromkeys(Task, attempt)
    situation = seen(stored(NOON - 9 * DAY), TODAY, now=back, since=back - HOUR, attempts=ended)
    tasks = {due.task: due for due in agenda(RULES, situation)}
    assert tasks[Task.FULL].at <= back
    assert tasks[Task.EXPIRE].at <= back
    assert tasks[Task.VERIFY].at <= back


def test_expiry_and_verification_recur_by_themselves_whether_or_not_backups_succeed() -> None:
    failing = Attempt("x", NOON, False, failures=9, fault="backups fail")
    last = {task: Attempt("recurring", NOON - 5 * HOUR, True) for task in (Task.EXPIRE, Task.VERIFY)}
    situation = seen(stored(NOON - 9 * DAY), attempts={Task.FULL: failing, **last})
    assert NOON < next_of(Task.EXPIRE, situation).at <= NOON + HOUR
    assert next_of(Task.VERIFY, situation).at > NOON + 12 * HOUR


def test_a_repository_that_cannot_be_read_has_no_agenda() -> None:
    assert agenda(RULES, seen(held=None)) == []


def test_an_attempt_survives_its_journal() -> None:
    attempt = Attempt("slot", NOON, False, again=True, failures=2, fault="x", good_at=NOON - DAY)
    assert Attempt.from_json(attempt.to_json()) == attempt
    with pytest.raises((KeyError, ValueError)):
        Attempt.from_json({"slot": "x"})


def test_what_would_pass_thirty_days_before_the_next_look_is_swept() -> None:
    young, old, older = (stored(NOON - age) for age in (DAY, 30 * DAY - 5 * HOUR, 40 * DAY))
    found = sweep(repository(young, old, older), now=NOON, period=6 * HOUR)
    assert (found.labels, found.kept) == ((older.label, old.label), "")
    kept = stored(NOON - 30 * DAY + 7 * HOUR)
    assert sweep(repository(young, kept), now=NOON, period=6 * HOUR).labels == ()


def test_the_last_good_full_backup_stays_whatever_its_age_and_that_is_said() -> None:
    older, old = stored(NOON - 40 * DAY), stored(NOON - 31 * DAY)
    damaged = stored(NOON - DAY, damaged=True)
    found = sweep(repository(older, old, damaged), now=NOON, period=6 * HOUR)
    assert (found.labels, found.kept) == ((older.label,), old.label)
    assert sweep(repository(older, old, stored(NOON - DAY)), now=NOON, period=6 * HOUR).kept == ""
    assert sweep(repository(), now=NOON, period=6 * HOUR).labels == ()
