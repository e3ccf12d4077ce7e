"""One open stream: catches up from the log, goes on live, keeps itself warm, and ends for a reason it tells.

It has no queue of its own. A reader that falls behind is served again from what all readers share, or from the log, so
memory does not grow with slow readers; one that blocks a single write longer than the deadline is cut.
"""

import asyncio
from collections.abc import Awaitable
from typing import Protocol

from libs.errors import Unavailable
from libs.observability import log
from libs.principal import User
from services.events.domain.errors import ForeignEvent, SessionEnded, SlowReader
from services.events.domain.event import Frame
from services.events.domain.limits import Limits
from services.events.domain.position import Position, Reset, Start, reset, token
from services.events.ops.figures import Figures
from services.events.ops.following import Following
from services.events.ops.hub import Hub


class Sink(Protocol):
    """A transport. Every write ends when the transport has taken it, and may be cut off by the caller's deadline."""

    def push(self, frame: Frame) -> bool:
        """Write *frame* without waiting; False, and nothing written, when that is not possible just now."""
        ...

    async def event(self, frame: Frame) -> None:
        """Write an event."""
        ...

    async def reset(self, told: Reset, resume: str) -> None:
        """Write that there is a gap. resume: the token to go on with."""
        ...

    async def checkpoint(self, resume: str) -> None:
        """Write that nothing is new."""
        ...

    async def goodbye(self, cause: str, resume: str) -> None:
        """Write why the stream ends."""
        ...


class Stream:
    """Made by Subscriptions.open. ends_after: seconds this stream may live."""

    def __init__(
        self, who: User, connection_id: str, hub: Hub, limits: Limits, figures: Figures, *, ends_after: float
    ) -> None:
        self.who, self.connection_id = who, connection_id
        self.owner = (who.organization_id, who.user_id)
        now = asyncio.get_running_loop().time()
        self.flushed_at = self.alive_at = now
        self.ended = ""
        self._hub, self._limits, self._figures = hub, limits, figures
        self._ends_at = now + ends_after
        self._woken = asyncio.Event()
        self._following: Following | None = None
        self._sink: Sink | None = None
        self._life = self._sent = 0
        self._epoch = ""
        self._first: Reset | None = None
        self._idle = False

    def begin(self, following: Following, position: Position, start: Start) -> None:
        """Set out from *start*; called once, in the same step in which the position was decided on."""
        # A restart between reading the position and now has still to be told to this reader.
        missed = following.broken is not None and position.epoch != following.epoch
        self._following, self._life = following, following.life - int(missed)
        self._epoch, self._sent, self._first = position.epoch, start.after, start.reset

    def end(self, cause: str) -> None:
        """Ask the stream to say goodbye for *cause* and end; the first cause asked for stands."""
        self.ended = self.ended or cause
        self.wake()

    def leave(self) -> None:
        """Be forgotten by the hub."""
        if self._following is not None:
            self._hub.leave(self, self._following)

    def wake(self) -> None:
        """Look again for something to write or a reason to end."""
        self._woken.set()

    def offer(self, frame: Frame) -> None:
        """Write *frame* at once when it is the next one and nothing waits; the loop finds what is not taken here."""
        if self._idle and not self.ended and self._sink is not None and frame.event.offset == self._sent + 1:
            if self._foreign(frame):
                self.end("foreign_event")
                return
            if self._sink.push(frame):
                self._note(frame)
                return
        self.wake()

    async def run(self, sink: Sink) -> None:
        """Write to *sink* until there is a reason to end, and tell it.

        Raises SlowReader, SessionEnded, ForeignEvent, or Unavailable when the log stayed away.
        """
        assert self._following is not None
        self._sink = sink
        resume = token(self._epoch, self._sent)
        if self._first is not None:
            await self._tell(self._first)
        else:
            await self._write(sink.checkpoint(resume))
        while not self._over():
            await self._catch_up(sink, self._following)
            await self._wait(sink)
        await self._leave(sink)

    def _over(self) -> bool:
        if not self.ended and asyncio.get_running_loop().time() >= self._ends_at:
            self.ended = "rotation"
        return bool(self.ended)

    async def _leave(self, sink: Sink) -> None:
        if self.ended == "foreign_event":
            raise self._alarm()
        self._figures.ended.labels(self.ended).inc()
        await self._write(sink.goodbye(self.ended, token(self._epoch, self._sent)))
        if self.ended == "session_ended":
            raise SessionEnded("The session has ended.")

    async def _catch_up(self, sink: Sink, following: Following) -> None:
        self._woken.clear()
        while not self._over():
            if following.life != self._life:
                await self._restarted(following)
            if self._sent >= following.newest:
                return
            try:
                frames = await self._hub.page(following, self._sent)
            except Unavailable:
                # The hub says when it has been away too long; until then the reader only waits.
                await self._wait_for_log(sink)
                continue
            if following.life != self._life:
                continue
            if not frames or frames[0].event.offset != self._sent + 1:
                await self._too_old(following)
                continue
            await self._write_all(sink, frames)

    async def _write_all(self, sink: Sink, frames: list[Frame]) -> None:
        for frame in frames:
            if self._foreign(frame):
                raise self._alarm()
            await self._write(sink.event(frame))
            self._note(frame)
            if self._over():
                return

    async def _restarted(self, following: Following) -> None:
        assert following.broken is not None
        assert following.position is not None
        self._life, self._epoch = following.life, following.epoch
        self._sent = following.position.newest
        await self._tell(following.broken)

    async def _too_old(self, following: Following) -> None:
        position = await self._hub.position(following.owner)
        self._epoch, self._sent = position.epoch, position.newest
        await self._tell(reset("too_old", position))

    async def _tell(self, told: Reset) -> None:
        assert self._sink is not None
        self._figures.resets.labels(told.cause).inc()
        await self._write(self._sink.reset(told, token(self._epoch, self._sent)))

    async def _wait(self, sink: Sink) -> None:
        """Until woken, or the end of life; a heartbeat when nothing else was written for long."""
        while not self._woken.is_set() and not self._over():
            beat = self.flushed_at + self._limits.heartbeat
            self._idle = True
            try:
                async with asyncio.timeout_at(min(beat, self._ends_at)):
                    await self._woken.wait()
            except TimeoutError:
                pass
            finally:
                self._idle = False
            if asyncio.get_running_loop().time() >= self.flushed_at + self._limits.heartbeat:
                await self._write(sink.checkpoint(token(self._epoch, self._sent)))

    async def _wait_for_log(self, sink: Sink) -> None:
        await asyncio.sleep(self._limits.poll)
        if asyncio.get_running_loop().time() >= self.flushed_at + self._limits.heartbeat:
            await self._write(sink.checkpoint(token(self._epoch, self._sent)))

    def _note(self, frame: Frame) -> None:
        self._sent = frame.event.offset
        self.flushed_at = asyncio.get_running_loop().time()
        self._figures.written.inc()

    async def _write(self, writing: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(self._limits.write):
                await writing
        except TimeoutError:
            self._figures.ended.labels("slow_reader").inc()
            raise SlowReader(
                "The reader is slower than the stream; resume with the last token.", retry_after_seconds=1.0
            ) from None
        self.flushed_at = asyncio.get_running_loop().time()

    def _foreign(self, frame: Frame) -> bool:
        return (frame.event.organization_id, frame.event.user_id) != self.owner

    def _alarm(self) -> ForeignEvent:
        self._figures.foreign.inc()
        self._figures.ended.labels("foreign_event").inc()
        log.get(__name__).critical("foreign_event", alert=True, session=self.who.session_id)
        return ForeignEvent("The stream was closed because of a fault on our side.")
