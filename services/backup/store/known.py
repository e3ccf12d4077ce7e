"""What the database says about a heartbeat that is known from outside it."""

from sqlalchemy import select

from libs.db import Tx
from services.backup.store.tables import heartbeat_counter, heartbeats


async def newest(tx: Tx, sequence: int) -> tuple[int, str]:
    """(the newest number, the signature of beat *sequence*), "" when there is no such beat (any more)."""
    number: int = (await tx.execute(select(heartbeat_counter.c.newest))).scalar_one()
    found = (await tx.execute(select(heartbeats.c.signature).where(heartbeats.c.sequence == sequence))).scalar()
    return number, found or ""
