"""Rows of mailed link tokens: digests only."""

from datetime import datetime

from sqlalchemy import delete, insert, select, update

from libs.db import Tx
from services.auth.store.tables import link_tokens


async def add(tx: Tx, digest: bytes, account_id: str, purpose: str, expires_at: datetime) -> None:
    """Remember a token that is about to be mailed."""
    row = {"digest": digest, "account_id": account_id, "purpose": purpose, "created_at": tx.now(), "expires_at": expires_at}
    await tx.execute(insert(link_tokens).values(row))


async def use(tx: Tx, digest: bytes, purpose: str) -> str | None:
    """The account of an unused, unexpired token, which is used now; None when there is none. Only one of two callers gets it."""
    fresh = link_tokens.c.used_at.is_(None) & (link_tokens.c.expires_at > tx.now())
    taken = (
        update(link_tokens)
        .where(link_tokens.c.digest == digest, link_tokens.c.purpose == purpose, fresh)
        .values(used_at=tx.now())
        .returning(link_tokens.c.account_id)
    )
    return (await tx.execute(taken)).scalar_one_or_none()


async def withdraw(tx: Tx, account_id: str, purpose: str) -> None:
    """Forget the account's tokens for this purpose."""
    gone = delete(link_tokens).where(link_tokens.c.account_id == account_id, link_tokens.c.purpose == purpose)
    await tx.execute(gone)


async def outstanding(tx: Tx, account_id: str, purpose: str) -> int:
    """How many unexpired tokens the account has for this purpose."""
    alive = select(link_tokens.c.digest).where(
        link_tokens.c.account_id == account_id, link_tokens.c.purpose == purpose, link_tokens.c.expires_at > tx.now()
    )
    return len((await tx.execute(alive)).all())
