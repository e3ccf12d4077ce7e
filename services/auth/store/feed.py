"""The epoch feed, read without gaps: by transaction id and snapshot, not by a sequence that commits out of order."""

from datetime import timedelta

from sqlalchemy import delete, text

from libs.db import Tx
from services.auth.store.tables import epoch_feed, link_tokens

# A row whose transaction was still running at the last snapshot has an id of at least that snapshot's xmin.
_HORIZON = text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
_NEWER = text(
    "SELECT id, subject_kind, subject_id FROM auth.epoch_feed"
    " WHERE transaction_id >= CAST(:horizon AS xid8) ORDER BY id"
)


async def horizon(tx: Tx) -> str:
    """The oldest transaction that may still commit: everything before it is visible already."""
    found: str = (await tx.execute(_HORIZON)).scalar_one()
    return found


async def since(tx: Tx, horizon: str) -> list[tuple[int, str, str]]:
    """(id, subject kind, subject id) of all that may not have been visible at *horizon*; some may have been."""
    rows = await tx.execute(_NEWER, {"horizon": horizon})
    return [(row.id, row.subject_kind, row.subject_id) for row in rows]


async def forget(tx: Tx, older_than: timedelta) -> None:
    """Delete what no replica can still need, and link tokens that expired as long ago."""
    await tx.execute(delete(epoch_feed).where(epoch_feed.c.created_at < tx.now() - older_than))
    await tx.execute(delete(link_tokens).where(link_tokens.c.expires_at < tx.now() - older_than))
