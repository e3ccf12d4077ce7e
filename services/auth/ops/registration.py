"""Register, verify the address, and the mails between the two."""

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

from libs import audit
from libs.db import Tx
from libs.principal import User
from services.auth.adapters.hasher import Hasher
from services.auth.adapters.mail import Mail
from services.auth.domain import email as addresses
from services.auth.domain import mail as mails
from services.auth.domain import password as passwords
from services.auth.domain.errors import LinkTokenInvalid
from services.auth.domain.job import SendAlreadyRegistered, SendVerification
from services.auth.domain.keyring import digest
from services.auth.domain.people import Account, Link, Member, verified
from services.auth.ops import AUTH, Begin, Put
from services.auth.store import links, people

LINK_LIFETIME = timedelta(hours=24)
MAX_MAILS_A_DAY = 5
_VERIFY = "verify_email"
_NAME_CHARS = 100


class Registration:
    """product: what mails call the installation; link: a page that takes the token after `#`, "" for none."""

    def __init__(
        self, *, begin: Begin, put: Put, hasher: Hasher, mail: Mail, ids: Callable[[], str], product: str, link: str
    ) -> None:
        self._begin, self._put, self._hasher, self._mail, self._ids = begin, put, hasher, mail, ids
        self._product, self._link = product, link

    async def register(self, email: str, password: str, display_name: str, organization_display_name: str) -> None:
        """Make the person, its organization and its user, or tell the owner of a known address; the caller cannot
        tell which.

        Raises EmailRefused, PasswordRefused, Overloaded.
        """
        address = addresses.accept(email)
        # Hashed whether the address is known or not: the answer must not come sooner for one of them.
        hashed = await self._hasher.hash(passwords.accept(password, email=address))
        async with self._begin(AUTH) as tx:
            known = await people.by_email(tx, addresses.key(address))
        if known is None and await self._make(address, hashed, display_name, organization_display_name):
            return
        async with self._begin(AUTH) as tx:
            known = await people.by_email(tx, addresses.key(address))
            if known is not None:
                await self._again(tx, known, hashed)

    async def verify_email(self, token: str) -> str:
        """Use up a mailed token; returns the address. Raises LinkTokenInvalid.

        The password becomes the one chosen by the registration this very mail belongs to.
        """
        async with self._begin(AUTH) as tx:
            used = await links.use(tx, digest(token.encode()), _VERIFY)
            account = await people.lock(tx, used.account_id) if used else None
            if used is None or account is None or account.email_verified_at is not None:
                raise LinkTokenInvalid("The token is unknown, used or expired.")
            await people.save_account(tx, verified(account, used.password_hash, now=tx.now()))
            await audit.record(tx, "account.email_verified", account=account.id)
            return account.email

    async def send_verification(self, link_id: str) -> None:
        """Mail a token for this link, made now so that no job row ever holds one. Raises Unavailable when mail cannot
        leave.
        """
        token = secrets.token_urlsafe(32)
        async with self._begin(AUTH) as tx:
            link = await links.lock(tx, link_id)
            # Locked, so that many mails of one account are counted one after the other.
            account = await people.lock(tx, link.account_id) if link else None
            if link is None or account is None or link.used_at is not None or account.email_verified_at is not None:
                return
            if await links.mailed(tx, account.id, _VERIFY, timedelta(days=1)) >= MAX_MAILS_A_DAY:
                return
            await links.set_token(tx, link_id, digest(token.encode()), tx.now() + LINK_LIFETIME)
        written = mails.verification(
            account.email, token, lifetime=LINK_LIFETIME, product=self._product, link=self._link
        )
        await self._mail.send(written)

    async def send_already_registered(self, account_id: str) -> None:
        """Tell the account's owner. Raises Unavailable when mail cannot leave."""
        async with self._begin(AUTH) as tx:
            account = await people.account(tx, account_id)
        if account is not None:
            await self._mail.send(mails.already_registered(account.email, product=self._product))

    async def _make(self, address: str, hashed: str, display_name: str, organization_display_name: str) -> bool:
        """False, and nothing done, when another registration of the address was quicker."""
        name = display_name.strip() or address.partition("@")[0][:_NAME_CHARS]
        organization_id, user_id = self._ids(), self._ids()
        made = Account(self._ids(), address, None, name, hashed, 0, None, None)
        async with self._begin(User(organization_id, user_id)) as tx:
            if not await people.add_account(tx, made, addresses.key(address)):
                return False
            await people.add_organization(tx, organization_id, organization_display_name.strip() or name)
            await people.add_member(tx, Member(organization_id, user_id, made.id, "OWNER", name, tx.now()))
            await self._ask_for_proof(tx, made.id, hashed, tx.now())
            await audit.record(tx, "account.registered", account=made.id)
        return True

    async def _again(self, tx: Tx, known: Account, hashed: str) -> None:
        await audit.record(tx, "account.registered_again", outcome="failure", account=known.id)
        if known.email_verified_at is None:
            await self._ask_for_proof(tx, known.id, hashed, tx.now())
        else:
            await self._put(tx, SendAlreadyRegistered(known.id))

    async def _ask_for_proof(self, tx: Tx, account_id: str, hashed: str, now: datetime) -> None:
        link = Link(self._ids(), account_id, hashed, now + LINK_LIFETIME, None)
        await links.add(tx, link, _VERIFY)
        await self._put(tx, SendVerification(link.id))
