"""The mirror of evidence: rows are added, and never changed or removed."""

from alembic import op

from libs.db import policies

revision = "backup_0002"
down_revision = "backup_0001"
branch_labels = None
depends_on = None

_TABLE = """
    CREATE TABLE backup.evidence (
        digest text PRIMARY KEY CHECK (digest ~ '^[0-9a-f]{64}$'),
        chain text NOT NULL,
        sequence bigint NOT NULL CHECK (sequence > 0),
        kind text NOT NULL,
        subject text NOT NULL,
        line text NOT NULL,
        mirrored_at timestamptz NOT NULL DEFAULT now()
    )
"""
# Not for the service, which has no such grant, but for whoever has more than it should: a slip is refused too.
_KEPT = """
    CREATE FUNCTION backup.evidence_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'evidence is kept: backup.evidence takes no %', TG_OP USING ERRCODE = 'insufficient_privilege';
    END $$
"""


def upgrade() -> None:
    op.execute(_TABLE)
    op.execute("CREATE INDEX evidence_sequence ON backup.evidence (chain, sequence)")
    op.execute(_KEPT)
    op.execute("REVOKE ALL ON FUNCTION backup.evidence_is_kept() FROM PUBLIC")
    op.execute(
        "CREATE TRIGGER kept BEFORE UPDATE OR DELETE OR TRUNCATE ON backup.evidence"
        " FOR EACH STATEMENT EXECUTE FUNCTION backup.evidence_is_kept()"
    )
    policies.global_table(
        op, "backup.evidence", "what proves or disproves recovery of the whole database", grants=("SELECT", "INSERT")
    )
    op.execute("COMMENT ON COLUMN backup.evidence.line IS 'The record as it was signed, byte for byte.'")
