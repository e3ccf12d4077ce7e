"""Taking jobs back from workers that died, and from handlers that overran; any replica may do it, several at once.

A worker is dead when its last heartbeat is older than the limit by the database's clock. Its row is locked first, so
that two reapers, or a reaper and the worker's own heartbeat, follow each other, and it stays until nothing is left of
what it ran. A job past its deadline is taken back by the heart of the worker that holds it, also when its event loop is
blocked. Crashes are counted apart from failures: a job that has taken three workers with it goes to the dead letters,
however many attempts it has left.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.dialects import postgresql

from libs.db import Database
from libs.jobqueue import hot, inbox
from libs.jobqueue.claim import Also
from libs.jobqueue.enqueue import channel
from libs.jobqueue.plan import RUNNING
from libs.principal import System

MAX_CRASHES = 3
KEEP_DAYS = 30
GRACE_SECONDS = 5.0
"""How long past its deadline a job is left to its worker, which ends it itself."""
_PAGE = 500

TAKE_BACK = f"""
    changed AS (
        UPDATE jobs.jobs j SET crashes = j.crashes + 1,
            state = CASE WHEN j.crashes + 1 >= :most THEN 'dead' ELSE 'ready' END,
            finished_at = CASE WHEN j.crashes + 1 >= :most THEN clock_timestamp() END,
            error = l.why, worker_id = NULL, deadline_at = NULL
        FROM lost l WHERE j.id = l.id AND j.lease = l.lease AND j.service = :service AND {RUNNING}
        RETURNING j.id, j.service, j.queue, j.type, j.organization_id, j.priority, j.state, j.lease
    ), {hot.INSERT.format(source="changed WHERE state = 'ready' ORDER BY id")}"""  # noqa: S608 - constants of this module
"""Common table expressions: gives back the jobs of `lost`, which has id, lease and why, and counts a crash of each."""
_RESCUE = text(
    f"""
    WITH silent AS MATERIALIZED (
        SELECT id FROM jobs.workers WHERE service = :service
        AND beat_at < clock_timestamp() - CAST(:dead_seconds AS double precision) * interval '1 second'
        ORDER BY id LIMIT 20 FOR UPDATE SKIP LOCKED
    ), lost AS MATERIALIZED (
        SELECT j.id, j.lease, j.worker_id, 'the worker died' AS why FROM silent CROSS JOIN LATERAL (
            SELECT * FROM jobs.jobs WHERE service = :service AND worker_id = silent.id AND state = 'running'
            ORDER BY id LIMIT :page FOR UPDATE) AS j
    ), {TAKE_BACK}, gone AS (
        DELETE FROM jobs.workers w USING silent WHERE w.id = silent.id AND w.service = :service
        AND (SELECT count(*) FROM lost WHERE lost.worker_id = silent.id) < :page
    )
    SELECT id, type, state, lease, organization_id FROM changed
    """  # noqa: S608 - only constants of this module are put together
)
_OVERRUN = text(
    f"""
    WITH lost AS MATERIALIZED (
        SELECT j.id, j.lease, 'the deadline passed' AS why
        FROM unnest(CAST(:ids AS text[]), CAST(:leases AS bigint[])) AS held (id, lease)
        JOIN jobs.jobs j ON j.id = held.id AND j.lease = held.lease
        WHERE j.service = :service AND {RUNNING}
        AND j.deadline_at + :grace * interval '1 second' < clock_timestamp()
        ORDER BY j.id FOR UPDATE OF j SKIP LOCKED
    ), {TAKE_BACK}
    SELECT id, type, state, lease, organization_id FROM changed
    """  # noqa: S608 - only constants of this module are put together
)
# Jobs that run under a worker nobody knows get one that is dead, so that the next round finds them.
_ADOPT = text(
    """
    INSERT INTO jobs.workers (id, service, beat_at)
    SELECT DISTINCT j.worker_id, j.service, '-infinity'::timestamptz FROM jobs.jobs j
    WHERE j.service = :service AND j.state = 'running'
    AND NOT EXISTS (SELECT FROM jobs.workers w WHERE w.id = j.worker_id)
    ON CONFLICT DO NOTHING
    """
)
_ROTATE = text("SELECT jobs.rotate(:keep_days)")

OVERRUN = str(_OVERRUN.compile(dialect=postgresql.dialect(paramstyle="pyformat")))  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
"""For psycopg, with the parameters of overrun()."""


async def rescue(
    database: Database, service: str, *, dead_seconds: float, also: Also | None = None
) -> list[tuple[str, str]]:
    """Give the jobs of dead workers back, at most 500 of each; (type, state now) of each job. also: called in that
    transaction with their rows.
    """
    values = {"service": service, "dead_seconds": dead_seconds, "page": _PAGE, "most": MAX_CRASHES}
    async with database.begin(System(service), pinned=True) as tx:
        rows = (await tx.execute(_RESCUE, values)).all()
        if also is not None:
            await also(tx, rows)
        if any(row.state == "ready" for row in rows):
            tx.wake(channel(service))
    return [(row.type, row.state) for row in rows]


def overrun(service: str, held: Mapping[str, int]) -> dict[str, Any]:
    """Parameters of OVERRUN for these leases by job id. The database decides whether a deadline has passed."""
    return {
        "service": service,
        "ids": list(held),
        "leases": list(held.values()),
        "grace": GRACE_SECONDS,
        "most": MAX_CRASHES,
    }


async def adopt(database: Database, service: str) -> None:
    """Make sure that each running job has a worker, if only a dead one. Walks over all that runs: for rarely."""
    async with database.begin(System(service)) as tx:
        await tx.execute(_ADOPT, {"service": service})


async def rotate(database: Database, service: str) -> None:
    """Make the history's next days, drop those older than 30 and the inbox's keys of that age; nothing when another
    replica is at it.
    """
    async with database.begin(System(service)) as tx:
        await tx.execute(_ROTATE, {"keep_days": KEEP_DAYS})
    await inbox.forget(database, service)
