"""Mailed link tokens, sessions, the installation's epoch, and the feed by which every replica learns what has ended."""

from alembic import op

from libs.db import policies

revision = "a0002"
down_revision = "a0001"
branch_labels = None
depends_on = None

# digest is set when the mail goes out. password_hash is what this registration chose: the link that is followed
# decides, so that
# nobody else who registered the same address meanwhile gets in with theirs.
LINK_TOKENS = """
CREATE TABLE auth.link_tokens (
    id text PRIMARY KEY CHECK (id ~ '^[a-z0-9]{1,40}$'),
    account_id text NOT NULL REFERENCES auth.accounts (id),
    purpose text NOT NULL CHECK (purpose IN ('verify_email')),
    digest bytea UNIQUE CHECK (length(digest) = 32),
    password_hash text NOT NULL,
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
    operator boolean NOT NULL DEFAULT false,
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

# transaction_id lets a reader ask for "everything that was not yet visible at my last snapshot" without gaps and
# without
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

# The one liveness predicate, in its two halves. Exchange asks the first; the edge, refresh and streams ask the second.
LIVE_USER = """
CREATE FUNCTION auth.live_user(organization text, person text)
RETURNS TABLE (account_id text, role text, tier text, user_epoch bigint, organization_epoch bigint)
LANGUAGE sql STABLE SECURITY INVOKER AS $$
    SELECT u.account_id, u.role, o.tier, u.epoch, o.epoch
    FROM auth.users u
    JOIN auth.organizations o ON o.id = u.organization_id
    JOIN auth.accounts a ON a.id = u.account_id
    WHERE u.organization_id = organization AND u.id = person
      AND u.disabled_at IS NULL AND u.tombstoned_at IS NULL AND o.disabled_at IS NULL AND a.disabled_at IS NULL
$$
"""

LIVE_SESSION = """
CREATE FUNCTION auth.live_session(organization text, person text, session text, moment timestamptz)
RETURNS TABLE (account_id text, role text, tier text, user_epoch bigint, operator boolean,
               delivery text, generation integer, seen boolean, idle_expires_at timestamptz, expires_at timestamptz)
LANGUAGE sql STABLE SECURITY INVOKER AS $$
    SELECT l.account_id, l.role, l.tier, l.user_epoch,
           s.operator AND EXISTS (SELECT FROM auth.operators p WHERE p.account_id = l.account_id),
           s.delivery, s.generation, s.seen_at IS NOT NULL, s.idle_expires_at, s.expires_at
    FROM auth.sessions s, auth.installation i, auth.live_user(organization, person) l
    WHERE s.organization_id = organization AND s.user_id = person AND s.id = session
      AND s.ended_at IS NULL AND s.expires_at > moment AND s.idle_expires_at > moment
      AND s.user_epoch = l.user_epoch AND s.organization_epoch = l.organization_epoch
      AND s.installation_epoch = i.epoch
$$
"""

# One round trip for a whole heartbeat: arms each session's own user in turn, so that no statement ever reads across
# tenants.
ENDED_SESSIONS = """
CREATE FUNCTION auth.ended_sessions(organizations text[], people text[], sessions text[], moment timestamptz)
RETURNS text[] LANGUAGE plpgsql SECURITY INVOKER AS $$
DECLARE
    ended text[] := '{}';
BEGIN
    FOR n IN 1 .. coalesce(array_length(sessions, 1), 0) LOOP
        PERFORM set_config('holdfast.organization_id', organizations[n], true),
                set_config('holdfast.user_id', people[n], true);
        IF NOT EXISTS (SELECT FROM auth.live_session(organizations[n], people[n], sessions[n], moment)) THEN
            ended := ended || sessions[n];
        END IF;
    END LOOP;
    PERFORM set_config('holdfast.organization_id', '', true), set_config('holdfast.user_id', '', true);
    RETURN ended;
