"""auth's rows: who sees which, what cannot be stored, and what its login may not do."""

from datetime import timedelta

import psycopg
import pytest
from sqlalchemy import text

from libs import ids
from libs.db import Database
from libs.principal import Account, Organization, Principal, System, User
from services.auth.domain.people import Link
from services.auth.store import feed, links
from tests.support.postgres import TestDatabase

OAK, BIRCH = ("oak", "oaku1", "acc1"), ("birch", "birchu1", "acc2")
TABLES = ("auth.organizations", "auth.users", "auth.sessions")


@pytest.fixture(scope="module")
def rows(database: TestDatabase) -> TestDatabase:
    """Two organizations with a user and a session each; the first account is in both."""
    with database.admin() as connection:
        for organization, user, account in (OAK, BIRCH):
            connection.execute(
                "INSERT INTO auth.accounts (id, email, email_key, display_name, password_hash)"
                " VALUES (%(a)s, %(a)s || '@example.com', %(a)s || '@example.com', 'x', 'x')",
                {"a": account},
            )
            connection.execute("INSERT INTO auth.organizations (id, display_name) VALUES (%s, 'x')", [organization])
            add_user(connection, organization, user, account)
            connection.execute(
                "INSERT INTO auth.sessions (organization_id, user_id, id, delivery, remembered, user_epoch,"
                " organization_epoch, installation_epoch, refresh_digest, refresh_kid, rotated_at, idle_expires_at,"
                " expires_at) VALUES (%s, %s, %s, 'TOKENS', false, 0, 0, 0, sha256('x'), 'k', now(),"
                " now() + interval '1 hour', now() + interval '1 hour')",
                [organization, user, f"{organization}s"],
            )
        add_user(connection, "birch", "birchu2", "acc1")
    return database


def add_user(connection: "psycopg.Connection[tuple[object, ...]]", organization: str, user: str, account: str) -> None:
    connection.execute(
        "INSERT INTO auth.users (organization_id, id, account_id, role, display_name)"
        " VALUES (%s, %s, %s, 'MEMBER', 'x')",
        [organization, user, account],
    )


async def seen(db: Database, who: Principal) -> dict[str, list[str]]:
    async with db.begin(who) as tx:
        return {
            table: list((await tx.execute(text(f"SELECT id FROM {table} ORDER BY id"))).scalars()) for table in TABLES
        }


@pytest.mark.control("T4", "no row of a tenant is seen by another tenant or the system")
async def test_each_principal_sees_its_own_rows(rows: TestDatabase) -> None:
    db = rows.connect("auth")
    assert await seen(db, User("oak", "oaku1")) == dict(zip(TABLES, (["oak"], ["oaku1"], ["oaks"]), strict=True))
    both = ["birchu1", "birchu2"]
    assert await seen(db, User("birch", "birchu1")) == dict(zip(TABLES, (["birch"], both, ["birchs"]), strict=True))
    assert await seen(db, User("birch", "birchu2")) == dict(zip(TABLES, (["birch"], both, []), strict=True))
    assert await seen(db, User("oak", "birchu1")) == dict(zip(TABLES, (["oak"], ["oaku1"], []), strict=True))
    assert await seen(db, Organization("oak")) == dict(zip(TABLES, (["oak"], ["oaku1"], []), strict=True))
    assert await seen(db, Account("acc1")) == dict(zip(TABLES, ([], ["birchu2", "oaku1"], []), strict=True))
    assert await seen(db, System("auth")) == dict(zip(TABLES, ([], [], []), strict=True))


@pytest.mark.control("T4", "a cross-tenant reference cannot be stored")
async def test_a_session_cannot_point_at_another_organizations_user(rows: TestDatabase) -> None:
    with rows.admin() as connection, pytest.raises(psycopg.errors.ForeignKeyViolation):
        connection.execute("UPDATE auth.sessions SET user_id = 'birchu1' WHERE id = 'oaks'")
    with rows.admin() as connection:
        connection.execute("UPDATE auth.sessions SET user_id = 'oaku1' WHERE id = 'oaks'")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE auth.users SET role = 'OWNER' WHERE organization_id = 'birch'",
        "UPDATE auth.sessions SET ended_at = now() WHERE organization_id = 'birch'",
        "UPDATE auth.organizations SET tier = 'team' WHERE id = 'birch'",
    ],
)
async def test_another_organizations_rows_cannot_be_changed(rows: TestDatabase, statement: str) -> None:
    db = rows.connect("auth")
    async with db.begin(User("oak", "oaku1")) as tx:
        assert (await tx.execute(text(statement))).rowcount == 0
    mine = statement.replace("birch", "oak")
    async with db.begin(User("oak", "oaku1")) as tx:
        assert (await tx.execute(text(mine))).rowcount == 1


