"""Rows of high-water marks."""

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert

from libs.db import Tx
from services.backup.domain.mark import KINDS, Mark
from services.backup.store.tables import heartbeat_counter, marks

_HIGH_WATER = text("SELECT kind, organization_id || '/' || user_id, value FROM backup.high_water(:since)")


async def take(tx: Tx, sign: Callable[[Mark], Mark], *, tick: int, since: str) -> Mark | None:
    """Read how far everybody has come and keep it; None when *tick* has its mark, or no heartbeat came since the last.

    since: ids of audit entries before it are of no interest. The row commits with the snapshot that it was read in.
    """
    at = (await tx.execute(select(func.clock_timestamp()))).scalar_one()
    newest = (await tx.execute(select(heartbeat_counter.c.newest))).scalar_one()
    tenants: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
    for row in await tx.execute(_HIGH_WATER, {"since": since}):
        kind, tenant, value = tuple(row)
        tenants[kind][tenant] = value
    mark = sign(Mark(newest, at, tenants))
    kept = insert(marks).values(
        heartbeat=mark.heartbeat,
        created_at=mark.created_at,
        tenants=mark.tenants,
        signature=mark.signature,
        tick=tick,
    )
    done = await tx.execute(kept.on_conflict_do_nothing().returning(marks.c.heartbeat))
    return mark if done.first() is not None else None


async def forget(tx: Tx, *, now: datetime, age: timedelta) -> None:
    """Remove marks older than *age*: a copy needs only the newest one that it holds itself."""
    await tx.execute(delete(marks).where(marks.c.created_at < now - age))
