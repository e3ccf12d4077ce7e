"""One row for each open stream of every replica. Scope: service; times are the database's wall clock."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ARRAY, Text, bindparam, text

from libs.db import Tx
from services.events.store.streams import Owner

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('events.leases ' || :user_id, 0))")
# A closed stream's row stays for a minute: it is what the connect rate is counted by.
_EVICT = text(
    "DELETE FROM events.leases WHERE organization_id = :organization_id AND user_id = :user_id"
    " AND expires_at <= clock_timestamp() AND opened_at <= clock_timestamp() - interval '1 minute'"
)
_COUNT = text(
    "SELECT count(*) FILTER (WHERE expires_at > clock_timestamp()) AS open,"
    " count(*) FILTER (WHERE opened_at > clock_timestamp() - interval '1 minute') AS recent"
    " FROM events.leases WHERE organization_id = :organization_id AND user_id = :user_id"
)
_OPEN = text(
    "INSERT INTO events.leases (organization_id, user_id, connection_id, replica, opened_at, expires_at) VALUES"
    " (:organization_id, :user_id, :connection_id, :replica, clock_timestamp(),"
    " clock_timestamp() + make_interval(secs => :seconds))"
)
_ARRAYS = [bindparam(name, type_=ARRAY(Text)) for name in ("organizations", "users", "connections")]
# Also puts back a row that expired while the database was away: the stream is open, so it has to count.
_REFRESH = text(
    "INSERT INTO events.leases AS l (organization_id, user_id, connection_id, replica, opened_at, expires_at)"
    " SELECT o, u, c, :replica, clock_timestamp() - interval '1 minute',"
    " clock_timestamp() + make_interval(secs => :seconds)"
    " FROM unnest(:organizations, :users, :connections) AS held(o, u, c)"
    " ON CONFLICT (organization_id, user_id, connection_id) DO UPDATE SET expires_at = excluded.expires_at"
).bindparams(*_ARRAYS)
_CLOSE = text(
    "UPDATE events.leases SET expires_at = clock_timestamp()"
    " WHERE organization_id = :organization_id AND user_id = :user_id AND connection_id = :connection_id"
)


@dataclass(frozen=True, slots=True)
class Count:
    """A user's streams: open now, and opened within the last minute."""

    open: int
    recent: int


async def lock(tx: Tx, owner: Owner) -> None:
    """Hold back every other opening by this user until *tx* ends, so that count and open are one step."""
    await tx.execute(_LOCK, {"user_id": owner[1]})


async def count(tx: Tx, owner: Owner) -> Count:
    """The user's streams over all replicas, expired rows evicted first."""
    arguments = {"organization_id": owner[0], "user_id": owner[1]}
    await tx.execute(_EVICT, arguments)
    return Count(**(await tx.execute(_COUNT, arguments)).mappings().one())


async def open(tx: Tx, owner: Owner, connection_id: str, *, replica: str, seconds: float) -> None:
    """Take a lease that expires *seconds* from now."""
    arguments = {"organization_id": owner[0], "user_id": owner[1], "connection_id": connection_id}
    await tx.execute(_OPEN, {**arguments, "replica": replica, "seconds": seconds})


async def refresh(tx: Tx, held: Sequence[tuple[Owner, str]], *, replica: str, seconds: float) -> None:
    """Extend all of a replica's leases, (owner, connection id) each, in one statement."""
    arguments = {
        "organizations": [owner[0] for owner, _ in held],
        "users": [owner[1] for owner, _ in held],
        "connections": [connection_id for _, connection_id in held],
    }
    await tx.execute(_REFRESH, {**arguments, "replica": replica, "seconds": seconds})


async def close(tx: Tx, owner: Owner, connection_id: str) -> None:
    """Give a lease back early."""
    await tx.execute(_CLOSE, {"organization_id": owner[0], "user_id": owner[1], "connection_id": connection_id})
