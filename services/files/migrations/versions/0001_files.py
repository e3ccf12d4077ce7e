"""Files by path, and the ledger of their versions, from the declared upload to the removed bytes."""

from alembic import op

from libs.db.policies import user_table

revision = "files_0001"
down_revision = None
branch_labels = None
depends_on = None

_FILES = """
CREATE TABLE files.files (
    organization_id text NOT NULL,
    user_id text NOT NULL,
    id text NOT NULL CHECK (id ~ '^[a-z0-9]{1,40}$'),
    path text COLLATE "C" NOT NULL CHECK (octet_length(path) BETWEEN 1 AND 1024),
    generation bigint NOT NULL CHECK (generation >= 0),
    version_id text,
    size_bytes bigint NOT NULL CHECK (size_bytes >= 0),
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    content_type text NOT NULL CHECK (octet_length(content_type) <= 255),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz,
    PRIMARY KEY (organization_id, user_id, id)
);
CREATE UNIQUE INDEX files_live_path ON files.files (organization_id, user_id, path) WHERE deleted_at IS NULL;
COMMENT ON COLUMN files.files.path IS 'NFC; collation C orders by code point.';
COMMENT ON COLUMN files.files.deleted_at IS 'A tombstone: the bytes are kept until the recovery window has passed.';
"""

_VERSIONS = """
CREATE TABLE files.versions (
    organization_id text NOT NULL,
    user_id text NOT NULL,
    id text NOT NULL CHECK (id ~ '^[a-z0-9]{1,40}$'),
    object_id text NOT NULL CHECK (object_id ~ '^[a-z0-9]{1,40}$'),
    file_id text,
    path text COLLATE "C" NOT NULL CHECK (octet_length(path) BETWEEN 1 AND 1024),
    state text NOT NULL CHECK (state IN ('pending', 'ready', 'expired', 'superseded')),
    declared_bytes bigint NOT NULL CHECK (declared_bytes >= 0),
    content_type text NOT NULL CHECK (octet_length(content_type) <= 255),
    size_bytes bigint,
    sha256 bytea CHECK (octet_length(sha256) = 32),
    generation bigint CHECK (generation > 0),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    finished_at timestamptz,
    PRIMARY KEY (organization_id, user_id, id),
    FOREIGN KEY (organization_id, user_id, file_id) REFERENCES files.files (organization_id, user_id, id),
    CHECK (state NOT IN ('ready', 'superseded')
        OR (file_id, size_bytes, sha256, generation, finished_at) IS NOT NULL AND size_bytes = declared_bytes)
);
CREATE INDEX versions_of_file ON files.versions (organization_id, user_id, file_id, generation)
    WHERE file_id IS NOT NULL;
COMMENT ON COLUMN files.versions.object_id IS 'With user_id before and id after it, the key in the object store.';
COMMENT ON COLUMN files.versions.expires_at IS 'The job put with the pending row removes it then, if unfinished.';
"""


def upgrade() -> None:
    op.execute(_FILES)
    user_table(op, "files.files")
    op.execute(_VERSIONS)
    user_table(op, "files.versions")


def downgrade() -> None:
    op.execute("DROP TABLE files.versions, files.files")
