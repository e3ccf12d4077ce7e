"""libs.db: arming, commit and rollback, recovery, and nothing left behind on a pooled connection."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy.exc
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine, text

from libs.db import Database, Limits, TryAgain, Tx, constraint, retrying
from libs.db import database as database_module
from libs.db.policies import user_table
from libs.errors import Unavailable
from libs.principal import Account, Organization, Principal, System, User
from tests.support.postgres import TestDatabase
from tests.support.silence import Line, line

__all__ = ["line"]

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
        made = "CREATE TABLE files.notes (organization_id text NOT NULL, user_id text NOT NULL, id text PRIMARY KEY)"
        connection.execute(text(made))
        user_table(op, "files.notes", references=False)
    engine.dispose()


@pytest.fixture
async def files(database: TestDatabase) -> AsyncIterator[Database]:
    """One connection only, so whatever one transaction leaves on it, the next would find."""
    with database.admin() as admin:
        admin.execute("TRUNCATE files.notes")
    made = database.connect("files", limits=Limits(connections=1, acquire_seconds=1, statement_seconds=0.5))
    yield made
    await made.stop()


@pytest.mark.faults
async def test_a_database_that_hangs_is_away_and_one_that_answers_new_connections_again_is_back(
    database: TestDatabase, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each transaction waited for an answer without end; the server's time-outs are the server's."""
    login = replace(database.login("files"), database_host=str(line.directory))
    through = Database.connect(login, limits=Limits(connections=1, acquire_seconds=1, connect_seconds=2))
    assert await seen(through, OAK) == []
    line.cut = True
    with monkeypatch.context() as patch:
        patch.setattr(database_module, "_ANSWER_SECONDS", 0.2)
        async with asyncio.timeout(60):
            with pytest.raises(Unavailable):
                await seen(through, OAK)
    line.cut = False
    assert await seen(through, OAK) == []
    await through.stop()


async def write(tx: Tx, key: str) -> None:
    assert isinstance(tx.principal, User)
    values = {"o": tx.principal.organization_id, "u": tx.principal.user_id, "id": key}
    await tx.execute(text("INSERT INTO files.notes VALUES (:o, :u, :id)"), values)


async def seen(files: Database, who: Principal) -> list[str]:
    async with files.begin(who) as tx:
        return list((await tx.execute(text("SELECT id FROM files.notes ORDER BY id"))).scalars())


@pytest.mark.control("T4", "row-level security is armed per transaction")
async def test_a_committed_row_is_seen_by_its_user_and_nobody_else(files: Database) -> None:
    async with files.begin(OAK) as tx:
        await write(tx, "one")
    assert await seen(files, OAK) == ["one"]
    for other in (BIRCH, User("oak", "zoe"), Organization("oak"), Account("anna"), System("files")):
        assert await seen(files, other) == []


@pytest.mark.control("T4", "row-level security is armed per transaction")
async def test_a_row_of_another_user_cannot_be_written(files: Database) -> None:
    for organization, user in (("oak", "anna"), ("birch", "anna"), ("oak", "bert")):
        statement = text("INSERT INTO files.notes VALUES (:o, :u, :o || :u)")
        own = (organization, user) == ("oak", "anna")
        with nullcontext() if own else pytest.raises(sqlalchemy.exc.ProgrammingError, match="row-level security"):
            async with files.begin(OAK) as tx:
                await tx.execute(statement, {"o": organization, "u": user})
    assert await seen(files, OAK) == ["oakanna"]


async def _fail(files: Database) -> None:
    async with files.begin(OAK) as tx:
        await write(tx, "lost")
        raise LookupError


async def _break_a_constraint(files: Database) -> None:
    async with files.begin(OAK) as tx:
        await write(tx, "kept")


async def _take_too_long(files: Database) -> None:
    async with files.begin(OAK) as tx:
        await write(tx, "lost")
        await tx.execute(text("SELECT pg_sleep(30)"))


async def _be_cancelled(files: Database) -> None:
    async with asyncio.timeout(0.1):
        async with files.begin(OAK) as tx:
            await write(tx, "lost")
            await tx.execute(text("SELECT pg_sleep(30)"))


async def _be_cancelled_between_statements(files: Database) -> None:
    async with asyncio.timeout(0.1):
        async with files.begin(OAK) as tx:
            await write(tx, "lost")
            await asyncio.Event().wait()


@pytest.mark.control("T4", "nothing of a tenant stays on a pooled connection")
@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        (_fail, LookupError),
        (_break_a_constraint, sqlalchemy.exc.IntegrityError),
        (_take_too_long, Unavailable),
        (_be_cancelled, TimeoutError),
        (_be_cancelled_between_statements, TimeoutError),
    ],
)
async def test_nothing_leaks_to_the_next_tenant_on_the_only_connection(
    files: Database, fault: object, raised: type[Exception]
) -> None:
    assert callable(fault)
    async with files.begin(OAK) as tx:
        await write(tx, "kept")
    with pytest.raises(raised):
        await fault(files)
    armed = text("SELECT current_setting('holdfast.organization_id', true), current_setting('holdfast.user_id', true)")
    async with files.begin(BIRCH) as tx:
        assert tuple((await tx.execute(armed)).one()) == ("birch", "bert")
        assert (await tx.execute(text("SELECT count(*) FROM files.notes"))).scalar() == 0
    async with files.begin(System("files")) as tx:
        assert tuple((await tx.execute(armed)).one()) == ("", "")
    assert await seen(files, OAK) == ["kept"]


