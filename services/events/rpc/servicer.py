"""EventService: parse, one operation, convert."""

from holdfast.events.v1 import event_service_pb2 as pb
from holdfast.events.v1 import event_service_pb2_grpc as grpc_stubs
from libs import names
from libs.rpc.server import Context, user
from services.events.ops.publish import Publisher
from services.events.ops.subscriptions import Subscriptions
from services.events.rpc.convert import event_message
from services.events.rpc.sink import GrpcSink


class EventServicer(grpc_stubs.EventServiceServicer):
    """Serves the caller's own stream; another user's name is refused before anything is read."""

    def __init__(self, publisher: Publisher, subscriptions: Subscriptions) -> None:
        self._publisher, self._subscriptions = publisher, subscriptions

    async def Publish(self, request: pb.PublishRequest, context: Context) -> pb.PublishResponse:
        """Append one event to the caller's stream."""
        who = user(context)
        names.own(names.USER, request.parent, who, field="parent")
        event = await self._publisher.publish(
            who, type=request.event.type, data=request.event.data, request_id=request.request_id
        )
        return pb.PublishResponse(event=event_message(event))

    # The style that writes, because a generator cannot put a deadline on its own writes.
    async def Subscribe(self, request: pb.SubscribeRequest, context: Context) -> None:  # type: ignore[override]  # the stubs know generators only
        """Follow the caller's stream until the reader leaves or the server ends it.

        A slow reader's status waits behind the message it has not read: whoever reads on learns it, whoever does not is
        cut by the edge's idle timeout or by keepalive. Its lease is given back at once.
        """
        who = user(context)
        names.own(names.USER, request.parent, who, field="parent")
        stream = await self._subscriptions.open(who, request.resume_token)
        try:
            await stream.run(GrpcSink(context.write))
        finally:
            self._subscriptions.close(stream)
