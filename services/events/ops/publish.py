"""Appends to the caller's own stream."""

from libs import idempotency
from libs.db import Database, retrying
from libs.principal import User
from services.events.domain.event import Event, check_data, check_type
from services.events.store import entries

_METHOD = "Publish"


class Publisher:
    """One transaction per event; the hubs are woken once it is durable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def publish(self, who: User, *, type: str, data: str, request_id: str = "") -> Event:
        """Append one event and return it with its offset.

        request_id: "" for none; a repeat within 24 hours gets the first event, or its offset and what was sent once the
        event is no longer kept. Raises EventInvalid, Unavailable, RequestIdReused when the id stands for another event.
        """
        check_type(type)
        check_data(data)
        return await retrying(self._publish)(who, type, data, request_id)

    async def _publish(self, who: User, type: str, data: str, request_id: str) -> Event:
        async with self._database.begin(who) as tx:
            first = await idempotency.claim(tx, _METHOD, request_id, type, data)
            if first is not None:
                kept = await entries.get(tx, int(first))
                return kept or Event(who.organization_id, who.user_id, int(first), type, data, tx.now())
            offset = await entries.append(tx, who, type, data)
            await idempotency.answer(tx, _METHOD, request_id, str(offset))
            return Event(who.organization_id, who.user_id, offset, type, data, tx.now())
