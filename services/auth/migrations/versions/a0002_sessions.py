"""Mailed link tokens, sessions, the installation's epoch, and the feed by which every replica learns what has ended."""

from alembic import op

from libs.db import policies

revision = "a0002"
down_revision = "a0001"
branch_labels = None
depends_on = None

LINK_TOKENS = """
CREATE TABLE auth.link_tokens (
    digest bytea PRIMARY KEY CHECK (length(digest) = 32),
    account_id text NOT NULL REFERENCES auth.accounts (id),
    purpose text NOT NULL CHECK (purpose IN ('verify_email')),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz
)
"""

SESSIONS = """
CREATE TABLE auth.sessions (
    organization_id text NOT NULL,
    user_id text NOT NULL,
    id text NOT NULL CHECK (id ~ '^[a-z0-9]{1,40}$'),
    delivery text NOT NULL CHECK (delivery IN ('TOKENS', 'COOKIES')),
    remembered boolean NOT NULL,
    scope text NOT NULL DEFAULT '',
    user_epoch bigint NOT NULL,
    organization_epoch bigint NOT NULL,
    installation_epoch bigint NOT NULL,
    generation integer NOT NULL DEFAULT 0 CHECK (generation >= 0),
    refresh_digest bytea NOT NULL CHECK (length(refresh_digest) = 32),
    refresh_kid text NOT NULL,
    rotated_at timestamptz NOT NULL,
    seen_at timestamptz,
    idle_expires_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    ended_why text NOT NULL DEFAULT '',
    PRIMARY KEY (organization_id, user_id, id),
    UNIQUE (id)
)
"""

INSTALLATION = """
CREATE TABLE auth.installation (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch bigint NOT NULL DEFAULT 0
)
"""

# transaction_id lets a reader ask for "everything that was not yet visible at my last snapshot" without gaps and without
# a lock: a sequence alone would skip rows that commit out of order.
EPOCH_FEED = """
CREATE TABLE auth.epoch_feed (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    subject_kind text NOT NULL CHECK (subject_kind IN ('session', 'user', 'organization', 'installation')),
    subject_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
)
"""

# One round trip for a whole heartbeat: arms each session's own user in turn, so that no statement ever reads across tenants.
ENDED_SESSIONS = """
CREATE FUNCTION auth.ended_sessions(organization_ids text[], user_ids text[], session_ids text[])
RETURNS text[] LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ended text[] := '{}';
    installation_now bigint := (SELECT epoch FROM auth.installation);
BEGIN
    FOR n IN 1 .. coalesce(array_length(session_ids, 1), 0) LOOP
        PERFORM set_config('holdfast.organization_id', organization_ids[n], true),
                set_config('holdfast.user_id', user_ids[n], true);
        IF NOT EXISTS (
            SELECT FROM auth.sessions s
            JOIN auth.users u ON u.organization_id = s.organization_id AND u.id = s.user_id
            JOIN auth.organizations o ON o.organization_id = s.organization_id
            WHERE s.organization_id = organization_ids[n] AND s.user_id = user_ids[n] AND s.id = session_ids[n]
              AND s.ended_at IS NULL AND s.expires_at > now() AND s.idle_expires_at > now()
              AND u.disabled_at IS NULL AND u.tombstoned_at IS NULL AND o.disabled_at IS NULL
              AND s.user_epoch = u.epoch AND s.organization_epoch = o.epoch
              AND s.installation_epoch = installation_now
        ) THEN
            ended := ended || session_ids[n];
        END IF;
    END LOOP;
    PERFORM set_config('holdfast.organization_id', '', true), set_config('holdfast.user_id', '', true);
    RETURN ended;
END $$
"""


def upgrade() -> None:
    op.execute(LINK_TOKENS)
    op.execute("CREATE INDEX link_tokens_by_account ON auth.link_tokens (account_id)")
    policies.global_table(op, "auth.link_tokens", "a mailed token is used before its bearer is known; only digests")
    op.execute(SESSIONS)
    policies.user_table(op, "auth.sessions")
    op.execute(INSTALLATION)
    op.execute("INSERT INTO auth.installation DEFAULT VALUES")
    policies.global_table(op, "auth.installation", "one number for the whole installation")
    op.execute("REVOKE INSERT, DELETE ON auth.installation FROM holdfast_auth")
    op.execute(EPOCH_FEED)
    op.execute("CREATE INDEX epoch_feed_by_transaction ON auth.epoch_feed (transaction_id)")
    policies.global_table(op, "auth.epoch_feed", "opaque ids of what has ended; every replica reads all of it")
    op.execute(ENDED_SESSIONS)
    op.execute("REVOKE ALL ON FUNCTION auth.ended_sessions(text[], text[], text[]) FROM public")
    op.execute("GRANT EXECUTE ON FUNCTION auth.ended_sessions(text[], text[], text[]) TO holdfast_auth")
