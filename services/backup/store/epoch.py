"""The epoch of event streams, through the one function of schema events that a restored database needs."""

from datetime import datetime

from sqlalchemy import text

from libs.db import Tx

_CHANGE = text("SELECT events.change_epoch_after_restore(CAST(:known_at AS timestamptz), :why)")


async def change(tx: Tx, known_at: datetime | None, why: str) -> bool:
    """Begin a new epoch unless one began after *known_at*; whether it was changed."""
    return bool((await tx.execute(_CHANGE, {"known_at": known_at, "why": why})).scalar())
