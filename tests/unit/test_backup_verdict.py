"""The judgement of a restored copy: every lie has its truth beside it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.backup.domain import verdict
from services.backup.domain.drill import PHASES, Check, Drill
from services.backup.domain.errors import EngineFailed
from services.backup.domain.heartbeat import Beat, first_hole, genuine, sign
from services.backup.domain.plan import Plan
from services.backup.domain.progress import State
from services.backup.domain.verdict import Recovered

KEY = b"k" * 32
START = datetime(2026, 11, 22, tzinfo=UTC)
STOP = START + timedelta(seconds=35)
PLAN = Plan("A", 1, STOP, 3, 3, START + timedelta(seconds=40))
LOG = "LOG:  recovery stopping before commit of transaction 7\nLOG:  archive recovery complete\n"


def beat(sequence: int) -> Beat:
    return sign(Beat(sequence, START + timedelta(seconds=10 * sequence), "0/1", 1, "0" * 24), KEY)


GOOD = Recovered((beat(1), beat(2), beat(3)), False, START + timedelta(seconds=31), "0/2", 2, LOG)


def test_a_copy_stopped_between_its_beats_is_believed() -> None:
    assert verdict.heartbeats(PLAN, GOOD, KEY).ok
    assert verdict.recovery(PLAN, GOOD).ok
    found = verdict.proof(PLAN, GOOD)
    assert found is not None
    assert (found.heartbeat, found.absent_heartbeat) == (3, 4)


@pytest.mark.parametrize(
    "beats",
    [
        pytest.param((beat(1), beat(2)), id="too few"),
        pytest.param((beat(1), beat(2), beat(3), beat(4)), id="past the target"),
        pytest.param((beat(1), beat(3)), id="a hole"),
        pytest.param((beat(1), beat(2), replace(beat(3), created_at=START)), id="a forged time"),
        pytest.param((), id="none"),
    ],
)
def test_heartbeats_that_are_not_as_planned_fail_the_check(beats: tuple[Beat, ...]) -> None:
    assert not verdict.heartbeats(PLAN, replace(GOOD, beats=beats), KEY).ok


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(replace(GOOD, in_recovery=True), id="not promoted"),
        pytest.param(replace(GOOD, log="LOG:  archive recovery complete"), id="did not stop"),
        pytest.param(replace(GOOD, log=LOG.splitlines()[0]), id="not complete"),
        pytest.param(replace(GOOD, last_replayed_at=STOP + timedelta(microseconds=1)), id="past the target"),
        pytest.param(replace(GOOD, last_replayed_at=START), id="before its own beat"),
        pytest.param(replace(GOOD, last_replayed_at=None), id="nothing replayed"),
    ],
)
def test_a_recovery_that_did_not_stop_at_its_target_fails_the_check(seen: Recovered) -> None:
    assert not verdict.recovery(PLAN, seen).ok


def test_a_copy_in_which_no_commit_was_replayed_says_so_in_words() -> None:
    found = verdict.recovery(replace(PLAN, stop_at=None), replace(GOOD, last_replayed_at=None))
    assert (found.ok, found.detail) == (True, "stopped at 0/2, no commit was replayed, timeline 2")


def test_at_the_end_of_the_archive_more_beats_are_welcome_and_fewer_are_not() -> None:
    to_the_end = Plan("A", 1, None, 2, None, None)
    assert verdict.heartbeats(to_the_end, GOOD, KEY).ok
    assert not verdict.heartbeats(to_the_end, replace(GOOD, beats=(beat(1),)), KEY).ok


def test_a_signature_is_bound_to_every_field_and_to_the_key() -> None:
    real = beat(1)
    assert genuine(real, KEY)
    assert not genuine(real, b"l" * 32)
    for changed in ({"sequence": 2}, {"lsn": "0/2"}, {"timeline": 2}, {"wal": "1" * 24}, {"created_at": STOP}):
        assert not genuine(replace(real, **changed), KEY)


def test_a_hole_is_found_where_it_is() -> None:
    assert first_hole([beat(1), beat(2)]) == 0
    assert first_hole([beat(1), beat(4)]) == 2


def test_an_unforced_table_or_a_powerful_role_fails_its_check() -> None:
    tables = {"files.files": ("user", True, True), "auth.accounts": ("global (people)", False, False)}
    assert verdict.row_level_security(tables).ok
    assert not verdict.row_level_security({**tables, "jobs.jobs": ("service", True, False)}).ok
    assert not verdict.row_level_security({}).ok
    assert verdict.runtime_roles({"holdfast_files": []}).ok
    assert not verdict.runtime_roles({"holdfast_files": ["may create in schema files"]}).ok
    assert not verdict.runtime_roles({}).ok


def test_a_drill_is_succeeded_only_without_fault_and_with_every_check_right() -> None:
    begun = Drill("01", START).entered("select", now=START)
    right, wrong = Check("a", True, 1, ""), Check("b", False, 1, "")
    assert replace(begun, checks=(right,)).ended(now=STOP).state is State.SUCCEEDED
    assert replace(begun, checks=(right, wrong)).ended(now=STOP).state is State.FAILED
    assert begun.ended(now=STOP).state is State.FAILED
    fault = EngineFailed("no", command="restore")
    assert replace(begun, checks=(right,)).failed(fault, now=STOP).ended(now=STOP).state is State.FAILED


def test_a_drill_survives_its_journal() -> None:
    drill = Drill("01", START, target=STOP)
    for phase in PHASES:
        drill = drill.entered(phase, now=STOP)
    full = replace(drill, checks=(Check("a", True, 1, "x", 0.5),), proof=verdict.proof(PLAN, GOOD), stop_at=STOP)
    failed = full.failed(EngineFailed("no", command="restore"), now=STOP).ended(now=STOP)
    for value in (Drill("02", START), full, failed):
        assert Drill.from_json(value.to_json()) == value
