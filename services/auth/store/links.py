"""Rows of mailed link tokens: digests only."""

from datetime import datetime, timedelta

from sqlalchemy import func, insert, select, update

from libs.db import Tx
from services.auth.domain.people import Link
from services.auth.store.tables import link_tokens

_LINK = select(
    link_tokens.c.id,
    link_tokens.c.account_id,
    link_tokens.c.password_hash,
    link_tokens.c.expires_at,
    link_tokens.c.used_at,
)


async def add(tx: Tx, made: Link, purpose: str) -> None:
    """Insert a link that is about to be mailed."""
    row = {
        "id": made.id,
        "account_id": made.account_id,
        "purpose": purpose,
        "password_hash": made.password_hash,
        "created_at": tx.now(),
        "expires_at": made.expires_at,
    }
    await tx.execute(insert(link_tokens).values(row))


async def lock(tx: Tx, link_id: str) -> Link | None:
    """The link, row locked until *tx* ends."""
    row = (await tx.execute(_LINK.where(link_tokens.c.id == link_id).with_for_update())).mappings().one_or_none()
    return None if row is None else Link(**row)


async def set_token(tx: Tx, link_id: str, digest: bytes, expires_at: datetime) -> None:
    """Make *digest* the link's token: one mailed before for the same link is worth nothing from now on."""
    await tx.execute(
        update(link_tokens).where(link_tokens.c.id == link_id).values(digest=digest, expires_at=expires_at)
    )


async def use(tx: Tx, digest: bytes, purpose: str) -> Link | None:
    """The unused, unexpired link with this token, which is used now; None when there is none. Only one of two callers
    gets it.
    """
    fresh = link_tokens.c.used_at.is_(None) & (link_tokens.c.expires_at > tx.now())
    taken = (
        update(link_tokens)
        .where(link_tokens.c.digest == digest, link_tokens.c.purpose == purpose, fresh)
        .values(used_at=tx.now())
        .returning(*_LINK.selected_columns)
    )
    row = (await tx.execute(taken)).mappings().one_or_none()
    return None if row is None else Link(**row)


async def mailed(tx: Tx, account_id: str, purpose: str, within: timedelta) -> int:
    """How many tokens were mailed to the account lately."""
    chosen = select(func.count()).where(
        link_tokens.c.account_id == account_id,
        link_tokens.c.purpose == purpose,
        link_tokens.c.digest.is_not(None),
        link_tokens.c.created_at > tx.now() - within,
    )
    found: int = (await tx.execute(chosen)).scalar_one()
    return found