@pytest.mark.control("T4", "nothing of a tenant stays on a pooled connection")
async def test_a_cancellation_at_any_moment_leaves_nothing_on_the_connection(files: Database) -> None:
    async with files.begin(OAK) as tx:
        await write(tx, "kept")
    armed = text(
        "SELECT current_setting('holdfast.organization_id', true) || current_setting('holdfast.user_id', true)"
    )
    interrupted = 0
    for moment in range(60):
        try:
            async with asyncio.timeout(moment / 10_000):
                await seen(files, OAK)
        except TimeoutError:
            interrupted += 1
        async with files.begin(System("files")) as tx:
            assert (await tx.execute(armed)).scalar() == ""
            assert (await tx.execute(text("SELECT count(*) FROM files.notes"))).scalar() == 0
    assert interrupted > 0
    assert await seen(files, OAK) == ["kept"]


async def test_an_error_undoes_everything_and_calls_nobody(files: Database) -> None:
    called: list[str] = []

    async def change(key: str, fault: Exception | None) -> None:
        async with files.begin(OAK) as tx:
            tx.after_commit(lambda: called.append(key))
            await write(tx, key)
            assert called == []
            if fault is not None:
                raise fault

    with pytest.raises(ValueError, match="changed my mind"):
        await change("undone", ValueError("changed my mind"))
    assert (await seen(files, OAK), called) == ([], [])
    await change("kept", None)
    assert (await seen(files, OAK), called) == (["kept"], ["kept"])


async def test_a_savepoint_fails_alone_and_a_constraint_has_a_name(files: Database) -> None:
    async with files.begin(OAK) as tx:
        await write(tx, "one")
        with pytest.raises(sqlalchemy.exc.IntegrityError) as caught:
            async with tx.savepoint():
                await write(tx, "one")
        await write(tx, "two")
    assert constraint(caught.value) == "notes_pkey"
    assert await seen(files, OAK) == ["one", "two"]


async def test_the_time_is_the_transactions_or_the_injected_one(files: Database, database: TestDatabase) -> None:
    async with files.begin(OAK) as tx:
        first = tx.now()
        assert first == tx.now() == (await tx.execute(text("SELECT transaction_timestamp()"))).scalar()
        assert first.utcoffset() is not None
    noon = datetime(2031, 5, 1, 12, tzinfo=UTC)
    held = database.connect("files", now=lambda: noon)
    async with held.begin(OAK) as tx:
        assert tx.now() == noon
    await held.stop()


async def test_connections_that_were_cut_are_replaced_without_anybody_noticing(
    files: Database, database: TestDatabase
) -> None:
    async with files.begin(OAK) as tx:
        await write(tx, "kept")
    with database.admin() as admin:
        query = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'holdfast_files'"
        assert (True,) in admin.execute(query).fetchall()
    assert await seen(files, OAK) == ["kept"]


async def test_a_pool_in_full_use_and_an_absent_database_say_so(files: Database, database: TestDatabase) -> None:
    async with files.begin(OAK):
        with pytest.raises(Unavailable, match="in use"):
            await seen(files, BIRCH)
    login = database.login("files")
    login = type(login)(**{name: getattr(login, name) for name in login.__slots__} | {"database_port": 1})
    absent = Database.connect(login)
    with pytest.raises(Unavailable, match="cannot be reached"):
        await seen(absent, OAK)
    with pytest.raises(Unavailable, match="cannot be reached"):
        await absent.check()
    await absent.stop()


async def test_the_loser_of_a_deadlock_is_run_again(database: TestDatabase, files: Database) -> None:
    wide = database.connect("files", limits=Limits(connections=2))
    async with wide.begin(OAK) as tx:
        await write(tx, "a")
        await write(tx, "b")
    both, tries = asyncio.Barrier(2), list[str]()
    lock = text("SELECT id FROM files.notes WHERE id = :id FOR UPDATE")

    async def take(first: str, second: str) -> None:
        meet = first not in tries
        tries.append(first)
        async with wide.begin(OAK) as tx:
            await tx.execute(lock, {"id": first})
            if meet:
                await both.wait()
            await tx.execute(lock, {"id": second})

    ends = await asyncio.gather(take("a", "b"), take("b", "a"), return_exceptions=True)
    assert {type(end) for end in ends} == {TryAgain, type(None)}
    tries.clear()
    await asyncio.gather(retrying(take)("a", "b"), wide.retry(lambda: take("b", "a")))
    assert len(tries) == 3
    await wide.stop()
