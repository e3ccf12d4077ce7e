"""Sign in: the password, the lock, the organization, and an open session."""

import secrets
from collections.abc import Callable
from dataclasses import replace

from libs import audit
from libs.db import Tx
from libs.errors import AppError
from libs.principal import Account as AccountPrincipal
from libs.principal import User
from services.auth.adapters.hasher import Hasher, Verified
from services.auth.domain import email as addresses
from services.auth.domain import password as passwords
from services.auth.domain.credential import OPAQUE_BYTES, RefreshToken
from services.auth.domain.errors import EmailNotVerified, OrganizationNotFound, OrganizationRequired, SignInFailed
from services.auth.domain.keyring import digest
from services.auth.domain.people import Account, Member, failed, locked, succeeded
from services.auth.domain.session import Lifetimes, Session, absolute_end, idle_end
from services.auth.ops import AUTH, Begin
from services.auth.ops.issue import Issued, Issuer
from services.auth.store import people, sessions


class SignIn:
    """Opens sessions."""

    def __init__(
        self, *, begin: Begin, hasher: Hasher, issuer: Issuer, lifetimes: Lifetimes, ids: Callable[[], str]
    ) -> None:
        self._begin, self._hasher, self._issuer, self._lifetimes, self._ids = begin, hasher, issuer, lifetimes, ids

    async def sign_in(
        self, email: str, password: str, *, organization_id: str, delivery: str, remember: bool
    ) -> Issued:
        """Open a session. organization_id: "" when the person is in one only. delivery: TOKENS or COOKIES.

        Raises SignInFailed (one answer for a wrong password, an unknown address, a locked and a disabled account),
        EmailNotVerified, OrganizationRequired, OrganizationNotFound, Overloaded.
        """
        async with self._begin(AUTH) as tx:
            account = await people.by_email(tx, addresses.key(email))
        found = await self._hasher.verify(account.password_hash if account else None, passwords.normal(password))
        rehashed = await self._hasher.hash(passwords.normal(password)) if found.matches and found.outdated else ""
        if account is None:
            await self._nobody()
            raise _refused()
        async with self._begin(AccountPrincipal(account.id)) as tx:
            outcome = await self._judged(tx, account, found, rehashed)
            entered = await people.memberships(tx, account.id) if outcome is None else []
        if outcome is not None:
            raise outcome  # only now: the failure is counted although the call fails
        return await self._open(_chosen(entered, organization_id), delivery=delivery, remember=remember)

    async def _nobody(self) -> None:
        """The same work for an address nobody has: a transaction and an audit entry."""
        async with self._begin(AUTH) as tx:
            await audit.record(tx, "session.refused", outcome="failure", cause="no such account")

    async def _judged(self, tx: Tx, read: Account, found: Verified, rehashed: str) -> AppError | None:
        """Count the attempt on the locked row; None when the person may come in."""
        account = await people.lock(tx, read.id)
        if account is None or account.disabled_at is not None or locked(account, now=tx.now()):
            await audit.record(tx, "session.refused", outcome="failure", account=read.id, cause="locked or disabled")
            return _refused()
        if not found.matches or account.password_hash != read.password_hash:
            counted = failed(account, now=tx.now())
            await people.save_account(tx, counted)
            cause = "wrong password, now locked" if locked(counted, now=tx.now()) else "wrong password"
            await audit.record(tx, "session.refused", outcome="failure", account=account.id, cause=cause)
            return _refused()
        cleared = replace(succeeded(account), password_hash=rehashed or account.password_hash)
        if cleared != account:
            await people.save_account(tx, cleared)
        if account.email_verified_at is None:
            return EmailNotVerified("Confirm the e-mail address first: a token was mailed to it.")
        return None

    async def _open(self, member: Member, *, delivery: str, remember: bool) -> Issued:
        first = RefreshToken(member.organization_id, member.user_id, self._ids(), 0, secrets.token_bytes(OPAQUE_BYTES))
        who = User(member.organization_id, member.user_id, first.session_id, member.role)
        async with self._begin(who) as tx:
            session = await self._session(tx, member, first, delivery=delivery, remember=remember)
            await sessions.add(tx, session)
            await audit.record(tx, "session.opened", session=session.id, mode=delivery)
            described = await people.me(tx, member.organization_id, member.user_id)
        return replace(self._issuer.issue(session, first), me=described)

    async def _session(self, tx: Tx, member: Member, first: RefreshToken, *, delivery: str, remember: bool) -> Session:
        epochs = await sessions.epochs(tx, member.organization_id, member.user_id)
        if epochs is None:
            raise _refused()
        now = tx.now()
        expires_at = absolute_end(remember, self._lifetimes, now=now)
        return Session(
            organization_id=member.organization_id,
            user_id=member.user_id,
            id=first.session_id,
            delivery=delivery,
            remembered=remember,
            operator=await sessions.is_operator(tx, member.account_id),
            user_epoch=epochs[0],
            organization_epoch=epochs[1],
            installation_epoch=epochs[2],
            generation=0,
            refresh_digest=digest(first.opaque),
            refresh_kid=self._issuer.current_kid(),
            rotated_at=now,
            seen_at=None,
            idle_expires_at=idle_end(expires_at, remember, self._lifetimes, now=now),
            expires_at=expires_at,
            created_at=now,
        )


def _chosen(members: list[Member], organization_id: str) -> Member:
    if organization_id:
        for member in members:
            if member.organization_id == organization_id:
                return member
        raise OrganizationNotFound("You are not in this organization.", organization=organization_id)
    if len(members) > 1:
        raise OrganizationRequired("You are in several organizations: name the one to enter.", count=len(members))
    if not members:
        raise _refused()
    return members[0]


def _refused() -> SignInFailed:
    return SignInFailed("E-mail or password is wrong, or the account is locked for a while.")
