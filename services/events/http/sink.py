"""The transport of one browser."""

from libs.http1 import Stream as Answer
from services.events.domain.event import Frame
from services.events.domain.position import Reset
from services.events.http import frames


class SseSink:
    """ops.stream.Sink over a chunked answer of libs.http1."""

    __slots__ = ("_answer",)

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def push(self, frame: Frame) -> bool:
        """True when the buffer had room; a reader that has gone counts as taken, its task is being cancelled."""
        return self._answer.closed or self._answer.send(frame.sse)

    async def event(self, frame: Frame) -> None:
        """Write an event, waiting while the reader's buffer is full."""
        await self._answer.write(frame.sse)

    async def reset(self, told: Reset, resume: str) -> None:
        """Write a reset."""
        await self._answer.write(frames.reset(told, resume))

    async def checkpoint(self, resume: str) -> None:
        """Write a heartbeat."""
        await self._answer.write(frames.heartbeat(resume))

    async def goodbye(self, cause: str, resume: str) -> None:
        """Write why the stream ends."""
        await self._answer.write(frames.goodbye(cause, resume))
