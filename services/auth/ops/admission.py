"""What the edge may let through: the credential, the session behind it, and the rules of the route, in that order of
cheapness.

Only who the credential stands for is remembered, under the stamp of the epoch feed at the moment it was read; route,
Origin, content type
and CSRF are judged anew on every call. So a remembered answer can never say yes for another route, and a hit reads no
database.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from libs.clock import Clock
from libs.errors import Unauthenticated, Unavailable
from libs.principal import User
from services.auth.adapters.minting import Minter
from services.auth.domain.admission import Ask, Credential, Guard, credential
from services.auth.domain.credential import AccessHandle, open_access
from services.auth.domain.errors import SessionEnded
from services.auth.domain.keyring import Keyring
from services.auth.domain.people import Standing
from services.auth.domain.session import Live
from services.auth.ops import Begin
from services.auth.ops.feed import DENIES_SECONDS, EMPTIES_SECONDS, EpochFeed, Stamp
from services.auth.store import sessions

REMEMBERED_FOR = timedelta(seconds=30)
"""How long a minted token is handed out again: half its life, so that each one leaves with at least the other half."""
_ENTRIES = 65_536
_READ_SECONDS = 0.9  # the edge gives up after one second


@dataclass(frozen=True, slots=True)
class Admitted:
    """The call may pass. user_token: "" for a public call. keep_cookies: the method itself reads a cookie."""

    user_token: str
    keep_cookies: bool = False


@dataclass(frozen=True, slots=True)
class _Known:
    standing: Standing
    token: str
    stamp: Stamp
    until: datetime


class Admission:
    """Decides; the same instance for `quick` (no await, hits only) and `decide` (reads rows)."""

    def __init__(
        self,
        *,
        begin: Begin,
        feed: EpochFeed,
        minter: Minter,
        cookie_keys: Callable[[], Keyring],
        guard: Guard,
        now: Clock,
    ) -> None:
        self._begin, self._feed, self._minter, self._guard = begin, feed, minter, guard
        self._cookie_keys, self._now = cookie_keys, now
        self._keys: Keyring | None = None
        self._known: dict[bytes, _Known] = {}

    def quick(self, ask: Ask) -> Admitted | None:
        """The answer when it needs no row; None when it does. Raises AppError for a denial that needs none."""
        self._guard.before(ask)
        if ask.public:
            return Admitted("", keep_cookies=ask.reads_cookie)
        shown = credential(ask)
        if shown is None:
            raise Unauthenticated("Sign in first.")
        self._refuse_when_stale()
        known = self._remembered(_key(ask, shown))
        return None if known is None else self._admit(ask, shown, known)

    async def decide(self, ask: Ask) -> Admitted:
        """The answer. Raises AppError for every denial; any fault denies."""
        found = self.quick(ask)
        shown = credential(ask)
        if found is not None or shown is None:
            return found or Admitted("")
        handle = open_access(shown.text, self._cookie_keys(), now=self._now())
        if handle is None:
            raise Unauthenticated("The credential is not valid (any more): refresh the session or sign in.")
        stamp = self._feed.stamp(handle.organization_id, handle.user_id, handle.session_id)
        live = await self._live(handle)
        token, expires_at = self._minter.mint(live.standing, ask.audience)
        until = min(expires_at - REMEMBERED_FOR, handle.expires_at, live.idle_expires_at)
        known = _Known(live.standing, token, stamp, until)
        self._remember(_key(ask, shown), known)
        return self._admit(ask, shown, known)

    def _admit(self, ask: Ask, shown: Credential, known: _Known) -> Admitted:
        self._guard.after(ask, shown, known.standing, now=self._now())
        return Admitted(known.token, keep_cookies=ask.reads_cookie)

    async def _live(self, handle: AccessHandle) -> Live:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                return await self._read(handle)
        except TimeoutError:
            raise Unavailable("The session could not be looked up in time.", retry_after_seconds=1.0) from None

    async def _read(self, handle: AccessHandle) -> Live:
        async with self._begin(User(handle.organization_id, handle.user_id, handle.session_id)) as tx:
            live = await sessions.live(tx, handle.organization_id, handle.user_id, handle.session_id)
            if live is not None and not live.seen and handle.generation == live.generation:
                await sessions.seen(tx, handle.session_id, handle.generation)
        if live is None:
            raise SessionEnded("The session has ended: sign in again.")
        return live

    def _refuse_when_stale(self) -> None:
        age = self._feed.age_seconds()
        if age > EMPTIES_SECONDS:
            self._known.clear()
        if age > DENIES_SECONDS:
            raise Unavailable("Whether sessions have ended is not known at the moment.", retry_after_seconds=1.0)

    def _remembered(self, key: bytes) -> _Known | None:
        keys = self._cookie_keys()
        if keys is not self._keys:
            self._keys, self._known = keys, {}  # a withdrawn key takes what it signed with it
        known = self._known.get(key)
        if known is None or known.until <= self._now():
            return None
        who = known.standing
        return known if known.stamp == self._feed.stamp(who.organization_id, who.user_id, who.session_id) else None

    def _remember(self, key: bytes, known: _Known) -> None:
        if len(self._known) >= _ENTRIES:
            now = self._now()
            alive = [(each, entry) for each, entry in self._known.items() if entry.until > now]
            self._known = dict(alive[-_ENTRIES // 2 :])
        self._known[key] = known


def _key(ask: Ask, shown: Credential) -> bytes:
    return hashlib.sha256(f"{ask.audience}\0{shown.text}".encode("utf-8", "surrogatepass")).digest()
