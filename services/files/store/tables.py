"""The tables of migrations/, as SQLAlchemy Core sees them."""

from sqlalchemy import BigInteger, Column, DateTime, ForeignKeyConstraint, LargeBinary, MetaData, Table, Text

metadata = MetaData(schema="files")
_TIME = DateTime(timezone=True)

files = Table(
    "files",
    metadata,
    Column("organization_id", Text, primary_key=True),
    Column("user_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("path", Text, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("version_id", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("updated_at", _TIME, nullable=False),
    Column("deleted_at", _TIME),
)

versions = Table(
    "versions",
    metadata,
    Column("organization_id", Text, primary_key=True),
    Column("user_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("object_id", Text, nullable=False),
    Column("file_id", Text),
    Column("path", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("declared_bytes", BigInteger, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("size_bytes", BigInteger),
    Column("sha256", LargeBinary),
    Column("generation", BigInteger),
    Column("created_at", _TIME, nullable=False),
    Column("expires_at", _TIME, nullable=False),
    Column("finished_at", _TIME),
    Column("key_id", Text, nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    ForeignKeyConstraint(
        ["organization_id", "user_id", "file_id"], ["files.organization_id", "files.user_id", "files.id"]
    ),
)
