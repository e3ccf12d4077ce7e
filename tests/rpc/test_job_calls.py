"""A job of one service calls another one as the user it works for."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from holdfast.events.v1 import event_service_pb2 as pb
from holdfast.events.v1 import event_service_pb2_grpc
from holdfast.usertoken import Verifier, mint_service_token
from libs import clock
from libs.jobqueue import Lease, put
from libs.principal import Organization, User
from libs.rpc.channel import channel
from libs.rpc.exchange import Exchange
from tests.jobs.doing import working
from tests.support.auth import World as Auth
from tests.support.auth import refused
from tests.support.events import World as Events
from tests.support.tokens import keys
from tests.support.waiting import until


@dataclass(frozen=True, slots=True)
class TellOwner:
    """Tells the user's own event stream."""

    text: str


@pytest.fixture
async def exchange(auth: Auth) -> AsyncIterator[Exchange]:
    def credential() -> str:
        return mint_service_token("files", keys("service/files"), clock.now())

    made = channel(auth.one.config.grpc_address, service_token=credential)
    yield Exchange(made)
    await made.close(None)


@pytest.mark.control("T3", "an exchanged token names the acting service")
async def test_a_job_calls_another_service_as_its_user_with_a_token_it_exchanged(
    auth: Auth, world: Events, exchange: Exchange
) -> None:
    ada, ended = await auth.join(), list[str]()
    async with world.replica() as events:
        there = channel(events.config.grpc_address)
        stub = event_service_pb2_grpc.EventServiceStub(there)

        async def handle(job: TellOwner, lease: Lease) -> None:
            event = pb.Event(type="note.told", data=f'{{"text": "{job.text}"}}')
            request = pb.PublishRequest(parent=ada.name, event=event)
            try:
                await stub.Publish(request, metadata=await exchange.metadata(lease.principal, "events"))
                ended.append(job.text)
            except grpc.aio.AioRpcError as error:
                ended.append(error.code().name)

        files = world.files
        async with working(files, {TellOwner: handle}):
            async with files.begin(User(ada.organization_id, ada.user_id)) as tx:
                await put(tx, TellOwner("hello"))
            await until(lambda: len(ended) == 1, "the first job")
            bo = await auth.join("bo")
            async with files.begin(User(bo.organization_id, bo.user_id)) as tx:
                await put(tx, TellOwner("not mine"))
            await until(lambda: len(ended) == 2, "the second job")
        await there.close(None)
    assert ended == ["hello", "PERMISSION_DENIED"]
    assert world.sql("SELECT user_id, data ->> 'text' FROM events.entries WHERE type = 'note.told'") == [
        (ada.user_id, "hello")
    ]
    assert world.sql("SELECT count(*) FROM jobs.jobs WHERE payload::text LIKE '%%token%%'") == [(0,)]


async def test_a_token_is_asked_for_once_in_a_while_and_by_user_and_audience(auth: Auth, exchange: Exchange) -> None:
    async def token(who: Any, audience: str = "events") -> str:
        [(name, value)] = await exchange.metadata(User(who.organization_id, who.user_id), audience)
        assert name == "x-user-token"
        return str(value)

    ada, bo = await auth.join(), await auth.join("bo")
    first = await token(ada)
    assert await token(ada) == first
    claims = Verifier("events", lambda: keys("events")).verify(await token(bo), clock.now())
    assert (claims.user_id, claims.actor) == (bo.user_id, "files")
    async with refused(grpc.StatusCode.NOT_FOUND, "USER_NOT_FOUND"):
        await exchange.metadata(User(ada.organization_id, bo.user_id), "events")
    exchange._kept = {key: (kept, 0.0) for key, (kept, _) in exchange._kept.items()}
    assert await token(ada) != first
    with pytest.raises(ValueError, match="only users"):
        await exchange.metadata(Organization(ada.organization_id), "events")
