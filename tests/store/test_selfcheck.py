"""T6: each way a login could step around row-level security is refused, and the right login is not."""

from collections.abc import AsyncIterator, Iterator, Sequence

import pytest

from libs.db import Database, UnsafeRole, migrate
from libs.db.grants import SERVICES
from libs.principal import System
from tests.support.postgres import TestDatabase

FAULTS = {
    "a superuser": (
        "ALTER ROLE holdfast_files SUPERUSER",
        "ALTER ROLE holdfast_files NOSUPERUSER",
        "is SUPERUSER",
    ),
    "a role that bypasses row-level security": (
        "ALTER ROLE holdfast_files BYPASSRLS",
        "ALTER ROLE holdfast_files NOBYPASSRLS",
        "is BYPASSRLS",
    ),
    "a privileged membership": (
        "GRANT pg_read_all_data TO holdfast_files",
        "REVOKE pg_read_all_data FROM holdfast_files",
        "member of pg_read_all_data",
    ),
    "the owner's membership": (
        "GRANT holdfast_owner TO holdfast_files",
        "REVOKE holdfast_owner FROM holdfast_files",
        "member of holdfast_owner",
    ),
    "table ownership": (
        "CREATE TABLE files.mine (); COMMENT ON TABLE files.mine IS 'scope: global (a test)';"
        " ALTER TABLE files.mine OWNER TO holdfast_files",
        "DROP TABLE files.mine",
        "owns files.mine",
    ),
    "DDL in a schema": (
        "GRANT CREATE ON SCHEMA files TO holdfast_files",
        "REVOKE CREATE ON SCHEMA files FROM holdfast_files",
        "CREATE on schema files",
    ),
    "temporary tables": (
        "DO $$ BEGIN EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO holdfast_files', current_database()); END $$",
        "DO $$ BEGIN EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM holdfast_files', current_database()); END $$",
        "TEMPORARY on database",
    ),
    "a tenant table without forced row-level security": (
        "CREATE TABLE files.open (organization_id text, user_id text); COMMENT ON TABLE files.open IS 'scope: user';"
        " ALTER TABLE files.open ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON files.open USING (false)",
        "DROP TABLE files.open",
        "files.open is of scope user without forced",
    ),
    "a tenant table without its tenant": (
        "CREATE TABLE files.open (user_id text); COMMENT ON TABLE files.open IS 'scope: user';"
        " ALTER TABLE files.open ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
        " CREATE POLICY p ON files.open USING (false)",
        "DROP TABLE files.open",
        "lacks organization_id",
    ),
    "a table without a scope": (
        "CREATE TABLE files.unsaid ()",
        "DROP TABLE files.unsaid",
        "files.unsaid declares no scope",
    ),
    "a global table without a reason": (
        "CREATE TABLE files.unsaid (); COMMENT ON TABLE files.unsaid IS 'scope: global'",
        "DROP TABLE files.unsaid",
        "files.unsaid declares no scope",
    ),
    "a view with its owner's rights": (
        "CREATE VIEW files.shown AS SELECT 1",
        "DROP VIEW files.shown",
        "view files.shown",
    ),
    "a grant beyond the closed list": (
        "GRANT SELECT ON audit.entries TO holdfast_files",
        "REVOKE SELECT ON audit.entries FROM holdfast_files",
        "SELECT on table audit.entries",
    ),
    "a grant to everybody": (
        "GRANT UPDATE (facts) ON audit.entries TO PUBLIC",
        "REVOKE UPDATE (facts) ON audit.entries FROM PUBLIC",
        "UPDATE on table audit.entries",
    ),
    "a function beyond the closed list": (
        "GRANT EXECUTE ON FUNCTION audit.record_sql TO holdfast_files",
        "REVOKE EXECUTE ON FUNCTION audit.record_sql FROM holdfast_files",
        "EXECUTE on function audit.record_sql",
    ),
    "a system function beyond the closed list": (
        "GRANT EXECUTE ON FUNCTION pg_switch_wal() TO holdfast_files",
        "REVOKE EXECUTE ON FUNCTION pg_switch_wal() FROM holdfast_files",
        "pg_catalog.pg_switch_wal",
    ),
}


@pytest.fixture(scope="module")
def database_trees() -> Sequence[str]:
    return ("db",)


@pytest.fixture
def fault(database: TestDatabase, request: pytest.FixtureRequest) -> Iterator[str]:
    """Puts one fault of FAULTS into the database and takes it away again; what the sentence about it contains."""
    arrange, undo, sentence = FAULTS[request.param]
    with database.admin() as admin:
        admin.execute(arrange.encode())
        try:
            yield sentence
        finally:
            admin.execute(undo.encode())


@pytest.fixture
async def files(database: TestDatabase) -> AsyncIterator[Database]:
    made = database.connect("files")
    yield made
    await made.stop()


@pytest.mark.control("T6", "an unsafe login or table is refused at the start")
@pytest.mark.parametrize("fault", FAULTS, indirect=True)
async def test_a_login_is_refused_for(fault: str, files: Database) -> None:
    found = await files.check()
    assert any(fault in sentence for sentence in found), found
    assert all(sentence.endswith(".") and ":" in sentence for sentence in found)
    with pytest.raises(UnsafeRole):
        async with files.begin(System("files")):
            raise AssertionError("the transaction began")


@pytest.mark.control("T6", "an unsafe login or table is refused at the start")
@pytest.mark.parametrize("service", SERVICES)
async def test_the_login_of_each_service_is_accepted_and_may_begin(service: str, database: TestDatabase) -> None:
    own = database.connect(service)
    assert await own.check() == []
    async with own.begin(System(service)) as tx:
        assert tx.service == service
    assert await own.check() == []
    await own.stop()


async def test_a_mended_login_serves_without_a_restart(database: TestDatabase, files: Database) -> None:
    with database.admin() as admin:
        admin.execute("ALTER ROLE holdfast_files BYPASSRLS")
        try:
            with pytest.raises(UnsafeRole):
                async with files.begin(System("files")):
                    raise AssertionError("the transaction began")
        finally:
            admin.execute("ALTER ROLE holdfast_files NOBYPASSRLS")
    async with files.begin(System("files")) as tx:
        assert tx.service == "files"


async def test_the_login_of_another_service_is_refused(database: TestDatabase) -> None:
    login = database.login("files")
    login = type(login)(**{name: getattr(login, name) for name in login.__slots__} | {"service": "auth"})
    wrong = Database.connect(login)
    assert any("runs as holdfast_files" in sentence for sentence in await wrong.check())
    await wrong.stop()


@pytest.mark.control("T5", "migrations run as the owner and again change nothing")
def test_migrations_run_once_and_a_second_run_finds_nothing(database: TestDatabase) -> None:
    assert migrate.plan(database.url(), ("db",)) == migrate.upgrade(database.url(), ("db",)) == []
