"""Tenant isolation of every table there is, whoever wrote it: derived from the catalogue after all migrations."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from libs.db.grants import SERVICES, closed
from libs.db.tx import armed_settings
from libs.principal import Account, Operator, Organization, Principal, System, User
from tests.store import catalogue
from tests.store.catalogue import Admin, Table
from tests.support.postgres import PASSWORDS, TestDatabase

ANNA, ZOE, BERT = User("oak", "anna"), User("oak", "zoe"), User("birch", "bert")
NOBODY: list[Principal] = [
    System("files"),
    Operator("uid:0"),
    Account("stranger"),
    User("elm", "anna"),
    Organization("elm"),
]
_ARM = (
    "SELECT set_config('holdfast.organization_id', %s, true), set_config('holdfast.user_id', %s, true),"
    " set_config('holdfast.account_id', %s, true)"
)


@pytest.fixture(scope="module")
def admin(database: TestDatabase) -> Iterator[Admin]:
    with database.admin() as connection:
        yield connection


@pytest.fixture(scope="module")
def filled(database: TestDatabase, admin: Admin) -> list[Table]:
    """Every tenant table, with a row of each of Anna, Zoe and Bert, put in past foreign keys and CHECKs."""
    found = catalogue.tables(admin, "user", "organization")
    with admin.transaction():
        admin.execute("SET LOCAL session_replication_role = replica")
        for table in found:
            catalogue.loosen(admin, table)
            for number, who in enumerate((ANNA, ZOE, BERT), 1):
                values = catalogue.row(admin, table, number, **_tenant(table, who))
                if str(table) == "auth.organizations" and who is ZOE:
                    continue
                admin.execute(catalogue.insert(table, values), list(values.values()))
    return found


def _tenant(table: Table, who: User) -> dict[str, str]:
    ids = {"organization_id": who.organization_id, "user_id": who.user_id}
    named = {"auth.organizations": who.organization_id, "auth.users": who.user_id}
    return ids | ({"id": named[str(table)]} if str(table) in named else {})


def _as(database: TestDatabase, service: str) -> psycopg.Connection[tuple[Any, ...]]:
    role = f"holdfast_{service}"
    cluster = database.cluster
    return psycopg.connect(
        host=str(cluster.socket_dir),
        port=cluster.port,
        user=role,
        password=PASSWORDS[role].decode(),
        dbname=database.name,
    )


def _seen(connection: psycopg.Connection[tuple[Any, ...]], table: Table, who: Principal) -> set[tuple[Any, ...]]:
    """The tenants whose rows of *table* are visible to *who*."""
    columns = ("organization_id", "user_id") if table.scope == "user" else ("organization_id",)
    query = sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(map(sql.Identifier, columns)), table.identifier)
    with connection.transaction(force_rollback=True):
        connection.execute(_ARM, armed_settings(who))
        return set(connection.execute(query).fetchall())


@pytest.mark.control("T5", "every table declares its scope")
def test_every_table_declares_its_scope_and_forces_its_policies(admin: Admin) -> None:
    found = catalogue.tables(admin)
    assert {table.schema for table in found} >= {"jobs", "audit"}
    assert [str(table) for table in found if not table.scope] == []
    assert [str(table) for table in found if table.scope != "global" and not table.forced] == []


@pytest.mark.control("T4", "no row of a tenant is seen by another tenant or the system")
def test_rows_are_seen_by_their_tenant_and_by_nobody_else(
    database: TestDatabase, admin: Admin, filled: list[Table]
) -> None:
    seen_at_all = 0
    for table in filled:
        for service in catalogue.readers(admin, table):
            with _as(database, service) as connection:
                for who in (ANNA, BERT):
                    own = (who.organization_id, who.user_id) if table.scope == "user" else (who.organization_id,)
                    assert _seen(connection, table, who) == {own}, f"{service} as {who} on {table}"
                    seen_at_all += 1
                for nobody in NOBODY:
                    assert _seen(connection, table, nobody) == set(), f"{service} as {nobody} on {table}"
    assert seen_at_all >= 2 * len(filled) > 0


@pytest.mark.control("T4", "no row of a tenant is changed by another tenant or the system")
def test_rows_of_another_tenant_can_be_neither_written_nor_removed(
    database: TestDatabase, admin: Admin, filled: list[Table]
) -> None:
    for table in filled:
        for service in catalogue.readers(admin, table, "INSERT"):
            values = catalogue.row(admin, table, 9, **_tenant(table, ANNA))
            with _as(database, service) as connection:
                for foreign in (BERT, *NOBODY):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
                        _insert(connection, table, values, foreign)
        for service in catalogue.readers(admin, table, "DELETE"):
            with _as(database, service) as connection, connection.transaction(force_rollback=True):
                connection.execute(_ARM, armed_settings(BERT))
                query = sql.SQL("DELETE FROM {} WHERE organization_id = 'oak'").format(table.identifier)
                assert connection.execute(query).rowcount == 0


def _insert(
    connection: psycopg.Connection[tuple[Any, ...]], table: Table, values: dict[str, Any], who: Principal
) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute(_ARM, armed_settings(who))
        connection.execute(catalogue.insert(table, values), list(values.values()))


@pytest.mark.control("T4", "a cross-tenant reference cannot be stored")
def test_a_row_cannot_name_a_user_of_another_organization(admin: Admin, filled: list[Table]) -> None:
    checked = 0
    for table in filled:
        if table.scope != "user":
            continue
        values = catalogue.row(admin, table, 20, organization_id="oak", user_id="bert")
        with pytest.raises(psycopg.errors.ForeignKeyViolation), admin.transaction():
            admin.execute(catalogue.insert(table, values), list(values.values()))
        checked += 1
    assert checked > 0


@pytest.mark.control("T4", "a cross-tenant reference cannot be stored")
def test_references_between_tenant_tables_carry_the_organization(admin: Admin) -> None:
    tenant = {str(table) for table in catalogue.tables(admin, "user", "organization")}
    query = """
        SELECT conrelid::regclass::text, confrelid::regclass::text, conname,
            ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY (conkey)),
            ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = confrelid AND attnum = ANY (confkey))
        FROM pg_constraint WHERE contype = 'f'
    """
    between = [row for row in admin.execute(query).fetchall() if {row[0], row[1]} <= tenant]
    assert between
    named = {row: "id" if row[1] == "auth.organizations" else "organization_id" for row in map(_hashable, between)}
    assert [row for row, column in named.items() if "organization_id" not in row[3] or column not in row[4]] == []


def _hashable(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(tuple(value) if isinstance(value, list) else value for value in row)


@pytest.mark.control("T5", "a service reaches only its own rows of a shared table")
def test_rows_of_scope_service_are_seen_by_their_service_only(database: TestDatabase, admin: Admin) -> None:
    found = catalogue.tables(admin, "service")
    with admin.transaction():
        admin.execute("SET LOCAL session_replication_role = replica")
        for table in found:
            catalogue.loosen(admin, table)
            for number, service in enumerate(SERVICES, 1):
                values = catalogue.row(admin, table, number, service=service, organization_id=f"o{number}")
                admin.execute(catalogue.insert(table, values), list(values.values()))
    for table in found:
        query = sql.SQL("SELECT DISTINCT service FROM {}").format(table.identifier)
        for service in catalogue.readers(admin, table):
            with _as(database, service) as connection:
                assert connection.execute(query).fetchall() == [(service,)], f"{service} on {table}"


@pytest.mark.control("T5", "grants beyond the own schema are a closed list")
def test_grants_beyond_the_own_schema_are_exactly_the_closed_list(admin: Admin) -> None:
    tables = """
        SELECT 'table', table_schema || '.' || table_name, privilege_type FROM information_schema.table_privileges
        WHERE grantee = %s AND table_schema <> %s
    """
    functions = """
        SELECT DISTINCT 'function', routine_schema || '.' || routine_name, privilege_type
        FROM information_schema.routine_privileges WHERE grantee = %s AND routine_schema <> %s
    """
    for service in SERVICES:
        names = [f"holdfast_{service}", service]
        held = {*admin.execute(tables, names).fetchall(), *admin.execute(functions, names).fetchall()}
        assert held - closed(service) == set(), service
        missing = {grant for grant in closed(service) - held if grant[1] != "events.append"}
        assert missing == set(), service


@pytest.mark.control("T5", "the runtime login has no DDL")
def test_no_runtime_login_can_make_or_change_a_table(database: TestDatabase) -> None:
    for service in SERVICES:
        with _as(database, service) as connection:
            connection.autocommit = True
            for statement in (
                f"CREATE TABLE {service}.mine ()",
                "CREATE TABLE public.mine ()",
                "CREATE TEMPORARY TABLE mine ()",
                "CREATE SCHEMA mine",
                "ALTER TABLE jobs.jobs NO FORCE ROW LEVEL SECURITY",
                "SET ROLE holdfast_owner",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement.encode())
            assert connection.execute("SELECT count(*) FROM jobs.ready").fetchone() is not None


@pytest.mark.control("T5", "grants beyond the own schema are a closed list")
def test_functions_with_their_owners_rights_pin_where_names_are_looked_up(admin: Admin) -> None:
    query = """
        SELECT n.nspname || '.' || p.proname, pg_get_userbyid(p.proowner), coalesce(p.proconfig, '{}')
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.prosecdef AND n.nspname = ANY (%s)
    """
    found = admin.execute(query, [catalogue.SCHEMAS]).fetchall()
    assert {"events.append", "jobs.cancel_job", "jobs.hold"} <= {name for name, _, _ in found}
    assert [name for name, owner, _ in found if owner != "holdfast_owner"] == []
    assert [name for name, _, settings in found if "search_path=pg_catalog, pg_temp" not in settings] == []
