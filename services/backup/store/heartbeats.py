"""Rows of heartbeats. Their times are the server's own clock at that instant, never the transaction's."""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Text, cast, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from libs.db import Tx
from services.backup.domain.heartbeat import Beat
from services.backup.store.tables import heartbeat_counter, heartbeats

# A commit follows its row's lsn by that row and the page images of the pages it touched: well within 64 KiB.
_COMMIT_BYTES = 65536
_COLUMNS = (
    heartbeats.c.sequence,
    heartbeats.c.created_at,
    cast(heartbeats.c.lsn, Text).label("lsn"),
    heartbeats.c.timeline,
    heartbeats.c.wal,
    heartbeats.c.signature,
)
_NOW = text(
    "SELECT clock_timestamp(), lsn::text, pg_walfile_name(lsn), pg_walfile_name(lsn + CAST(:ahead AS numeric))"
    " FROM pg_current_wal_insert_lsn() AS lsn"
)


async def append(tx: Tx, sign: Callable[[Beat], Beat], *, tick: int | None) -> Beat | None:
    """Write the next beat, the counter's row locked until *tx* ends; None when *tick* already has one.

    tick: the loop's period, so that of many replicas one writes; None on demand.
    """
    newest = (await tx.execute(select(heartbeat_counter.c.newest).with_for_update())).scalar_one()
    if tick is not None:
        taken = await tx.execute(select(heartbeats.c.sequence).where(heartbeats.c.tick == tick))
        if taken.first() is not None:
            return None
    at, lsn, segment, last_segment = tuple(*(await tx.execute(_NOW, {"ahead": _COMMIT_BYTES})))
    beat = sign(Beat(newest + 1, at, lsn, int(segment[:8], 16), last_segment))
    await tx.execute(
        insert(heartbeats).values(
            sequence=beat.sequence,
            created_at=beat.created_at,
            lsn=beat.lsn,
            timeline=beat.timeline,
            wal=beat.wal,
            signature=beat.signature,
            tick=tick,
        )
    )
    await tx.execute(update(heartbeat_counter).values(newest=beat.sequence))
    return beat


async def newest(tx: Tx, count: int) -> list[Beat]:
    """The newest *count* beats, ascending."""
    rows = await tx.execute(select(*_COLUMNS).order_by(heartbeats.c.sequence.desc()).limit(count))
    return [Beat(*tuple(row)) for row in reversed(rows.all())]


async def around(tx: Tx, at: datetime) -> list[Beat]:
    """The last beat not after *at* and the first one after it, ascending; fewer when there are none."""
    before = select(*_COLUMNS).where(heartbeats.c.created_at <= at).order_by(heartbeats.c.sequence.desc()).limit(1)
    after = select(*_COLUMNS).where(heartbeats.c.created_at > at).order_by(heartbeats.c.sequence).limit(1)
    rows = [*(await tx.execute(before)).all(), *(await tx.execute(after)).all()]
    return [Beat(*tuple(row)) for row in rows]


async def around_lsn(tx: Tx, lsn: str) -> list[Beat]:
    """The last beat not behind *lsn* and the first one behind it, ascending; both ascend with their numbers."""
    before = select(*_COLUMNS).where(heartbeats.c.lsn <= lsn).order_by(heartbeats.c.sequence.desc()).limit(1)
    after = select(*_COLUMNS).where(heartbeats.c.lsn > lsn).order_by(heartbeats.c.sequence).limit(1)
    rows = [*(await tx.execute(before)).all(), *(await tx.execute(after)).all()]
    return [Beat(*tuple(row)) for row in rows]


async def within(tx: Tx, segment: str) -> Beat | None:
    """The newest beat whose commit lies in *segment* or before it; segment names of one timeline compare as text."""
    inside = (heartbeats.c.timeline <= int(segment[:8], 16)) & (func.substr(heartbeats.c.wal, 9) <= segment[8:24])
    rows = await tx.execute(select(*_COLUMNS).where(inside).order_by(heartbeats.c.sequence.desc()).limit(1))
    row = rows.first()
    return None if row is None else Beat(*tuple(row))


async def switch_wal(tx: Tx) -> str:
    """End the current segment so that it can be archived; its name."""
    statement = select(func.pg_walfile_name(func.pg_switch_wal()))
    name: str = (await tx.execute(statement)).scalar_one()
    return name
