"""The transport of one gRPC call."""

from collections.abc import Awaitable, Callable

from holdfast.events.v1 import event_service_pb2 as pb
from services.events.domain.event import Frame
from services.events.domain.position import Reset, token
from services.events.rpc.convert import event_message, reset_message

Write = Callable[[pb.SubscribeResponse], Awaitable[None]]


class GrpcSink:
    """ops.stream.Sink over a server stream. write: the call's own; it waits while the reader takes nothing."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def push(self, frame: Frame) -> bool:
        """Never: gRPC has no write that does not wait."""
        return False

    async def event(self, frame: Frame) -> None:
        """Write an event."""
        resume = token(frame.epoch, frame.event.offset)
        await self._write(pb.SubscribeResponse(resume_token=resume, event=event_message(frame.event)))

    async def reset(self, told: Reset, resume: str) -> None:
        """Write a reset."""
        await self._write(pb.SubscribeResponse(resume_token=resume, reset=reset_message(told)))

    async def checkpoint(self, resume: str) -> None:
        """Write a checkpoint."""
        await self._write(pb.SubscribeResponse(resume_token=resume, checkpoint=pb.Checkpoint()))

    async def goodbye(self, cause: str, resume: str) -> None:
        """Write why the stream ends."""
        await self._write(pb.SubscribeResponse(resume_token=resume, goodbye=pb.Goodbye(cause=cause)))
