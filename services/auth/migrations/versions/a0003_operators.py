"""Whoever changes auth.operators by SQL, and nobody else can, leaves an audit entry (I7)."""

from alembic import op

revision = "a0003"
down_revision = "a0002"
branch_labels = None
depends_on = None

# The feed row makes every replica forget its decisions, so a removed operator is refused within two seconds.
OPERATORS_CHANGED = """
CREATE FUNCTION auth.operators_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    action text := CASE TG_OP WHEN 'INSERT' THEN 'operator.granted' WHEN 'DELETE' THEN 'operator.removed' ELSE 'operator.changed' END;
    changed text := CASE TG_OP WHEN 'INSERT' THEN NEW.account_id ELSE OLD.account_id END;
BEGIN
    INSERT INTO auth.epoch_feed (subject_kind, subject_id) VALUES ('installation', 'operators');
    PERFORM audit.record_sql(action, jsonb_build_object('account', changed, 'database_role', session_user::text));
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.execute(OPERATORS_CHANGED)
    op.execute(
        "CREATE TRIGGER operators_changed AFTER INSERT OR UPDATE OR DELETE ON auth.operators "
        "FOR EACH ROW EXECUTE FUNCTION auth.operators_changed()"
    )
