"""Follow the signed-in user's events: each once, in order, across reconnects; a gap is told, never hidden."""

import asyncio
import json
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from holdfast.errors import HoldfastError
from holdfast.events.v1 import event_service_pb2 as pb
from holdfast.events.v1.event_service_pb2_grpc import EventServiceStub

if TYPE_CHECKING:
    from holdfast.client import Client

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0
SILENCE_SECONDS = 60.0
"""The server sends a checkpoint at least every 20 seconds; a stream silent for this long is dead."""
PASSING = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "INTERNAL", "UNKNOWN", "ABORTED"})


@dataclass(frozen=True, slots=True)
class Event:
    """One event. data: the JSON the publisher sent, parsed. resume_token: continue behind it."""

    type: str
    data: Any
    offset: int
    time: datetime
    resume_token: str


@dataclass(frozen=True, slots=True)
class Reset:
    """Events before *oldest_offset* are gone, or the log began anew: read your state again, then go on from here."""

    cause: str
    oldest_offset: int
    newest_offset: int
    resume_token: str


class Events:
    """`client.events`."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._stub: Any = EventServiceStub(client.channel)

    async def publish(self, type: str, data: Any) -> Event:
        """Append an event of *type* (dotted lower-case words) with JSON *data*."""
        request = pb.PublishRequest(
            parent=self._client.session.user, event=pb.Event(type=type, data=json.dumps(data, ensure_ascii=False))
        )
        answer: pb.PublishResponse = await self._client.call(self._stub.Publish, request)
        return _event(answer.event, "")

    async def follow(self, resume_token: str = "") -> AsyncGenerator[Event | Reset, None]:
        """Events as they happen, without end; reconnects by itself behind the last one.

        resume_token: "" from now on, "earliest" from the oldest kept, or the token of the last event seen. Raises
        HoldfastError only for what waiting does not mend.
        """
        at, wait = resume_token, FIRST_WAIT_SECONDS
        while True:
            pause = 0.0
            try:
                async with aclosing(self._once(at)) as answers:
                    async for answer in answers:
                        at, wait = answer.resume_token or at, FIRST_WAIT_SECONDS
                        told = _told(answer, at)
                        if told is not None:
                            yield told
            except HoldfastError as fault:
                pause = await self._pause(fault, wait)
                wait = min(wait * 2, LONGEST_WAIT_SECONDS)
            # A share of the wait is random, so that a restarted server is not met by everybody at once.
            await asyncio.sleep((pause or FIRST_WAIT_SECONDS) * random.uniform(0.5, 1.0))

    async def _once(self, at: str) -> AsyncGenerator[pb.SubscribeResponse, None]:
        """One stream until it ends or falls silent."""
        request = pb.SubscribeRequest(parent=self._client.session.user, resume_token=at)
        async with aclosing(self._client.stream(self._stub.Subscribe, request)) as answers:
            while True:
                try:
                    async with asyncio.timeout(SILENCE_SECONDS):
                        answer = await anext(answers)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    raise HoldfastError("UNAVAILABLE", "The stream fell silent.", "UNAVAILABLE") from None
                yield answer

    async def _pause(self, fault: HoldfastError, wait: float) -> float:
        """How long to wait after *fault*. Raises it when waiting does not mend it."""
        if fault.code == "UNAUTHENTICATED" and fault.reason not in ("SESSION_ENDED", "REFRESH_TOKEN_REUSED"):
            await self._client.me()  # renews the access token, or says for good that the session is over
            return FIRST_WAIT_SECONDS
        if fault.reason == "SLOW_READER":
            return FIRST_WAIT_SECONDS
        if fault.code in PASSING or fault.retry_after_seconds is not None:
            return fault.retry_after_seconds or wait
        raise fault


def _told(answer: pb.SubscribeResponse, at: str) -> Event | Reset | None:
    kind = answer.WhichOneof("kind")
    if kind == "event":
        return _event(answer.event, at)
    if kind == "reset":
        return Reset(answer.reset.cause, answer.reset.oldest_offset, answer.reset.newest_offset, at)
    return None


def _event(event: pb.Event, resume_token: str) -> Event:
    time = event.create_time.ToDatetime(tzinfo=UTC)
    return Event(event.type, json.loads(event.data or "null"), event.offset, time, resume_token)
