"""Whoever changes auth.operators by SQL, and nobody else can, leaves an audit entry (I7)."""

from alembic import op

revision = "a0003"
down_revision = "a0002"
branch_labels = None
depends_on = None

# The owner is bound by forced row-level security too; this is the one kind of entry it may write.
OWNER_MAY_AUDIT = """
CREATE POLICY entries_operators ON audit.entries FOR INSERT TO holdfast_owner
WITH CHECK (service = 'auth' AND organization_id IS NULL AND actor_kind = 'database' AND action LIKE 'operator.%')
"""

# An id as libs.ids makes them: ten characters of milliseconds, sixteen at random.
NEW_ID = """
CREATE FUNCTION auth.new_id() RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT string_agg(substr('0123456789abcdefghjkmnpqrstvwxyz', digit + 1, 1), '' ORDER BY place)
    FROM (
        SELECT place, CASE WHEN place < 10
            THEN ((extract(epoch FROM clock_timestamp()) * 1000)::bigint >> (45 - 5 * place)) & 31
            ELSE floor(random() * 32)::bigint END::integer AS digit
        FROM generate_series(0, 25) AS place
    ) AS digits
$$
"""

# The feed row makes every replica forget its decisions, so a removed operator is refused within two seconds.
OPERATORS_CHANGED = """
CREATE FUNCTION auth.operators_changed() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER AS $$
BEGIN
    INSERT INTO auth.epoch_feed (subject_kind, subject_id) VALUES ('installation', 'operators');
    INSERT INTO audit.entries (id, service, actor_kind, actor_id, action, outcome, facts)
    VALUES (auth.new_id(), 'auth', 'database', session_user,
            CASE TG_OP WHEN 'INSERT' THEN 'operator.granted' WHEN 'DELETE' THEN 'operator.removed'
                       ELSE 'operator.changed' END,
            'success',
            jsonb_build_object('account', CASE TG_OP WHEN 'DELETE' THEN OLD.account_id ELSE NEW.account_id END));
    RETURN NULL;
END $$
"""

NO_TRUNCATE = """
CREATE FUNCTION auth.operators_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'auth.operators is not truncated: DELETE leaves an audit entry for each' USING ERRCODE = '42501';
END $$
"""


def upgrade() -> None:
    for statement in (
        OWNER_MAY_AUDIT,
        NEW_ID,
        OPERATORS_CHANGED,
        "CREATE TRIGGER operators_changed AFTER INSERT OR UPDATE OR DELETE ON auth.operators "
        "FOR EACH ROW EXECUTE FUNCTION auth.operators_changed()",
        NO_TRUNCATE,
        "CREATE TRIGGER operators_stay BEFORE TRUNCATE ON auth.operators EXECUTE FUNCTION auth.operators_stay()",
    ):
        op.execute(statement)
