"""libs.db: arming, commit and rollback, recovery, and nothing left behind on a pooled connection."""

from collections.abc import AsyncIterator, Sequence

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine, text

from libs.db import Database, Limits, Tx
from libs.db.policies import user_table
from libs.principal import Account, Organization, Principal, System, User
from tests.support.postgres import TestDatabase

OAK = User("oak", "anna")
BIRCH = User("birch", "bert")


@pytest.fixture(scope="module")
def database_trees() -> Sequence[str]:
    return ()


@pytest.fixture(scope="module", autouse=True)
def notes(database: TestDatabase) -> None:
    """A table of scope user, as a migration of the files service would make it."""
    engine = create_engine(database.url())
    with engine.begin() as connection:
        op = Operations(MigrationContext.configure(connection))
        connection.execute(
            text("CREATE TABLE files.notes (organization_id text NOT NULL, user_id text NOT NULL, id text PRIMARY KEY)")
        )
        user_table(op, "files.notes", references=False)
    engine.dispose()


@pytest.fixture
async def files(database: TestDatabase) -> AsyncIterator[Database]:
    made = database.connect("files", limits=Limits(connections=1, acquire_seconds=5, statement_seconds=2))
    yield made
    async with made.begin(OAK) as tx:
        await tx.execute(text("DELETE FROM files.notes"))
    async with made.begin(BIRCH) as tx:
        await tx.execute(text("DELETE FROM files.notes"))
    await made.stop()


async def write(tx: Tx, key: str) -> None:
    values = {"o": getattr(tx.principal, "organization_id", "?"), "u": getattr(tx.principal, "user_id", "?"), "id": key}
    await tx.execute(text("INSERT INTO files.notes VALUES (:o, :u, :id)"), values)


async def seen(files: Database, who: Principal) -> list[str]:
    async with files.begin(who) as tx:
        return list((await tx.execute(text("SELECT id FROM files.notes ORDER BY id"))).scalars())


async def test_a_committed_row_is_seen_by_its_user_and_nobody_else(files: Database) -> None:
    async with files.begin(OAK) as tx:
        await write(tx, "one")
    assert await seen(files, OAK) == ["one"]
    for other in (BIRCH, User("oak", "zoe"), Organization("oak"), Account("anna"), System("files")):
        assert await seen(files, other) == []


async def test_an_error_undoes_everything_and_calls_nobody(files: Database) -> None:
    called: list[str] = []
    with pytest.raises(ValueError, match="changed my mind"):
        async with files.begin(OAK) as tx:
            tx.after_commit(lambda: called.append("never"))
            await write(tx, "undone")
            raise ValueError("changed my mind")
    assert (await seen(files, OAK), called) == ([], [])
    async with files.begin(OAK) as tx:
        tx.after_commit(lambda: called.append("after"))
        await write(tx, "kept")
        assert called == []
    assert (await seen(files, OAK), called) == (["kept"], ["after"])
