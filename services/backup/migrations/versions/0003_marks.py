"""High-water marks: what every tenant had reached, taken each hour, for restored copies to be measured by."""

from alembic import op

from libs.db import policies

revision = "backup_0003"
down_revision = "backup_0002"
branch_labels = None
depends_on = None

_TABLE = """
    CREATE TABLE backup.marks (
        heartbeat bigint PRIMARY KEY CHECK (heartbeat >= 0),
        created_at timestamptz NOT NULL,
        tenants jsonb NOT NULL CHECK (jsonb_typeof(tenants) = 'object'),
        signature text NOT NULL CHECK (signature ~ '^[0-9a-f]{64}$'),
        tick bigint NOT NULL UNIQUE
    )
"""
# The owner sees a tenant's rows only inside the one function that says so, and it gives away nothing but numbers.
_SEEN = ("events.streams", "files.versions", "audit.entries")
_POLICY = """
    CREATE POLICY backup_marks ON {table} FOR SELECT TO holdfast_owner
    USING (current_setting('holdfast.marks', true) = 'on')
"""
_HIGH_WATER = """
    CREATE FUNCTION backup.high_water(since text)
    RETURNS TABLE (kind text, organization_id text, user_id text, value text)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
    #variable_conflict use_column
    BEGIN
        PERFORM set_config('holdfast.marks', 'on', true);
        RETURN QUERY
        SELECT 'event_offset', s.organization_id, s.user_id, s.newest_offset::text FROM events.streams s
        UNION ALL
        SELECT 'file_version', v.organization_id, v.user_id, max(v.id COLLATE "C")
          FROM files.versions v WHERE v.state IN ('ready', 'superseded') GROUP BY v.organization_id, v.user_id
        UNION ALL
        SELECT 'audit_entry', coalesce(e.organization_id, ''), '', max(e.id COLLATE "C")
          FROM audit.entries e WHERE e.id > high_water.since GROUP BY e.organization_id;
        PERFORM set_config('holdfast.marks', '', true);
    END
    $body$
"""


def upgrade() -> None:
    op.execute(_TABLE)
    op.execute("COMMENT ON COLUMN backup.marks.heartbeat IS 'The newest one written when the mark was taken.'")
    op.execute("COMMENT ON COLUMN backup.marks.tick IS 'The period it is of, so that replicas take one.'")
    policies.global_table(
        op,
        "backup.marks",
        "numbers of every tenant, to measure a copy by",
        grants=("SELECT", "INSERT", "DELETE"),
    )
    for table in _SEEN:
        op.execute(_POLICY.format(table=table))
    op.execute(_HIGH_WATER)
    op.execute("REVOKE ALL ON FUNCTION backup.high_water(text) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION backup.high_water(text) TO holdfast_backup")
