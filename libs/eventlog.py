"""Appending to a user's event stream from any service, atomically with the caller's own change.

The function `events.append` (owned by services/events) takes the stream's counter row and holds it until the caller's
transaction ends: offsets are dense and ordered by commit, and a rollback gives its offset back. The wake-up is sent
after the commit, outside the transaction, because a pending NOTIFY takes one lock of the whole cluster at commit. It is
only a hint: the log is the truth, and a lost hint costs one poll interval.
"""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import text

from libs.db import Tx

CHANNEL = "holdfast_events"
_APPEND = text("SELECT events.append(:organization_id, :user_id, :type, CAST(:data AS jsonb))")


async def append(tx: Tx, *, organization_id: str, user_id: str, type: str, data: Mapping[str, Any]) -> int:
    """Append one event and return its offset, counted from 1 for each user.

    type: dotted lower-case words, at most 100 characters. data: a JSON object, at most 128 KiB as text.
    Only the organization *tx* is armed with is accepted, and only its user when it has one; a foreign one fails in the
    database. A transaction that appends to several users does so in ascending order of user id, or risks a deadlock.
    """
    content = json.dumps(data, ensure_ascii=False)
    return await append_text(tx, organization_id=organization_id, user_id=user_id, type=type, data=content)


async def append_text(tx: Tx, *, organization_id: str, user_id: str, type: str, data: str) -> int:
    """Like append, for *data* that is JSON text already."""
    arguments = {"organization_id": organization_id, "user_id": user_id, "type": type, "data": data}
    offset = (await tx.execute(_APPEND, arguments)).scalar_one()
    tx.wake(CHANNEL, user_id)
    return int(offset)
