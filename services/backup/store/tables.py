"""The schema backup, as SQLAlchemy Core sees it."""

from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import JSONB, PG_LSN

metadata = MetaData(schema="backup")

heartbeat_counter = Table(
    "heartbeat_counter", metadata, Column("id", Integer, primary_key=True), Column("newest", BigInteger, nullable=False)
)

heartbeats = Table(
    "heartbeats",
    metadata,
    Column("sequence", BigInteger, primary_key=True),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("lsn", PG_LSN, nullable=False),
    Column("timeline", Integer, nullable=False),
    Column("wal", Text, nullable=False),
    Column("signature", Text, nullable=False),
    Column("tick", BigInteger, unique=True),
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
