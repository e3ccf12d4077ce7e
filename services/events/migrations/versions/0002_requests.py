"""The used request_ids in the shape every service keeps them (libs.idempotency)."""

from alembic import op

from libs import idempotency

revision = "events_0002"
down_revision = "events_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    idempotency.create_table(op, "events")
    # Its fingerprints are made otherwise, so its rows cannot be taken over; they only ever lived for a day.
    op.execute("DROP TABLE events.publications")
