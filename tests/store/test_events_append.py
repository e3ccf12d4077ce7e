"""`events.append` on a real database: what publishers may do, and what offsets promise."""

import asyncio
import contextlib
import random

import psycopg
import pytest
import sqlalchemy.exc
from sqlalchemy import text

from libs import eventlog
from libs.principal import Organization, User
from tests.support.events import World, append


class Undone(Exception):
    """What a publisher's own work fails with."""


@pytest.mark.control("E1", "offsets are dense and ordered under concurrent publishers")
async def test_offsets_stay_dense_while_publishers_race_and_roll_back(world: World) -> None:
    who = world.user()

    async def publish(number: int) -> int:
        with contextlib.suppress(Undone):
            async with world.files.begin(who) as tx:
                ids = {"organization_id": who.organization_id, "user_id": who.user_id}
                offset = await eventlog.append(tx, **ids, type="sample.told", data={"n": number})
                if number % 3 == 0:
                    raise Undone
                return offset
        return 0

    numbers = random.sample(range(60), 60)
    given = [offset for offset in await asyncio.gather(*(publish(number) for number in numbers)) if offset]
    assert sorted(given) == list(range(1, 41))
    stored = world.sql(
        "SELECT event_offset FROM events.entries WHERE user_id = %s ORDER BY created_at, event_offset", who.user_id
    )
    assert sorted(row[0] for row in stored) == list(range(1, 41))


@pytest.mark.control("E3", "an event and its publisher's change commit or vanish together")
async def test_an_event_and_its_publishers_change_commit_or_vanish_together(world: World) -> None:
    who = world.user()
    world.sql("CREATE TABLE IF NOT EXISTS files.publisher_work (id text)")
    world.sql("COMMENT ON TABLE files.publisher_work IS 'scope: global (a table of this test)'")
    world.sql("GRANT ALL ON files.publisher_work TO holdfast_files")

    async def work(name: str, *, fail: bool) -> None:
        async with world.files.begin(who) as tx:
            await tx.execute(text("INSERT INTO files.publisher_work VALUES (:id)"), {"id": name})
            ids = {"organization_id": who.organization_id, "user_id": who.user_id}
            await eventlog.append(tx, **ids, type="sample.told", data={"name": name})
            if fail:
                raise Undone

    try:
        with pytest.raises(Undone):
            await work("undone", fail=True)
        await work("done", fail=False)
        assert world.sql("SELECT id FROM files.publisher_work") == [("done",)]
        entries = "SELECT event_offset, data->>'name' FROM events.entries WHERE user_id = %s"
        assert world.sql(entries, who.user_id) == [(1, "done")]
    finally:
        world.sql("DROP TABLE files.publisher_work")


@pytest.mark.control("T4", "an event cannot be appended for anybody but the armed user")
async def test_an_event_cannot_be_appended_for_anybody_but_the_armed_user(world: World) -> None:
    who, stranger = world.user(), world.user()
    colleague = world.user(who.organization_id)
    for armed, target in ((who, stranger), (who, colleague), (Organization(who.organization_id), stranger)):
        with pytest.raises(sqlalchemy.exc.ProgrammingError) as refused:
            await as_armed(world, armed, target)
        assert isinstance(refused.value.orig, psycopg.errors.InsufficientPrivilege)
    assert await as_armed(world, who, who) == 1
    assert await as_armed(world, Organization(who.organization_id), colleague) == 1
    assert world.sql("SELECT count(*) FROM events.entries WHERE user_id = %s", stranger.user_id) == [(0,)]


async def as_armed(world: World, armed: User | Organization, target: User) -> int:
    async with world.files.begin(armed) as tx:
        return await eventlog.append(
            tx, organization_id=target.organization_id, user_id=target.user_id, type="sample.told", data={}
        )


async def test_a_user_auth_does_not_know_has_no_stream(world: World) -> None:
    who = world.user()
    unknown = User(who.organization_id, "nobody")
    with pytest.raises(sqlalchemy.exc.IntegrityError):
        await append(world.files, unknown, {})
    assert await append(world.files, who, {}) == 1


async def test_only_so_many_events_are_kept_and_the_oldest_is_known(world: World) -> None:
    who = world.user()
    await world.append(who, 1)
    world.sql("UPDATE events.streams SET kept_events = 3 WHERE user_id = %s", who.user_id)
    await world.append(who, 6)
    assert world.sql("SELECT oldest_offset, newest_offset FROM events.streams WHERE user_id = %s", who.user_id) == [
        (5, 7)
    ]
    kept = world.sql("SELECT event_offset FROM events.entries WHERE user_id = %s ORDER BY 1", who.user_id)
    assert [row[0] for row in kept] == [5, 6, 7]


async def test_no_service_login_can_change_the_epoch(world: World) -> None:
    for service in ("auth", "files", "events", "backup"):
        async with world.database.session(f"holdfast_{service}") as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await connection.execute("SELECT events.change_epoch('mine')")
    before = world.sql("SELECT epoch FROM events.epoch")
    async with world.database.session() as owner:
        await owner.execute("SELECT events.change_epoch('restored')")
    assert world.sql("SELECT epoch FROM events.epoch") != before
