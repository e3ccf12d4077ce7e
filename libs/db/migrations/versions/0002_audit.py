"""The audit trail: append-only rows, each written in the transaction it tells of; a sealer chains them afterwards."""

from alembic import op

from libs.db import policies
from libs.db.grants import SERVICES, runtime_role

revision, down_revision = "0002", "0001"
branch_labels = depends_on = None

_ROLES = ", ".join(runtime_role(service) for service in SERVICES)


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE audit.entries (
            id text PRIMARY KEY,
            service text NOT NULL,
            organization_id text,
            actor_kind text NOT NULL CHECK (actor_kind IN
                ('user', 'organization', 'account', 'service', 'operator', 'database')),
            actor_id text NOT NULL,
            on_behalf text NOT NULL DEFAULT '',
            action text NOT NULL CHECK (action ~ '^[a-z][a-z0-9_]*(\\.[a-z][a-z0-9_]*)+$' AND length(action) <= 80),
            outcome text NOT NULL CHECK (outcome IN ('success', 'failure', 'refused')),
            request_id text NOT NULL DEFAULT '' CHECK (length(request_id) <= 64),
            trace_id text NOT NULL DEFAULT '' CHECK (length(trace_id) <= 32),
            facts jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(facts) = 'object' AND pg_column_size(facts) <= 8192),
            recorded_at timestamptz NOT NULL DEFAULT transaction_timestamp(),
            sequence bigint,
            previous_hash bytea,
            hash bytea,
            sealed_at timestamptz
        )
        """
    )
    op.execute("CREATE INDEX entries_unsealed ON audit.entries (organization_id, id) WHERE sequence IS NULL")
    op.execute("CREATE UNIQUE INDEX entries_chain ON audit.entries (coalesce(organization_id, ''), sequence)")
    policies.service_table(op, "audit.entries", grants=("INSERT",))
    op.execute(_KEEP)
    op.execute(
        "CREATE TRIGGER entries_keep BEFORE UPDATE OR DELETE ON audit.entries"
        " FOR EACH ROW EXECUTE FUNCTION audit.keep()"
    )
    op.execute(
        "CREATE POLICY entries_database ON audit.entries FOR INSERT TO holdfast_owner"
        " WITH CHECK (service = 'database' AND actor_kind = 'database')"
    )
    op.execute(_NEW_ID)
    op.execute(_RECORD_SQL)
    op.execute("CREATE TRIGGER entries_whole BEFORE TRUNCATE ON audit.entries EXECUTE FUNCTION audit.keep()")


# Binds the owner as well: only the seal may be added, once, to a row that has none.
_KEEP = """
CREATE FUNCTION audit.keep() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.sequence IS NULL AND NEW.sequence IS NOT NULL AND
        to_jsonb(NEW) - '{sequence,previous_hash,hash,sealed_at}'::text[]
        = to_jsonb(OLD) - '{sequence,previous_hash,hash,sealed_at}'::text[] THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'audit.entries is append-only' USING ERRCODE = '42501';
END
$$
"""

# The same make as libs.ids: 48 bits of milliseconds and 80 random bits in Crockford's base 32.
_NEW_ID = """
CREATE FUNCTION audit.new_id() RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT string_agg(substr('0123456789abcdefghjkmnpqrstvwxyz',
                             1 + substr(bits, 1 + 5 * place, 5)::bit(5)::integer, 1), '' ORDER BY place)
    FROM (SELECT '00' || floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint::bit(48)::text
                 || right(('x' || replace(gen_random_uuid()::text, '-', ''))::bit(128)::text, 40)
                 || right(('x' || replace(gen_random_uuid()::text, '-', ''))::bit(128)::text, 40) AS bits) AS made,
         generate_series(0, 25) AS place
$$
"""

# For triggers on what people change by SQL: the entry names the database role that signed in, whoever it has become
# since.
_RECORD_SQL = """
CREATE FUNCTION audit.record_sql(action text, facts jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO audit.entries (id, service, actor_kind, actor_id, action, outcome, facts)
    VALUES (audit.new_id(), 'database', 'database', session_user::text, action, 'success', facts)
$$
"""
