"""Backups, and drills that restore them to a proven moment: the whole service on a real archiving cluster."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from holdfast.backup.v1 import backup_service_pb2 as pb
from services.backup.adapters.wal_ahead import IN_A_ROW, MOST
from tests.support.backup import Archived, Operator, Service, middle, own, refused, wait_until


@pytest.fixture(scope="module")
def operator(service: Service) -> Iterator[Operator]:
    with Operator(service) as found:
        yield found


@pytest.fixture(scope="module")
def full(operator: Operator) -> pb.Backup:
    """A full backup, and at least three archived heartbeats after it."""
    made = operator.back_up(pb.BACKUP_TYPE_FULL)
    for _ in range(3):
        operator.status(advance=True)
    return made


def rows(archived: Archived, query: str) -> list[tuple[object, ...]]:
    with archived.cluster.admin(archived.cluster.database) as connection:
        return connection.execute(query.encode()).fetchall()


@pytest.mark.control("B1", "full, differential and incremental backups are taken and listed")
def test_a_full_an_incremental_and_a_differential_backup_build_on_each_other(
    operator: Operator, full: pb.Backup
) -> None:
    incremental = operator.back_up(pb.BACKUP_TYPE_UNSPECIFIED)
    differential = operator.back_up(pb.BACKUP_TYPE_DIFFERENTIAL)

    assert [one.state for one in (full, incremental, differential)] == [pb.STATE_SUCCEEDED] * 3
    assert (full.label[-1], incremental.label[-1], differential.label[-1]) == ("F", "I", "D")
    assert incremental.label.split("_")[0] == full.label
    assert incremental.repository_bytes < full.repository_bytes
    listed = operator.backups.ListBackups(pb.ListBackupsRequest(), timeout=60).backups
    wanted = [one.name for one in (differential, incremental, full)]
    assert [one.name for one in listed if one.name in wanted] == wanted
    by_label = operator.backups.GetBackup(pb.GetBackupRequest(name=f"backups/{full.label}"), timeout=60).backup
    assert by_label.name == full.name


@pytest.mark.control("B3", "a drill proves its target between two heartbeats")
@pytest.mark.control("B2", "RPO and RTO are measured by each drill")
def test_a_drill_to_a_moment_between_two_heartbeats_restores_exactly_the_first(
    operator: Operator, full: pb.Backup, service: Service, archived: Archived
) -> None:
    beats = operator.status().recent_heartbeats
    wanted, absent = beats[2], beats[1]

    ended = operator.drill(middle(wanted, absent))

    assert ended.state == pb.STATE_SUCCEEDED, ended
    assert (ended.proof.heartbeat, ended.proof.absent_heartbeat) == (wanted.sequence, absent.sequence)
    assert wanted.create_time.ToNanoseconds() <= ended.proof.last_replayed_time.ToNanoseconds()
    assert ended.proof.last_replayed_time.ToNanoseconds() <= ended.resolved_target_time.ToNanoseconds()
    assert ended.proof.timeline > 1
    gap = (absent.create_time.ToDatetime() - wanted.create_time.ToDatetime()).total_seconds()
    assert ended.rpo_seconds == pytest.approx(gap / 2, abs=0.001)
    assert 0 < ended.rto_seconds <= (ended.end_time.ToDatetime() - ended.create_time.ToDatetime()).total_seconds()
    names = [phase.phase for phase in ended.phases]
    assert names == ["select", "restore", "replay", "promote", "check", "scrub", "teardown"]
    assert all(phase.state == pb.STATE_SUCCEEDED and phase.HasField("start_time") for phase in ended.phases)
    assert service.leftovers == []
    mirrored = rows(archived, "SELECT document->>'state' FROM backup.drills ORDER BY id DESC LIMIT 1")
    assert mirrored == [("SUCCEEDED",)]
    audited = rows(archived, f"SELECT actor_id FROM audit.entries WHERE facts->>'drill' = '{ended.name[7:]}'")
    assert audited == [(f"uid:{os.geteuid()}",)]


@pytest.mark.control("B3", "a drill's copy is isolated, and that is tried each time")
def test_a_drill_tries_to_reach_production_and_cannot(operator: Operator, full: pb.Backup) -> None:
    ended = operator.drill()

    assert ended.state == pb.STATE_SUCCEEDED, ended
    found = {check.check: check for check in ended.checks}
    assert {
        "heartbeats", "recovery_target", "row_level_security", "runtime_roles", "archiving_off",
        "isolation_production_unreachable", "isolation_no_network", "backup_pages", "migrations", "foreign_keys",
        "sequences", "high_water", "objects_of_rows", "rows_of_objects", "deletes_lag", "jobs_still", "amcheck",
        "scrubbed", "removed",
    } == set(found)  # fmt: skip
    # The control: from outside the same probe reaches the database's socket and the engine's file.
    assert found["isolation_production_unreachable"].detail == "2 of them answer outside, none inside"
    assert found["row_level_security"].count > 3
    assert found["runtime_roles"].count == 4
    assert ended.proof.absent_heartbeat == 0
    assert ended.proof.heartbeat >= operator.status().recent_heartbeats[0].sequence


def test_a_long_replay_gets_every_segment_some_of_them_ahead(
    operator: Operator, full: pb.Backup, service: Service, archived: Archived
) -> None:
    for _ in range(2 * (IN_A_ROW + MOST)):
        rows(archived, "SELECT pg_logical_emit_message(false, 'test', 'one'), pg_switch_wal()")
    newest = operator.status(advance=True).recent_heartbeats[0]

    ended = operator.drill()

    assert ended.state == pb.STATE_SUCCEEDED, ended
    assert ended.wal_segments >= 2 * (IN_A_ROW + MOST)
    assert ended.proof.heartbeat >= newest.sequence
    assert service.leftovers == []


@pytest.mark.control("B3", "a drill that cannot succeed is refused before anything is touched")
def test_a_target_that_cannot_be_proved_is_refused(operator: Operator, full: pb.Backup, service: Service) -> None:
    before = len(operator.drills.ListDrills(pb.ListDrillsRequest(), timeout=60).drills)
    now = datetime.now(UTC)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "TARGET_NOT_ARCHIVED"):
        operator.begin_drill(now + timedelta(hours=1))
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "TARGET_NOT_ARCHIVED"):
        operator.begin_drill(now)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "TARGET_BEFORE_FIRST_BACKUP"):
        operator.begin_drill(now - timedelta(days=1))
    with refused(grpc.StatusCode.NOT_FOUND, "BACKUP_NOT_FOUND"):
        operator.begin_drill(backup="backups/20200101-000000F")
    with refused(grpc.StatusCode.NOT_FOUND, "DRILL_NOT_FOUND"):
        operator.get_drill("drills/0000")
    assert len(operator.drills.ListDrills(pb.ListDrillsRequest(), timeout=60).drills) == before
    assert service.leftovers == []


@pytest.mark.control("B3", "a drill that cannot succeed is refused before anything is touched")
def test_a_drill_without_any_backup_is_refused(archived: Archived) -> None:
    empty = Service(archived, "empty", stanza="nothing")
    empty.start()
    with Operator(empty) as operator, refused(grpc.StatusCode.FAILED_PRECONDITION, "NO_BACKUP"):
        operator.begin_drill()
    assert empty.stop() == 0


def test_a_second_drill_or_backup_is_refused_while_one_runs(operator: Operator, full: pb.Backup) -> None:
    first = operator.begin_drill()
    told = f"Busy: {first.name.replace('drills/', 'drill ')} is running. .* `holdfast drill cancel NAME`"
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "BACKUP_BUSY", told):
        operator.begin_drill()
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "BACKUP_BUSY"):
        operator.back_up(pb.BACKUP_TYPE_FULL)
    *_, ended = operator.watch(first.name)
    assert ended.state == pb.STATE_SUCCEEDED
    assert operator.back_up(pb.BACKUP_TYPE_INCREMENTAL).state == pb.STATE_SUCCEEDED


def flip(path: Path) -> None:
    """Change one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x01
    path.write_bytes(content)


