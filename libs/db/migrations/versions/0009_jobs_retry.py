"""A bulk retry has an end: jobs that were put, or claimed by a worker, since it began are not retried by it.

It went by when a job had died, within each of the calls that one command makes; what failed anew between them was
retried again, its attempts from the start, for as long as it failed. So was what a retried job put for later.
"""

from alembic import op

revision, down_revision = "0009", "0008"
branch_labels = depends_on = None

_OLD = "jobs.retry_page(text, text, text, text, timestamptz, text, integer)"
_NEW = "jobs.retry_page(text, text, text, text, timestamptz, text, integer, timestamptz)"


def upgrade() -> None:
    op.execute(f"DROP FUNCTION {_OLD}")
    op.execute(_RETRY_PAGE)
    op.execute(f"GRANT EXECUTE ON FUNCTION {_NEW} TO holdfast_backup")


_RETRY_PAGE = """
CREATE FUNCTION jobs.retry_page(of_service text, of_queue text, of_type text, of_state text, after_at timestamptz,
    after_id text, page integer, before timestamptz)
RETURNS TABLE (looked integer, retried integer, at timestamptz, id text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    due refcursor;
BEGIN
    looked := 0;
    retried := 0;
    IF of_state = 'dead' THEN
        OPEN due FOR SELECT j.finished_at, j.id FROM jobs.jobs j WHERE j.service = of_service
            AND j.state IN ('dead', 'quarantined') AND j.state = 'dead' AND of_queue IN ('', j.queue)
            AND of_type IN ('', j.type) AND (j.finished_at, j.id) > (after_at, after_id)
            AND j.finished_at < before AND coalesce(j.claimed_at, '-infinity') < before
            ORDER BY j.finished_at, j.id LIMIT page FOR UPDATE SKIP LOCKED;
    ELSE
        OPEN due FOR SELECT j.run_at, j.id FROM jobs.jobs j WHERE j.service = of_service AND j.state = 'scheduled'
            AND of_queue IN ('', j.queue) AND of_type IN ('', j.type) AND (j.run_at, j.id) > (after_at, after_id)
            AND j.created_at < before AND coalesce(j.claimed_at, '-infinity') < before
            ORDER BY j.run_at, j.id LIMIT page FOR UPDATE SKIP LOCKED;
    END IF;
    LOOP
        FETCH due INTO after_at, after_id;
        EXIT WHEN NOT FOUND;
        looked := looked + 1;
        retried := retried + jobs.make_ready(after_id, true)::integer;
        at := after_at;
        id := after_id;
    END LOOP;
    RETURN NEXT;
END
$$
"""
