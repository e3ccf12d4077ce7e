"""A bulk retry of scheduled jobs leaves those that were put since it began.

A job that puts its successor for later, as periodic work does, was retried at once through the successor, and so on.
"""

from alembic import op

revision, down_revision = "0011", "0010"
branch_labels = depends_on = None


def upgrade() -> None:
    op.execute(_RETRY_PAGE)


_RETRY_PAGE = """
CREATE OR REPLACE FUNCTION jobs.retry_page(of_service text, of_queue text, of_type text, of_state text,
    after_at timestamptz, after_id text, page integer, before timestamptz)
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
