"""Opens streams and lets them go: every bound that holds before the first byte, in one place for both transports."""

import asyncio
import random

from libs.errors import AppError
from libs.principal import User
from services.events.domain.errors import SessionEnded
from services.events.domain.limits import Limits
from services.events.domain.position import check, start
from services.events.ops.figures import Figures
from services.events.ops.hub import Hub
from services.events.ops.openings import Openings
from services.events.ops.stream import Stream

_JITTER = 0.1
_LOOK_SECONDS = 1.0


class Subscriptions:
    """A libs.process.Part that tells every open stream when the server drains. streams: the open ones, shared."""

    def __init__(self, hub: Hub, openings: Openings, streams: set[Stream], *, limits: Limits, figures: Figures) -> None:
        self._hub, self._openings, self._streams = hub, openings, streams
        self._limits, self._figures = limits, figures

    async def open(self, who: User, resume: str) -> Stream:
        """A stream of *who*'s events, registered and with its start decided; close it when it has been run, or not.

        resume: "" for now, "earliest", or a token. Raises ResumeTokenInvalid, SessionEnded for a caller without a
        session, and, temporarily, TooManyStreams, TooManyConnects, Draining or Unavailable.
        """
        check(resume)
        if not who.session_id:
            raise SessionEnded("A stream needs a session; exchanged tokens have none.")
        try:
            return await self._open(who, resume)
        except AppError as error:
            self._figures.refused.labels(error.reason).inc()
            raise

    def close(self, stream: Stream) -> None:
        """Let go of *stream* and its lease. Closing twice does nothing."""
        if stream not in self._streams:
            return
        self._streams.discard(stream)
        self._figures.open.dec()
        stream.leave()
        self._openings.close(stream.owner, stream.connection_id)

    async def start(self) -> None:
        """Begin to watch how long the database has been away."""
        self._task = asyncio.create_task(self._watch(), name="events subscriptions")

    def refuse(self) -> None:
        """Nothing: the hub opens no further stream."""

    async def drain(self, seconds: float) -> None:
        """Tell every stream to say goodbye; the transports wait for them."""
        for stream in tuple(self._streams):
            stream.end("draining")

    async def stop(self) -> None:
        """Stop watching."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _open(self, who: User, resume: str) -> Stream:
        owner = (who.organization_id, who.user_id)
        self._hub.admit()
        connection_id = await self._openings.open(owner)
        life = self._limits.life * random.uniform(1 - _JITTER, 1 + _JITTER)
        stream = Stream(who, connection_id, self._hub, self._limits, self._figures, ends_after=life)
        try:
            following, position = await self._hub.join(stream, owner)
        except BaseException:
            self._openings.close(owner, connection_id)
            raise
        stream.begin(following, position, start(resume, position))
        self._streams.add(stream)
        self._figures.open.inc()
        return stream

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._hub.away_seconds() > self._limits.database_grace:
                for stream in tuple(self._streams):
                    stream.end("unavailable")
