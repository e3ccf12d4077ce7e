"""Accounts (people), organizations, and users (a person in one organization).

Every tenant row of every service points at auth.users (organization_id, id), so this is the first revision of all.
"""

from alembic import op

from libs.db import policies

revision = "a0001"
down_revision = None
branch_labels = None
depends_on = None

ACCOUNTS = """
CREATE TABLE auth.accounts (
    id text PRIMARY KEY CHECK (id ~ '^[a-z0-9]{1,40}$'),
    email text NOT NULL CHECK (length(email) BETWEEN 3 AND 255),
    email_key text NOT NULL UNIQUE,
    email_verified_at timestamptz,
    display_name text NOT NULL CHECK (length(display_name) <= 100),
    password_hash text NOT NULL,
    failed_attempts integer NOT NULL DEFAULT 0 CHECK (failed_attempts >= 0),
    locked_until timestamptz,
    disabled_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
)
"""

ORGANIZATIONS = """
CREATE TABLE auth.organizations (
    id text PRIMARY KEY CHECK (id ~ '^[a-z0-9]{1,40}$'),
    organization_id text NOT NULL GENERATED ALWAYS AS (id) STORED,  -- what policies compare with
    display_name text NOT NULL CHECK (length(display_name) <= 100),
    tier text NOT NULL DEFAULT 'free' CHECK (tier IN ('free', 'solo', 'team', 'organization')),
    epoch bigint NOT NULL DEFAULT 0,
    disabled_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
)
"""

USERS = """
CREATE TABLE auth.users (
    organization_id text NOT NULL,
    id text NOT NULL CHECK (id ~ '^[a-z0-9]{1,40}$'),
    account_id text NOT NULL REFERENCES auth.accounts (id),
    role text NOT NULL CHECK (role IN ('MEMBER', 'ADMIN', 'OWNER')),
    display_name text NOT NULL CHECK (length(display_name) <= 100),
    epoch bigint NOT NULL DEFAULT 0,
    disabled_at timestamptz,
    tombstoned_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, id),
    UNIQUE (id),
    UNIQUE (organization_id, account_id)
)
"""

# Never DELETE: rows of other schemas hang on them, so who leaves is tombstoned.
KEPT = ("SELECT", "INSERT", "UPDATE")


def upgrade() -> None:
    op.execute("CREATE SCHEMA IF NOT EXISTS auth")
    op.execute(ACCOUNTS)
    policies.global_table(op, "auth.accounts", "a person exists before any organization is entered", grants=KEPT)
    op.execute(ORGANIZATIONS)
    policies.organization_table(op, "auth.organizations", grants=KEPT, references=False)
    op.execute(USERS)
    op.execute("CREATE INDEX users_by_account ON auth.users (account_id)")
    policies.organization_table(op, "auth.users", grants=KEPT, account_column="account_id")
