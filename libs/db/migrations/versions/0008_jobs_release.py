"""A job whose end was asked for before it was quarantined is put back with that wish, and ends when it is claimed."""

from alembic import op

revision, down_revision = "0008", "0007"
branch_labels = depends_on = None


def upgrade() -> None:
    op.execute(_MAKE_READY)


_MAKE_READY = """
CREATE OR REPLACE FUNCTION jobs.make_ready(of_id text, afresh boolean) RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $$
DECLARE
    j jobs.jobs;
BEGIN
    UPDATE jobs.jobs SET run_at = CASE WHEN afresh THEN clock_timestamp() ELSE run_at END,
        state = CASE WHEN afresh OR run_at <= clock_timestamp() THEN 'ready' ELSE 'scheduled' END,
        failures = CASE WHEN afresh THEN 0 ELSE failures END, crashes = CASE WHEN afresh THEN 0 ELSE crashes END,
        finished_at = NULL, worker_id = NULL, deadline_at = NULL,
        cancel_requested_at = CASE WHEN afresh THEN NULL ELSE cancel_requested_at END
    WHERE id = of_id RETURNING * INTO j;
    IF j.state = 'ready' THEN
        INSERT INTO jobs.ready (service, queue, tenant, priority, job_id)
        VALUES (j.service, j.queue, j.organization_id, j.priority, j.id);
        INSERT INTO jobs.lanes (service, queue, tenant, priority)
        SELECT j.service, j.queue, j.organization_id, j.priority WHERE NOT EXISTS (
            SELECT FROM jobs.lanes l WHERE l.service = j.service AND l.queue = j.queue
            AND l.tenant = j.organization_id AND l.priority = j.priority);
    END IF;
    RETURN true;
EXCEPTION WHEN unique_violation THEN
    RETURN false;
END
$$
"""
