"""Streams, their entries, the epoch, leases and publications; `events.append` is the only way in."""

from alembic import op

revision = "events_0001"
down_revision = None
branch_labels = None
depends_on = None

_ORGANIZATION = "(SELECT NULLIF(current_setting('holdfast.organization_id', true), ''))"
_USER = "(SELECT NULLIF(current_setting('holdfast.user_id', true), ''))"
_OWN = f"organization_id = {_ORGANIZATION} AND user_id = {_USER}"
# An armed organization without a user (an administrator's operation) may append to any of its own users.
_APPENDABLE = f"organization_id = {_ORGANIZATION} AND ({_USER} IS NULL OR user_id = {_USER})"

_TABLES = """
CREATE TABLE events.streams (
    service text NOT NULL DEFAULT 'events' CHECK (service = 'events'),
    organization_id text NOT NULL,
    user_id text NOT NULL,
    newest_offset bigint NOT NULL CHECK (newest_offset > 0),
    oldest_offset bigint NOT NULL CHECK (oldest_offset > 0),
    kept_events integer NOT NULL DEFAULT 10000 CHECK (kept_events > 0),
    PRIMARY KEY (organization_id, user_id),
    FOREIGN KEY (organization_id, user_id) REFERENCES auth.users (organization_id, id)
) WITH (fillfactor = 50);
COMMENT ON TABLE events.streams IS 'scope: service';
COMMENT ON COLUMN events.streams.newest_offset IS 'Locked by an append until commit: dense, and ordered by commit.';

CREATE TABLE events.entries (
    organization_id text NOT NULL,
    user_id text NOT NULL,
    event_offset bigint NOT NULL CHECK (event_offset > 0),
    type text NOT NULL CHECK (length(type) <= 100 AND type ~ '^[a-z][a-z0-9_]*([.][a-z][a-z0-9_]*)*$'),
    data jsonb NOT NULL CHECK (jsonb_typeof(data) = 'object' AND octet_length(data::text) <= 131072),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, user_id, event_offset),
    FOREIGN KEY (organization_id, user_id) REFERENCES auth.users (organization_id, id)
);
COMMENT ON TABLE events.entries IS 'scope: user';

CREATE TABLE events.publications (
    organization_id text NOT NULL,
    user_id text NOT NULL,
    request_id text NOT NULL,
    fingerprint bytea NOT NULL,
    event_offset bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, user_id, request_id),
    FOREIGN KEY (organization_id, user_id) REFERENCES auth.users (organization_id, id)
);
COMMENT ON TABLE events.publications IS 'scope: user';

CREATE TABLE events.leases (
    service text NOT NULL DEFAULT 'events' CHECK (service = 'events'),
    organization_id text NOT NULL,
    user_id text NOT NULL,
    connection_id text NOT NULL,
    replica text NOT NULL,
    opened_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, user_id, connection_id),
    FOREIGN KEY (organization_id, user_id) REFERENCES auth.users (organization_id, id)
) WITH (fillfactor = 50);
COMMENT ON TABLE events.leases IS 'scope: service';

CREATE TABLE events.epoch (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch text NOT NULL CHECK (epoch ~ '^[0-9a-z]{1,32}$'),
    changed_at timestamptz NOT NULL,
    reason text NOT NULL
);
COMMENT ON TABLE events.epoch IS 'scope: global (one value: which life of the database the offsets belong to)';
"""

