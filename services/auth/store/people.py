"""Rows of accounts, organizations and users."""

from typing import Any

from sqlalchemy import RowMapping, Select, func, select, update
from sqlalchemy.dialects.postgresql import insert

from libs.db import Tx
from services.auth.domain.people import Account, Member, Standing
from services.auth.store.tables import accounts, organizations, users

_ACCOUNT = select(
    accounts.c.id,
    accounts.c.email,
    accounts.c.email_verified_at,
    accounts.c.display_name,
    accounts.c.password_hash,
    accounts.c.failed_attempts,
    accounts.c.locked_until,
    accounts.c.disabled_at,
)
_MEMBER = select(
    users.c.organization_id,
    users.c.id.label("user_id"),
    users.c.account_id,
    users.c.role,
    users.c.display_name,
    users.c.created_at,
)


async def by_email(tx: Tx, email_key: str) -> Account | None:
    """The account with this folded address."""
    return await _account(tx, _ACCOUNT.where(accounts.c.email_key == email_key))


async def account(tx: Tx, account_id: str) -> Account | None:
    """The account with this id."""
    return await _account(tx, _ACCOUNT.where(accounts.c.id == account_id))


async def lock(tx: Tx, account_id: str) -> Account | None:
    """The account, row locked until *tx* ends."""
    return await _account(tx, _ACCOUNT.where(accounts.c.id == account_id).with_for_update())


async def add_account(tx: Tx, made: Account, email_key: str) -> bool:
    """Insert *made*; False, and nothing done, when the address is taken, even by a transaction that commits
    meanwhile.
    """
    row = {
        "id": made.id,
        "email": made.email,
        "email_key": email_key,
        "display_name": made.display_name,
        "password_hash": made.password_hash,
        "created_at": tx.now(),
    }
    statement = insert(accounts).values(row).on_conflict_do_nothing(index_elements=["email_key"])
    return (await tx.execute(statement.returning(accounts.c.id))).first() is not None


async def save_account(tx: Tx, changed: Account) -> None:
    """Write what sign-in and verification change."""
    values = {
        "email_verified_at": changed.email_verified_at,
        "display_name": changed.display_name,
        "password_hash": changed.password_hash,
        "failed_attempts": changed.failed_attempts,
        "locked_until": changed.locked_until,
    }
    await tx.execute(update(accounts).where(accounts.c.id == changed.id).values(values))


async def add_organization(tx: Tx, organization_id: str, display_name: str) -> None:
    """Insert the organization that *tx* is armed for."""
    row = {"id": organization_id, "display_name": display_name, "created_at": tx.now()}
    await tx.execute(insert(organizations).values(row))


async def add_member(tx: Tx, made: Member) -> None:
    """Insert a user of the organization that *tx* is armed for."""
    row = {
        "organization_id": made.organization_id,
        "id": made.user_id,
        "account_id": made.account_id,
        "role": made.role,
        "display_name": made.display_name,
        "created_at": made.created_at,
    }
    await tx.execute(insert(users).values(row))


async def memberships(tx: Tx, account_id: str) -> list[Member]:
    """The organizations this person may enter, oldest first; *tx* is armed for the account."""
    alive = users.c.disabled_at.is_(None) & users.c.tombstoned_at.is_(None)
    chosen = _MEMBER.where(users.c.account_id == account_id, alive).order_by(users.c.created_at, users.c.id)
    return [_member(row) for row in (await tx.execute(chosen)).mappings()]


async def me(tx: Tx, organization_id: str, user_id: str) -> tuple[Member, str, str] | None:
    """(the user, its e-mail address, its organization's display name); *tx* is armed for the user."""
    chosen = (
        _MEMBER.add_columns(accounts.c.email, organizations.c.display_name.label("organization_display_name"))
        .join(accounts, accounts.c.id == users.c.account_id)
        .join(organizations, organizations.c.id == users.c.organization_id)
        .where(users.c.organization_id == organization_id, users.c.id == user_id)
    )
    row = (await tx.execute(chosen)).mappings().one_or_none()
    return None if row is None else (_member(row), row["email"], row["organization_display_name"])


async def standing(tx: Tx, organization_id: str, user_id: str) -> Standing | None:
    """The user as the first half of the liveness predicate sees it; None when it, its organization or person is
    disabled.
    """
    asked = select("*").select_from(func.auth.live_user(organization_id, user_id))
    row = (await tx.execute(asked)).mappings().one_or_none()
    return None if row is None else Standing(organization_id, user_id, "", row["role"], row["tier"], row["user_epoch"])


async def _account(tx: Tx, chosen: Select[Any]) -> Account | None:
    row = (await tx.execute(chosen)).mappings().one_or_none()
    return None if row is None else Account(**row)


def _member(row: RowMapping) -> Member:
    return Member(
        row["organization_id"], row["user_id"], row["account_id"], row["role"], row["display_name"], row["created_at"]
    )
