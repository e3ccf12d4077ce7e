"""Queues inside a service, lanes, pausing, the guard against restored databases, periodic ticks, the inbox.

A lane is (service, queue, tenant, priority): jobs.lanes lists those that may have ready rows, so that a claim finds
tenants without walking over ready rows. A lane without work is harmless; a ready row without a lane waits until the
next look at all lanes (libs.jobqueue.lanes) has made it one.
"""

from alembic import op

from libs.db import policies
from libs.db.grants import SERVICES, runtime_role

revision, down_revision = "0003", "0002"
branch_labels = depends_on = None

_STORAGE = "autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 1"
_ROLES = ", ".join(runtime_role(service) for service in SERVICES)
# The first eight hexadecimal digits of a WAL file's name.
_TIMELINE = "('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer"


def upgrade() -> None:
    _columns()
    _lanes()
    _queues()
    _guard()
    _ticks()
    _inbox()


def _columns() -> None:
    op.execute(
        "ALTER TABLE jobs.jobs ADD COLUMN queue text NOT NULL DEFAULT 'default', ADD COLUMN progress jsonb,"
        " ADD COLUMN cancel_requested_at timestamptz"
    )
    op.execute("ALTER TABLE jobs.history ADD COLUMN queue text NOT NULL DEFAULT 'default'")
    op.execute("ALTER TABLE jobs.ready ADD COLUMN queue text NOT NULL DEFAULT 'default'")
    op.execute("DROP INDEX jobs.ready_claim")
    op.execute("CREATE INDEX ready_claim ON jobs.ready (service, queue, tenant, priority DESC, position)")
    # A dead worker's jobs are found by its id: an index of all that runs would be walked over its dead entries.
    op.execute("DROP INDEX jobs.jobs_running")
    op.execute("CREATE INDEX jobs_running ON jobs.jobs (worker_id) WHERE state = 'running'")


def _lanes() -> None:
    op.execute(
        f"""
        CREATE TABLE jobs.lanes (
            service text NOT NULL,
            queue text NOT NULL,
            tenant text NOT NULL,
            priority smallint NOT NULL,
            created_at timestamptz NOT NULL DEFAULT clock_timestamp()
        ) WITH (fillfactor = 85, {_STORAGE})
        """
    )
    # Not unique: two transactions that open the same lane must not wait for each other.
    op.execute("CREATE INDEX lanes_ring ON jobs.lanes (service, queue, tenant, priority DESC)")
    with policies.lifted(op, "jobs.ready"):
        op.execute(
            "INSERT INTO jobs.lanes (service, queue, tenant, priority)"
            " SELECT DISTINCT service, queue, tenant, priority FROM jobs.ready"
        )
    policies.service_table(op, "jobs.lanes")


def _queues() -> None:
    op.execute(
        """
        CREATE TABLE jobs.queues (
            service text NOT NULL,
            queue text NOT NULL,
            paused_at timestamptz,
            paused_by text NOT NULL DEFAULT '',
            reason text NOT NULL DEFAULT '',
            PRIMARY KEY (service, queue)
        )
        """
    )
    policies.service_table(op, "jobs.queues", grants=("SELECT",))


def _guard() -> None:
    op.execute(
        """
        CREATE TABLE jobs.guard (
            singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
            state text NOT NULL CHECK (state IN ('open', 'held')),
            timeline integer NOT NULL,
            reason text NOT NULL DEFAULT '',
            changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            changed_by text NOT NULL DEFAULT ''
        )
        """
    )
    op.execute(f"INSERT INTO jobs.guard (state, timeline) VALUES ('open', {_TIMELINE})")  # noqa: S608 - a constant
    op.execute("COMMENT ON TABLE jobs.guard IS 'scope: global (one row about the database itself)'")
    op.execute(
        f"""
        CREATE FUNCTION jobs.may_run() RETURNS boolean LANGUAGE sql STABLE
        SET search_path = pg_catalog, pg_temp SECURITY DEFINER
        RETURN EXISTS (SELECT FROM jobs.guard WHERE state = 'open' AND timeline = {_TIMELINE})
        """
    )
    op.execute(f"GRANT EXECUTE ON FUNCTION jobs.may_run() TO {_ROLES}")


def _ticks() -> None:
    op.execute(
        """
        CREATE TABLE jobs.ticks (
            service text NOT NULL,
            task text NOT NULL,
            tick timestamptz NOT NULL,
            job_id text NOT NULL,
            made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            PRIMARY KEY (service, task, tick)
        )
        """
    )
    policies.service_table(op, "jobs.ticks", grants=("SELECT", "INSERT", "DELETE"))


def _inbox() -> None:
    op.execute(
        """
        CREATE TABLE jobs.inbox (
            service text NOT NULL,
            key text NOT NULL,
            job_id text NOT NULL,
            made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            PRIMARY KEY (service, key)
        )
        """
    )
    op.execute("CREATE INDEX inbox_age ON jobs.inbox (service, made_at)")
    policies.service_table(op, "jobs.inbox", grants=("SELECT", "INSERT", "DELETE"))