_SECURITY = f"""
ALTER TABLE events.streams ENABLE ROW LEVEL SECURITY;
ALTER TABLE events.streams FORCE ROW LEVEL SECURITY;
CREATE POLICY hub_reads ON events.streams FOR SELECT TO holdfast_events USING (service = 'events');
CREATE POLICY append_counts ON events.streams TO holdfast_owner USING ({_APPENDABLE}) WITH CHECK ({_APPENDABLE});

ALTER TABLE events.entries ENABLE ROW LEVEL SECURITY;
ALTER TABLE events.entries FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON events.entries FOR SELECT TO holdfast_events USING ({_OWN});
CREATE POLICY append_writes ON events.entries TO holdfast_owner USING ({_APPENDABLE}) WITH CHECK ({_APPENDABLE});

ALTER TABLE events.publications ENABLE ROW LEVEL SECURITY;
ALTER TABLE events.publications FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON events.publications TO holdfast_events
    USING ({_OWN}) WITH CHECK ({_OWN});

ALTER TABLE events.leases ENABLE ROW LEVEL SECURITY;
ALTER TABLE events.leases FORCE ROW LEVEL SECURITY;
CREATE POLICY hub_leases ON events.leases TO holdfast_events
    USING (service = 'events') WITH CHECK (service = 'events');
"""

# The advisory order for a transaction that appends to several users: call in ascending order of user id.
_APPEND = """
CREATE FUNCTION events.append(organization_id text, user_id text, type text, data jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
#variable_conflict use_column
DECLARE
    armed_organization text := NULLIF(current_setting('holdfast.organization_id', true), '');
    armed_user text := NULLIF(current_setting('holdfast.user_id', true), '');
    given bigint;
    oldest bigint;
    kept integer;
BEGIN
    IF append.organization_id IS DISTINCT FROM armed_organization THEN
        RAISE EXCEPTION 'events.append: not the armed organization' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF append.user_id IS NULL OR (armed_user IS NOT NULL AND append.user_id <> armed_user) THEN
        RAISE EXCEPTION 'events.append: not the armed user' USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO events.streams AS s (organization_id, user_id, newest_offset, oldest_offset)
        VALUES (append.organization_id, append.user_id, 1, 1)
        ON CONFLICT (organization_id, user_id) DO UPDATE SET
            newest_offset = s.newest_offset + 1,
            oldest_offset = greatest(s.oldest_offset, s.newest_offset + 2 - s.kept_events)
        RETURNING s.newest_offset, s.oldest_offset, s.kept_events INTO given, oldest, kept;
    INSERT INTO events.entries (organization_id, user_id, event_offset, type, data)
        VALUES (append.organization_id, append.user_id, given, append.type, append.data);
    IF oldest > 1 THEN
        DELETE FROM events.entries AS e
            WHERE e.organization_id = append.organization_id AND e.user_id = append.user_id AND e.event_offset < oldest;
    END IF;
    RETURN given;
END
$body$;
REVOKE ALL ON FUNCTION events.append(text, text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION events.append(text, text, text, jsonb) TO
    holdfast_auth, holdfast_files, holdfast_events, holdfast_backup;
"""

# The last step of a restore calls it, as the owner: no runtime role may make every client start over.
_EPOCH = """
CREATE FUNCTION events.change_epoch(reason text) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
    INSERT INTO events.epoch AS e (epoch, changed_at, reason)
        VALUES (substr(md5(gen_random_uuid()::text), 1, 12), clock_timestamp(), change_epoch.reason)
        ON CONFLICT (only_row) DO UPDATE SET
            epoch = excluded.epoch, changed_at = excluded.changed_at, reason = excluded.reason
        RETURNING e.epoch
$body$;
REVOKE ALL ON FUNCTION events.change_epoch(text) FROM PUBLIC;
SELECT events.change_epoch('installed');
"""

_GRANTS = """
GRANT USAGE ON SCHEMA events TO holdfast_events, holdfast_files, holdfast_auth, holdfast_backup;
GRANT SELECT ON events.streams, events.entries, events.epoch TO holdfast_events;
GRANT SELECT, INSERT, UPDATE, DELETE ON events.publications, events.leases TO holdfast_events;
"""


def upgrade() -> None:
    for statements in (_TABLES, _SECURITY, _APPEND, _EPOCH, _GRANTS):
        op.execute(statements)


def downgrade() -> None:
    op.execute("DROP FUNCTION events.append(text, text, text, jsonb)")
    op.execute("DROP FUNCTION events.change_epoch(text)")
    op.execute("DROP TABLE events.leases, events.publications, events.entries, events.streams, events.epoch")
