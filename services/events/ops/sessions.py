"""Ends the streams of sessions that have ended: one question for all streams of the replica, within each heartbeat.

While auth does not answer, streams go on for `session_grace` seconds after their last good answer, then they are ended:
long enough for auth to be restarted, short enough that an outage does not keep a revoked session reading for ever.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

from libs import process
from libs.errors import AppError
from libs.observability import log
from services.events.domain.limits import Limits
from services.events.domain.session import SessionRef
from services.events.ops.stream import Stream


class Asks(Protocol):
    """The part of adapters.sessions.Sessions that is needed here."""

    async def ended(self, sessions: Sequence[SessionRef]) -> set[str]:
        """The ids of those that are not alive."""
        ...


class SessionWatch:
    """A libs.process.Part. streams: the open ones, looked at anew each time."""

    def __init__(self, sessions: Asks, streams: Iterable[Stream], limits: Limits) -> None:
        self._sessions, self._streams, self._limits = sessions, streams, limits
        self._task: asyncio.Task[None] | None = None
        self._log = log.get(__name__)

    async def start(self) -> None:
        """Begin to ask."""
        self._task = process.spawn(self._run(), name="events sessions")

    def refuse(self) -> None:
        """Nothing: open streams are still watched."""

    async def drain(self, seconds: float) -> None:
        """Nothing: streams end by themselves."""

    async def stop(self) -> None:
        """Stop asking."""
        await process.cancel(self._task)

    async def ask(self) -> None:
        """Ask once about every open stream, and end those whose session has ended."""
        asked = list(self._streams)
        if not asked:
            return
        begun = asyncio.get_running_loop().time()
        try:
            ended = await self._sessions.ended(sorted({_ref(stream) for stream in asked}))
        except AppError as error:
            self._log.warning("sessions_not_checked", why=error.message, **error.facts)
            self._give_up(asked)
            return
        for stream in asked:
            if stream.who.session_id in ended:
                stream.end("session_ended")
            else:
                stream.alive_at = begun

    def _give_up(self, streams: Iterable[Stream]) -> None:
        oldest = asyncio.get_running_loop().time() - self._limits.session_grace
        for stream in streams:
            if stream.alive_at < oldest:
                stream.end("unavailable")

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._limits.session_check)
            await self.ask()


def _ref(stream: Stream) -> SessionRef:
    return SessionRef(stream.who.organization_id, stream.who.user_id, stream.who.session_id)
