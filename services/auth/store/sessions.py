"""Rows of sessions; every look-up runs with row-level security armed from ids that were inside a verified MAC."""

from dataclasses import asdict
from datetime import datetime

from sqlalchemy import func, insert, select, update

from libs.db import Tx
from services.auth.domain.people import Standing
from services.auth.domain.session import Live, Session
from services.auth.store.tables import installation, operators, organizations, sessions, users


async def add(tx: Tx, opened: Session) -> None:
    """Insert a session."""
    await tx.execute(insert(sessions).values(asdict(opened)))


async def lock(tx: Tx, session_id: str) -> Session | None:
    """The session, row locked until *tx* ends; None when this principal has no such row."""
    found = await tx.execute(select(sessions).where(sessions.c.id == session_id).with_for_update())
    row = found.mappings().one_or_none()
    return None if row is None else Session(**row)


async def save(tx: Tx, changed: Session) -> None:
    """Write what refresh and end change; the trigger on the table tells the feed when it ended."""
    values = {
        "generation": changed.generation,
        "refresh_digest": changed.refresh_digest,
        "refresh_kid": changed.refresh_kid,
        "rotated_at": changed.rotated_at,
        "seen_at": changed.seen_at,
        "idle_expires_at": changed.idle_expires_at,
        "ended_at": changed.ended_at,
        "ended_why": changed.ended_why,
    }
    await tx.execute(update(sessions).where(sessions.c.id == changed.id).values(values))


async def epochs(tx: Tx, organization_id: str, user_id: str) -> tuple[int, int, int] | None:
    """(user, organization, installation) epochs a new session begins with; None when the user is not there."""
    asked = (
        select(
            users.c.epoch,
            organizations.c.epoch.label("organization_epoch"),
            installation.c.epoch.label("installation_epoch"),
        )
        .join(organizations, organizations.c.id == users.c.organization_id)
        .join(installation, installation.c.epoch.is_not(None))
        .where(users.c.organization_id == organization_id, users.c.id == user_id, organizations.c.disabled_at.is_(None))
    )
    row = (await tx.execute(asked)).mappings().one_or_none()
    return None if row is None else (row["epoch"], row["organization_epoch"], row["installation_epoch"])


async def is_operator(tx: Tx, account_id: str) -> bool:
    """Whether somebody made this account an operator by SQL."""
    found = await tx.execute(select(operators.c.account_id).where(operators.c.account_id == account_id))
    return found.first() is not None


async def live(tx: Tx, organization_id: str, user_id: str, session_id: str) -> Live | None:
    """The session as the one liveness predicate sees it at tx.now(); None when it is over. Columns:
    auth.live_session.
    """
    asked = select("*").select_from(func.auth.live_session(organization_id, user_id, session_id, tx.now()))
    row = (await tx.execute(asked)).mappings().one_or_none()
    if row is None:
        return None
    standing = Standing(
        organization_id, user_id, session_id, row["role"], row["tier"], row["user_epoch"], operator=row["operator"]
    )
    return Live(standing, row["generation"], row["seen"], row["idle_expires_at"])


async def find(tx: Tx, session_id: str) -> Session | None:
    """The session, not locked."""
    row = (await tx.execute(select(sessions).where(sessions.c.id == session_id))).mappings().one_or_none()
    return None if row is None else Session(**row)


async def seen(tx: Tx, session_id: str, generation: int) -> None:
    """Note that the handle of the newest generation is in use: from now on its parent is no lost reply any more."""
    newest = (sessions.c.id == session_id) & (sessions.c.generation == generation) & sessions.c.seen_at.is_(None)
    await tx.execute(update(sessions).where(newest).values(seen_at=tx.now()))


async def ended_among(tx: Tx, subjects: list[tuple[str, str, str]], now: datetime) -> list[str]:
    """The ids of those (organization, user, session) that are not alive, in one round trip."""
    organization_ids, user_ids, session_ids = (list(column) for column in zip(*subjects, strict=True))
    asked = select(func.auth.ended_sessions(organization_ids, user_ids, session_ids, now))
    ended: list[str] = (await tx.execute(asked)).scalar_one()
    return ended
