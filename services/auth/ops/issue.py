"""A session's credentials, put together the same way at sign-in and at refresh."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from libs.clock import Clock
from services.auth.domain import csrf
from services.auth.domain.credential import AccessHandle, RefreshToken, seal_access, seal_refresh
from services.auth.domain.keyring import Key, Keyring
from services.auth.domain.people import Member
from services.auth.domain.session import Lifetimes, Session, access_end

Me = tuple[Member, str, str]
"""(the user, its e-mail address, its organization's display name)."""


@dataclass(frozen=True, slots=True)
class Issued:
    """An open session and its credentials; prints none of them."""

    session: Session
    access_token: str
    access_expires_at: datetime
    refresh_token: str
    csrf_token: str
    me: Me | None = None

    def __repr__(self) -> str:
        return f"Issued(session={self.session.id!r})"


class Issuer:
    """cookie_keys: asked for at each use, so that a rotation counts at once. csrf_key: its own, never equal to
    another (S6).
    """

    def __init__(
        self,
        *,
        cookie_keys: Callable[[], Keyring],
        csrf_key: Key,
        lifetimes: Lifetimes,
        now: Clock,
        ids: Callable[[], str],
    ) -> None:
        self._cookie_keys, self._csrf_key, self._lifetimes = cookie_keys, csrf_key, lifetimes
        self._now, self._ids = now, ids

    def keys(self) -> Keyring:
        """The keys credentials are signed with."""
        return self._cookie_keys()

    def current_kid(self) -> str:
        """The key that signs now."""
        return self.keys().current.kid

    def issue(self, session: Session, refresh: RefreshToken) -> Issued:
        """Credentials for *session*, whose newest refresh token is *refresh*. Raises KeyError when its key is gone."""
        now = self._now()
        expires_at = access_end(session, self._lifetimes, now=now)
        handle = AccessHandle(
            session.organization_id, session.user_id, session.id, session.generation, expires_at, self._ids()
        )
        keys = self.keys()
        return Issued(
            session=session,
            access_token=seal_access(handle, keys),
            access_expires_at=expires_at,
            refresh_token=seal_refresh(refresh, keys, session.refresh_kid),
            csrf_token=self.csrf(session.user_id, session.id),
        )

    def csrf(self, user_id: str, session_id: str) -> str:
        """A CSRF token for the session, good for 30 minutes."""
        return csrf.issue(self._csrf_key, user_id=user_id, session_id=session_id, now=self._now())
