"""deploy/stack/postgres.py: a cluster comes up from anything, lets in whom it should, and logs what people run."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine, text

from deploy.stack.postgres import Cluster, PostgresError
from libs.db import migrate, policies
from tests.support.postgres import PASSWORDS, MakeDatabase, TestDatabase


@pytest.fixture
def base() -> Iterator[Path]:
    found = Path(tempfile.mkdtemp(prefix="hfc-", dir="/tmp"))
    found.chmod(0o755)
    yield found
    shutil.rmtree(found, ignore_errors=True)


@pytest.fixture(scope="module")
def plain(make_database: MakeDatabase) -> TestDatabase:
    return make_database(())


def connect(cluster: Cluster, role: str, password: bytes) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(
        host=str(cluster.socket_dir), port=cluster.port, user=role, password=password.decode(), dbname="postgres"
    )


def test_a_half_made_cluster_is_made_anew_and_a_whole_one_is_kept(cluster: Cluster, base: Path) -> None:
    made = Cluster(data_dir=base / "data", socket_dir=base / "s", archive_command="cp %p /nowhere/%f")
    made.data_dir.mkdir()
    (made.data_dir / "PG_VERSION").write_text("15\n")
    assert not made.initialised
    made.initialise()
    control = made.data_dir / "global" / "pg_control"
    written = control.stat().st_mtime_ns
    made.initialise()
    assert (made.initialised, control.stat().st_mtime_ns) == (True, written)
    settings = (made.data_dir / "postgresql.conf").read_text()
    for line in ("listen_addresses = ''", "archive_mode = 'on'", "archive_timeout = '60s'"):
        assert line in settings.splitlines()
    assert "fsync" not in settings


def test_a_server_that_cannot_start_says_why(cluster: Cluster, base: Path) -> None:
    made = Cluster(data_dir=base / "data", socket_dir=base / "s", settings={"max_connections": "none"})
    made.initialise()
    with pytest.raises(PostgresError, match="max_connections"):
        made.start(base / "log")


def test_each_login_needs_its_own_password(plain: TestDatabase) -> None:
    with pytest.raises(psycopg.OperationalError):
        connect(plain.cluster, "holdfast_files", PASSWORDS["holdfast_auth"])
    with pytest.raises(psycopg.OperationalError):
        connect(plain.cluster, "holdfast_files", b"")
    with psycopg.connect(
        host=str(plain.cluster.socket_dir), user="holdfast_files", dbname=plain.name,
        password=PASSWORDS["holdfast_files"].decode(),
    ) as connection:  # fmt: skip
        assert connection.execute("SELECT current_user").fetchone() == ("holdfast_files",)


def test_bootstrap_again_changes_nothing_and_no_password_is_logged(cluster: Cluster) -> None:
    cluster.bootstrap(PASSWORDS)
    log = (cluster.data_dir.parent / "postgres.log").read_text()
    assert "CREATE SCHEMA IF NOT EXISTS jobs" in log
    assert not any(password.decode() in log for password in PASSWORDS.values())
    assert "SCRAM-SHA-256$" not in log


@pytest.mark.control("A7", "what the owner and people run by SQL is in the server's log")
async def test_what_the_owner_and_people_run_is_logged_and_what_services_run_is_not(plain: TestDatabase) -> None:
    log = plain.cluster.data_dir.parent / "postgres.log"
    for role in ("holdfast_owner", "holdfast_files"):
        async with plain.session(role) as session:
            await session.execute(f"SELECT 'canary of {role}'".encode())
    with plain.admin() as admin:
        admin.execute("SELECT 'canary of a person'")
    written = log.read_text()
    assert "canary of holdfast_owner" in written
    assert "canary of a person" in written
    assert "canary of holdfast_files" not in written


def test_pages_carry_checksums_and_nothing_listens_on_tcp(plain: TestDatabase) -> None:
    with plain.admin() as admin:
        shown = [admin.execute(f"SHOW {name}".encode()).fetchone() for name in ("data_checksums", "listen_addresses")]
    assert shown == [("on",), ("",)]


async def test_two_runners_of_migrations_do_not_collide(plain: TestDatabase) -> None:
    planned = migrate.plan(plain.url(), ("db",))
    runs = await asyncio.gather(*(asyncio.to_thread(migrate.upgrade, plain.url(), ("db",)) for _ in range(3)))
    assert [step.tree for step in planned] == ["db"] * len(planned) != []
    assert sorted(runs) == sorted([[], [], planned])
    assert migrate.plan(plain.url(), ("db",)) == []


def test_the_command_line_plans_and_refuses_what_it_does_not_know(plain: TestDatabase, tmp_path: Path) -> None:
    (tmp_path / "database_password").write_bytes(PASSWORDS["holdfast_owner"])
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    environment = inherited | {
        "HOLDFAST_DATABASE_HOST": str(plain.cluster.socket_dir),
        "HOLDFAST_DATABASE_NAME": plain.name,
        "HOLDFAST_SECRETS_DIR": str(tmp_path),
    }
    command = [sys.executable, "-m", "libs.db.migrate"]
    assert subprocess.run([*command, "plan"], env=environment, check=False, capture_output=True).returncode == 0
    assert subprocess.run([*command, "drop"], env=environment, check=False, capture_output=True).returncode == 64


def test_a_data_migration_sees_every_row_and_leaves_row_level_security_forced(plain: TestDatabase) -> None:
    engine = create_engine(plain.url())
    with engine.begin() as connection:
        op = Operations(MigrationContext.configure(connection))
        op.execute("CREATE TABLE files.lifted (organization_id text, user_id text, note text)")
        policies.user_table(op, "files.lifted", references=False)
        with policies.lifted(op, "files.lifted"):
            op.execute("INSERT INTO files.lifted VALUES ('oak', 'anna', 'old')")
            assert connection.execute(text("UPDATE files.lifted SET note = 'new'")).rowcount == 1
        assert connection.execute(text("UPDATE files.lifted SET note = 'unseen'")).rowcount == 0
    engine.dispose()
    with plain.admin() as admin:
        assert admin.execute("SELECT note FROM files.lifted").fetchall() == [("new",)]
        forced = "SELECT relforcerowsecurity FROM pg_class WHERE oid = 'files.lifted'::regclass"
        assert admin.execute(forced).fetchone() == (True,)
