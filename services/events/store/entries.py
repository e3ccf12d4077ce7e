"""The log itself, as the armed user sees it."""

from collections.abc import Sequence

import sqlalchemy.exc
from sqlalchemy import text

from libs import eventlog
from libs.db import Tx, constraint
from libs.principal import User
from services.events.domain.errors import EventInvalid
from services.events.domain.event import Event

PAGE_EVENTS = 128
PAGE_BYTES = 256 * 1024

_PAGE = text(
    'SELECT organization_id, user_id, event_offset AS "offset", type, data, created_at FROM ('
    " SELECT *, sum(length(data)) OVER (ORDER BY event_offset) - length(data) AS before FROM ("
    "  SELECT organization_id, user_id, event_offset, type, data::text AS data, created_at FROM events.entries"
    "  WHERE event_offset > :after ORDER BY event_offset LIMIT :limit) AS rows"
    ") AS counted WHERE before < :bytes ORDER BY event_offset"
)
_ONE = text(
    'SELECT organization_id, user_id, event_offset AS "offset", type, data::text AS data, created_at'
    " FROM events.entries WHERE event_offset = :event_offset"
)


async def page(tx: Tx, after: int) -> list[Event]:
    """The next events after offset *after*, oldest first: at most 128, and about 256 KiB unless the first is larger."""
    rows = await tx.execute(_PAGE, {"after": after, "limit": PAGE_EVENTS, "bytes": PAGE_BYTES})
    return [Event(**row) for row in rows.mappings()]


def is_last(found: Sequence[Event]) -> bool:
    """Whether a page holds fewer events than it could, so that there was no more to read."""
    return len(found) < PAGE_EVENTS and sum(len(event.data) for event in found) < PAGE_BYTES


async def get(tx: Tx, offset: int) -> Event | None:
    """The event with this offset; None when it is no longer kept."""
    row = (await tx.execute(_ONE, {"event_offset": offset})).mappings().one_or_none()
    return None if row is None else Event(**row)


async def append(tx: Tx, who: User, type: str, data: str) -> int:
    """Append to *who*'s own stream; the offset. Raises EventInvalid when the database cannot keep *data*."""
    try:
        return await eventlog.append_text(
            tx, organization_id=who.organization_id, user_id=who.user_id, type=type, data=data
        )
    except sqlalchemy.exc.DataError as error:
        raise EventInvalid("The event cannot be stored.") from error
    except sqlalchemy.exc.IntegrityError as error:
        if not constraint(error).endswith("_check"):
            raise
        raise EventInvalid("The event cannot be stored.") from error
