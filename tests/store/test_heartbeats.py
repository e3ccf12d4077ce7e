"""Heartbeats in the database: dense, ordered, one for each period, and never changed by the service."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from libs.db import Database
from libs.errors import AppError
from libs.principal import System
from services.backup.domain import heartbeat
from services.backup.domain.heartbeat import Beat
from services.backup.store import heartbeats as rows
from tests.support.postgres import TestDatabase

KEY = b"k" * 32
WHO = System("backup")


@pytest.fixture(scope="module")
def db(database: TestDatabase) -> Database:
    return database.connect("backup")


async def beat(db: Database, *, tick: int | None = None, fail: bool = False) -> Beat | None:
    async with db.begin(WHO) as tx:
        made = await rows.append(tx, lambda bare: heartbeat.sign(bare, KEY), tick=tick)
        if fail:
            raise RuntimeError
    return made


async def test_many_writers_at_once_leave_no_hole_and_keep_the_order_of_time(db: Database) -> None:
    await asyncio.gather(*(beat(db) for _ in range(12)))
    async with db.begin(WHO) as tx:
        found = await rows.newest(tx, 100)
    assert len(found) >= 12
    assert heartbeat.first_hole(found) == 0
    assert [one.created_at for one in found] == sorted(one.created_at for one in found)
    assert all(heartbeat.genuine(one, KEY) and one.timeline == 1 for one in found)


async def test_a_beat_that_was_rolled_back_leaves_no_hole(db: Database) -> None:
    before = await beat(db)
    with pytest.raises(RuntimeError):
        await beat(db, fail=True)
    after = await beat(db)
    assert before is not None
    assert after is not None
    assert after.sequence == before.sequence + 1


async def test_a_period_has_one_beat_however_many_replicas_want_one(db: Database) -> None:
    made = await asyncio.gather(*(beat(db, tick=77) for _ in range(4)))
    assert len([one for one in made if one is not None]) == 1
    assert await beat(db, tick=78) is not None


async def test_the_beats_around_a_moment_are_its_neighbours(db: Database) -> None:
    first, second = await beat(db), await beat(db)
    assert first is not None
    assert second is not None
    moment = first.created_at + (second.created_at - first.created_at) / 2
    async with db.begin(WHO) as tx:
        assert [one.sequence for one in await rows.around(tx, moment)] == [first.sequence, second.sequence]
        assert [one.sequence for one in await rows.around(tx, second.created_at)] == [second.sequence]


async def test_the_service_may_end_a_segment_and_may_not_rewrite_a_beat(db: Database) -> None:
    made = await beat(db)
    assert made is not None
    async with db.begin(WHO) as tx:
        assert await rows.switch_wal(tx) >= made.wal[:8]
    for statement in ("UPDATE backup.heartbeats SET timeline = 9", "DELETE FROM backup.heartbeats"):
        with pytest.raises((ProgrammingError, AppError)):
            async with db.begin(WHO) as tx:
                await tx.execute(text(statement))
