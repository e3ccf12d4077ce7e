"""The job queue: narrow ready rows in claim order, the payload and the lease apart from them, finished jobs by day.

jobs.jobs holds each job that is not finished, and is the only place a lease lives. jobs.ready has a row for each
job that may be claimed now and nothing else, so a claim never walks over running, scheduled or finished work.
"""

from alembic import op

from libs.db import policies
from libs.db.grants import SERVICES, runtime_role

revision, down_revision = "0001", None
branch_labels = depends_on = None

_STORAGE = "autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 1"
_ROLES = ", ".join(runtime_role(service) for service in SERVICES)


def upgrade() -> None:
    _jobs()
    _ready()
    _history()
    _workers()


def _jobs() -> None:
    op.execute(
        f"""
        CREATE TABLE jobs.jobs (
            id text PRIMARY KEY,
            service text NOT NULL,
            type text NOT NULL,
            payload jsonb NOT NULL,
            organization_id text NOT NULL DEFAULT '',
            user_id text NOT NULL DEFAULT '',
            actor text NOT NULL DEFAULT '',
            state text NOT NULL CHECK (state IN ('scheduled', 'ready', 'running', 'dead', 'quarantined')),
            priority smallint NOT NULL DEFAULT 0,
            unique_key text NOT NULL DEFAULT '',
            run_at timestamptz NOT NULL,
            lease bigint NOT NULL DEFAULT 0,
            failures integer NOT NULL DEFAULT 0,
            crashes integer NOT NULL DEFAULT 0,
            max_attempts integer NOT NULL,
            timeout_seconds double precision NOT NULL,
            worker_id text,
            claimed_at timestamptz,
            deadline_at timestamptz,
            created_at timestamptz NOT NULL DEFAULT transaction_timestamp(),
            finished_at timestamptz,
            error text NOT NULL DEFAULT ''
        ) WITH (fillfactor = 70, {_STORAGE})
        """
    )
    op.execute("CREATE INDEX jobs_scheduled ON jobs.jobs (service, run_at, id) WHERE state = 'scheduled'")
    op.execute("CREATE INDEX jobs_running ON jobs.jobs (service, id) WHERE state = 'running'")
    op.execute("CREATE INDEX jobs_dead ON jobs.jobs (service, finished_at, id) WHERE state IN ('dead', 'quarantined')")
    op.execute(
        "CREATE UNIQUE INDEX jobs_unique ON jobs.jobs (service, organization_id, type, unique_key)"
        " WHERE unique_key <> '' AND state IN ('scheduled', 'ready', 'running')"
    )
    policies.service_table(op, "jobs.jobs")


def _ready() -> None:
    op.execute(
        f"""
        CREATE TABLE jobs.ready (
            service text NOT NULL,
            tenant text NOT NULL,
            priority smallint NOT NULL,
            position bigint GENERATED ALWAYS AS IDENTITY,
            job_id text NOT NULL
        ) WITH (fillfactor = 85, {_STORAGE})
        """
    )
    op.execute("CREATE INDEX ready_claim ON jobs.ready (service, tenant, priority DESC, position)")
    policies.service_table(op, "jobs.ready")


def _history() -> None:
    op.execute(
        """
        CREATE TABLE jobs.history (
            id text NOT NULL,
            service text NOT NULL,
            type text NOT NULL,
            organization_id text NOT NULL,
            user_id text NOT NULL,
            outcome text NOT NULL CHECK (outcome IN ('done', 'discarded', 'cancelled')),
            lease bigint NOT NULL,
            failures integer NOT NULL,
            crashes integer NOT NULL,
            created_at timestamptz NOT NULL,
            claimed_at timestamptz,
            finished_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            error text NOT NULL DEFAULT ''
        ) PARTITION BY RANGE (finished_at)
        """
    )
    op.execute("CREATE TABLE jobs.history_rest PARTITION OF jobs.history DEFAULT")
    op.execute("COMMENT ON TABLE jobs.history_rest IS 'scope: service; a partition, reached through jobs.history only'")
    policies.service_table(op, "jobs.history", grants=("SELECT", "INSERT"))
    op.execute(_ROTATE)
    op.execute(f"GRANT EXECUTE ON FUNCTION jobs.rotate(integer) TO {_ROLES}")
    op.execute("SELECT jobs.rotate(30)")


def _workers() -> None:
    op.execute(
        """
        CREATE TABLE jobs.workers (
            id text PRIMARY KEY,
            service text NOT NULL,
            started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            beat_at timestamptz NOT NULL DEFAULT clock_timestamp()
        ) WITH (fillfactor = 50)
        """
    )
    policies.service_table(op, "jobs.workers")


# Rows that no day's partition takes lie in history_rest, so a late rotation loses nothing; a day whose rows lie there
# already
# is left there.
_ROTATE = r"""
CREATE FUNCTION jobs.rotate(keep_days integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    day date;
    old text;
BEGIN
    IF keep_days < 1 THEN
        RAISE EXCEPTION 'history is kept for at least one day' USING ERRCODE = '22023';
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
END
$$
"""
