"""Where streams stand. Scope: service, so that one query answers for every connected user."""

from collections.abc import Sequence

from sqlalchemy import ARRAY, Text, bindparam, text

from libs.db import Tx
from services.events.domain.position import Position

Owner = tuple[str, str]
"""(organization id, user id)."""

_EPOCH = text("SELECT epoch FROM events.epoch")
_POSITIONS = text(
    "SELECT s.organization_id, s.user_id, s.oldest_offset, s.newest_offset"
    " FROM unnest(:organizations, :users) AS asked(organization_id, user_id)"
    " JOIN events.streams AS s USING (organization_id, user_id)"
).bindparams(bindparam("organizations", type_=ARRAY(Text)), bindparam("users", type_=ARRAY(Text)))


async def epoch(tx: Tx) -> str:
    """The epoch all offsets belong to."""
    return str((await tx.execute(_EPOCH)).scalar_one())


async def positions(tx: Tx, owners: Sequence[Owner]) -> dict[Owner, Position]:
    """Where each of these users' streams stands; a user without any event stands at 0.

    The epoch is read first: a position is never newer than the epoch it is told with.
    """
    now = await epoch(tx)
    arguments = {"organizations": [each[0] for each in owners], "users": [each[1] for each in owners]}
    rows = await tx.execute(_POSITIONS, arguments)
    found = {
        (row["organization_id"], row["user_id"]): Position(now, row["oldest_offset"], row["newest_offset"])
        for row in rows.mappings()
    }
    return {owner: found.get(owner, Position(now, 0, 0)) for owner in owners}
