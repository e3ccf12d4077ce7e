"""Taking jobs: fair between tenants, never waiting for another worker, each claim raising the job's lease by one.

Fairness is round-robin with a cursor: a claim visits the tenants that have ready work in order of their ids, beginning
after the last one served, and shares the free slots among them. With n such tenants and slots for b jobs, each is
visited within ceil(n / b) claims, whatever another has queued. Priorities count inside a tenant.

Tenants are found in jobs.lanes and each lane is entered at this worker's mark (libs.jobqueue.marks), so what a claim
reads depends on what it takes, not on how much was ever queued or finished.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import text

from libs.db import Database, Tx
from libs.jobqueue import hot
from libs.jobqueue.job import UNREADABLE, Lease
from libs.jobqueue.lanes import Looked, look
from libs.jobqueue.marks import Marks
from libs.principal import Organization, Principal, System, User

_NO_FREE: Mapping[str, int] = {}
_FULL_PROMOTION = 60
PROMOTION_PAGE = 1000
"""How many due jobs one transaction makes ready."""

# One tenant's lanes, each with this worker's mark. DISTINCT also keeps the mark a column: taken apart, row-level
# security would hold the comparison with it for leaky and make it a filter, which walks over all that the index cannot
# forget.
_LANES = """
    (SELECT DISTINCT lanes.tenant, lanes.priority,
        coalesce((marks.at ->> (lanes.priority || ':' || lanes.tenant))::bigint, 0) AS mark
     FROM jobs.lanes CROSS JOIN marks WHERE service = :service AND queue = :queue AND lanes.tenant = {tenant}
     ORDER BY lanes.priority DESC) AS l"""
_ROWS = """
    SELECT r.ctid, r.position FROM jobs.ready r WHERE r.service = :service AND r.queue = :queue AND r.tenant = l.tenant
    AND r.priority = l.priority AND r.position > l.mark ORDER BY r.position"""
_SIDE = f"""
    (SELECT t.tenant, {{lap}} AS lap FROM (
        SELECT DISTINCT tenant FROM jobs.lanes WHERE service = :service AND queue = :queue AND tenant {{side}} :cursor
        ORDER BY tenant) AS t
     CROSS JOIN LATERAL (
        SELECT FROM {_LANES.format(tenant="t.tenant")} CROSS JOIN LATERAL ({_ROWS} LIMIT 1) AS first LIMIT 1) AS work
     WHERE (SELECT open FROM gate) AND coalesce((SELECT (free ->> t.tenant)::bigint FROM marks), :most) > 0
     ORDER BY t.tenant LIMIT :slots)"""  # noqa: S608 - only constants of this module are put together
_CLAIM = text(
    f"""
    WITH marks AS MATERIALIZED (SELECT CAST(:marks AS jsonb) AS at, CAST(:free AS jsonb) AS free
    ), gate AS MATERIALIZED (
        SELECT jobs.may_run() AND NOT EXISTS (SELECT FROM jobs.queues WHERE service = :service AND queue = :queue
            AND paused_at IS NOT NULL) AS open
    ), turns AS MATERIALIZED (
        SELECT tenant, turn, least(:slots / tenants + (turn <= :slots % tenants)::integer,
            coalesce((SELECT (free ->> tenant)::bigint FROM marks), :most)) AS share
        FROM (SELECT tenant, row_number() OVER (ORDER BY lap, tenant) AS turn, count(*) OVER () AS tenants
              FROM ({_SIDE.format(lap=1, side=">")} UNION ALL {_SIDE.format(lap=2, side="<=")}
                    ORDER BY lap, tenant LIMIT :slots) AS both_sides) AS ring
    ), picked AS MATERIALIZED (
        SELECT chosen.ctid AS place, chosen.position, tenant FROM turns CROSS JOIN LATERAL (
            SELECT found.ctid, found.position FROM {_LANES.format(tenant="turns.tenant")}
            CROSS JOIN LATERAL ({_ROWS} LIMIT turns.share FOR UPDATE SKIP LOCKED) AS found
            LIMIT turns.share) AS chosen
    ), taken AS (
        DELETE FROM jobs.ready WHERE ctid = ANY (ARRAY(SELECT place FROM picked)) AND service = :service
        RETURNING job_id, position
    )
    UPDATE jobs.jobs j SET state = 'running', lease = j.lease + 1, worker_id = :worker, claimed_at = clock_timestamp(),
        deadline_at = clock_timestamp() + j.timeout_seconds * interval '1 second'
    FROM taken WHERE j.id = taken.job_id AND j.state = 'ready'
    RETURNING j.id, j.type, j.payload::text, j.organization_id, j.user_id, j.actor, j.lease, j.failures,
        j.timeout_seconds, j.progress::text, j.cancel_requested_at IS NOT NULL AS cancelled, j.priority, taken.position,
        coalesce((SELECT tenant FROM turns ORDER BY turn DESC LIMIT 1), '') AS last_tenant
    """  # noqa: S608 - only constants of this module are put together
)
# A claim without a job that wrote has taken places in line of jobs that are gone; its turn is over all the same.
_NEXT_TENANT = text(
    """
    SELECT coalesce((SELECT tenant FROM jobs.lanes WHERE service = :service AND queue = :queue AND tenant > :cursor
        ORDER BY tenant LIMIT 1), '') WHERE pg_current_xact_id_if_assigned() IS NOT NULL
    """
)
_PROMOTE = text(
    f"""
    WITH due AS MATERIALIZED (
        SELECT ctid AS place FROM jobs.jobs
        WHERE service = :service AND state = 'scheduled' AND run_at <= (SELECT clock_timestamp())
        AND run_at > coalesce(CAST(:since AS timestamptz), '-infinity') - interval '1 minute'
        ORDER BY run_at, id LIMIT {PROMOTION_PAGE} FOR UPDATE SKIP LOCKED
    ), moved AS (
        UPDATE jobs.jobs SET state = 'ready' WHERE ctid = ANY (ARRAY(SELECT place FROM due)) AND service = :service
        RETURNING service, queue, organization_id, priority, id, run_at
    ), {hot.INSERT.format(source="moved ORDER BY run_at, id")}
    SELECT (SELECT count(*) FROM moved) AS moved, clock_timestamp() AS at
    """  # noqa: S608 - only constants of this module are put together
)


class Found(NamedTuple):
    """A claimed job: what to run, for whom, under which lease, for how long at most. payload: JSON as it is stored, for
    one that cannot be read must not fail the claim. cancelled: its end was asked for while an earlier claim ran. fault:
    why it cannot run.
    """

    type: str
    payload: str
    lease: Lease
    timeout_seconds: float
    cancelled: bool = False
    fault: str = ""


Also = Callable[[Tx, Sequence[Any]], Awaitable[None]]


class _Unwanted(Exception):
    """Undoes a claim."""


class Claimer:
    """One worker's claims from one queue; keeps the round-robin cursor and the marks between them.

    wanted() is asked before a claim is committed: what is found when it says no stays as it was, under its old lease.
    also: called in a claim's transaction with its rows.
    """

    def __init__(
        self,
        database: Database,
        service: str,
        worker_id: str,
        *,
        queue: str = "default",
        wanted: Callable[[], bool] = lambda: True,
        also: Also | None = None,
    ) -> None:
        self._database, self._wanted, self._also = database, wanted, also
        self._service, self._queue = service, queue
        self._worker_id = worker_id
        self._marks = Marks()
        # Workers start at different places, so that they do not all reach for the same tenants.
        self._cursor = worker_id
        self._looks = self._promotions = 0
        self._promoted_at: datetime | None = None

    async def claim(self, slots: int, *, most: int = 0, free: Mapping[str, int] = _NO_FREE) -> list[Found]:
        """At most *slots* ready jobs, now running under a lease of this worker. most: of any one tenant, 0 for no such
        limit; free: the same for these tenants.
        """
        rows: list[Any] = []
        again = True
        while again and not rows:
            try:
                async with self._database.begin(System(self._service), pinned=True) as tx:
                    rows = await self._claimed(tx, slots, most, free)
                    again = not rows and await self._passed(tx)
                    if not self._wanted():
                        raise _Unwanted
                    if self._also is not None:
                        await self._also(tx, rows)
            except _Unwanted:
                return []
        if rows:
            self._cursor = rows[0].last_tenant
        for row in rows:
            self._marks.claimed((row.organization_id, row.priority), row.position)
        whom: dict[tuple[str, str, str], Principal] = {}
        return [_found(row, self._service, whom) for row in rows]

    async def look(self) -> Looked:
        """Put marks and lanes right; see libs.jobqueue.lanes."""
        looked = await look(self._database, self._service, self._queue)
        if self._looks:
            self._marks.left_behind(looked.lowest)
        else:
            self._marks.begin(looked.lowest)
        self._looks += 1
        return looked

    async def promote(self) -> int:
        """Make scheduled jobs that are due ready; returns how many, at most 1000.

        Most calls begin a minute before the last one, because promoted rows that cannot be cleaned away lie in front;
        now and then one begins at the front, for jobs that were committed after they were due.
        """
        since = self._promoted_at if self._promotions % _FULL_PROMOTION else None
        async with self._database.begin(System(self._service), pinned=True) as tx:
            row = (await tx.execute(_PROMOTE, {"service": self._service, "since": since})).one()
        self._promotions += 1
        self._promoted_at = row.at if row.moved < PROMOTION_PAGE else since
        return int(row.moved)

    async def _claimed(self, tx: Tx, slots: int, most: int = 0, free: Mapping[str, int] = _NO_FREE) -> list[Any]:
        marks = {f"{priority}:{tenant}": position for (tenant, priority), position in self._marks.current().items()}
        values = {
            "service": self._service,
            "queue": self._queue,
            "cursor": self._cursor,
            "slots": slots,
            "most": most or slots,
            "worker": self._worker_id,
            "marks": json.dumps(marks),
            "free": json.dumps(free),
        }
        return list((await tx.execute(_CLAIM, values)).all())

    async def _passed(self, tx: Tx) -> bool:
        """Whether this claim in vain met places of cancelled jobs: it goes on with the next tenant at once."""
        where = {"service": self._service, "queue": self._queue, "cursor": self._cursor}
        passed: str | None = (await tx.execute(_NEXT_TENANT, where)).scalar()
        if passed is not None:
            self._cursor = passed
        return passed is not None


def principal(service: str, organization_id: str, user_id: str, actor: str) -> Principal:
    """Whom a job works for: the user or organization of its ids, else the service itself."""
    if user_id:
        return User(organization_id, user_id, actor=actor or service)
    return Organization(organization_id) if organization_id else System(service)


def _found(row: Any, service: str, whom: dict[tuple[str, str, str], Principal]) -> Found:
    id_, kind, payload, organization_id, user_id, actor, lease, failures, timeout_seconds, progress, ended = row[:11]
    who = whom.get((organization_id, user_id, actor))
    if who is None:
        who = whom[organization_id, user_id, actor] = principal(service, organization_id, user_id, actor)
    fault = ""
    if progress is not None:
        try:
            progress = json.loads(progress)
        except UNREADABLE:
            progress, fault = None, "The progress cannot be read."
    return Found(kind, payload, Lease(id_, lease, failures + 1, who, progress), timeout_seconds, ended, fault)
