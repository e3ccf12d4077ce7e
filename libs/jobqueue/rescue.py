"""Taking jobs back from workers that died or overran; any replica may do it at any time, several at once.

A worker is dead when its last heartbeat is older than the limit by the database's clock; its row is removed under a
lock that its own heartbeat would have to wait for, so the two cannot both win. Crashes are counted apart from
failures: a job that has killed its worker three times goes to the dead letters, however many attempts it has left.
"""

from sqlalchemy import text

from libs.db import Database
from libs.jobqueue.enqueue import channel
from libs.principal import System

MAX_CRASHES = 3
KEEP_DAYS = 30
_PAGE = 500
_GRACE_SECONDS = 5.0  # past its deadline a live worker ends the job itself; only then is it taken away

_RESCUE = text(
    """
    WITH silent AS MATERIALIZED (
        SELECT id FROM jobs.workers WHERE service = :service
        AND beat_at < clock_timestamp() - CAST(:dead_seconds AS double precision) * interval '1 second'
        ORDER BY id FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM jobs.workers WHERE id = ANY (ARRAY(SELECT id FROM silent)) AND service = :service RETURNING id
    ), lost AS MATERIALIZED (
        SELECT j.id, j.lease, j.deadline_at + :grace * interval '1 second' < clock_timestamp() AS overran
        FROM jobs.jobs j WHERE j.service = :service AND j.state = 'running'
        AND (j.worker_id IN (SELECT id FROM gone)
             OR j.deadline_at + :grace * interval '1 second' < clock_timestamp()
             OR NOT EXISTS (SELECT FROM jobs.workers w WHERE w.id = j.worker_id))
        ORDER BY j.id LIMIT :page FOR UPDATE OF j SKIP LOCKED
    ), changed AS (
        UPDATE jobs.jobs j SET crashes = j.crashes + 1,
            state = CASE WHEN j.crashes + 1 >= :most THEN 'dead' ELSE 'ready' END,
            finished_at = CASE WHEN j.crashes + 1 >= :most THEN clock_timestamp() END,
            error = CASE WHEN l.overran THEN 'the deadline passed' ELSE 'the worker died' END,
            worker_id = NULL, deadline_at = NULL
        FROM lost l WHERE j.id = l.id AND j.lease = l.lease AND j.service = :service AND j.state = 'running'
        RETURNING j.id, j.service, j.type, j.organization_id, j.priority, j.state
    ), hot AS (
        INSERT INTO jobs.ready (service, tenant, priority, job_id)
        SELECT service, organization_id, priority, id FROM changed WHERE state = 'ready' ORDER BY id
    )
    SELECT type, state FROM changed
    """
)
_ROTATE = text("SELECT jobs.rotate(:keep_days)")


async def rescue(database: Database, service: str, *, dead_seconds: float) -> list[tuple[str, str]]:
    """Give lost jobs back, at most 500; (type, state now) of each. Repeat while it returns a full page."""
    values = {
        "service": service,
        "dead_seconds": dead_seconds,
        "grace": _GRACE_SECONDS,
        "page": _PAGE,
        "most": MAX_CRASHES,
    }
    async with database.begin(System(service)) as tx:
        rows = (await tx.execute(_RESCUE, values)).all()
        if any(row.state == "ready" for row in rows):
            tx.wake(channel(service))
    return [(row.type, row.state) for row in rows]


async def rotate(database: Database, service: str) -> None:
    """Make the history's next days and drop those older than 30; nothing when another replica is at it."""
    async with database.begin(System(service)) as tx:
        await tx.execute(_ROTATE, {"keep_days": KEEP_DAYS})
