"""Who may have a stream, how many, and for how long: over two replicas that share one database."""

import asyncio
from typing import Any

import grpc
import pytest

from holdfast.events.v1 import event_service_pb2 as pb
from libs.rpc.errors import DETAILS
from tests.support.events import Reader, World, parent, to_the_end, token, until


async def refused(reader: Reader, reason: str) -> bool:
    """Whether *reader* was refused for a while in a way that EventSource survives."""
    body = reader.body.decode()
    return reader.status == 200 and "retry: " in body and "event: refused" in body and reason in body


@pytest.mark.control("E2", "the cap of streams holds across replicas")
async def test_the_cap_holds_across_replicas_and_transports(world: World) -> None:
    who, other = world.user(), world.user()
    async with world.replica(streams_per_user=2) as one, world.replica(streams_per_user=2) as two:
        first, _ = await one.opened(who)
        await two.opened(who)
        for replica in (one, two):
            assert await refused(await replica.follow(who), "TOO_MANY_STREAMS")
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await anext(aiter(one.stub(who).Subscribe(pb.SubscribeRequest(parent=parent(who)))))
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert b"TOO_MANY_STREAMS" in details(error.value)
        assert (await one.follow(other)).headers["content-type"].startswith("text/event-stream")
        assert not await refused(await one.follow(other), "TOO_MANY_STREAMS")
        await first.close()
        await until(lambda: world.sql(OPEN, who.user_id) == [(1,)])
        assert not await refused(await two.follow(who), "TOO_MANY_STREAMS")


OPEN = "SELECT count(*) FROM events.leases WHERE user_id = %s AND expires_at > clock_timestamp()"


def details(error: grpc.aio.AioRpcError) -> bytes:
    found: Any = error.trailing_metadata()
    return bytes(next(value for key, value in found if key == DETAILS))


@pytest.mark.control("E2", "the cap of streams holds across replicas")
async def test_many_openings_at_once_take_no_more_than_the_cap(world: World) -> None:
    who = world.user()
    async with world.replica(streams_per_user=3) as one, world.replica(streams_per_user=3) as two:
        readers = await asyncio.gather(*(replica.follow(who) for replica in (one, two) * 5))
        opened = [reader for reader in readers if "content-length" not in reader.headers]
        assert (len(opened), world.sql(OPEN, who.user_id)) == (3, [(3,)])


@pytest.mark.control("E2", "the cap of streams holds across replicas")
async def test_a_crashed_replicas_leases_end_by_themselves_and_a_living_ones_do_not(world: World) -> None:
    who = world.user()
    async with world.replica(streams_per_user=1, lease_seconds=4) as replica:
        await replica.opened(who)
        world.sql("UPDATE events.leases SET expires_at = opened_at WHERE user_id = %s", who.user_id)
        # The living replica puts the lease of its open stream back ...
        await until(lambda: world.sql(OPEN, who.user_id) == [(1,)])
        assert await refused(await replica.follow(who), "TOO_MANY_STREAMS")
        # ... and nobody refreshes one of a replica that is gone.
        ghost = world.user()
        world.sql(
            "INSERT INTO events.leases (organization_id, user_id, connection_id, replica, opened_at, expires_at)"
            " VALUES (%s, %s, 'ghost', 'gone', clock_timestamp(), clock_timestamp() + interval '4 seconds')",
            ghost.organization_id, ghost.user_id,
        )  # fmt: skip
        assert await refused(await replica.follow(ghost), "TOO_MANY_STREAMS")
        await until(lambda: world.sql(OPEN, ghost.user_id) == [(0,)])
        assert not await refused(await replica.follow(ghost), "TOO_MANY_STREAMS")


@pytest.mark.control("E2", "reconnects are limited by the minute")
async def test_opening_too_often_is_refused_for_a_while(world: World) -> None:
    who = world.user()
    async with world.replica(connects_per_minute=3) as replica:
        for _ in range(3):
            reader, _ = await replica.opened(who)
            await reader.close()
        await until(lambda: world.sql(OPEN, who.user_id) == [(0,)])
        assert await refused(await replica.follow(who), "RATE_LIMITED")
        world.sql("UPDATE events.leases SET opened_at = opened_at - '1 min'::interval WHERE user_id = %s", who.user_id)
        assert not await refused(await replica.follow(who), "RATE_LIMITED")


@pytest.mark.control("S4", "open streams of an ended session end within a heartbeat")
async def test_an_ended_sessions_streams_end_and_others_go_on(world: World) -> None:
    who, other = world.user(), world.user()
    async with world.replica(session_check_seconds=0.1) as replica:
        ending, _ = await replica.opened(who)
        staying, _ = await replica.opened(other)
        call = replica.stub(who).Subscribe(pb.SubscribeRequest(parent=parent(who)))
        assert (await anext(aiter(call))).HasField("checkpoint")
        replica.sessions.over.add(who.session_id)
        assert (await ending.ended())[-1].data == {"cause": "session_ended"}
        said, code = await to_the_end(call)
        assert (said[-1].goodbye.cause, code) == ("session_ended", grpc.StatusCode.UNAUTHENTICATED)
        await world.append(other, 1)
        assert (await staying.event()).data["n"] == 1
        both = {who.session_id, other.session_id}
        assert both in [{each.session_id for each in asked} for asked in replica.sessions.asked]  # one question for all


async def test_streams_outlive_an_absent_auth_by_its_grace_and_no_longer(world: World) -> None:
    who = world.user()
    async with (
        world.replica(session_check_seconds=0.1, session_grace_seconds=60) as patient,
        world.replica(session_check_seconds=0.1, session_grace_seconds=0) as strict,
    ):
        staying, _ = await patient.opened(who)
        ending, _ = await strict.opened(who)
        patient.sessions.away = strict.sessions.away = True
        assert (await ending.ended())[-1].data == {"cause": "unavailable"}
        await until(lambda: len(patient.sessions.asked) > 1)
        await world.append(who, 1)
        assert (await staying.event()).data["n"] == 1


async def test_a_caller_without_a_session_gets_no_stream(world: World) -> None:
    who = world.user()
    async with world.replica() as replica:
        assert (await replica.connect([("x-user-token", token(who, sid=""))])).status == 401
        assert (await replica.connect([("x-user-token", token(who))])).status == 200
