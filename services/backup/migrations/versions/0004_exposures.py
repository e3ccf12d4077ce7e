"""RPO exposure, minute by minute: what would have been lost, had the machine been lost then."""

from alembic import op

from libs.db import policies

revision = "backup_0004"
down_revision = "backup_0003"
branch_labels = None
depends_on = None

_TABLE = """
    CREATE TABLE backup.exposures (
        minute timestamptz PRIMARY KEY,
        exposure_seconds double precision CHECK (exposure_seconds >= 0),
        waiting bigint CHECK (waiting >= 0),
        broken boolean NOT NULL
    )
"""


def upgrade() -> None:
    op.execute(_TABLE)
    op.execute("COMMENT ON COLUMN backup.exposures.exposure_seconds IS 'Null: nothing was restorable, or unknown.'")
    op.execute("COMMENT ON COLUMN backup.exposures.waiting IS 'Segments not archived yet; null: the server was away.'")
    policies.global_table(
        op, "backup.exposures", "the whole database is lost or kept at once", grants=("SELECT", "INSERT", "DELETE")
    )
