"""The audit trail: there with the change it tells of, holding no secret, and never changed again."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import psycopg
import pytest

from libs import audit
from libs.audit.fact import ALLOWED, WITHHELD
from libs.db import Database
from libs.observability import context
from libs.principal import Account, Operator, Organization, Principal, System, User
from tests.support.postgres import TestDatabase

ANNA = User("oak", "anna", actor="gateway")
_COLUMNS = "service, organization_id, actor_kind, actor_id, on_behalf, action, outcome, request_id, trace_id, facts"


@pytest.fixture(scope="module")
def database_trees() -> Sequence[str]:
    return ("db",)


@pytest.fixture
async def files(database: TestDatabase) -> AsyncIterator[Database]:
    made = database.connect("files")
    yield made
    await made.stop()


def entries(database: TestDatabase, action: str) -> list[tuple[Any, ...]]:
    with database.admin() as admin:
        query = f"SELECT {_COLUMNS} FROM audit.entries WHERE action = %s ORDER BY id"
        return admin.execute(query.encode(), [action]).fetchall()


@pytest.mark.control("A1", "the row is written in the transaction it tells of")
async def test_an_entry_is_there_if_and_only_if_its_transaction_commits(
    files: Database, database: TestDatabase
) -> None:
    async def change(action: str, fault: Exception | None) -> None:
        async with files.begin(ANNA) as tx:
            await audit.record(tx, action, file="f1", generation="2")
            if fault is not None:
                raise fault

    with context.bound(request="request-1", trace="0" * 31 + "1"):
        with pytest.raises(LookupError):
            await change("file.undone", LookupError())
        await change("file.kept", None)
    assert entries(database, "file.undone") == []
    ids = ("request-1", "0" * 31 + "1", {"file": "f1", "generation": "2"})
    assert entries(database, "file.kept") == [("files", "oak", "user", "anna", "gateway", "file.kept", "success", *ids)]


@pytest.mark.control("A1", "a failure is recorded in a transaction of its own")
async def test_a_failure_is_recorded_although_its_transaction_is_undone(
    files: Database, database: TestDatabase
) -> None:
    async def attempt() -> None:
        async with files.begin(ANNA) as tx:
            await audit.record_failure(files, ANNA, "file.refused", outcome="refused", reason="FOREIGN_NAME")
            await audit.record(tx, "file.refused_inside")
            raise LookupError

    with pytest.raises(LookupError):
        await attempt()
    assert [(row[6], row[9]) for row in entries(database, "file.refused")] == [("refused", {"reason": "FOREIGN_NAME"})]
    assert entries(database, "file.refused_inside") == []


@pytest.mark.parametrize(
    ("who", "organization", "kind", "actor"),
    [
        (Organization("oak"), "oak", "organization", "oak"),
        (Account("a1"), None, "account", "a1"),
        (Operator("uid:0"), None, "operator", "uid:0"),
        (System("files"), None, "service", "files"),
    ],
)
async def test_every_principal_can_be_the_actor(
    files: Database, database: TestDatabase, who: Principal, organization: str | None, kind: str, actor: str
) -> None:
    await audit.record_failure(files, who, f"actor.{kind}")
    assert [row[1:4] for row in entries(database, f"actor.{kind}")] == [(organization, kind, actor)]


@pytest.mark.control("A2", "no secret or address is stored")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("password", "correct horse"),
        ("token", "short"),
        ("cookie", "a=b"),
        ("user", "anna@example.org"),
        ("reason", "see https://hooks.example.org/T0/secret"),
        ("target", "postgresql://anna:secret@host/db"),
        ("source", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm5hIn0.c2ln"),
        ("reason", "0123456789abcdef0123456789abcdef01234567"),
        ("reason", "x" * 201),
        ("reason", "two\nlines"),
    ],
)
async def test_a_fact_that_may_be_a_secret_or_an_address_is_withheld(
    files: Database, database: TestDatabase, name: str, value: str
) -> None:
    with database.admin() as admin:
        admin.execute("ALTER TABLE audit.entries DISABLE TRIGGER USER")
        admin.execute("DELETE FROM audit.entries WHERE action = 'fact.told'")
        admin.execute("ALTER TABLE audit.entries ENABLE TRIGGER USER")
    await audit.record_failure(files, ANNA, "fact.told", **{name: value, "session": "01hzy3v9k2m4n6p8q0r2s4t6v8"})
    [entry] = entries(database, "fact.told")
    assert entry[9] == {name: WITHHELD, "session": "01hzy3v9k2m4n6p8q0r2s4t6v8"}
    assert value not in json.dumps([str(column) for column in entry])


def test_the_list_of_facts_names_no_secret() -> None:
    assert ALLOWED.isdisjoint(
        {"password", "token", "cookie", "secret", "key", "email", "address", "url", "csrf", "body"}
    )


@pytest.mark.control("A3", "entries are append-only")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit.entries SET outcome = 'failure'",
        "UPDATE audit.entries SET facts = '{}', sequence = 1",
        "DELETE FROM audit.entries",
        "TRUNCATE audit.entries",
    ],
)
async def test_entries_are_append_only_even_for_the_owner(
    files: Database, database: TestDatabase, statement: str
) -> None:
    await audit.record_failure(files, ANNA, "entry.kept")
    before = entries(database, "entry.kept")
    with database.admin() as admin, pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        admin.execute(statement.encode())
    assert entries(database, "entry.kept") == before


async def test_a_seal_can_be_added_once(files: Database, database: TestDatabase) -> None:
    await audit.record_failure(files, ANNA, "entry.sealed")
    seal = b"UPDATE audit.entries SET sequence = 7, hash = 'h', sealed_at = now() WHERE action = 'entry.sealed'"
    with database.admin() as admin:
        assert admin.execute(seal).rowcount == 1
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
            admin.execute(seal)


@pytest.mark.control("A1", "a service writes entries and cannot read them")
async def test_a_service_cannot_read_entries_or_write_anothers(database: TestDatabase) -> None:
    async with database.session("holdfast_files") as session:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await session.execute("SELECT id FROM audit.entries")
        insert = "INSERT INTO audit.entries (id, service, actor_kind, actor_id, action, outcome)"
        values = " VALUES (%s, %s, 'service', 'x', 'entry.forged', 'success')"
        await session.execute((insert + values).encode(), ["own", "files"])
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            await session.execute((insert + values).encode(), ["forged", "auth"])
    assert [row[0] for row in entries(database, "entry.forged")] == ["files"]


async def test_sql_by_the_owner_leaves_an_entry_with_the_databases_role(database: TestDatabase) -> None:
    async with database.session("holdfast_owner") as session:
        await session.execute("SELECT audit.record_sql('operator.granted', '{\"account\": \"a1\"}')")
    [entry] = entries(database, "operator.granted")
    assert entry[:4] == ("database", None, "database", "holdfast_owner")
