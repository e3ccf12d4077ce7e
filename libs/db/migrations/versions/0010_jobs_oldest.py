"""The age of the oldest ready job is that of the first job in line that is still there, in up to 10000 lanes.

A cancelled job leaves its place in line until a claim passes. The age was that of the place, so one that was cancelled
hid how long all behind it had waited, from the alert too, and just when nobody claimed; so did a thousand lanes before.
"""

from alembic import op

revision, down_revision = "0010", "0009"
branch_labels = depends_on = None


def upgrade() -> None:
    op.execute(_FIGURES)


_FIGURES = """
CREATE OR REPLACE FUNCTION jobs.figures(of_service text) RETURNS TABLE (service text, queue text, ready bigint,
    running bigint, scheduled bigint, dead bigint, oldest_ready_seconds double precision, workers bigint,
    paused_at timestamptz, paused_by text, reason text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off AS $$
    WITH running AS MATERIALIZED (
        SELECT queue, count(*) AS jobs FROM (SELECT queue FROM jobs.jobs WHERE state = 'running'
            AND service = of_service LIMIT 10000) AS counted GROUP BY queue
    ), scheduled AS MATERIALIZED (
        SELECT queue, count(*) AS jobs FROM (SELECT queue FROM jobs.jobs WHERE state = 'scheduled'
            AND service = of_service ORDER BY run_at DESC, id DESC LIMIT 10000) AS counted GROUP BY queue
    ), dead AS MATERIALIZED (
        SELECT queue, count(*) AS jobs FROM (SELECT queue FROM jobs.jobs WHERE state IN ('dead', 'quarantined')
            AND state = 'dead' AND service = of_service ORDER BY finished_at DESC, id DESC LIMIT 10000) AS counted
        GROUP BY queue
    ), workers AS MATERIALIZED (
        SELECT queue, count(*) AS alive FROM jobs.workers WHERE service = of_service
        AND beat_at > clock_timestamp() - interval '40 seconds' GROUP BY queue
    ), names AS (
        SELECT queue FROM running UNION SELECT queue FROM scheduled UNION SELECT queue FROM dead
        UNION SELECT queue FROM workers UNION SELECT queue FROM jobs.queues WHERE service = of_service
        UNION SELECT queue FROM jobs.lanes WHERE service = of_service
    )
    SELECT of_service, n.queue,
        (SELECT count(*) FROM (SELECT FROM jobs.ready WHERE service = of_service AND queue = n.queue LIMIT 10000) AS r),
        coalesce(running.jobs, 0), coalesce(scheduled.jobs, 0), coalesce(dead.jobs, 0),
        (SELECT extract(epoch FROM clock_timestamp() - min(head.run_at))::double precision FROM (
            SELECT DISTINCT tenant, priority FROM jobs.lanes WHERE service = of_service AND queue = n.queue LIMIT 10000
            ) AS l CROSS JOIN LATERAL (
            SELECT j.run_at FROM (
                SELECT r.job_id, r.position FROM jobs.ready r WHERE r.service = of_service AND r.queue = n.queue
                AND r.tenant = l.tenant AND r.priority = l.priority ORDER BY r.position LIMIT 1000) AS r
            JOIN jobs.jobs j ON j.id = r.job_id ORDER BY r.position LIMIT 1) AS head),
        coalesce(workers.alive, 0), q.paused_at, coalesce(q.paused_by, ''), coalesce(q.reason, '')
    FROM names n LEFT JOIN running USING (queue) LEFT JOIN scheduled USING (queue) LEFT JOIN dead USING (queue)
    LEFT JOIN workers USING (queue) LEFT JOIN jobs.queues q ON q.service = of_service AND q.queue = n.queue
$$
"""
