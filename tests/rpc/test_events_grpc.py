"""EventService over gRPC: publish, follow, refusals, a draining server, a reader that does not read."""

import asyncio
import json
import uuid

import grpc
import pytest

from holdfast.auth.v1 import token_service_pb2, token_service_pb2_grpc
from holdfast.events.v1 import event_service_pb2 as pb
from holdfast.usertoken import ServiceVerifier, mint_service_token
from libs.errors import Unavailable
from libs.observability.metric import Metrics
from libs.rpc.health import Health
from libs.rpc.server import Server, principal
from services.events.adapters.sessions import AuthSessions
from services.events.domain.session import SessionRef
from tests.support.events import World, append, parent, to_the_end, until
from tests.support.tokens import keys


def publish(who: object, data: str = "{}", **fields: object) -> pb.PublishRequest:
    event = pb.Event(type="sample.told", data=data)
    return pb.PublishRequest(parent=parent(who), event=event, **fields)  # type: ignore[arg-type]  # tests bend it


async def code(call: object) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call  # type: ignore[misc]  # a call is awaitable
    return error.value.code()


async def test_a_published_event_is_answered_with_its_offset_and_followed(world: World) -> None:
    who = world.user()
    async with world.replica() as replica:
        stub = replica.stub(who)
        call = stub.Subscribe(pb.SubscribeRequest(parent=parent(who)))
        stream = aiter(call)
        first = await anext(stream)
        assert first.HasField("checkpoint")
        answer = await stub.Publish(publish(who, '{"a": "é"}'))
        assert (answer.event.offset, answer.event.name) == (1, f"{parent(who)}/events/1")
        found = await anext(stream)
        assert (found.resume_token, found.event.offset) == (first.resume_token.replace(".0", ".1"), 1)
        assert (json.loads(found.event.data), found.event.create_time) == ({"a": "é"}, answer.event.create_time)
        call.cancel()


async def test_grpc_resumes_and_resets_as_sse_does(world: World) -> None:
    who = world.user()
    async with world.replica() as replica:
        await world.append(who, 3)
        _, now = await replica.opened(who)
        epoch = now.split(".")[0]
        for resume, expected in ((f"{epoch}.1", [2, 3]), ("earliest", [1, 2, 3])):
            call = replica.stub(who).Subscribe(pb.SubscribeRequest(parent=parent(who), resume_token=resume))
            stream = aiter(call)
            assert (await anext(stream)).HasField("checkpoint")
            assert [(await anext(stream)).event.offset for _ in expected] == expected
            call.cancel()
        call = replica.stub(who).Subscribe(pb.SubscribeRequest(parent=parent(who), resume_token="other.1"))
        told = await anext(aiter(call))
        assert (told.reset.cause, told.reset.oldest_offset, told.reset.newest_offset) == ("epoch_changed", 1, 3)
        assert told.resume_token == now
        call.cancel()


@pytest.mark.control("T4", "another user's stream is refused by name")
async def test_another_users_stream_is_refused_before_anything_is_read(world: World) -> None:
    who = world.user()
    other = world.user(who.organization_id)
    async with world.replica() as replica:
        stub = replica.stub(who)
        assert await code(stub.Publish(publish(other))) is grpc.StatusCode.PERMISSION_DENIED
        foreign = aiter(stub.Subscribe(pb.SubscribeRequest(parent=parent(other))))
        assert await code(anext(foreign)) is grpc.StatusCode.PERMISSION_DENIED
        assert (await stub.Publish(publish(who))).event.offset == 1
        assert world.sql("SELECT count(*) FROM events.entries WHERE user_id = %s", other.user_id) == [(0,)]


@pytest.mark.parametrize(
    "data",
    ["[]", "{", '"text"', '{"a": NaN}', '{"a": 1e999}', '{"a": "\\u0000"}', '{"a": "\\ud800"}',
     '{"a":' * 70 + "1" + "}" * 70,
     '{"a": [' + ",".join(["1e300"] * 2000) + "]}", '{"a": "' + "x" * 65_536 + '"}'],
)  # fmt: skip
async def test_a_payload_that_is_not_a_sound_json_object_is_refused(world: World, data: str) -> None:
    who = world.user()
    async with world.replica() as replica:
        stub = replica.stub(who)
        assert await code(stub.Publish(publish(who, data))) is grpc.StatusCode.INVALID_ARGUMENT
        assert (await stub.Publish(publish(who, '{"a": [1e30, "x", null, {"b": 0.1}]}'))).event.offset == 1


