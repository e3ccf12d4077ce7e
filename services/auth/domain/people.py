"""Accounts (people), their users in organizations, and when an account is locked."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

MAX_FAILURES = 5
LOCKED_FOR = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Account:
    """A person: credentials and the proof of the address, known before any organization is entered."""

    id: str
    email: str
    email_verified_at: datetime | None
    display_name: str
    password_hash: str
    failed_attempts: int
    locked_until: datetime | None
    disabled_at: datetime | None

    def __repr__(self) -> str:
        return f"Account(id={self.id!r})"


@dataclass(frozen=True, slots=True)
class Member:
    """An account in one organization: a user, with what is shown of it."""

    organization_id: str
    user_id: str
    account_id: str
    role: str
    display_name: str
    created_at: datetime


def locked(account: Account, *, now: datetime) -> bool:
    """Whether sign-in is refused whatever the password; a lock lifts by itself."""
    return account.locked_until is not None and account.locked_until > now


def failed(account: Account, *, now: datetime) -> Account:
    """*account* after a wrong password: the fifth in a row locks it for 15 minutes, and an expired lock starts the
    count anew.

    While locked nothing is counted, so that an attacker cannot keep the owner out for ever. Source: requirement I3,
    ASVS 5.0 6.1.1.
    """
    if locked(account, now=now):
        return account
    before = 0 if account.locked_until is not None else account.failed_attempts
    failures = before + 1
    return replace(
        account, failed_attempts=failures, locked_until=now + LOCKED_FOR if failures >= MAX_FAILURES else None
    )


def succeeded(account: Account) -> Account:
    """*account* after a right password."""
    return replace(account, failed_attempts=0, locked_until=None)


@dataclass(frozen=True, slots=True)
class Link:
    """A mailed token's row: which account it proves, and the password hash that its registration chose."""

    id: str
    account_id: str
    password_hash: str
    expires_at: datetime
    used_at: datetime | None

    def __repr__(self) -> str:
        return f"Link(id={self.id!r})"


@dataclass(frozen=True, slots=True)
class Standing:
    """What a user may do at this moment, as the liveness predicate found it: the content of a user token.

    session_id is "" where no session stands behind it; epoch is the user's.
    """

    organization_id: str
    user_id: str
    session_id: str
    role: str
    tier: str
    epoch: int
    operator: bool = False


def verified(account: Account, password_hash: str, *, now: datetime) -> Account:
    """*account* with its address proven at *now*, and the password of the registration that was proven."""
    return replace(account, email_verified_at=now, password_hash=password_hash)
