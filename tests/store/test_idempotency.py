"""Claims of request_ids on a real database: who waits for whom, and what is kept how long."""

import asyncio
import uuid
from typing import Any

import pytest

from libs import idempotency
from libs.idempotency import RequestIdReused
from libs.principal import User
from tests.support.events import World, until

_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


class Undone(Exception):
    """What the operation itself fails with."""


async def asked(world: World, who: User, request_id: str, *body: str, answer: str = "made") -> str | None:
    """One call of an operation that keeps *answer*: what it was told, None when it took effect."""
    async with world.files.begin(who) as tx:
        first = await idempotency.claim(tx, "Make", request_id, *body)
        if first is None:
            await idempotency.answer(tx, "Make", request_id, answer)
        return first


def age(world: World, hours: float) -> None:
    world.sql("UPDATE files.requests SET claimed_at = claimed_at - make_interval(secs => %s)", hours * 3600)


def kept(world: World, who: User) -> list[tuple[Any, ...]]:
    return world.sql("SELECT request_id FROM files.requests WHERE user_id = %s", who.user_id)


async def test_a_repeat_waits_for_the_first_call_and_then_gets_its_answer(world: World) -> None:
    who, request_id = world.user(), str(uuid.uuid4())
    async with world.files.begin(who) as tx:
        assert await idempotency.claim(tx, "Make", request_id, "a") is None
        repeat = asyncio.create_task(asked(world, who, request_id, "a"))
        other = await asked(world, who, str(uuid.uuid4()), "a")
        await until(lambda: world.sql(_WAITING) == [(1,)])
        await idempotency.answer(tx, "Make", request_id, "first")
        assert not repeat.done()
    assert (await repeat, other) == ("first", None)


async def test_a_repeat_takes_the_place_of_a_first_call_that_is_undone(world: World) -> None:
    who, request_id = world.user(), str(uuid.uuid4())

    async def first() -> None:
        async with world.files.begin(who) as tx:
            assert await idempotency.claim(tx, "Make", request_id, "a") is None
            waiting.append(asyncio.create_task(asked(world, who, request_id, "b", answer="second")))
            await until(lambda: world.sql(_WAITING) == [(1,)])
            raise Undone

    waiting: list[asyncio.Task[str | None]] = []
    with pytest.raises(Undone):
        await first()
    assert await waiting[0] is None
    assert await asked(world, who, request_id, "b") == "second"


async def test_an_id_stands_for_one_body_of_one_method_of_one_user(world: World) -> None:
    who, request_id = world.user(), str(uuid.uuid4())
    assert await asked(world, who, request_id, "a", "b") is None
    assert await asked(world, who, request_id, "a", "b") == "made"
    for body in (("a",), ("ab", ""), ("b", "a"), ("a", "b", "")):
        with pytest.raises(RequestIdReused) as refused:
            await asked(world, who, request_id, *body)
        assert [each.field for each in refused.value.violations] == ["request_id"]
    async with world.files.begin(who) as tx:
        assert await idempotency.claim(tx, "MakeOther", request_id, "a") is None
    assert await asked(world, world.user(who.organization_id), request_id, "other") is None


async def test_an_id_is_kept_for_a_day_and_expired_ones_of_the_same_user_are_removed(world: World) -> None:
    who, other = world.user(), world.user()
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    for each in (who, other):
        assert await asked(world, each, first, "a") is None
    age(world, 23.9)
    assert await asked(world, who, first, "a") == "made"
    age(world, 0.2)
    assert await asked(world, who, first, "b") is None
    assert await asked(world, who, first, "b") == "made"
    age(world, 24.1)
    assert await asked(world, who, second, "a") is None
    assert kept(world, who) == [(second,)]
    assert kept(world, other) == [(first,)]


async def test_without_an_id_nothing_is_kept(world: World) -> None:
    who = world.user()
    assert [await asked(world, who, "", "a") for _ in range(2)] == [None, None]
    assert kept(world, who) == []
    assert await asked(world, who, str(uuid.uuid4()), "a") is None
    assert len(kept(world, who)) == 1
