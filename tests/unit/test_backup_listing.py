"""Ages and holes, from the names and times of a repository's objects."""

from datetime import UTC, datetime, timedelta

from services.backup.domain import wal
from services.backup.domain.listing import Stored, began, listing

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SUM = "9cb6f86f9aeb4ba41a37b66975ef2175182075ee"


def segment(number: int, timeline: int = 1) -> str:
    return wal.name(timeline, number)


def archived(number: int, *, age: timedelta = timedelta(0), archive: str = "15-1") -> Stored:
    name = segment(number)
    return Stored(f"archive/holdfast/{archive}/{name[:16]}/{name}-{SUM}.zst", 100, NOW - age)


def test_a_hole_is_what_is_missing_between_segments_of_one_timeline() -> None:
    names = [segment(number) for number in (1, 2, 255, 256, 257)] + [segment(300, 2), segment(301, 2)]
    (hole,) = wal.holes(names)
    assert (hole.after, hole.first, hole.last, hole.count) == (segment(2), segment(3), segment(254), 252)
    assert wal.holes([segment(number) for number in range(250, 260)]) == []
    assert wal.holes([]) == []


def test_the_last_segment_of_a_log_is_followed_by_the_first_of_the_next() -> None:
    assert segment(256) == "000000010000000100000000"
    assert wal.number("000000010000000100000000") == 256
    assert wal.name(1, 4, segment_bytes=1 << 30) == "000000010000000100000000"


def test_only_whole_segments_of_the_running_database_count() -> None:
    beside = [
        Stored(f"archive/holdfast/15-1/{segment(3)[:16]}/{segment(3)}.partial-{SUM}.zst", 1, NOW),
        Stored(f"archive/holdfast/15-1/{segment(3)[:16]}/{segment(3)}.00000028.backup", 1, NOW),
        Stored("archive/holdfast/15-1/00000002.history", 1, NOW),
        archived(4, archive="14-1"),
        Stored(f"archive/other/15-1/{segment(5)[:16]}/{segment(5)}-{SUM}.zst", 1, NOW),
    ]
    found = listing([archived(1), archived(2), *beside], "holdfast")
    assert found.segments("15-1") == [segment(1), segment(2)]
    assert found.bytes == 303


def test_the_age_of_a_backup_is_that_of_its_beginning_whenever_its_objects_were_written() -> None:
    label = "20261023-110000F"
    late = Stored(f"backup/holdfast/{label}/bundle/1", 1, NOW)
    history = Stored("backup/holdfast/backup.history/2026/20261023-110000F_20261024-000000D.manifest.gz", 1, NOW)
    lists = Stored("backup/holdfast/backup.info", 1, NOW - timedelta(days=99))
    found = listing([late, history, lists, archived(1, age=timedelta(days=30, seconds=1)), archived(2)], "holdfast")
    old = found.older_than(timedelta(days=30), now=NOW)
    assert [one.path for one in old] == [archived(1).path, late.path]
    assert found.older_than(timedelta(days=29), now=NOW) != old
    assert found.labels() == {label}
    assert found.oldest() == datetime(2026, 10, 23, 11, tzinfo=UTC)


def test_a_label_says_when_its_own_backup_began() -> None:
    assert began("20261023-110000F_20261024-000000D") == datetime(2026, 10, 24, tzinfo=UTC)
    assert began("backup.info") is None
    assert began("latest") is None
