"""Which lost WAL breaks the RPO, and what is still restorable before it."""

from datetime import UTC, datetime, timedelta

from services.backup.domain import breach, wal
from services.backup.domain.breach import Breach
from services.backup.domain.repository import BackupType, Repository, Stored
from services.backup.domain.wal import SEGMENT_BYTES, Hole

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def segment(number: int) -> str:
    return wal.name(1, number)


def full(first: int, last: int, *, ended_at: datetime = NOW, database_id: int = 1) -> Stored:
    label = f"20261122-12{first:02}00F"
    began = ended_at - timedelta(seconds=5)
    return Stored(
        label, BackupType.FULL, began, ended_at, 1, 1, segment(first), segment(last), 0, False, database_id
    )  # fmt: skip


def held(*backups: Stored) -> Repository:
    return Repository(True, "ok", backups, segment(1), segment(9), None, database_id=1)


def needed(repository: Repository, there: set[int], dropped: set[int] = frozenset()) -> list[Hole]:  # type: ignore[assignment]
    names = [segment(number) for number in there]
    return breach.needed(
        repository, names, [segment(number) for number in dropped], segment_bytes=SEGMENT_BYTES
    )  # fmt: skip


def test_the_first_segment_that_the_only_backup_needs_is_missed_though_nothing_lies_before_it() -> None:
    assert needed(held(full(5, 6)), {5, 6, 7}) == []
    (hole,) = needed(held(full(5, 6)), {6, 7})
    assert (hole.first, hole.last, hole.count) == (segment(5), segment(5), 1)


def test_all_that_the_only_backup_needs_is_missed_though_nothing_is_left() -> None:
    (hole,) = needed(held(full(5, 6)), set())
    assert (hole.first, hole.last, hole.count) == (segment(5), segment(6), 2)
    (last,) = needed(held(full(5, 6)), {5})
    assert last.first == segment(6)


def test_a_backup_of_another_database_needs_nothing_of_this_archive() -> None:
    assert needed(held(full(5, 6, database_id=2), full(7, 7)), {7, 8}) == []


def test_a_hole_that_grows_is_declared_for_what_is_new_in_it() -> None:
    known = Breach(segment(5), segment(6), 2, NOW, NOW, NOW, "healed")
    grown = Hole(segment(3), segment(4), segment(8), 5)
    before, after = breach.fresh([grown], [known], segment_bytes=SEGMENT_BYTES)
    assert before == Hole(segment(3), segment(4), segment(4), 1)
    assert after == Hole(segment(3), segment(7), segment(8), 2)
    assert breach.fresh([Hole(segment(4), segment(5), segment(6), 2)], [known], segment_bytes=SEGMENT_BYTES) == []


def test_nothing_is_restorable_when_the_first_backup_lost_its_own_wal() -> None:
    lost = Breach(segment(5), segment(5), 1, NOW, NOW - timedelta(hours=1))
    assert breach.latest(lost, held(full(5, 5))) is None
    earlier = full(2, 3, ended_at=NOW - timedelta(hours=2))
    assert breach.latest(lost, held(earlier, full(5, 5))) == lost.lost_from


def test_a_backup_without_any_heartbeat_before_the_hole_is_restorable_to_its_own_end() -> None:
    lost = Breach(segment(5), segment(5), 1, NOW, NOW - timedelta(hours=9))
    assert breach.latest(lost, held(full(3, 4))) == NOW + timedelta(seconds=1)


def test_nothing_is_restored_across_a_hole_and_everything_beside_it_is() -> None:
    hour = timedelta(hours=1)
    old, healing = full(2, 3, ended_at=NOW - 3 * hour), full(7, 8, ended_at=NOW)
    lost = Breach(segment(5), segment(5), 1, NOW, NOW - 2 * hour, healing.ended_at, healing.label)
    assert breach.blocking([lost], old, NOW - 2 * hour) is None
    assert breach.blocking([lost], old, NOW - hour) is lost
    assert breach.blocking([lost], old, NOW + hour) is lost
    assert breach.blocking([lost], healing, NOW + hour) is None
    still = Breach(segment(5), segment(5), 1, NOW, NOW - 2 * hour)
    assert breach.blocking([still], old, NOW + hour) is still
    assert breach.blocking([], old, NOW + hour) is None


def test_a_full_backup_of_a_new_database_ends_the_breach_of_the_old_one() -> None:
    lost = Breach(segment(500), segment(500), 1, NOW, NOW, database_id=1)
    assert breach.healer(lost, held(full(2, 3))) is None
    new = Repository(True, "ok", (full(2, 3, database_id=2),), "", "", None, database_id=2)
    found = breach.healer(lost, new)
    assert found is not None
    assert found.database_id == 2
    assert breach.healer(Breach(segment(500), segment(500), 1, NOW, NOW), new) is None


def test_a_healed_hole_is_cut_out_of_the_restorable_time_until_the_window_has_left_it_behind() -> None:
    hour = timedelta(hours=1)
    old, healing = full(2, 3, ended_at=NOW - 4 * hour), full(7, 8, ended_at=NOW - 2 * hour)
    ended = Breach(segment(5), segment(5), 1, NOW, NOW - 3 * hour, healing.ended_at, healing.label, 1)
    still = Breach(segment(5), segment(5), 1, NOW, NOW - 3 * hour, database_id=1)
    both = held(old, healing)
    (cut,) = breach.inside([ended], both, old.ended_at, NOW)
    assert (cut.lost_from, cut.restorable_again) == (NOW - 3 * hour, healing.ended_at + timedelta(seconds=1))
    beats = [NOW - 3 * hour, NOW - 2.5 * hour, NOW - hour]
    assert [cut.covers(at) for at in beats] == [False, True, False]
    assert breach.inside([still], both, old.ended_at, NOW) == []  # it ends the window, and is not inside it
    again = healing.ended_at + timedelta(seconds=1)
    assert breach.inside([ended], held(healing), again, NOW) == []
    assert breach.inside([ended], both, again, NOW) == []
    assert breach.inside([ended], both, old.ended_at, NOW - 3 * hour) == []


def test_what_is_restorable_before_a_hole_is_told_by_backups_of_the_database_that_lost_it() -> None:
    hour = timedelta(hours=1)
    old, new = full(2, 3, ended_at=NOW - 4 * hour), full(1, 1, ended_at=NOW - hour, database_id=2)
    ended = Breach(segment(5), segment(5), 1, NOW, NOW - 3 * hour, new.ended_at, new.label, 1)
    after = Repository(True, "ok", (old, new), segment(1), segment(9), None, database_id=2)
    assert breach.latest(ended, after) == NOW - 3 * hour
    (cut,) = breach.inside([ended], after, old.ended_at, NOW)
    assert cut.lost_from == NOW - 3 * hour
    only = Repository(True, "ok", (new,), segment(1), segment(9), None, database_id=2)
    assert breach.inside([ended], only, new.ended_at, NOW) == []
