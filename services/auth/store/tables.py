"""The tables as the migrations made them."""

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Integer, LargeBinary, MetaData, Table, Text

metadata = MetaData(schema="auth")
_At = DateTime(timezone=True)

accounts = Table(
    "accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("email", Text),
    Column("email_key", Text),
    Column("email_verified_at", _At),
    Column("display_name", Text),
    Column("password_hash", Text),
    Column("failed_attempts", Integer),
    Column("locked_until", _At),
    Column("disabled_at", _At),
    Column("created_at", _At),
)

organizations = Table(
    "organizations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("display_name", Text),
    Column("tier", Text),
    Column("epoch", BigInteger),
    Column("disabled_at", _At),
    Column("created_at", _At),
)

users = Table(
    "users",
    metadata,
    Column("organization_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("account_id", Text),
    Column("role", Text),
    Column("display_name", Text),
    Column("epoch", BigInteger),
    Column("disabled_at", _At),
    Column("tombstoned_at", _At),
    Column("created_at", _At),
)

link_tokens = Table(
    "link_tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text),
    Column("purpose", Text),
    Column("digest", LargeBinary),
    Column("password_hash", Text),
    Column("created_at", _At),
    Column("expires_at", _At),
    Column("used_at", _At),
)

sessions = Table(
    "sessions",
    metadata,
    Column("organization_id", Text, primary_key=True),
    Column("user_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("delivery", Text),
    Column("remembered", Boolean),
    Column("operator", Boolean),
    Column("user_epoch", BigInteger),
    Column("organization_epoch", BigInteger),
    Column("installation_epoch", BigInteger),
    Column("generation", Integer),
    Column("refresh_digest", LargeBinary),
    Column("refresh_kid", Text),
    Column("rotated_at", _At),
    Column("seen_at", _At),
    Column("idle_expires_at", _At),
    Column("expires_at", _At),
    Column("created_at", _At),
    Column("ended_at", _At),
    Column("ended_why", Text),
)

installation = Table("installation", metadata, Column("epoch", BigInteger))

operators = Table("operators", metadata, Column("account_id", Text, primary_key=True))

epoch_feed = Table(
    "epoch_feed",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("transaction_id", Text),
    Column("subject_kind", Text),
    Column("subject_id", Text),
    Column("created_at", _At),
)
