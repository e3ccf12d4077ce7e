"""The wrapped key of each version's bytes, and which of the user's keys wraps it."""

from alembic import op

revision = "files_0003"
down_revision = "files_0002"
branch_labels = None
depends_on = None

# What was stored before has no key and cannot be read any more; '' says so. New rows have to name one.
_KEYS = """
ALTER TABLE files.versions
    ADD COLUMN key_id text NOT NULL DEFAULT '',
    ADD COLUMN wrapped_key bytea NOT NULL DEFAULT '';
ALTER TABLE files.versions
    ALTER COLUMN key_id DROP DEFAULT,
    ALTER COLUMN wrapped_key DROP DEFAULT,
    ADD CHECK (key_id = '' AND wrapped_key = '' OR key_id ~ '^[a-z0-9]{1,40}$' AND octet_length(wrapped_key) = 60);
CREATE INDEX versions_of_key ON files.versions (organization_id, user_id, key_id);
COMMENT ON COLUMN files.versions.key_id IS 'The user''s key that wraps this one; it lies outside the database.';
COMMENT ON COLUMN files.versions.wrapped_key IS 'The key of these bytes alone, wrapped by key_id.';
"""


def upgrade() -> None:
    op.execute(_KEYS)


def downgrade() -> None:
    op.execute("DROP INDEX files.versions_of_key")
    op.execute("ALTER TABLE files.versions DROP COLUMN wrapped_key, DROP COLUMN key_id")
