"""The pool of one login, and `begin`, the only door to its rows."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeVar

import psycopg
import sqlalchemy.exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from libs import clock
from libs.db import selfcheck
from libs.db.errors import UnsafeRole, translated
from libs.db.retry import retrying
from libs.db.settings import DatabaseConfig, Limits, arguments
from libs.db.tx import Tx, armed_settings
from libs.db.waker import Waker
from libs.observability import log
from libs.principal import Principal

R = TypeVar("R")

_log = log.get(__name__)
_DEFAULTS = Limits()
_ANSWER_SECONDS = 10.0
_ARM = (
    "BEGIN; SELECT set_config('holdfast.organization_id', %s, true), set_config('holdfast.user_id', %s, true),"
    " set_config('holdfast.account_id', %s, true), transaction_timestamp()"
)
_PIN = (
    "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),"
    " set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),"
    " set_config('jit', 'off', true)"
)
_ARM_PINNED = _ARM.replace("BEGIN;", f"BEGIN; {_PIN};")


class Database:
    """A service's own login. A libs.process.Part too: it starts without the database and recovers without a restart."""

    def __init__(self, engine: AsyncEngine, settings: dict[str, Any], *, service: str, now: clock.Clock) -> None:
        self.service = service
        self._engine = engine
        self._settings = settings
        self._now = now
        self.waker = Waker(settings)
        self._checked = False
        self._checking = asyncio.Lock()

    @classmethod
    def connect(cls, config: DatabaseConfig, *, now: clock.Clock = clock.now, limits: Limits = _DEFAULTS) -> "Database":
        """The database of *config*'s login. Opens nothing yet, so it never blocks and never fails.

        now: left as libs.clock.now, tx.now() is the server's transaction timestamp; any other clock replaces it.
        """
        settings = arguments(config, limits)
        engine = create_async_engine(
            "postgresql+psycopg://",
            connect_args=settings,
            pool_size=limits.connections,
            max_overflow=0,
            pool_timeout=limits.acquire_seconds,
            pool_use_lifo=True,
            pool_recycle=1800,
            isolation_level="AUTOCOMMIT",  # `_arm` sends BEGIN itself, in one message with the settings
        )
        return cls(engine, settings, service=config.service, now=now)

    @asynccontextmanager
    async def begin(self, principal: Principal, *, pinned: bool = False) -> AsyncIterator[Tx]:
        """One transaction with row-level security armed for *principal*: committed at the end, rolled back on any
        error. pinned: index scans and nested loops only, however empty or full the statistics say a table is.

        Raises Unavailable when the database is away or too slow, TryAgain when the transaction met another one,
        UnsafeRole while the self-check refuses this login.
        """
        await self._refuse_unsafe()
        try:
            async with self._engine.connect() as connection:
                started_at = await _arm(connection, principal, _ARM_PINNED if pinned else _ARM)
                async with connection.begin():
                    tx = Tx(connection, principal, self.service, self._moment(started_at), self.waker.notify)
                    yield tx
        except (sqlalchemy.exc.SQLAlchemyError, psycopg.Error) as error:
            raised = translated(error)
            raise raised from (error if raised is not error else None)
        for callback in tx.callbacks():
            _call(callback)

    async def retry(self, operation: Callable[[], Awaitable[R]]) -> R:
        """The result of *operation*, run again from its start while it raises TryAgain; see libs.db.retry.retrying."""
        return await retrying(operation)()

    async def check(self) -> list[str]:
        """What is wrong with this login or its tables, a sentence each with what to do; [] when it may serve.

        Raises Unavailable when the database cannot be asked. A passed check is remembered; later calls only ask
        whether it answers.
        """
        try:
            async with self._engine.connect() as connection:
                if self._checked:
                    await _alive(connection)
                    return []
                faults = await selfcheck.faults(connection, self.service)
        except (sqlalchemy.exc.SQLAlchemyError, psycopg.Error) as error:
            raise translated(error) from error
        self._checked = not faults
        return faults

    def settings(self) -> dict[str, Any]:
        """Keyword arguments for psycopg.connect with this login, for connections that live outside the pool."""
        return dict(self._settings)

    async def start(self) -> None:
        """Nothing: connections are opened when they are needed."""

    def refuse(self) -> None:
        """Nothing: the transports refuse, the database goes on answering them."""

    async def drain(self, seconds: float) -> None:
        """Nothing: whoever uses the database drains first."""

    async def stop(self) -> None:
        """Send the last wake-ups and close every pooled connection."""
        await self.waker.stop()
        await self._engine.dispose()

    async def _refuse_unsafe(self) -> None:
        if self._checked:
            return
        async with self._checking:
            faults = [] if self._checked else await self.check()
        if faults:
            _log.error("the database login is refused", faults=faults)
            raise UnsafeRole("The database login or its tables are not safe to serve from.", faults=len(faults))

    def _moment(self, started_at: datetime) -> datetime:
        return started_at if self._now is clock.now else self._now()


async def _driver(connection: AsyncConnection) -> psycopg.AsyncConnection[Any]:
    raw = await connection.get_raw_connection()
    driver = raw.driver_connection
    assert isinstance(driver, psycopg.AsyncConnection)
    return driver


async def _send(connection: AsyncConnection, statement: str, values: tuple[str, ...] = ()) -> Any:
    """The first row of the last of *statement*'s results; a connection that died while pooled is replaced once."""
    driver = await _driver(connection)
    try:
        return await _answer(driver, statement, values)
    except psycopg.OperationalError:
        if not driver.closed:
            raise
    await connection.invalidate()
    return await _answer(await _driver(connection), statement, values)


async def _answer(driver: psycopg.AsyncConnection[Any], statement: str, values: tuple[str, ...]) -> Any:
    cursor = psycopg.AsyncClientCursor(driver)
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            await cursor.execute(statement.encode(), values)
            while cursor.nextset():
                continue
            return await cursor.fetchone()
    except TimeoutError:
        # It hangs, or its network does, and the server's own time-outs cannot end that.
        await driver.close()
        raise psycopg.OperationalError("the database does not answer") from None


async def _arm(connection: AsyncConnection, principal: Principal, statement: str) -> datetime:
    started_at: datetime = (await _send(connection, statement, armed_settings(principal)))[-1]
    return started_at


async def _alive(connection: AsyncConnection) -> None:
    await _send(connection, "SELECT 1")


def _call(callback: Callable[[], None]) -> None:
    # The rows are durable already: a failing wake-up must not make the caller believe otherwise.
    try:
        callback()
    except Exception:
        _log.exception("an after-commit callback failed")
