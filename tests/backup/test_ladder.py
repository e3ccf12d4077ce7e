"""The ladder of checks on real copies: what is planted in production is found by the drill, and nothing else is."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from holdfast.backup.v1 import backup_service_pb2 as pb
from tests.support.backup import Archived, Operator, Service, refused, wait_until

ORPHAN = (
    "INSERT INTO auth.users (organization_id, id, account_id, role, display_name) VALUES ('o', 'u', 'a', 'OWNER', '')"
)


@pytest.fixture(scope="module")
def operator(service: Service) -> Iterator[Operator]:
    with Operator(service) as found:
        assert found.back_up(pb.BACKUP_TYPE_FULL).state == pb.STATE_SUCCEEDED
        found.status(advance=True)
        found.status(advance=True)
        yield found


def run(archived: Archived, *statements: str) -> None:
    with archived.cluster.admin(archived.cluster.database) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@contextmanager
def planted(archived: Archived, faults: list[str], remedies: list[str]) -> Iterator[None]:
    """What is wrong in production for as long as the block lasts: nothing there vouches for it."""
    run(archived, "SET session_replication_role = replica", "SET allow_system_table_mods = on", *faults)
    try:
        yield
    finally:
        run(archived, "SET session_replication_role = replica", "SET allow_system_table_mods = on", *remedies)


def found(drill: pb.Drill) -> dict[str, pb.DrillCheck]:
    return {check.check: check for check in drill.checks}


def wrong(drill: pb.Drill) -> set[str]:
    return {check.check for check in drill.checks if check.verdict == pb.CHECK_VERDICT_FAILED}


@pytest.mark.control("B3", "a drill checks data, references, structure and pages, and says what it could not check")
def test_a_deep_drill_takes_a_moment_of_its_own_and_checks_every_page_and_entry(operator: Operator) -> None:
    ended = operator.drill(kind=pb.DRILL_KIND_DEEP)

    assert ended.state == pb.STATE_SUCCEEDED, ended
    assert ended.full_checks
    assert ended.HasField("resolved_target_time")
    assert ended.proof.absent_heartbeat == ended.proof.heartbeat + 1
    checks = found(ended)
    skipped = {name for name, check in checks.items() if check.verdict == pb.CHECK_VERDICT_NOT_MADE}
    waiting = {"objects_of_rows", "rows_of_objects", "deletes_lag"}
    # The mark of an installation without tenants counts nothing; the next one is taken when an hour begins.
    assert skipped - {"high_water"} == waiting | {"escrow", "file_opens", "sign_in", "download", "event"}
    assert "HOLDFAST_FILES_ENDPOINT" in checks["objects_of_rows"].detail
    assert {check.verdict for name, check in checks.items() if name not in skipped} == {pb.CHECK_VERDICT_OK}
    assert checks["page_checksums"].count > 1000
    assert checks["amcheck"].count > 300
    assert "every index entry" in checks["amcheck"].detail
    assert checks["foreign_keys"].count > 10
    assert checks["sequences"].count > 1
    assert checks["migrations"].count == 5
    assert "held by the queue's guard" in checks["jobs_still"].detail
    assert checks["scrubbed"].count > 6
    assert all(check.elapsed_seconds > 0 for name, check in checks.items() if name in ("amcheck", "foreign_keys"))


@pytest.mark.control("B3", "a drill checks data, references, structure and pages, and says what it could not check")
def test_orphans_late_sequences_open_tables_and_strong_roles_in_production_are_found_in_the_copy(
    operator: Operator, archived: Archived
) -> None:
    faults = [
        ORPHAN,
        "INSERT INTO auth.epoch_feed (id, subject_kind, subject_id) OVERRIDING SYSTEM VALUE VALUES (900, 'user', 'u')",
        "ALTER TABLE files.files NO FORCE ROW LEVEL SECURITY",
        "ALTER ROLE holdfast_files BYPASSRLS",
        "UPDATE files.alembic_version SET version_num = 'files_9999'",
    ]
    remedies = [
        "DELETE FROM auth.users",
        "DELETE FROM auth.epoch_feed WHERE id = 900",
        "ALTER TABLE files.files FORCE ROW LEVEL SECURITY",
        "ALTER ROLE holdfast_files NOBYPASSRLS",
        "UPDATE files.alembic_version SET version_num = 'files_0003'",
    ]
    with planted(archived, faults, remedies):
        operator.status(advance=True)
        ended = operator.drill()
    operator.status(advance=True)

    assert ended.state == pb.STATE_FAILED
    assert wrong(ended) == {"row_level_security", "runtime_roles", "migrations", "foreign_keys", "sequences"}
    checks = found(ended)
    assert "auth.users.users_account_id_fkey (1 rows)" in checks["foreign_keys"].detail
    assert "auth.epoch_feed_id_seq" in checks["sequences"].detail
    assert "files is at files_9999" in checks["migrations"].detail
    assert "foreign_keys" in ended.error.message
    assert operator.drill().state == pb.STATE_SUCCEEDED


@pytest.mark.control("B3", "a drill checks data, references, structure and pages, and says what it could not check")
def test_an_index_that_lacks_a_row_is_found_by_the_full_checks(operator: Operator, archived: Archived) -> None:
    ready = "UPDATE pg_index SET indisready = {} WHERE indexrelid = 'public.lame_n'::regclass"
    faults = [
        "CREATE TABLE public.lame (n integer)",
        "CREATE INDEX lame_n ON public.lame (n)",
        ready.format("false"),
        "INSERT INTO public.lame VALUES (1)",
        ready.format("true"),
    ]
    with planted(archived, faults, ["DROP TABLE public.lame"]):
        operator.status(advance=True)
        light, full = operator.drill(), operator.drill(full_checks=True)
    operator.status(advance=True)

    assert wrong(full) == {"amcheck"}
    assert "lame_n" in found(full)["amcheck"].detail
    assert "page_checksums" in found(full)
    # What a light drill does not look at it does not vouch for.
    assert light.state == pb.STATE_SUCCEEDED
    assert found(light)["amcheck"].detail == "heap, TOAST and index order are sound"


@pytest.mark.control("B3", "a damaged repository never ends in a good verdict")
def test_a_page_damaged_before_the_backup_is_found_by_the_backup_and_by_its_drill(
    operator: Operator, archived: Archived
) -> None:
    # Nothing may touch the table after it: a page that the server changed would be written over the damage.
    table = "CREATE TABLE public.torn WITH (autovacuum_enabled = off) AS SELECT generate_series(1, 5000) n"
    with planted(archived, [table, "VACUUM (FREEZE) public.torn", "CHECKPOINT"], []):
        damage(archived, "public.torn")
        taken = operator.back_up(pb.BACKUP_TYPE_FULL)
        operator.status(advance=True)
        listed = operator.backups.ListBackups(pb.ListBackupsRequest(), timeout=60).backups
        newest = max((one for one in listed if one.label), key=lambda one: one.label)
        ended = operator.drill(backup=f"backups/{newest.label}", full_checks=True)
    run(archived, "DROP TABLE public.torn")

    assert taken.state == pb.STATE_FAILED
    assert "Page checksums failed" in taken.error.message
    assert ended.state == pb.STATE_FAILED
    assert wrong(ended) == {"backup_pages", "amcheck", "page_checksums"}
    assert operator.back_up(pb.BACKUP_TYPE_FULL).state == pb.STATE_SUCCEEDED
    operator.status(advance=True)
    assert operator.drill(full_checks=True).state == pb.STATE_SUCCEEDED


def damage(archived: Archived, table: str) -> None:
    """Change a byte in the third page of *table*, on disk and behind the server's back."""
    with archived.cluster.admin(archived.cluster.database) as connection:
        row = connection.execute("SELECT pg_relation_filepath(%s)", [table]).fetchone()
    assert row is not None
    path = archived.cluster.data_dir / str(row[0])
    content = bytearray(path.read_bytes())
    content[2 * 8192 + 4000] ^= 0x01
    path.write_bytes(content)


