"""A drill to a place in the WAL: what reaches it, what proves it, and each place that cannot be proven."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from holdfast.backup.v1 import backup_service_pb2 as pb
from libs.errors import InvalidArgument
from libs.rpc.validate import Rules
from services.backup.domain import verdict
from services.backup.domain.drill import Drill, Kind
from services.backup.domain.errors import NoBackup, TargetBeforeFirstBackup, TargetNotArchived
from services.backup.domain.heartbeat import Beat, sign
from services.backup.domain.plan import Plan
from services.backup.domain.plan_lsn import COMMIT_BYTES, plan_lsn
from services.backup.domain.repository import BackupType, Repository, Stored
from services.backup.domain.verdict import Recovered
from services.backup.rpc import messages

MALFORMED = ("", "3000148", "0/", "0x3/1", "0/123456789", "0/3000148 ", "-1/0", "0/30g", "0/1\n")

KEY = b"k" * 32
START = datetime(2026, 11, 22, tzinfo=UTC)


def stored(label: str, stop_lsn: int, database: int = 1) -> Stored:
    return Stored(label, BackupType.FULL, START, START, 100, 10, "", "", stop_lsn, None, database)


def beat(sequence: int, lsn: str, *, timeline: int = 1, segment: int = 5) -> Beat:
    at = START + timedelta(minutes=sequence)
    return sign(Beat(sequence, at, lsn, timeline, f"{timeline:08X}00000000{segment:08X}"), KEY)


HELD = Repository(
    True, "ok", (stored("A", 0x2000138), stored("B", 0x4000138)), "", f"0000000100000000{9:08X}", None, database_id=1
)
FIRST, SECOND = beat(4, "0/3000100"), beat(5, "0/5000100")
AROUND = [FIRST, SECOND]


def test_the_backup_that_ends_before_the_place_is_restored_and_the_beats_around_it_prove_it() -> None:
    found = plan_lsn(HELD, AROUND, lsn="0/4800000", wanted=None)
    assert found == Plan("B", 100, None, 4, 4, SECOND.created_at, stop_lsn="0/4800000")
    assert not found.to_the_end
    assert plan_lsn(HELD, AROUND, lsn="0/4800000", wanted=HELD.backups[0]).label == "A"
    # The very end of a backup is consistent, one byte before is not: the older one is taken.
    assert plan_lsn(HELD, AROUND, lsn="0/4000138", wanted=None).label == "B"
    assert plan_lsn(HELD, AROUND, lsn="0/4000137", wanted=None).label == "A"


def test_a_place_inside_the_commit_of_a_beat_may_show_the_beat_before_it() -> None:
    inside = f"0/{0x3000100 + COMMIT_BYTES - 1:X}"
    behind = f"0/{0x3000100 + COMMIT_BYTES:X}"
    assert (plan_lsn(HELD, AROUND, lsn=inside, wanted=None).at_least, 4) == (3, 4)
    assert plan_lsn(HELD, AROUND, lsn=behind, wanted=None).at_least == 4
    assert plan_lsn(HELD, AROUND, lsn=inside, wanted=None).at_most == 4


def test_a_place_before_or_within_the_first_backup_is_refused_with_where_that_ends() -> None:
    before = [beat(1, "0/1000028"), FIRST]
    for lsn in ("0/0", "0/1000", "0/2000100"):
        with pytest.raises(TargetBeforeFirstBackup, match="A ends at 0/2000138"):
            plan_lsn(HELD, before, lsn=lsn, wanted=None)
    with pytest.raises(TargetBeforeFirstBackup, match=r"B ends at 0/4000138.* or an older backup"):
        plan_lsn(HELD, AROUND, lsn="0/3800000", wanted=HELD.backups[1])
    with pytest.raises(TargetBeforeFirstBackup, match="No heartbeat precedes"):
        plan_lsn(HELD, [FIRST], lsn="0/2800000", wanted=None)
    with pytest.raises(NoBackup):
        plan_lsn(replace(HELD, backups=()), AROUND, lsn="0/4800000", wanted=None)


def test_a_place_in_the_future_or_not_archived_yet_is_refused_with_the_last_one_that_is_known() -> None:
    with pytest.raises(TargetNotArchived, match=r"lies in the future.* 5, is at 0/5000100"):
        plan_lsn(HELD, [SECOND], lsn="FF/0", wanted=None)
    early = replace(HELD, archive_max=f"0000000100000000{4:08X}")
    with pytest.raises(TargetNotArchived, match="not in the repository yet"):
        plan_lsn(early, AROUND, lsn="0/4800000", wanted=None)


def test_a_place_that_may_lie_on_two_timelines_is_refused_and_one_on_the_newer_is_not() -> None:
    promoted = [FIRST, beat(5, "0/5000100", timeline=2)]
    held = replace(HELD, archive_max=f"0000000200000000{9:08X}")
    with pytest.raises(TargetNotArchived, match="from timeline 1 to 2 between heartbeat 4 at 0/3000100 and 5"):
        plan_lsn(held, promoted, lsn="0/4800000", wanted=None)
    later = [promoted[1], beat(6, "0/7000100", timeline=2, segment=7)]
    assert plan_lsn(held, later, lsn="0/6000000", wanted=None).at_most == 5


def test_a_backup_of_another_database_is_no_way_to_a_place_in_this_ones_wal() -> None:
    other = replace(HELD, backups=(stored("old", 0x1000138, database=1), stored("own", 0x2000138, database=2)))
    other = replace(other, database_id=2)
    assert plan_lsn(other, AROUND, lsn="0/4800000", wanted=None).label == "own"
    with pytest.raises(TargetBeforeFirstBackup, match="the database that runs now"):
        plan_lsn(other, AROUND, lsn="0/4800000", wanted=other.backups[0])


def test_a_recovery_that_ended_before_the_place_or_without_a_word_of_it_fails_the_check() -> None:
    plan = plan_lsn(HELD, AROUND, lsn="0/4800000", wanted=None)
    log = 'LOG:  recovery stopping after WAL location (LSN) "0/4800028"\nLOG:  archive recovery complete\n'
    good = Recovered((FIRST,), False, FIRST.created_at + timedelta(seconds=1), "0/4800060", 2, log)
    assert verdict.recovery(plan, good).ok
    assert verdict.heartbeats(plan, good, KEY).ok
    found = verdict.proof(plan, good)
    assert found is not None
    assert (found.heartbeat, found.absent_heartbeat) == (4, 5)
    assert verdict.recovery(plan, replace(good, last_replayed_lsn="0/47FFFF8")).failed
    assert verdict.recovery(plan, replace(good, last_replayed_lsn="")).failed
    assert verdict.recovery(plan, replace(good, log="LOG:  archive recovery complete")).failed
    assert verdict.heartbeats(plan, replace(good, beats=(FIRST, SECOND)), KEY).failed
    assert verdict.heartbeats(plan, replace(good, beats=(beat(3, "0/2800000"),)), KEY).failed


def test_what_is_no_place_is_refused_by_its_field() -> None:
    check = Rules().compiled("holdfast.backup.v1.CreateDrillRequest")

    def asked(lsn: str) -> bytes:
        return pb.CreateDrillRequest(drill=pb.Drill(target=pb.DrillTarget(lsn=lsn))).SerializeToString()

    for lsn in ("0/3000148", "0/0", "ffffffff/FFFFFFFF"):
        check(asked(lsn))
    for lsn in MALFORMED:
        with pytest.raises(InvalidArgument) as caught:
            check(asked(lsn))
        assert [one.field for one in caught.value.violations] == ["drill.target.lsn"]


def test_a_drill_to_a_place_survives_its_journal_and_tells_it() -> None:
    drill = Drill("01", START, target_lsn="0/4800000")
    assert Drill.from_json(drill.to_json()) == drill
    older = {name: value for name, value in drill.to_json().items() if name != "target_lsn"}
    assert Drill.from_json(older).target_lsn == ""
    assert messages.drill(drill).target.lsn == "0/4800000"
    assert messages.drill(Drill("02", START)).target.WhichOneof("kind") is None
    assert messages.drill_kind(pb.Drill(target=pb.DrillTarget(lsn="0/1"))) is Kind.CHOSEN
    with pytest.raises(InvalidArgument):
        messages.drill_kind(pb.Drill(target=pb.DrillTarget(lsn="0/1"), kind=pb.DRILL_KIND_LIGHT))