@pytest.mark.control("B3", "a damaged repository never ends in a good verdict")
def test_a_flipped_byte_in_the_repository_fails_the_drill(
    operator: Operator, full: pb.Backup, archived: Archived, service: Service
) -> None:
    damaged = operator.back_up(pb.BACKUP_TYPE_FULL)
    operator.status(advance=True)
    assert operator.drill(backup=damaged.name).state == pb.STATE_SUCCEEDED
    bundles = sorted((archived.repository / "backup" / "holdfast" / damaged.label / "bundle").rglob("*"))
    victim = next(path for path in bundles if path.is_file())

    flip(victim)
    failed = operator.drill(backup=damaged.name)
    flip(victim)

    assert failed.state == pb.STATE_FAILED
    assert failed.error.code == grpc.StatusCode.INTERNAL.value[0]
    assert failed.error.message.startswith("pgbackrest restore: ")
    assert service.leftovers == []


@pytest.mark.control("B3", "a damaged repository never ends in a good verdict")
def test_a_missing_segment_fails_the_drill(operator: Operator, full: pb.Backup, archived: Archived) -> None:
    operator.status(advance=True)
    newest = operator.status(advance=True).last_archived_wal
    segments = sorted(path for path in (archived.repository / "archive").rglob("*-*") if len(path.name) > len(newest))
    hole = segments[-2]
    aside = own(archived.state / "aside") / hole.name

    hole.rename(aside)
    failed = operator.drill()
    aside.rename(hole)

    assert segments[-1].name.startswith(newest)
    assert failed.state == pb.STATE_FAILED
    assert not next(check for check in failed.checks if check.check == "heartbeats").ok
    assert operator.drill().state == pb.STATE_SUCCEEDED


