"""The entry of a change by SQL is made in one place, `audit.record_sql`; the second way to write one is gone."""

from alembic import op

revision = "a0004"
down_revision = "a0003"
branch_labels = None
depends_on = None

# The feed row makes every replica forget its decisions, so a removed operator is refused within two seconds.
OPERATORS_CHANGED = """
CREATE OR REPLACE FUNCTION auth.operators_changed() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER AS $$
BEGIN
    INSERT INTO auth.epoch_feed (subject_kind, subject_id) VALUES ('installation', 'operators');
    PERFORM audit.record_sql(
        CASE TG_OP WHEN 'INSERT' THEN 'operator.granted' WHEN 'DELETE' THEN 'operator.removed'
                   ELSE 'operator.changed' END,
        jsonb_build_object('account', CASE TG_OP WHEN 'DELETE' THEN OLD.account_id ELSE NEW.account_id END));
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.execute(OPERATORS_CHANGED)
    op.execute("DROP POLICY entries_operators ON audit.entries")
    op.execute("DROP FUNCTION auth.new_id()")
