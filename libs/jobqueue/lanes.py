"""The look at all lanes: the path that is always right, whatever marks and the list of lanes have missed.

It reads, without locking, which lanes have a ready row and where the first one is: marks that went past it are put
back, a lane that is not listed is listed, one that has long been idle (or is listed twice) is dropped from the list.
Its cost grows with what cannot be cleaned away, so it is made more rarely the longer it takes.
"""

import time
from dataclasses import dataclass

from sqlalchemy import text

from libs.db import Database
from libs.jobqueue.marks import Lane
from libs.principal import System

IDLE_SECONDS = 60.0
_EVERY_SECONDS = 1.0
SHARE = 50
"""A look may take one part in so many of the time."""

_LOOK = text(
    """
    WITH RECURSIVE live (tenant, priority, position) AS (
        (SELECT tenant, priority, position FROM jobs.ready WHERE service = :service AND queue = :queue
         ORDER BY tenant, priority DESC, position LIMIT 1)
        UNION ALL
        SELECT next.tenant, next.priority, next.position FROM live CROSS JOIN LATERAL (
            (SELECT r.tenant, r.priority, r.position, 1 AS step FROM jobs.ready r WHERE r.service = :service
             AND r.queue = :queue AND r.tenant = live.tenant AND r.priority < live.priority
             ORDER BY r.tenant, r.priority DESC, r.position LIMIT 1)
            UNION ALL
            (SELECT r.tenant, r.priority, r.position, 2 FROM jobs.ready r WHERE r.service = :service
             AND r.queue = :queue AND r.tenant > live.tenant
             ORDER BY r.tenant, r.priority DESC, r.position LIMIT 1)
            ORDER BY step LIMIT 1
        ) AS next
    ), listed AS (
        INSERT INTO jobs.lanes (service, queue, tenant, priority)
        SELECT :service, :queue, tenant, priority FROM live WHERE (tenant, priority) NOT IN (
            SELECT l.tenant, l.priority FROM jobs.lanes l WHERE l.service = :service AND l.queue = :queue)
    )
    SELECT tenant, priority, position FROM live
    """
)
_MAY_RUN = text("SELECT jobs.may_run()")
_DROP = text(
    """
    WITH needless AS MATERIALIZED (
        SELECT l.ctid AS place FROM jobs.lanes l WHERE l.service = :service AND l.queue = :queue
        AND l.created_at < clock_timestamp() - CAST(:idle AS double precision) * interval '1 second'
        AND ((l.tenant, l.priority) NOT IN (
                SELECT tenant, priority FROM unnest(CAST(:tenants AS text[]), CAST(:priorities AS smallint[]))
                AS live (tenant, priority))
             OR EXISTS (SELECT FROM jobs.lanes twin WHERE twin.service = l.service AND twin.queue = l.queue
                        AND twin.tenant = l.tenant AND twin.priority = l.priority AND twin.ctid < l.ctid))
        ORDER BY l.ctid LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
    DELETE FROM jobs.lanes WHERE ctid = ANY (ARRAY(SELECT place FROM needless)) AND service = :service
    """
)


@dataclass(frozen=True, slots=True)
class Looked:
    """lowest: the first ready position of each lane that has one; next_seconds: how long to wait before the next look;
    may_run: False when the database may be a restored one, and nothing is claimed until an operator releases it.
    """

    lowest: list[tuple[Lane, int]]
    next_seconds: float
    may_run: bool


async def look(database: Database, service: str, queue: str, *, idle_seconds: float = IDLE_SECONDS) -> Looked:
    """See what is ready, and put the list of lanes right."""
    began = time.monotonic()
    where = {"service": service, "queue": queue}
    async with database.begin(System(service), pinned=True) as tx:
        may_run = bool((await tx.execute(_MAY_RUN)).scalar())
        rows = (await tx.execute(_LOOK, where)).all()
    async with database.begin(System(service)) as tx:
        live = {"tenants": [row.tenant for row in rows], "priorities": [row.priority for row in rows]}
        await tx.execute(_DROP, {**where, **live, "idle": idle_seconds})
    lowest = [((row.tenant, row.priority), row.position) for row in rows]
    return Looked(lowest, max(_EVERY_SECONDS, SHARE * (time.monotonic() - began)), may_run)