def test_a_drill_that_lacks_the_wal_its_backup_begins_with_names_it(
    operator: Operator, full: pb.Backup, archived: Archived
) -> None:
    made = operator.back_up(pb.BACKUP_TYPE_FULL)
    operator.status(advance=True)
    (hole,) = (archived.repository / "archive").rglob(f"{made.wal_start}-*")
    aside = own(archived.state / "aside") / hole.name
    hole.rename(aside)
    failed = operator.drill(backup=made.name)
    aside.rename(hole)
    assert failed.state == pb.STATE_FAILED
    assert f"WAL segment {made.wal_start}, which recovery asked for last, is not in the archive" in failed.error.message
    assert operator.drill(backup=made.name).state == pb.STATE_SUCCEEDED


@pytest.mark.control("B3", "status, backup list and drill work without the production database")
def test_a_drill_works_while_the_production_database_is_down(
    operator: Operator, full: pb.Backup, archived: Archived
) -> None:
    beats = operator.status().recent_heartbeats
    archived.stop()
    try:
        status = operator.status()
        assert any("database does not answer" in warning for warning in status.warnings)
        assert status.newest_heartbeat >= beats[0].sequence
        ended = operator.drill(middle(beats[2], beats[1]))
        assert ended.state == pb.STATE_SUCCEEDED, ended
        assert ended.proof.heartbeat == beats[2].sequence
        unreachable = next(one for one in ended.checks if one.check == "isolation_production_unreachable")
        assert unreachable.detail == "1 of them answer outside, none inside"
    finally:
        archived.start()
    wait_until(lambda: not operator.status(advance=True).warnings, "what waited for the database to be told to it")


def test_the_journal_of_an_ended_drill_is_readable_without_the_service(service: Service, full: pb.Backup) -> None:
    journals = sorted((service.state / "drills").glob("*.json"))
    assert journals
    assert all(json.loads(path.read_text())["state"] in ("SUCCEEDED", "FAILED") for path in journals)
