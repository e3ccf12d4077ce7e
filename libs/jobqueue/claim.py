"""Taking jobs: fair between tenants, never waiting for another worker, each claim raising the job's lease by one.

Fairness is round-robin with a cursor: a claim visits the tenants that have ready work in order of their ids, beginning
after the last one served, and shares the free slots among them. With n such tenants and slots for b jobs, each is
visited within ceil(n / b) claims, whatever another has queued. Priorities count inside a tenant.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from libs.db import Database, Tx
from libs.jobqueue.job import Lease
from libs.principal import Organization, Principal, System, User

# Two loose index walks list the tenants: those after the cursor, then, having gone round, those up to it.
_CLAIM = text(
    """
    WITH RECURSIVE ahead (tenant, place) AS (
        (SELECT tenant, 1 FROM jobs.ready WHERE service = :service AND tenant > :cursor ORDER BY tenant LIMIT 1)
        UNION ALL
        SELECT (SELECT r.tenant FROM jobs.ready r WHERE r.service = :service AND r.tenant > a.tenant
                ORDER BY r.tenant LIMIT 1), a.place + 1
        FROM ahead a WHERE a.tenant IS NOT NULL AND a.place < :slots
    ), behind (tenant, place) AS (
        (SELECT tenant, 1 FROM jobs.ready WHERE service = :service AND tenant <= :cursor ORDER BY tenant LIMIT 1)
        UNION ALL
        SELECT (SELECT r.tenant FROM jobs.ready r WHERE r.service = :service AND r.tenant > b.tenant
                AND r.tenant <= :cursor ORDER BY r.tenant LIMIT 1), b.place + 1
        FROM behind b WHERE b.tenant IS NOT NULL AND b.place < :slots
    ), turns AS MATERIALIZED (
        SELECT tenant, row_number() OVER (ORDER BY lap, place) AS turn, count(*) OVER () AS tenants
        FROM (SELECT tenant, 1 AS lap, place FROM ahead WHERE tenant IS NOT NULL
              UNION ALL SELECT tenant, 2, place FROM behind WHERE tenant IS NOT NULL
              ORDER BY lap, place LIMIT :slots) AS listed
    ), picked AS MATERIALIZED (
        SELECT chosen.ctid AS place, turn, tenant FROM turns CROSS JOIN LATERAL (
            SELECT r.ctid FROM jobs.ready r WHERE r.service = :service AND r.tenant = turns.tenant
            ORDER BY r.priority DESC, r.position FOR UPDATE SKIP LOCKED
            LIMIT :slots / turns.tenants + (turns.turn <= :slots % turns.tenants)::integer) AS chosen
    ), taken AS (
        DELETE FROM jobs.ready WHERE ctid = ANY (ARRAY(SELECT place FROM picked)) AND service = :service
        RETURNING job_id
    )
    UPDATE jobs.jobs j SET state = 'running', lease = j.lease + 1, worker_id = :worker, claimed_at = clock_timestamp(),
        deadline_at = clock_timestamp() + j.timeout_seconds * interval '1 second'
    FROM taken WHERE j.id = taken.job_id AND j.state = 'ready'
    RETURNING j.id, j.type, j.payload, j.organization_id, j.user_id, j.actor, j.lease, j.failures, j.timeout_seconds,
        coalesce((SELECT tenant FROM turns ORDER BY turn DESC LIMIT 1), '') AS last_tenant
    """
)
_PROMOTE = text(
    """
    WITH due AS MATERIALIZED (
        SELECT id FROM jobs.jobs WHERE service = :service AND state = 'scheduled' AND run_at <= clock_timestamp()
        ORDER BY run_at, id LIMIT 1000 FOR UPDATE SKIP LOCKED
    ), moved AS (
        UPDATE jobs.jobs SET state = 'ready' WHERE id = ANY (ARRAY(SELECT id FROM due)) AND service = :service
        AND state = 'scheduled' RETURNING service, organization_id, priority, id, run_at
    )
    INSERT INTO jobs.ready (service, tenant, priority, job_id)
    SELECT service, organization_id, priority, id FROM moved ORDER BY run_at, id
    """
)


@dataclass(frozen=True, slots=True)
class Found:
    """A claimed job: what to run, for whom, under which lease, for how long at most."""

    type: str
    payload: object
    lease: Lease
    timeout_seconds: float


class _Unwanted(Exception):
    """Undoes a claim."""


class Claimer:
    """One worker's claims; keeps the round-robin cursor between them. wanted() is asked before a claim is committed:
    what is found when it says no stays as it was, under its old lease.
    """

    def __init__(
        self, database: Database, service: str, worker_id: str, *, wanted: Callable[[], bool] = lambda: True
    ) -> None:
        self._database, self._wanted = database, wanted
        self._service = service
        self._worker_id = worker_id
        # Workers start at different places, so that they do not all reach for the same tenants.
        self._cursor = worker_id

    async def claim(self, slots: int) -> list[Found]:
        """At most *slots* ready jobs, now running under a lease of this worker."""
        try:
            async with self._database.begin(System(self._service)) as tx:
                rows = await self._claimed(tx, slots)
                if not self._wanted():
                    raise _Unwanted
        except _Unwanted:
            return []
        if rows:
            self._cursor = rows[0].last_tenant
        return [_found(row, self._service) for row in rows]

    async def promote(self) -> int:
        """Make scheduled jobs that are due ready; returns how many, at most 1000."""
        async with self._database.begin(System(self._service)) as tx:
            return int((await tx.execute(_PROMOTE, {"service": self._service})).rowcount)

    async def _claimed(self, tx: Tx, slots: int) -> list[Any]:
        values = {"service": self._service, "cursor": self._cursor, "slots": slots, "worker": self._worker_id}
        return list((await tx.execute(_CLAIM, values)).all())


def principal(service: str, organization_id: str, user_id: str, actor: str) -> Principal:
    """Whom a job works for: the user or organization of its ids, else the service itself."""
    if user_id:
        return User(organization_id, user_id, actor=actor or service)
    return Organization(organization_id) if organization_id else System(service)


def _found(row: Any, service: str) -> Found:
    who = principal(service, row.organization_id, row.user_id, row.actor)
    return Found(row.type, row.payload, Lease(row.id, row.lease, row.failures + 1, who), row.timeout_seconds)
