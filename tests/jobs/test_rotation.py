"""rotate() makes and drops the days of everybody's history, whoever calls it."""

import pytest
import sqlalchemy.exc
from sqlalchemy import text

from libs.db import Database
from libs.jobqueue.rescue import rotate
from libs.principal import System
from tests.jobs.test_tidying import TOMORROW
from tests.support.postgres import TestDatabase

FINISHED = """
    INSERT INTO jobs.history (id, service, type, organization_id, user_id, outcome, lease, failures, crashes,
        created_at, finished_at)
    SELECT id, 'files', 'send_note', 'oak', 'anna', 'done', 1, 0, 0, current_date, current_date - days
    FROM (VALUES ('recent', 29), ('old', 31)) AS finished (id, days)
    """


async def test_history_that_no_day_took_is_dropped_when_it_is_old(files: Database, database: TestDatabase) -> None:
    with database.admin() as admin:
        admin.execute(FINISHED)
        await rotate(files, "files")
        assert admin.execute("SELECT id FROM jobs.history_rest").fetchall() == [("recent",)]


async def test_a_service_cannot_have_the_history_of_others_dropped_early(
    files: Database, database: TestDatabase
) -> None:
    with database.admin() as admin:
        admin.execute(
            "DO $$ BEGIN EXECUTE format('CREATE TABLE jobs.history_%s PARTITION OF jobs.history FOR VALUES FROM (%L) TO"
            " (%L)', to_char(current_date - 20, 'YYYYMMDD'), current_date - 20, current_date - 19); END $$"
        )
        with pytest.raises(sqlalchemy.exc.DBAPIError, match="at least 30 days"):
            async with files.begin(System("files")) as tx:
                await tx.execute(text("SELECT jobs.rotate(1)"))
        await rotate(files, "files")
        found = admin.execute("SELECT to_regclass('jobs.history_' || to_char(current_date - 20, 'YYYYMMDD'))")
        assert found.fetchall() != [(None,)]


async def test_a_rotation_by_a_session_in_another_time_zone_shifts_no_day(
    files: Database, database: TestDatabase
) -> None:
    with database.admin() as admin:
        [(tomorrow,)] = admin.execute(TOMORROW).fetchall()
        admin.execute(f"DROP TABLE {tomorrow}".encode())
        for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
            async with files.begin(System("files")) as tx:
                await tx.execute(text(f"SET LOCAL timezone = '{zone}'"))
                await tx.execute(text("SELECT jobs.rotate(30)"))
        days = "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = to_regclass(%s)"
        [(bound,)] = admin.execute(days, [tomorrow]).fetchall()
    assert bound.count(" 00:00:00+00") == 2
