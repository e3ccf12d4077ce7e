"""High-water marks: what they count, who may read it, and what a copy below them is told."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from libs.db import Database
from libs.ids import earliest, new_id
from libs.principal import System
from services.backup.domain import mark as marking
from services.backup.domain.mark import Mark
from services.backup.store import marks as rows
from tests.support.postgres import PASSWORDS, TestDatabase

KEY = b"k" * 32
WHO = System("backup")
NOW = datetime.now(UTC)
PEOPLE = """
SET session_replication_role = replica;
INSERT INTO events.streams (organization_id, user_id, newest_offset, oldest_offset)
VALUES ('oak', 'anna', 7, 1), ('oak', 'zoe', 9, 1);
INSERT INTO files.versions (organization_id, user_id, id, object_id, path, state, declared_bytes, content_type,
                            created_at, expires_at, file_id, size_bytes, sha256, generation, finished_at,
                            key_id, wrapped_key)
VALUES ('oak', 'anna', '01a', 'o', 'p', 'ready', 1, '', now(), now(), 'f', 1, sha256(''), 1, now(), '', ''),
       ('oak', 'anna', '01b', 'o', 'p', 'pending', 1, '', now(), now(), NULL, NULL, NULL, NULL, NULL, '', '');
"""


@pytest.fixture(scope="module")
def db(database: TestDatabase) -> Database:
    with database.admin() as connection:
        for statement in PEOPLE.split(";\n"):
            connection.execute(statement.encode())
        for organization in ("oak", None):
            connection.execute(
                "INSERT INTO audit.entries (id, service, organization_id, actor_kind, actor_id, action, outcome)"
                " VALUES (%s, 'backup', %s, 'service', 'backup', 'a.b', 'success')",
                [new_id(), organization],
            )
        connection.execute("UPDATE backup.heartbeat_counter SET newest = 5")
    return database.connect("backup")


async def take(db: Database, tick: int) -> Mark | None:
    async with db.begin(WHO) as tx:
        return await rows.take(
            tx, lambda bare: marking.sign(bare, KEY), tick=tick, since=earliest(NOW - timedelta(days=1))
        )


async def test_a_mark_counts_every_tenant_once_for_each_period_and_heartbeat(db: Database) -> None:
    first = await take(db, 1)
    assert first is not None
    assert first.heartbeat == 5
    assert first.tenants["event_offset"] == {"oak/anna": "7", "oak/zoe": "9"}
    assert first.tenants["file_version"] == {"oak/anna": "01a"}
    assert sorted(first.tenants["audit_entry"]) == ["/", "oak/"]
    assert marking.genuine(first, KEY)
    assert await take(db, 1) is None


async def test_an_old_mark_is_forgotten_and_a_new_one_is_kept(db: Database, database: TestDatabase) -> None:
    await take(db, 1)
    async with db.begin(WHO) as tx:
        await rows.forget(tx, now=NOW, age=timedelta(days=2))
    with database.admin() as connection:
        assert connection.execute("SELECT count(*) FROM backup.marks").fetchone() == (1,)
    async with db.begin(WHO) as tx:
        await rows.forget(tx, now=NOW + timedelta(days=3), age=timedelta(days=2))
    with database.admin() as connection:
        assert connection.execute("SELECT count(*) FROM backup.marks").fetchone() == (0,)


@pytest.mark.parametrize("service", ["auth", "files", "events"])
def test_only_the_backup_service_may_read_how_far_everybody_has_come(database: TestDatabase, service: str) -> None:
    role = f"holdfast_{service}"
    cluster = database.cluster
    login = {"host": str(cluster.socket_dir), "port": cluster.port, "dbname": database.name}
    with psycopg.connect(user=role, password=PASSWORDS[role].decode(), **login) as connection:  # type: ignore[arg-type]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM backup.high_water('')")


def test_arming_the_setting_shows_no_login_a_row_of_a_tenant(db: Database, database: TestDatabase) -> None:
    role = "holdfast_events"
    cluster = database.cluster
    login = {"host": str(cluster.socket_dir), "port": cluster.port, "dbname": database.name}
    with psycopg.connect(user=role, password=PASSWORDS[role].decode(), **login) as connection:  # type: ignore[arg-type]
        connection.execute("SELECT set_config('holdfast.marks', 'on', false)")
        assert connection.execute("SELECT * FROM events.entries").fetchall() == []
    with database.admin() as connection:
        connection.execute("SET ROLE holdfast_owner")
        assert connection.execute("SELECT * FROM events.streams").fetchall() == []
        connection.execute("SELECT set_config('holdfast.marks', 'on', false)")
        assert len(connection.execute("SELECT * FROM events.streams").fetchall()) == 2


MARK = marking.sign(Mark(5, NOW, {"event_offset": {"oak/anna": "7"}, "file_version": {}, "audit_entry": {}}), KEY)


def test_a_copy_is_held_to_its_newest_mark() -> None:
    assert marking.judge(MARK, KEY, below={}, newest_beat=NOW).ok
    lost = marking.judge(MARK, KEY, below={"event_offset": ["oak/anna"]}, newest_beat=NOW)
    assert lost.failed
    assert "event_offset of oak/anna" in lost.detail
    forged = replace(MARK, tenants={"event_offset": {"oak/anna": "6"}, "file_version": {}, "audit_entry": {}})
    assert marking.judge(forged, KEY, below={}, newest_beat=NOW).failed
    assert marking.judge(MARK, b"l" * 32, below={}, newest_beat=NOW).failed


def test_no_mark_or_an_old_one_vouches_for_nothing() -> None:
    assert not marking.judge(None, KEY, below={}, newest_beat=NOW).made
    assert not marking.judge(MARK, KEY, below={}, newest_beat=NOW + timedelta(hours=4)).made


def test_a_mark_of_an_installation_without_tenants_proves_nothing_and_says_so() -> None:
    """It was ok, of a count of nothing."""
    empty = marking.sign(Mark(5, NOW, {"event_offset": {}, "file_version": {}, "audit_entry": {}}), KEY)
    told = marking.judge(empty, KEY, below={}, newest_beat=NOW)
    assert (told.made, told.failed, "counts nothing" in told.detail) == (False, False, True)
    assert marking.judge(replace(empty, signature="forged"), KEY, below={}, newest_beat=NOW).failed
