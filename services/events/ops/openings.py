"""How many streams a user may have: one lease for each, in the database, because the cap holds over all replicas."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from libs import process
from libs.db import Database, retrying
from libs.errors import AppError
from libs.observability import log
from libs.principal import System
from services.events.domain.errors import TooManyConnects, TooManyStreams
from services.events.domain.limits import Limits
from services.events.store import leases
from services.events.store.streams import Owner

Held = tuple[Owner, str]
"""(owner, connection id)."""

_RETRY_SECONDS = 5.0


class Openings:
    """Also a libs.process.Part. replica: unique for this process. held(): the leases of streams that still flush."""

    def __init__(
        self, database: Database, *, replica: str, ids: Callable[[], str], limits: Limits,
        held: Callable[[], Iterable[Held]],
    ) -> None:  # fmt: skip
        self._database = database
        self._replica, self._ids, self._limits, self._held = replica, ids, limits, held
        self._closed: list[Held] = []
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._log = log.get(__name__)

    async def open(self, owner: Owner) -> str:
        """Take a lease; the connection's id. Evicting, counting and taking are one step over all replicas.

        Raises TooManyStreams, TooManyConnects, Unavailable.
        """
        return await retrying(self._open)(owner)

    def close(self, owner: Owner, connection_id: str) -> None:
        """Give a lease back soon. Only a courtesy: a lease that nobody refreshes ends by itself."""
        self._closed.append((owner, connection_id))
        self._asked.set()

    async def start(self) -> None:
        """Begin to refresh."""
        self._task = process.spawn(self._run(), name="events leases")

    def refuse(self) -> None:
        """Nothing: leases are kept until the streams have ended."""

    async def drain(self, seconds: float) -> None:
        """Nothing: streams end by themselves."""

    async def stop(self) -> None:
        """Stop refreshing and give back what has been closed."""
        await process.cancel(self._task)
        await self._tried(self._give_back)

    async def _open(self, owner: Owner) -> str:
        connection_id = self._ids()
        async with self._database.begin(System("events")) as tx:
            await leases.lock(tx, owner)
            found = await leases.count(tx, owner)
            if found.open >= self._limits.streams:
                raise TooManyStreams(
                    f"{self._limits.streams} streams are open already; close one.",
                    retry_after_seconds=_RETRY_SECONDS, limit=self._limits.streams,
                )  # fmt: skip
            if found.recent >= self._limits.connects:
                raise TooManyConnects(
                    f"Streams were opened {self._limits.connects} times within a minute.",
                    retry_after_seconds=60.0, limit=self._limits.connects,
                )  # fmt: skip
            await leases.open(tx, owner, connection_id, replica=self._replica, seconds=self._limits.lease)
        return connection_id

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._limits.lease / 3
        while True:
            try:
                async with asyncio.timeout_at(due):
                    await self._asked.wait()
                self._asked.clear()
                await self._tried(self._give_back)
            except TimeoutError:
                due = loop.time() + self._limits.lease / 3
                await self._tried(self._refresh)
                await self._tried(self._give_back)

    async def _refresh(self) -> None:
        held = sorted(self._held())
        if held:
            async with self._database.begin(System("events")) as tx:
                await leases.refresh(tx, held, replica=self._replica, seconds=self._limits.lease)

    async def _give_back(self) -> None:
        closed, self._closed = self._closed, []
        if not closed:
            return
        async with self._database.begin(System("events")) as tx:
            for owner, connection_id in closed:
                await leases.close(tx, owner, connection_id)

    async def _tried(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except AppError as error:
            # The leases run out in the meantime; the next refresh puts those of open streams back.
            self._log.warning("leases_not_written", why=error.message)
