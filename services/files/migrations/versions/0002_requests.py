"""The used request_ids."""

from alembic import op

from libs import idempotency

revision = "files_0002"
down_revision = "files_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    idempotency.create_table(op, "files")


def downgrade() -> None:
    op.execute("DROP TABLE files.requests")
