"""The schema backup, as SQLAlchemy Core sees it."""

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    Float,
    Integer,
    MetaData,
    Table,
    Text,
    cast,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import UserDefinedType


class Lsn(UserDefinedType[str]):
    """A pg_lsn, read and written as text, e.g. 0/5000148."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """The type's name in SQL."""
        return "pg_lsn"

    def bind_expression(self, bindvalue: BindParameter[str]) -> ColumnElement[str]:
        """Text to pg_lsn, said aloud: the server would not guess."""
        return cast(bindvalue, self)


metadata = MetaData(schema="backup")

heartbeat_counter = Table(
    "heartbeat_counter", metadata, Column("id", Integer, primary_key=True), Column("newest", BigInteger, nullable=False)
)

heartbeats = Table(
    "heartbeats",
    metadata,
    Column("sequence", BigInteger, primary_key=True),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("lsn", Lsn, nullable=False),
    Column("timeline", Integer, nullable=False),
    Column("wal", Text, nullable=False),
    Column("signature", Text, nullable=False),
    Column("tick", BigInteger, unique=True),
)

marks = Table(
    "marks",
    metadata,
    Column("heartbeat", BigInteger, primary_key=True),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("tenants", JSONB, nullable=False),
    Column("signature", Text, nullable=False),
    Column("tick", BigInteger, nullable=False),
)

drills = Table(
    "drills",
    metadata,
    Column("id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Column("document", JSONB, nullable=False),
)

evidence = Table(
    "evidence",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("chain", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("line", Text, nullable=False),
    Column("mirrored_at", DateTime(timezone=True), nullable=False),
)

exposures = Table(
    "exposures",
    metadata,
    Column("minute", DateTime(timezone=True), primary_key=True),
    Column("exposure_seconds", Float),
    Column("waiting", BigInteger),
    Column("broken", Boolean, nullable=False),
)
