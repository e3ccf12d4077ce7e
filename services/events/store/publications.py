"""Which request_ids have published what, kept for 24 hours. Scope: user."""

from sqlalchemy import text

from libs.db import Tx
from libs.principal import User

_EXPIRE = text("DELETE FROM events.publications WHERE created_at < now() - interval '24 hours'")
_CLAIM = text(
    "INSERT INTO events.publications (organization_id, user_id, request_id, fingerprint)"
    " VALUES (:organization_id, :user_id, :request_id, :fingerprint) ON CONFLICT DO NOTHING RETURNING true"
)
_FIND = text("SELECT fingerprint, event_offset FROM events.publications WHERE request_id = :request_id")
_FINISH = text("UPDATE events.publications SET event_offset = :event_offset WHERE request_id = :request_id")


async def claim(tx: Tx, who: User, request_id: str, fingerprint: bytes) -> tuple[bytes, int] | None:
    """None when *request_id* is now ours, else (fingerprint, offset) of the call that used it first.

    A concurrent call with the same id waits here until the first has committed or failed.
    """
    await tx.execute(_EXPIRE)
    owner = {"organization_id": who.organization_id, "user_id": who.user_id}
    claimed = await tx.execute(_CLAIM, {**owner, "request_id": request_id, "fingerprint": fingerprint})
    if claimed.one_or_none() is not None:
        return None
    row = (await tx.execute(_FIND, {"request_id": request_id})).mappings().one()
    return bytes(row["fingerprint"]), int(row["event_offset"])


async def finish(tx: Tx, request_id: str, offset: int) -> None:
    """Note which event the claimed *request_id* has become."""
    await tx.execute(_FINISH, {"request_id": request_id, "event_offset": offset})
