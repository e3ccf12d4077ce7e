"""The judgement of a copy's data and structure: every lie has its truth beside it."""

from datetime import UTC, datetime, timedelta

import pytest

from libs.db import migrate
from services.backup.adapters import release
from services.backup.domain import ladder

NOW = datetime(2026, 11, 22, tzinfo=UTC)
KNOWN = {"auth": ("a1", "a2"), "files": ("f1",)}
AMCHECK = " 12/362 relations (3%), 40/1234 pages (3%)\n362/362 relations (100%), 1234/1234 pages (100%)\n"
SCANNED = "Checksum operation completed\nFiles scanned:   3\nBlocks scanned:  {}\nBad checksums:  {}\n"


def test_an_orphan_or_a_copy_without_any_reference_fails() -> None:
    assert ladder.foreign_keys({"files.files.user": 0}).ok
    orphaned = ladder.foreign_keys({"files.files.user": 0, "auth.users.account": 2})
    assert orphaned.failed
    assert "auth.users.account (2 rows)" in orphaned.detail
    assert ladder.foreign_keys({}).failed


def test_a_sequence_behind_its_column_fails_and_one_ahead_does_not() -> None:
    assert ladder.sequences({"s": (40, 7), "t": (7, 7)}).ok
    assert ladder.sequences({"s": (6, 7)}).failed


def test_a_copy_of_now_stands_at_the_head_and_an_old_one_at_any_revision_we_know() -> None:
    head, older, stranger = {"auth": "a2", "files": "f1"}, {"auth": "a1", "files": "f1"}, {"auth": "a9", "files": "f1"}
    assert ladder.migrations(head, KNOWN, newest=True).ok
    assert ladder.migrations(older, KNOWN, newest=False).ok
    assert "older than this release" in ladder.migrations(older, KNOWN, newest=False).detail
    assert ladder.migrations(older, KNOWN, newest=True).failed
    assert ladder.migrations(stranger, KNOWN, newest=False).failed
    assert ladder.migrations({"files": "f1"}, KNOWN, newest=False).failed


def test_the_revisions_read_from_the_files_are_those_the_migration_runner_knows() -> None:
    found = release.revisions()
    for tree in migrate.trees():
        numbers = [path.stem.split("_")[0] for path in sorted((tree.path / "versions").glob("[!_]*.py"))]
        assert len(found[tree.schema]) == len(numbers)
        assert all(number in revision for number, revision in zip(numbers, found[tree.schema], strict=True))


def test_a_job_claimed_or_a_stranger_connected_in_a_copy_fails() -> None:
    assert ladder.jobs(5, 0, 0, may_run=False).ok
    assert ladder.jobs(5, 1, 0, may_run=False).failed
    assert ladder.jobs(5, 0, 1, may_run=False).failed


def test_a_copy_whose_jobs_a_worker_would_run_fails_and_one_older_than_the_guard_does_not() -> None:
    assert ladder.jobs(5, 0, 0, may_run=True).failed
    assert "held by the queue's guard" in ladder.jobs(5, 0, 0, may_run=False).detail
    assert ladder.jobs(5, 0, 0, may_run=None).ok


def test_a_row_without_its_object_or_an_object_without_its_row_fails() -> None:
    assert ladder.objects_of_rows(3, {}).ok
    torn = ladder.objects_of_rows(3, {"u/o/v": NOW, "u/o/w": NOW - timedelta(hours=1), "u/o/x": NOW})
    assert torn.failed
    assert torn.since == NOW - timedelta(hours=1)
    assert ladder.rows_of_objects(3, []).ok
    assert ladder.rows_of_objects(3, ["u/o/v"]).failed


def test_bytes_have_to_outlive_their_delete_for_longer_than_the_copy_is_old() -> None:
    day = timedelta(days=1)
    assert ladder.deletes_lag(7, 30 * day, 29 * day).ok
    short = ladder.deletes_lag(7, day, day)
    assert (short.failed, short.count) == (True, 7)
    unknown = ladder.deletes_lag(0, None, day)
    assert (unknown.ok, unknown.made) == (False, False)


def test_the_engines_flag_of_damaged_pages_is_believed_and_its_silence_is_not() -> None:
    assert ladder.backup_pages(False).ok
    assert ladder.backup_pages(True).failed
    silent = ladder.backup_pages(None)
    assert (silent.ok, silent.failed, silent.made) == (False, False, False)


@pytest.mark.parametrize(
    ("code", "out", "err", "ok"),
    [
        (0, "", AMCHECK, True),
        (0, "", "", False),
        (2, "heap table holdfast.auth.users, block 0: invalid page", AMCHECK, False),
        (1, "", "pg_amcheck: error: connection failed", False),
    ],
)
def test_pg_amcheck_is_believed_only_when_it_ended_well_and_had_looked(code: int, out: str, err: str, ok: bool) -> None:
    found = ladder.structure(code, out, err, strict=True)
    assert (found.ok, found.failed) == (ok, not ok)
    assert found.count == (362 if err == AMCHECK else 0)


def test_pg_checksums_is_believed_only_when_it_scanned_and_found_nothing() -> None:
    assert ladder.pages(0, SCANNED.format(99, 0), "").ok
    assert ladder.pages(0, SCANNED.format(0, 0), "").failed
    assert ladder.pages(1, SCANNED.format(99, 1), "").failed
    assert ladder.pages(1, "", "pg_checksums: error: cluster must be shut down").failed
    without = ladder.pages(1, "", "pg_checksums: error: data checksums are not enabled in cluster")
    assert not without.made
    assert not without.ok
