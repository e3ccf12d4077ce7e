"""A document of a journal is what its release wrote, or it is put aside: no value of a field ends the service later."""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from libs.errors import Kind as Meant
from libs.observability.metric import Metrics
from services.backup.adapters.journal import Journal
from services.backup.domain import breach, forecast, object_rpo, schedule, status, timetable, wal
from services.backup.domain.backup import Backup
from services.backup.domain.breach import Breach
from services.backup.domain.condition import Condition, Severity
from services.backup.domain.condition import Name as Standing
from services.backup.domain.drill import Check, Drill, Kind, Proof, not_made
from services.backup.domain.progress import Fault, State
from services.backup.domain.reading import Document
from services.backup.domain.repository import BackupType, Repository, Stored
from services.backup.domain.schedule import Attempt, Rules, Situation, Task
from services.backup.domain.testimony import backup_entry, drill_entry
from services.backup.ops.conditions import Conditions
from services.backup.ops.drill_figures import DrillFigures
from services.backup.rpc import messages, upkeep
from tests.unit.lines import Lines

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
ID = "01m8hcbh43k313fhe1yvbvjc0k"
FAULT = Fault(Meant.UNAVAILABLE, "ENGINE_AWAY", "The store is away.", {"command": "backup"})
HELD = Repository(
    True,
    "ok",
    (Stored("20261127-120000F", BackupType.FULL, NOW, NOW, 1, 1, wal.name(1, 1), wal.name(1, 1), 0, False, 1),),
    wal.name(1, 1),
    wal.name(1, 9),
    None,
    database_id=1,
)
RULES = Rules(*[timedelta(hours=1)] * 6)
WRONG: list[Any] = [
    None, "x", "", "\ud800", "../x", -1, 0, 10**30, 10**400, 2**31, 1e400, float("nan"), 1.5, True, [], {}, [None],
    {"x": 1}, "2026-11-28T12:00:00", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59",
    "9999-12-31T23:59:59+00:00",
]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A value with every field in use, and what the service does with one that it has read."""

    value: Document
    use: Callable[[Any], object]


def drill() -> Drill:
    checks = (Check("objects_of_rows", False, 3, "two are lost", 0.1, since=NOW), not_made("smoke", "no canary"))
    made = Drill(ID, NOW, NOW, "20261127-120000F", label="20261127-120000F", stop_at=NOW, kind=Kind.LIGHT)
    began = made.entered("select", now=NOW).entered("restore", now=NOW).left(now=NOW)
    proof = Proof(7, NOW, 8, NOW, "0/5000148", 1)
    ended = replace(began, checks=checks, proof=proof, error=FAULT, rpo_seconds=1.5, rto_seconds=2, target_lsn="0/1")
    return replace(ended, state=State.SUCCEEDED, ended_at=NOW, database_bytes=9, predicted_seconds=1.0, wal_segments=2)


def use_drill(one: Drill) -> None:
    messages.drill(one).SerializeToString()
    drill_entry(one, {})
    known = [drill(), one]
    timetable.newest(known, Kind.LIGHT, now=NOW)
    timetable.due(NOW, one.created_at, timedelta(days=1), timedelta(hours=1))
    object_rpo.newest(known, now=NOW)
    status.foresight(HELD, known)
    status.undrilled(HELD, known, now=NOW + timedelta(days=9))
    status.disproved(known)
    forecast.rto_seconds(known, database_bytes=1, wal_segments=1)
    DrillFigures(Metrics()).known(one)
    one.left(now=NOW).entered("teardown", now=NOW).ended(now=NOW)


def use_backup(one: Backup) -> None:
    messages.backup(one).SerializeToString()
    backup_entry(one, {})
    sorted([Backup.of(HELD.backups[0]), one], key=lambda backup: (backup.started_at, backup.id))


def use_attempt(one: Attempt) -> None:
    for task in Task:
        schedule.agenda(RULES, Situation(HELD, {task: one}, NOW, NOW))
        upkeep._task(task, None, one).SerializeToString()
        again = schedule.Due(task, NOW, one.slot, "again")
        schedule.tried(one, again, now=NOW, again=True, fault="away")


def use_breach(one: Breach) -> None:
    messages.lost_interval(one).SerializeToString()
    breach.fresh([wal.Hole(one.first, one.first, one.first, 1)], [one], segment_bytes=wal.SEGMENT_BYTES)
    breach.latest(one, HELD)
    breach.healer(one, HELD)
    breach.inside([one], HELD, NOW - timedelta(days=9), NOW)
    breach.blocking([one], HELD.backups[0], NOW)
    one.covers(NOW)


def use_condition(one: Condition) -> None:
    upkeep._condition(one).SerializeToString()
    sorted([one, condition()], key=lambda found: (list(Severity).index(found.severity), found.since))


def condition() -> Condition:
    return Condition(Standing.RPO_BROKEN, Severity.CRITICAL, "A hole.", "Take a full one.", NOW)


BACKUP = Backup(ID, BackupType.FULL, State.FAILED, NOW, "20261127-120000F", NOW, 1, 1, "0", "1", 100, FAULT)
CASES = [
    Case(drill(), use_drill),
    Case(BACKUP, use_backup),
    Case(Attempt("2026-11-28T12:00Z", NOW, False, True, 3, "away", NOW), use_attempt),
    Case(Breach(wal.name(1, 3), wal.name(1, 4), 2, NOW, NOW, NOW, "20261127-120000F", 1), use_breach),
    Case(condition(), use_condition),
]
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: type(case.value).__name__)


def places(value: object, *path: Any) -> Iterator[tuple[Any, ...]]:
    """Where every value in *value* stands, itself included."""
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        yield from places(item, *path, key)


def mutants(document: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """*document* with each of its values in turn made each of what is WRONG, as it comes from a disk."""
    for path in places(document):
        for wrong in WRONG:
            whole = {"": deepcopy(document)}
            inner: Any = whole
            *before, last = ("", *path)
            for key in before:
                inner = inner[key]
            inner[last] = wrong
            yield f"{path} = {wrong!r:.40}", json.loads(json.dumps(whole[""]))


def refused(case: Case, document: Any) -> bool:
    """Whether *document* is; what is not has to survive all that the service does with it."""
    try:
        value = type(case.value).from_json(document)
    except (KeyError, TypeError, ValueError):
        return True
    assert type(value).from_json(json.loads(json.dumps(value.to_json(), allow_nan=False))) == value
    case.use(value)
    return False


@cases
def test_whatever_a_field_says_is_refused_or_harms_nothing(case: Case) -> None:
    """A drill that had lost the offset of one moment ended the service at each start, without a word of its file."""
    assert not refused(case, case.value.to_json())
    broken = []
    for what, document in mutants(case.value.to_json()):
        try:
            refused(case, document)
        except Exception as fault:
            broken.append(f"{what}: {type(fault).__name__}: {fault}")
    assert broken == []


@cases
def test_a_field_of_a_wrong_kind_is_refused(case: Case) -> None:
    """A positive control: not everything is let through, and each field is looked at."""
    document = case.value.to_json()
    let_through = {name for name in document if not refused(case, document | {name: {"x": [0.5]}})}
    assert let_through == set()


@cases
def test_what_every_release_wrote_is_read(case: Case) -> None:
    """Fields that have a default came later, or may have."""
    document = case.value.to_json()
    told = type(case.value).from_json(document)
    assert told == case.value
    for name, field in type(case.value).__dataclass_fields__.items():  # type: ignore[attr-defined]  # all are
        needed = field.default is field.default_factory  # both are the sign for none
        assert refused(case, {key: item for key, item in document.items() if key != name}) == needed


@pytest.mark.parametrize(
    ("field", "wrong", "fault"),
    [
        ("created_at", "2026-11-28T12:00:00", "created_at: not a moment with an offset"),
        ("rto_seconds", float("nan"), "rto_seconds: out of range"),
        ("phases", [{"phase": "x"}], "phases: phase: no phase of a drill"),
        ("id", "../..", "id: not a name"),
        ("since", 1, "since: no such field"),
    ],
)
def test_a_document_of_a_wrong_value_is_put_aside_and_told_by_its_field(
    tmp_path: Path, lines: Lines, field: str, wrong: object, fault: str
) -> None:
    journal = Journal(tmp_path, Drill.from_json)
    good = Drill(ID, NOW)
    journal.save("a", good.to_json())
    journal.save("b", drill().to_json() | {field: wrong})
    assert journal.load() == {"a": good}
    (line,) = lines.read()
    assert line["path"] == str(tmp_path / "b.unreadable")
    assert fault in line["fault"]
    assert "b.json" in line["next"]


def test_a_condition_of_a_naive_moment_does_not_end_the_service(tmp_path: Path) -> None:
    journal = Journal(tmp_path, Condition.from_json)
    journal.save("rpo_broken", condition().to_json())
    journal.save("stanza_failing", condition().to_json() | {"name": "stanza_failing", "since": "2026-11-28T12:00:00"})
    found = Conditions(journal, Metrics(), now=lambda: NOW)
    assert [one.name for one in found.standing()] == [Standing.RPO_BROKEN]