@pytest.mark.control("I7", "the service's own login cannot make an operator")
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO auth.operators (account_id, reason) VALUES ('acc1', 'x')",
        "UPDATE auth.operators SET account_id = 'acc1'",
        "DELETE FROM auth.operators",
        "TRUNCATE auth.operators",
        "DELETE FROM auth.users",
        "DELETE FROM auth.accounts",
        "DELETE FROM auth.organizations",
        "INSERT INTO auth.installation DEFAULT VALUES",
        "ALTER TABLE auth.users NO FORCE ROW LEVEL SECURITY",
        "SELECT * FROM audit.entries",
        "CREATE TABLE auth.mine (id text)",
    ],
)
async def test_the_services_login_may_not(rows: TestDatabase, statement: str) -> None:
    async with rows.session("holdfast_auth") as connection:
        assert (await (await connection.execute("SELECT count(*) FROM auth.operators")).fetchone()) is not None
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute(statement.encode())


async def test_operators_are_not_truncated_even_by_the_owner(rows: TestDatabase) -> None:
    async with rows.session() as owner:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="DELETE leaves an audit entry"):
            await owner.execute("TRUNCATE auth.operators")


async def test_the_owner_leaves_entries_as_the_database_and_never_as_a_service(rows: TestDatabase) -> None:
    insert = (
        "INSERT INTO audit.entries (id, service, actor_kind, actor_id, action, outcome)"
        " VALUES (%s, %s, 'database', 'me', 'operator.granted', 'success')"
    )
    async with rows.session() as owner:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await owner.execute(insert, ["x", "auth"])
        assert (await owner.execute(insert, ["y", "database"])).rowcount == 1


async def test_the_login_passes_the_self_check(rows: TestDatabase) -> None:
    assert await rows.connect("auth").check() == []


async def test_ids_made_in_sql_sort_with_those_made_in_python(rows: TestDatabase) -> None:
    with rows.admin() as connection:
        before = ids.new_id()[:9]
        found = connection.execute("SELECT audit.new_id()").fetchone()
        after = ids.new_id()[:9]
    assert found is not None
    assert len(found[0]) == ids.LENGTH
    assert before <= found[0][:9] <= after


async def test_the_feed_misses_nothing_that_commits_late(rows: TestDatabase) -> None:
    db = rows.connect("auth")
    async with rows.session() as late, rows.session() as early:
        await late.execute("BEGIN")
        await late.execute("INSERT INTO auth.epoch_feed (subject_kind, subject_id) VALUES ('user', 'late')")
        await early.execute("INSERT INTO auth.epoch_feed (subject_kind, subject_id) VALUES ('user', 'early')")
        async with db.begin(System("auth")) as tx:
            horizon = await feed.horizon(tx)
            first = {subject for _, _, subject in await feed.since(tx, horizon)}
        await late.execute("COMMIT")
    async with db.begin(System("auth")) as tx:
        second = {subject for _, _, subject in await feed.since(tx, horizon)}
    assert "early" in first | second
    assert "late" not in first
    assert "late" in second


async def test_a_link_is_used_by_one_caller_only(rows: TestDatabase) -> None:
    db = rows.connect("auth")
    token = b"t" * 32
    async with db.begin(System("auth")) as tx:
        await links.add(tx, Link("link1", "acc1", "hash", tx.now() + timedelta(hours=1), None), "verify_email")
        await links.set_token(tx, "link1", token, tx.now() + timedelta(hours=1))
    async with db.begin(System("auth")) as tx:
        first = await links.use(tx, token, "verify_email")
        second = await links.use(tx, token, "verify_email")
    assert first is not None
    assert first.account_id == "acc1"
    assert second is None