async def test_a_repeated_request_id_publishes_once(world: World) -> None:
    who, request_id = world.user(), str(uuid.uuid4())
    async with world.replica() as replica:
        stub = replica.stub(who)
        answers = await asyncio.gather(*(stub.Publish(publish(who, request_id=request_id)) for _ in range(5)))
        assert {answer.event.offset for answer in answers} == {1}
        changed = publish(who, '{"b": 1}', request_id=request_id)
        assert await code(stub.Publish(changed)) is grpc.StatusCode.INVALID_ARGUMENT
        assert (await stub.Publish(publish(who, request_id=str(uuid.uuid4())))).event.offset == 2
        world.sql("UPDATE events.requests SET claimed_at = claimed_at - interval '25 hours'")
        assert (await stub.Publish(publish(who, request_id=request_id))).event.offset == 3


async def test_a_draining_server_says_goodbye_over_grpc_too(world: World) -> None:
    who = world.user()
    async with world.replica() as replica:
        stream = aiter(replica.stub(who).Subscribe(pb.SubscribeRequest(parent=parent(who))))
        await anext(stream)
        ending = asyncio.create_task(replica.app.shutdown())
        assert [message.goodbye.cause async for message in stream] == ["draining"]
        await ending


@pytest.mark.control("E1", "a slow reader is cut and costs bounded memory")
async def test_a_grpc_reader_that_stops_reading_is_cut(world: World) -> None:
    who = world.user()
    open_leases = "SELECT count(*) FROM events.leases WHERE user_id = %s AND expires_at > clock_timestamp()"
    async with world.replica(write_seconds=0.3, poll_seconds=0.02) as replica:
        stream = aiter(replica.stub(who).Subscribe(pb.SubscribeRequest(parent=parent(who))))
        start = (await anext(stream)).resume_token
        for _ in range(200):
            await append(world.files, who, {"text": "x" * 100_000})
        await until(lambda: world.sql(open_leases, who.user_id) == [(0,)])
        said, cut = await to_the_end(stream)
        assert cut is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert [message.event.offset for message in said] == list(range(1, len(said) + 1))
        again = aiter(replica.stub(who).Subscribe(pb.SubscribeRequest(parent=parent(who), resume_token=start)))
        assert (await anext(again)).HasField("checkpoint")
        assert [(await anext(again)).event.offset for _ in range(200)] == list(range(1, 201))


class Tokens(token_service_pb2_grpc.TokenServiceServicer):
    """Auth's end of CheckSessions, as far as the adapter can see."""

    async def ExchangeToken(
        self, request: token_service_pb2.ExchangeTokenRequest, context: object
    ) -> token_service_pb2.ExchangeTokenResponse:
        raise AssertionError("the events service exchanges no tokens")

    async def CheckSessions(
        self, request: token_service_pb2.CheckSessionsRequest, context: object
    ) -> token_service_pb2.CheckSessionsResponse:
        self.caller = principal(context)
        over = [each.session_id for each in request.sessions if each.session_id.startswith("over")]
        return token_service_pb2.CheckSessionsResponse(ended_session_ids=over)


async def test_the_real_adapter_asks_auth_with_this_services_token(world: World) -> None:
    address = f"unix:{world.directory}/tokens.grpc"
    servicer = Tokens()
    verifier = ServiceVerifier("auth", lambda name: keys(f"service/{name}"))
    server = Server(
        address,
        [(token_service_pb2_grpc.add_TokenServiceServicer_to_server, servicer,
          token_service_pb2.DESCRIPTOR.services_by_name["TokenService"])],
        service="auth", verifier=None, service_verifier=verifier, health=Health(), metrics=Metrics(),
    )  # fmt: skip
    from libs import clock

    credential = keys("service/events")
    sessions = AuthSessions(
        address, service_token=lambda: mint_service_token("events", credential, clock.now()), timeout_seconds=2
    )
    refs = [SessionRef("org1", "user1", name) for name in ("over1", "alive1")]
    await sessions.start()
    with pytest.raises(Unavailable):
        await sessions.ended(refs)
    await server.start()
    assert await sessions.ended(refs) == {"over1"}
    assert getattr(servicer.caller, "service", "") == "events"
    await sessions.stop()
    await server.stop()
