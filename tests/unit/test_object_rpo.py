"""What drills say of the RPO of objects, and what they do not: unknown is never zero."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from libs.observability.metric import Metrics
from services.backup.domain import object_rpo
from services.backup.domain.drill import Check, Drill, not_made
from services.backup.domain.object_rpo import LAG, ROWS, ObjectRpo
from services.backup.domain.progress import State
from services.backup.domain.status import torn
from services.backup.ops import forecast_figures

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
WHOLE = Check(ROWS, True, 200, "each has its object, of its size")
LOST = Check(ROWS, False, 200, "without their object: u/f/v", since=NOW - 5 * HOUR)
AWAY = not_made(ROWS, "The object store is away.")
OUTRUN = Check(LAG, False, 3, "bytes of deleted files are kept for 60 s, and the copy is 90 s old")


def drill(*checks: Check, hours_ago: float = 2.0) -> Drill:
    """One that ended then, with these checks."""
    ended = NOW - hours_ago * HOUR
    return Drill(f"d{hours_ago:g}", ended - HOUR, state=State.SUCCEEDED, checks=checks, ended_at=ended)


def seconds(*drills: Drill) -> float | None:
    return object_rpo.newest(drills, now=NOW).seconds


def test_nothing_is_lost_while_each_sampled_row_has_its_object() -> None:
    found = object_rpo.newest([drill(WHOLE)], now=NOW)
    assert found == ObjectRpo(0.0, "", 200, "d2", NOW - 2 * HOUR)
    assert torn(found) == ""


def test_a_row_without_its_object_costs_what_came_after_it() -> None:
    assert seconds(drill(LOST)) == 3 * 3600
    # Restored to a moment: what came after that moment is no loss of this restore.
    assert seconds(replace(drill(LOST), stop_at=NOW - 4 * HOUR)) == 3600
    assert "d2" in torn(object_rpo.newest([drill(LOST)], now=NOW))


def test_a_lost_object_is_never_nothing_whatever_the_clocks_say() -> None:
    assert seconds(drill(replace(LOST, since=NOW))) == 1.0


def test_what_no_drill_has_looked_at_is_unknown() -> None:
    running = replace(drill(WHOLE), ended_at=None, state=State.RUNNING)
    never_came_to_it = drill(Check("heartbeats", True, 9, ""))
    for drills in ([], [running], [never_came_to_it]):
        found = object_rpo.newest(drills, now=NOW)
        assert (found.seconds, found.drill, found.proven_at) == (None, "", None)
        assert "no drill has compared" in found.unknown
        assert torn(found) == ""
    # The control: the drill before them says it.
    assert seconds(running, never_came_to_it, drill(WHOLE, hours_ago=9)) == 0.0


def test_a_sample_that_could_not_be_taken_is_unknown_even_if_one_before_it_was_good() -> None:
    before = drill(WHOLE, hours_ago=9)
    broken = Check(ROWS, False, 0, "The copy could not answer: relation does not exist")
    empty = Check(ROWS, True, 0, "there is no file")
    for checks, why in (
        ((AWAY,), "The object store is away."),
        ((broken,), broken.detail),
        ((empty,), "there is no file whose object could be asked for"),
        ((WHOLE, OUTRUN), OUTRUN.detail),
    ):
        found = object_rpo.newest([drill(*checks), before], now=NOW)
        assert (found.seconds, found.unknown, found.drill) == (None, why, "d2")
    # The controls: the one before, and deletes of which nothing bad is known.
    assert seconds(before) == 0.0
    assert seconds(drill(WHOLE, Check(LAG, True, 3, ""))) == seconds(drill(WHOLE, not_made(LAG, "no delete"))) == 0.0
    # A loss that was seen is one, however long deletes wait.
    assert seconds(drill(LOST, OUTRUN)) == 3 * 3600


def test_what_none_has_looked_at_for_eight_days_is_unknown_again() -> None:
    assert seconds(drill(WHOLE, hours_ago=8 * 24 - 1)) == 0.0
    found = object_rpo.newest([drill(WHOLE, hours_ago=8 * 24)], now=NOW)
    assert (found.seconds, found.unknown) == (None, "no drill of the last 8 days has compared files with their objects")


def test_the_journal_keeps_since_when_and_one_of_before_reads_as_unknown() -> None:
    kept = drill(LOST).to_json()
    assert object_rpo.of(Drill.from_json(kept)) == object_rpo.of(drill(LOST))
    for check in kept["checks"]:
        del check["since"]
    older = object_rpo.of(Drill.from_json(kept))
    assert older is not None
    assert (older.seconds, older.unknown) == (None, LOST.detail)


class Told:
    """The drills that the series ask for, and a watch that has seen no repository."""

    held = None

    def __init__(self, *drills: Drill) -> None:
        self._drills = list(drills)

    def list(self) -> list[Drill]:
        """Newest first."""
        return self._drills


def series(*drills: Drill) -> float:
    metrics, told = Metrics(), cast(Any, Told(*drills))
    forecast_figures.show(metrics, told, told, now=lambda: NOW)
    found = metrics.registry.get_sample_value("backup_objects_rpo_seconds")
    assert found is not None
    return found


def test_the_series_is_not_a_number_while_it_is_not_known() -> None:
    assert math.isnan(series())
    assert math.isnan(series(drill(AWAY), drill(WHOLE, hours_ago=9)))
    assert series(drill(WHOLE)) == 0.0
    assert series(drill(LOST)) == 3 * 3600.0
