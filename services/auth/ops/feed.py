"""The epoch feed as one replica sees it: what has ended, and how old that knowledge is."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta

from libs import process
from libs.errors import AppError
from libs.observability import log
from services.auth.ops import AUTH, Begin
from services.auth.store import feed

POLL_SECONDS = 0.5
EMPTIES_SECONDS = 1.5
DENIES_SECONDS = 2.0
_POLL_TIMEOUT_SECONDS = 1.0
_KEPT_SECONDS = 300.0
_HOUSEKEEPING_SECONDS = 600.0
_NEEDED = timedelta(hours=1)

Stamp = tuple[int, int, int, int]
"""Numbers that change when something about the installation, organization, user or session has."""

_log = log.get(__name__)


class EpochFeed:
    """Polls twice a second; a libs.process.Part. monotonic: seconds, for the age of what is known."""

    def __init__(self, *, begin: Begin, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._begin, self._monotonic = begin, monotonic
        self._task: asyncio.Task[None] | None = None
        self._horizon = ""
        self._read_at = float("-inf")
        self._tidied_at = float("-inf")
        self._count = 0
        self._installation = 0
        self._subjects: dict[tuple[str, str], tuple[int, float]] = {}
        self._polled = asyncio.Event()

    def age_seconds(self) -> float:
        """How long ago the newest good poll began; infinite before the first."""
        return self._monotonic() - self._read_at

    def stamp(self, organization_id: str, user_id: str, session_id: str) -> Stamp:
        """What is known of the subject now. Take it before reading rows: a decision is as old as the stamp it was
        made under.
        """
        subjects = self._subjects
        return (
            self._installation,
            subjects.get(("organization", organization_id), (0, 0.0))[0],
            subjects.get(("user", user_id), (0, 0.0))[0],
            subjects.get(("session", session_id), (0, 0.0))[0],
        )

    async def poll(self) -> None:
        """Read the feed once. Raises Unavailable when the database is away."""
        began = self._monotonic()
        async with asyncio.timeout(_POLL_TIMEOUT_SECONDS), self._begin(AUTH) as tx:
            reached = await feed.horizon(tx)
            news = await feed.since(tx, self._horizon or reached)
        if self._horizon and int(reached) < int(self._horizon):
            self._installation += 1  # another history than before: a restored database
        for _, kind, subject in news:
            self._note(kind, subject, began)
        self._horizon, self._read_at = reached, began
        self._polled.set()
        self._polled = asyncio.Event()

    async def polled(self) -> None:
        """Wait for the next good poll."""
        await self._polled.wait()

    async def start(self) -> None:
        """Begin to poll; waits for no database."""
        self._task = process.spawn(self._run(), name="auth epoch feed")

    def refuse(self) -> None:
        """Nothing: calls in flight still need decisions."""

    async def drain(self, seconds: float) -> None:
        """Nothing."""

    async def stop(self) -> None:
        """Stop polling."""
        await process.cancel(self._task)

    def _note(self, kind: str, subject: str, now: float) -> None:
        self._count += 1
        if kind == "installation":
            self._installation = self._count
        else:
            self._subjects[kind, subject] = (self._count, now)

    async def _run(self) -> None:
        well = True
        while True:
            try:
                await self.poll()
                await self._tidy()
                well = True
            except (AppError, TimeoutError) as error:
                if well:
                    _log.warning("epoch_feed_stale", why=type(error).__name__)
                well = False
            await asyncio.sleep(POLL_SECONDS)

    async def _tidy(self) -> None:
        now = self._monotonic()
        if now - self._tidied_at < _HOUSEKEEPING_SECONDS:
            return
        self._tidied_at = now
        # No decision outlives a minute, so a stamp that old decides nothing any more.
        self._subjects = {key: entry for key, entry in self._subjects.items() if now - entry[1] < _KEPT_SECONDS}
        async with self._begin(AUTH) as tx:
            await feed.forget(tx, _NEEDED)
