"""Heartbeats, the counter that keeps them dense, and the mirror of drills and backups."""

from alembic import op

from libs.db import policies

revision = "backup_0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = (
    """
    CREATE TABLE backup.heartbeat_counter (
        id integer PRIMARY KEY DEFAULT 1 CHECK (id = 1),
        newest bigint NOT NULL CHECK (newest >= 0)
    ) WITH (fillfactor = 50)
    """,
    "INSERT INTO backup.heartbeat_counter (newest) VALUES (0)",
    """
    CREATE TABLE backup.heartbeats (
        sequence bigint PRIMARY KEY CHECK (sequence > 0),
        created_at timestamptz NOT NULL,
        lsn pg_lsn NOT NULL,
        timeline integer NOT NULL CHECK (timeline > 0),
        wal text NOT NULL CHECK (wal ~ '^[0-9A-F]{24}$'),
        signature text NOT NULL CHECK (signature ~ '^[0-9a-f]{64}$'),
        tick bigint UNIQUE
    )
    """,
    "CREATE INDEX heartbeats_created_at ON backup.heartbeats (created_at)",
    """
    CREATE TABLE backup.drills (
        id text PRIMARY KEY,
        state text NOT NULL CHECK (state IN ('PENDING', 'RUNNING', 'SUCCEEDED', 'FAILED')),
        created_at timestamptz NOT NULL,
        ended_at timestamptz,
        document jsonb NOT NULL
    )
    """,
)


def upgrade() -> None:
    for statement in _TABLES:
        op.execute(statement)
    policies.global_table(
        op, "backup.heartbeat_counter", "one counter of the installation", grants=("SELECT", "UPDATE")
    )
    policies.global_table(
        op, "backup.heartbeats", "marks in the history of the whole database", grants=("SELECT", "INSERT")
    )
    policies.global_table(
        op, "backup.drills", "a drill restores the whole installation", grants=("SELECT", "INSERT", "UPDATE")
    )
    op.execute("COMMENT ON COLUMN backup.heartbeats.wal IS 'The last segment that can hold the commit of this row.'")
    op.execute(
        "COMMENT ON COLUMN backup.heartbeats.tick IS 'Period of the loop, so that replicas write one; null on demand.'"
    )
    op.execute(
        "COMMENT ON COLUMN backup.drills.document IS 'Mirror: the journal on the disk of the service is the truth.'"
    )
