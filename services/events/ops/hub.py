"""One hub per replica: learns which connected users' streams have moved, reads those once, hands them to all readers.

The log is the truth. A wake-up (a user id) makes the hub look at once; one shared query per tick over the counters of
everybody connected finds whatever no wake-up told, the change of epoch included.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from libs import process
from libs.db import Database
from libs.errors import AppError
from libs.observability import log
from libs.principal import System, User
from services.events.domain.errors import Draining, ForeignEvent
from services.events.domain.event import Event, Frame
from services.events.domain.limits import Limits
from services.events.domain.position import Position
from services.events.ops.following import Following, Owner, Reader
from services.events.store import entries, streams

_CHUNK = 2000
_FETCHES = 4


class Hub:
    """Also a libs.process.Part. encode(epoch, event): the server-sent-event bytes, made once per event."""

    def __init__(self, database: Database, *, encode: Callable[[str, Event], bytes], limits: Limits) -> None:
        self._database = database
        self._encode = encode
        self._limits = limits
        self._users: dict[str, Following] = {}
        self._hints: set[str] = set()
        self._hinted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._fetching = asyncio.Semaphore(_FETCHES)
        self._log = log.get(__name__)
        self._away_since: float | None = None
        self._refusing = False

    def hint(self, user_id: str) -> None:
        """The stream of *user_id* may have moved, or any when it is ""; whoever is not connected here is ignored."""
        if user_id in self._users or not user_id:
            self._hints.add(user_id)
            self._hinted.set()

    def away_seconds(self) -> float:
        """How long the database has not answered the shared poll; 0 while it does."""
        return 0.0 if self._away_since is None else asyncio.get_running_loop().time() - self._away_since

    def admit(self) -> None:
        """Raises Draining once no further stream is opened."""
        if self._refusing:
            raise Draining("The server is stopping; connect again.", retry_after_seconds=1.0)

    async def join(self, reader: Reader, owner: Owner) -> tuple[Following, Position]:
        """Register *reader*, and only then read where the stream stands, so that nothing falls in between.

        Raises Draining, or Unavailable when the database is away.
        """
        self.admit()
        following = self._users.setdefault(owner[1], Following(owner))
        if following.owner != owner:
            raise ForeignEvent("The user belongs to another organization.")
        following.readers.add(reader)
        try:
            position = await self.position(owner)
        except BaseException:
            self.leave(reader, following)
            raise
        following.begin(position)
        return following, position

    def leave(self, reader: Reader, following: Following) -> None:
        """Forget *reader*; the last one of a user takes the user's memory with it."""
        following.readers.discard(reader)
        if not following.readers and self._users.get(following.owner[1]) is following:
            del self._users[following.owner[1]]

    async def position(self, owner: Owner) -> Position:
        """Where the stream stands in the database now. Raises Unavailable."""
        async with self._database.begin(System("events")) as tx:
            return (await streams.positions(tx, [owner]))[owner]

    async def page(self, following: Following, after: int) -> list[Frame]:
        """The next frames after offset *after*, from memory or from the log. Raises Unavailable."""
        kept = following.kept(after)
        return await self._read(following, after) if kept is None else kept

    async def start(self) -> None:
        """Begin to look; without a database it goes on trying."""
        self._task = process.spawn(self._run(), name="events hub")

    def refuse(self) -> None:
        """Open no further stream; those that are open go on."""
        self._refusing = True

    async def drain(self, seconds: float) -> None:
        """Nothing: streams are told by those who serve them."""

    async def stop(self) -> None:
        """Stop looking."""
        await process.cancel(self._task)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            try:
                async with asyncio.timeout_at(due):
                    await self._hinted.wait()
            except TimeoutError:
                due = loop.time()
            self._hinted.clear()
            hints, self._hints = self._hints, set()
            if "" in hints or loop.time() >= due:
                due = loop.time() + self._limits.poll
                await self._look(self._poll)
            else:
                await self._look(partial(self._follow, hints))

    async def _look(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except AppError as error:
            if self._away_since is None:
                self._away_since = asyncio.get_running_loop().time()
                self._log.warning("database_away", why=error.message)
            return
        if self._away_since is not None:
            self._log.info("database_back", seconds=round(self.away_seconds(), 1))
        self._away_since = None

    async def _follow(self, hints: set[str]) -> None:
        await self._fetch_all([self._users[user_id] for user_id in hints if user_id in self._users])

    async def _poll(self) -> None:
        known = [following for following in self._users.values() if following.position is not None]
        for first in range(0, max(len(known), 1), _CHUNK):
            chunk = known[first : first + _CHUNK]
            async with self._database.begin(System("events")) as tx:
                found = await streams.positions(tx, [following.owner for following in chunk])
            await self._fetch_all([each for each in chunk if self._moved(each, found[each.owner])])

    def _moved(self, following: Following, position: Position) -> bool:
        if position.epoch != following.epoch:
            following.restart("epoch_changed", position)
        elif position.newest < following.newest:
            # Only a restore without a new epoch does this: say so rather than wait for offsets that come again.
            self._log.error("offsets_went_back", by=following.newest - position.newest)
            following.restart("unknown", position)
        return position.newest > following.newest

    async def _fetch_all(self, moved: Sequence[Following]) -> None:
        results = await asyncio.gather(*(self._fetch(following) for following in moved), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _fetch(self, following: Following) -> None:
        async with self._fetching:
            while following.position is not None:
                life, after = following.life, following.newest
                frames = await self._read(following, after)
                if not frames or following.life != life:
                    return
                following.extend(frames)
                if entries.is_last([frame.event for frame in frames]):
                    return

    async def _read(self, following: Following, after: int) -> list[Frame]:
        organization_id, user_id = following.owner
        epoch = following.epoch
        async with self._database.begin(User(organization_id, user_id)) as tx:
            found = await entries.page(tx, after)
        return [Frame(epoch, event, self._encode(epoch, event)) for event in found]
