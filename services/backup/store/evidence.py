"""Rows of evidence: a mirror of the journal, appended in its order, so that with a record all before it are there."""

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from libs.db import Tx
from services.backup.domain.evidence import Other, Row
from services.backup.store.tables import evidence


async def append(tx: Tx, rows: Sequence[Row]) -> None:
    """Add *rows*; those that are there already stay as they are."""
    await tx.execute(insert(evidence).values([asdict(row) for row in rows]).on_conflict_do_nothing())


async def known(tx: Tx, digest: str) -> bool:
    """Whether the record with this digest is there."""
    return (await tx.execute(select(evidence.c.digest).where(evidence.c.digest == digest))).first() is not None


async def behind(tx: Tx, chain: str, sequence: int, limit: int) -> list[bytes]:
    """Lines of the first *limit* records of *chain* behind number *sequence*, in order."""
    query = select(evidence.c.line).where(evidence.c.chain == chain, evidence.c.sequence > sequence)
    found = await tx.execute(query.order_by(evidence.c.sequence).limit(limit))
    return [str(row[0]).encode() for row in found]


async def count(tx: Tx, chain: str) -> int:
    """The number of the last record of *chain*, 0 when there is none."""
    query = select(func.max(evidence.c.sequence)).where(evidence.c.chain == chain)
    return (await tx.execute(query)).scalar_one_or_none() or 0


async def others(tx: Tx, chain: str) -> list[Other]:
    """Chains that are not *chain*, in the order in which they came."""
    begin = func.min(evidence.c.mirrored_at)
    query = select(evidence.c.chain, func.max(evidence.c.sequence), begin, func.max(evidence.c.mirrored_at))
    query = query.where(evidence.c.chain != chain).group_by(evidence.c.chain).order_by(begin, evidence.c.chain)
    return [Other(*tuple(row)) for row in await tx.execute(query)]


async def forked(tx: Tx, chain: str) -> int:
    """The first number that two records of *chain* have, 0 when there is none."""
    doubled = select(evidence.c.sequence).where(evidence.c.chain == chain).group_by(evidence.c.sequence)
    query = doubled.having(func.count() > 1).order_by(evidence.c.sequence).limit(1)
    return (await tx.execute(query)).scalar_one_or_none() or 0
