"""The history of RPO exposure, one row a minute; whichever replica is first writes it."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from libs.db import Tx
from services.backup.domain.exposure import Sample
from services.backup.store.tables import exposures


async def save(tx: Tx, samples: Sequence[Sample]) -> None:
    """Keep *samples*; a minute that is there already stays as it is."""
    rows = [
        {
            "minute": one.minute,
            "exposure_seconds": one.exposure_seconds,
            "waiting": one.waiting,
            "broken": one.broken,
        }
        for one in samples
    ]
    if rows:
        await tx.execute(insert(exposures).values(rows).on_conflict_do_nothing())


async def newest(tx: Tx) -> datetime | None:
    """The newest minute there is."""
    found: datetime | None = (await tx.execute(select(func.max(exposures.c.minute)))).scalar_one()
    return found


async def forget(tx: Tx, before: datetime) -> None:
    """Delete what is older than *before*."""
    await tx.execute(delete(exposures).where(exposures.c.minute < before))


async def history(tx: Tx, begin: datetime, end: datetime, step: timedelta) -> list[Sample]:
    """The worst of each *step* from *begin* on and before *end*, ascending; a step with no row is left out."""
    at = func.date_bin(step, exposures.c.minute, begin).label("at")
    statement = (
        select(
            at,
            func.max(exposures.c.exposure_seconds),
            func.max(exposures.c.waiting),
            func.bool_or(exposures.c.broken),
        )
        .where(exposures.c.minute >= begin, exposures.c.minute < end)
        .group_by(at)
        .order_by(at)
    )
    return [Sample(*tuple(row)) for row in await tx.execute(statement)]
