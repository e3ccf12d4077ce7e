"""Domain values as messages."""

from holdfast.events.v1 import event_service_pb2 as pb
from libs import names
from services.events.domain.event import Event
from services.events.domain.position import Reset


def event_message(event: Event) -> pb.Event:
    """*event* with its resource name."""
    message = pb.Event(
        name=names.EVENT.format(organization=event.organization_id, user=event.user_id, event=str(event.offset)),
        offset=event.offset,
        type=event.type,
        data=event.data,
    )
    message.create_time.FromDatetime(event.created_at)
    return message


def reset_message(told: Reset) -> pb.Reset:
    """*told* as it is."""
    return pb.Reset(cause=told.cause, oldest_offset=told.oldest, newest_offset=told.newest)
