"""One transaction in which row-level security is armed for one principal."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any

import sqlalchemy.exc
from sqlalchemy import CursorResult, Executable
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.db.errors import translated
from libs.principal import Account, Organization, Principal, User

Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]]
Callback = Callable[[], None]
Wake = Callable[[str, str], None]


class Tx:
    """Made by Database.begin only. principal: who it is armed for; service: whose database login runs it."""

    def __init__(
        self, connection: AsyncConnection, principal: Principal, service: str, started_at: datetime, wake: Wake
    ) -> None:
        self.principal = principal
        self.service = service
        self._wake = wake
        self._connection = connection
        self._started_at = started_at
        self._callbacks: list[Callback] = []

    def now(self) -> datetime:
        """The transaction's time, the same for its whole life: aware, UTC."""
        return self._started_at

    async def execute(self, statement: Executable, parameters: Parameters | None = None) -> CursorResult[Any]:
        """Run one Core statement; *parameters* as a sequence runs it for each.

        Raises Unavailable or TryAgain for what is nobody's mistake, sqlalchemy.exc.IntegrityError for a broken
        constraint.
        """
        try:
            return await self._connection.execute(statement, parameters)
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise translated(error) from error

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A part that can fail by itself: an exception undoes it and leaves the transaction usable."""
        async with self._connection.begin_nested():
            yield

    def after_commit(self, callback: Callback) -> None:
        """Call *callback* once the transaction is durable, in order of registration; never after a rollback."""
        self._callbacks.append(callback)

    def wake(self, channel: str, payload: str = "") -> None:
        """Wake the listeners of *channel* once the transaction is durable; many wake-ups melt into few
        (libs.db.waker).
        """
        self.after_commit(partial(self._wake, channel, payload))

    def callbacks(self) -> tuple[Callback, ...]:
        """What after_commit has collected."""
        return tuple(self._callbacks)


def armed_settings(principal: Principal) -> tuple[str, str, str]:
    """(organization_id, user_id, account_id) that policies compare with; "" where the principal has none."""
    match principal:
        case User(organization_id=organization, user_id=user):
            return organization, user, ""
        case Organization(organization_id=organization):
            return organization, "", ""
        case Account(account_id=account):
            return "", "", account
        case _:
            return "", "", ""
