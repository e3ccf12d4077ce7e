"""rotate() gives way: whoever reads the history for long must not make every completion wait behind it."""

from alembic import op

revision, down_revision = "0006", "0005"
branch_labels = depends_on = None


def upgrade() -> None:
    op.execute("ALTER FUNCTION jobs.rotate(integer) SET lock_timeout = '100ms'")
