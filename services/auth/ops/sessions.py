"""What happens to an open session: refresh, sign-out, questions about it."""

from datetime import datetime

from libs import audit
from libs.db import Tx
from libs.errors import AppError
from libs.principal import User
from services.auth.domain.credential import RefreshToken, open_refresh, successor
from services.auth.domain.errors import RefreshTokenInvalid, RefreshTokenReused, SessionEnded
from services.auth.domain.keyring import digest
from services.auth.domain.session import Lifetimes, Session, Verdict, ended, judge, rotated
from services.auth.ops import AUTH, Begin
from services.auth.ops.issue import Issued, Issuer, Me
from services.auth.store import people, sessions

_Refreshed = tuple[Session, RefreshToken]


class Sessions:
    """Everything after sign-in."""

    def __init__(self, *, begin: Begin, issuer: Issuer, lifetimes: Lifetimes) -> None:
        self._begin, self._issuer, self._lifetimes = begin, issuer, lifetimes

    async def refresh(self, presented: str) -> Issued:
        """New credentials for a refresh token. Raises RefreshTokenInvalid, RefreshTokenReused.

        When an old token comes back, the whole session is ended, and that commits although the call fails.
        """
        token = open_refresh(presented, self._issuer.keys())
        if token is None:
            raise _invalid()
        async with self._begin(User(token.organization_id, token.user_id, token.session_id)) as tx:
            outcome = await self._judged(tx, token)
        if isinstance(outcome, AppError):
            raise outcome  # only now, after the commit
        return self._issuer.issue(*outcome)

    async def sign_out(self, who: User) -> None:
        """End the caller's session; every replica's edge learns it within two seconds. Twice is no error."""
        async with self._begin(who) as tx:
            found = await sessions.lock(tx, who.session_id)
            if found is None or found.ended_at is not None:
                return
            await sessions.save(tx, ended(found, "signed_out", now=tx.now()))
            await audit.record(tx, "session.ended", session=found.id, cause="signed_out")

    async def me(self, who: User) -> tuple[Me, Session | None, str]:
        """(the caller, its session, a fresh CSRF token); no session and no token where a service acts for the user."""
        async with self._begin(who) as tx:
            found = await people.me(tx, who.organization_id, who.user_id)
            session = await sessions.find(tx, who.session_id) if who.session_id else None
        if found is None or (who.session_id and (session is None or session.ended_at is not None)):
            raise SessionEnded("The session has ended.")
        return found, session, self._issuer.csrf(who.user_id, who.session_id) if session else ""

    async def ended_among(self, subjects: list[tuple[str, str, str]], now: datetime | None = None) -> list[str]:
        """The ids of those (organization, user, session) that are not alive, unknown ones included."""
        async with self._begin(AUTH) as tx:
            return await sessions.ended_among(tx, subjects, now or tx.now())

    async def _judged(self, tx: Tx, token: RefreshToken) -> _Refreshed | AppError:
        """Decide on the locked row: whoever comes second sees what the first one did."""
        session = await sessions.lock(tx, token.session_id)
        live = await sessions.live(tx, token.organization_id, token.user_id, token.session_id) if session else None
        if session is None or live is None:
            return _invalid()
        match judge(session, token.generation, digest(token.opaque), now=tx.now()):
            case Verdict.ROTATE:
                return await self._rotated(tx, session, token)
            case Verdict.REPEAT:
                return self._repeated(session, token)
            case Verdict.REUSED:
                await sessions.save(tx, ended(session, "refresh_token_reused", now=tx.now()))
                await audit.record(tx, "session.refresh_token_reused", outcome="failure", session=session.id)
                return RefreshTokenReused("An old refresh token came back, so the session was ended: sign in again.")
            case _:
                return _invalid()

    async def _rotated(self, tx: Tx, session: Session, token: RefreshToken) -> _Refreshed:
        kid = self._issuer.current_kid()
        following = successor(token, self._issuer.keys(), kid)
        changed = rotated(session, digest=digest(following.opaque), kid=kid, lifetimes=self._lifetimes, now=tx.now())
        await sessions.save(tx, changed)
        await audit.record(tx, "session.refreshed", session=session.id)
        return changed, following

    def _repeated(self, session: Session, token: RefreshToken) -> _Refreshed | AppError:
        """The very successor the first answer gave, made again from its parent."""
        if self._issuer.keys().find(session.refresh_kid) is None:
            return _invalid()
        following = successor(token, self._issuer.keys(), session.refresh_kid)
        return (session, following) if digest(following.opaque) == session.refresh_digest else _invalid()


def _invalid() -> RefreshTokenInvalid:
    return RefreshTokenInvalid("The refresh token is not valid (any more): sign in again.")
