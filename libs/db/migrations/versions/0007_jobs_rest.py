"""History that no day's partition took is dropped when it is old; rotate() has one clock, and keeps what others need.

rotate() ran in its caller's time zone, so that one could shift the days of all; any service could have it drop what the
others finished yesterday; and what had once lain in history_rest lay there for ever.
"""

from alembic import op

revision, down_revision = "0007", "0006"
branch_labels = depends_on = None


def upgrade() -> None:
    op.execute(_ROTATE)


_ROTATE = r"""
CREATE OR REPLACE FUNCTION jobs.rotate(keep_days integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' SET timezone = 'UTC'
AS $$
DECLARE
    day date;
    old text;
BEGIN
    IF keep_days < 30 THEN
        RAISE EXCEPTION 'history is kept for at least 30 days' USING ERRCODE = '22023';
    END IF;
    IF NOT pg_try_advisory_xact_lock(hashtextextended('jobs.rotate', 0)) THEN
        RETURN;
    END IF;
    FOR day IN SELECT generate_series(current_date, current_date + 2, interval '1 day')::date LOOP
        IF to_regclass(format('jobs.history_%s', to_char(day, 'YYYYMMDD'))) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE TABLE jobs.history_%s PARTITION OF jobs.history FOR VALUES FROM (%L) TO (%L)',
                               to_char(day, 'YYYYMMDD'), day, day + 1);
                EXECUTE format('COMMENT ON TABLE jobs.history_%s IS %L', to_char(day, 'YYYYMMDD'),
                               'scope: service; a partition, reached through jobs.history only');
            EXCEPTION WHEN check_violation THEN
                RAISE WARNING 'history of % stays in history_rest', day;
            END;
        END IF;
    END LOOP;
    FOR old IN SELECT relname FROM pg_class JOIN pg_inherits ON inhrelid = pg_class.oid
        WHERE inhparent = 'jobs.history'::regclass AND relname ~ '^history_\d{8}$'
        AND to_date(right(relname, 8), 'YYYYMMDD') < current_date - keep_days LOOP
        EXECUTE format('DROP TABLE jobs.%I', old);
    END LOOP;
    DELETE FROM jobs.history_rest WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM jobs.history_rest WHERE finished_at < current_date - keep_days LIMIT 10000));
END
$$
"""