END $$
"""

# Whatever changes who may do what writes the feed, be it an operation of ours or a statement typed by hand.
FEED = """
CREATE FUNCTION auth.feed() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER AS $$
BEGIN
    INSERT INTO auth.epoch_feed (subject_kind, subject_id)
    VALUES (TG_ARGV[0], coalesce(to_jsonb(NEW) ->> TG_ARGV[1], ''));
    RETURN NULL;
END $$
"""
FEED_TRIGGERS = (
    """
    CREATE TRIGGER feed AFTER UPDATE ON auth.sessions FOR EACH ROW
    WHEN (OLD.ended_at IS DISTINCT FROM NEW.ended_at OR OLD.expires_at > NEW.expires_at)
    EXECUTE FUNCTION auth.feed('session', 'id')
    """,
    """
    CREATE TRIGGER feed AFTER UPDATE ON auth.users FOR EACH ROW
    WHEN ((OLD.epoch, OLD.role, OLD.disabled_at, OLD.tombstoned_at)
          IS DISTINCT FROM (NEW.epoch, NEW.role, NEW.disabled_at, NEW.tombstoned_at))
    EXECUTE FUNCTION auth.feed('user', 'id')
    """,
    """
    CREATE TRIGGER feed AFTER UPDATE ON auth.organizations FOR EACH ROW
    WHEN ((OLD.epoch, OLD.tier, OLD.disabled_at) IS DISTINCT FROM (NEW.epoch, NEW.tier, NEW.disabled_at))
    EXECUTE FUNCTION auth.feed('organization', 'id')
    """,
    """
    CREATE TRIGGER feed AFTER UPDATE ON auth.installation FOR EACH ROW
    EXECUTE FUNCTION auth.feed('installation', 'epoch')
    """,
    # An account has no epoch of its own; disabling one is rare, so every replica forgets everything.
    """
    CREATE TRIGGER feed AFTER UPDATE ON auth.accounts FOR EACH ROW
    WHEN (OLD.disabled_at IS DISTINCT FROM NEW.disabled_at)
    EXECUTE FUNCTION auth.feed('installation', 'id')
    """,
)

OPERATORS = """
CREATE TABLE auth.operators (
    account_id text PRIMARY KEY REFERENCES auth.accounts (id),
    reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
    granted_by text NOT NULL DEFAULT session_user,
    created_at timestamptz NOT NULL DEFAULT now()
)
"""


def upgrade() -> None:
    global_tables()
    op.execute(SESSIONS)
    policies.user_table(op, "auth.sessions")
    for statement in (LIVE_USER, LIVE_SESSION, ENDED_SESSIONS, FEED, *FEED_TRIGGERS):
        op.execute(statement)
    # Only the caller's own rights are used (SECURITY INVOKER); the grant keeps the list of callers closed all the same.
    for function in (
        "auth.live_user(text, text)",
        "auth.live_session(text, text, text, timestamptz)",
        "auth.ended_sessions(text[], text[], text[], timestamptz)",
    ):
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM public")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO holdfast_auth")


def global_tables() -> None:
    op.execute(LINK_TOKENS)
    op.execute("CREATE INDEX link_tokens_by_account ON auth.link_tokens (account_id)")
    policies.global_table(op, "auth.link_tokens", "a mailed token is used before its bearer is known; only digests")
    op.execute(INSTALLATION)
    op.execute("INSERT INTO auth.installation DEFAULT VALUES")
    policies.global_table(op, "auth.installation", "one number for the whole installation", grants=("SELECT", "UPDATE"))
    op.execute(EPOCH_FEED)
    op.execute("CREATE INDEX epoch_feed_by_transaction ON auth.epoch_feed (transaction_id)")
    policies.global_table(
        op, "auth.epoch_feed", "opaque ids of what ended, for every replica", grants=("SELECT", "INSERT", "DELETE")
    )
    op.execute(OPERATORS)
    policies.global_table(op, "auth.operators", "accounts that run the installation", grants=("SELECT",))