@pytest.mark.control("B3", "a drill checks data, references, structure and pages, and says what it could not check")
def test_a_restored_state_below_its_signed_mark_is_found(operator: Operator, archived: Archived) -> None:
    """The mark is taken while the rows are there, and the rows are lost without a trace afterwards."""
    put = [
        "INSERT INTO events.streams (organization_id, user_id, newest_offset, oldest_offset) VALUES ('o', 'u', 50, 1)",
        ORPHAN,
        "INSERT INTO auth.organizations (id, display_name) VALUES ('o', '')",
        "INSERT INTO auth.accounts (id, email, email_key, display_name, password_hash)"
        " VALUES ('a', 'a@b', 'a', '', '')",
    ]
    gone = [f"DELETE FROM {table}" for table in ("events.streams", "auth.users", "auth.organizations", "auth.accounts")]
    operator.status(advance=True)
    with planted(archived, [*put, "DELETE FROM backup.marks"], [*gone, "DELETE FROM backup.marks"]):
        with Service(archived, "marker"):
            wait_until(lambda: count(archived, "backup.marks") == 1, "the mark")
        operator.status(advance=True)
        good = operator.drill()
        run(archived, "UPDATE events.streams SET newest_offset = 49")
        operator.status(advance=True)
        bad = operator.drill()
    operator.status(advance=True)

    assert found(good)["high_water"].verdict == pb.CHECK_VERDICT_OK
    assert good.state == pb.STATE_SUCCEEDED
    assert wrong(bad) == {"high_water"}
    assert "event_offset of o/u" in found(bad)["high_water"].detail


def count(archived: Archived, table: str) -> int:
    with archived.cluster.admin(archived.cluster.database) as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    assert row is not None
    return int(str(row[0]))


def test_a_kind_that_does_not_go_with_the_rest_is_refused_by_its_field(operator: Operator) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"):
        operator.begin_drill(backup="backups/20260101-000000F", kind=pb.DRILL_KIND_LIGHT)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"):
        operator.begin_drill(kind=pb.DRILL_KIND_LIGHT, full_checks=True)


@pytest.mark.control("B2", "RPO and RTO are measured by each drill")
def test_drills_foretell_the_next_restore_and_are_held_to_it(operator: Operator) -> None:
    first, second = operator.drill(), operator.drill()
    assert first.state == second.state == pb.STATE_SUCCEEDED
    assert second.predicted_rto_seconds > 0
    assert second.database_bytes > 0
    assert second.wal_segments > 0
    seen = operator.status()
    assert seen.predicted_rto_seconds > 0
    assert seen.HasField("rto_prediction_error")
    assert seen.last_good_light_drill_time == second.end_time
    assert seen.HasField("last_good_deep_drill_time")
