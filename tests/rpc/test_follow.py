"""Following events survives what streams do: they end, break, are refused for a while, and begin anew elsewhere."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
import pytest

from holdfast.client import Client
from holdfast.errors import HoldfastError
from holdfast.events import follow
from holdfast.events.follow import Event, Events, Reset
from holdfast.events.v1 import event_service_pb2 as pb
from holdfast.events.v1.event_service_pb2_grpc import EventServiceServicer, add_EventServiceServicer_to_server
from holdfast.session import Memory, Session
from libs.errors import AppError, Kind
from libs.rpc.errors import code, trailers

Step = pb.SubscribeResponse | AppError


class _Refused(AppError):
    kind, reason = Kind.UNAVAILABLE, "DRAINING"


class _Foreign(AppError):
    kind, reason = Kind.FORBIDDEN, "FOREIGN_NAME"


class _Script(EventServiceServicer):
    """Plays one list of steps for each subscription and notes where it was asked to begin."""

    def __init__(self, *plays: list[Step]) -> None:
        self._plays = list(plays)
        self.asked: list[str] = []

    async def Publish(self, request: pb.PublishRequest, context: Any) -> pb.PublishResponse:
        return pb.PublishResponse()

    async def Subscribe(self, request: pb.SubscribeRequest, context: Any) -> AsyncIterator[pb.SubscribeResponse]:
        self.asked.append(request.resume_token)
        for step in self._plays.pop(0):
            if isinstance(step, AppError):
                await context.abort(code(step.kind), step.message, trailers(step, "r1"))
            else:
                yield step


def _event(offset: int) -> pb.SubscribeResponse:
    event = pb.Event(offset=offset, type="a.b", data='{"n": 1}')
    return pb.SubscribeResponse(resume_token=f"e.{offset}", event=event)


async def _followed(script: _Script, count: int, monkeypatch: pytest.MonkeyPatch) -> list[Event | Reset]:
    monkeypatch.setattr(follow, "FIRST_WAIT_SECONDS", 0.01)
    server = grpc.aio.server()
    add_EventServiceServicer_to_server(script, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    store, got = Memory(), []
    store.save(Session("organizations/o/users/u", "a@b.c", "access", "refresh", 9e9))
    try:
        async with Client("https://127.0.0.1:1", store=store) as client:
            await client.channel.close(None)
            client.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
            async with asyncio.timeout(20), aclosing(Events(client).follow("earliest")) as told:
                async for each in told:
                    got.append(each)
                    if len(got) == count:
                        break
    finally:
        await server.stop(None)
    return got


async def test_a_follower_goes_on_behind_the_last_event_it_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = pb.SubscribeResponse(resume_token="e.5", checkpoint=pb.Checkpoint())
    goodbye = pb.SubscribeResponse(resume_token="e.6", goodbye=pb.Goodbye(cause="lifetime"))
    script = _Script(
        [_event(1), _event(2)],
        [_Refused("Stopping.", retry_after_seconds=0.01)],
        [_event(3), checkpoint, _Refused("Gone.", retry_after_seconds=0.01)],
        [_event(6), goodbye],
        [_event(7)],
    )
    got = await _followed(script, 5, monkeypatch)
    assert [each.offset for each in got if isinstance(each, Event)] == [1, 2, 3, 6, 7]
    assert script.asked == ["earliest", "e.2", "e.2", "e.5", "e.6"]
    assert isinstance(got[0], Event)
    assert (got[0].type, got[0].data) == ("a.b", {"n": 1})


async def test_a_gap_is_told_and_what_waiting_does_not_mend_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    reset = pb.SubscribeResponse(
        resume_token="e.9", reset=pb.Reset(cause="expired", oldest_offset=10, newest_offset=20)
    )
    script = _Script([reset, _event(10)])
    assert (await _followed(script, 2, monkeypatch))[0] == Reset("expired", 10, 20, "e.9")
    with pytest.raises(HoldfastError) as found:
        await _followed(_Script([_Foreign("Not yours.")]), 1, monkeypatch)
    assert found.value.reason == "FOREIGN_NAME"
