"""Who is signed in: the access and refresh tokens of one session, renewed by one caller at a time."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from holdfast.auth.v1 import auth_service_pb2 as pb
from holdfast.errors import HoldfastError

EARLY_SECONDS = 30
"""An access token this close to its end is renewed before it is used."""


@dataclass(frozen=True, slots=True)
class Session:
    """One signed-in session. user is its resource name, access_expires_at seconds since the epoch."""

    user: str
    email: str
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    access_expires_at: float = 0.0

    def renewed(self, answer: pb.Session) -> "Session":
        """This session with the tokens of a refresh."""
        return replace(
            self,
            access_token=answer.access_token,
            refresh_token=answer.refresh_token,
            access_expires_at=_seconds(answer),
        )


def opened(answer: pb.SignInResponse) -> Session:
    """The session of a sign-in."""
    tokens = answer.session
    return Session(answer.user.name, answer.user.email, tokens.access_token, tokens.refresh_token, _seconds(tokens))


def _seconds(answer: pb.Session) -> float:
    return answer.access_expire_time.seconds + answer.access_expire_time.nanos / 1e9


class Store(Protocol):
    """Where a session outlives the process; several processes may share one."""

    def load(self) -> Session | None:
        """The session as it is now, None when nobody is signed in."""

    def save(self, session: Session | None) -> None:
        """Keep *session*, or forget it."""

    def locked(self) -> AbstractAsyncContextManager[None]:
        """Held while a refresh token is being used, because it works once."""


class Memory:
    """A store for one process."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._lock = asyncio.Lock()

    def load(self) -> Session | None:
        """What was saved last."""
        return self._session

    def save(self, session: Session | None) -> None:
        """Keep it until the process ends."""
        self._session = session

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """One at a time within this process."""
        async with self._lock:
            yield


class Credentials:
    """Hands out an access token that holds, renewing it once however many calls wait for it."""

    def __init__(self, store: Store, refresh: Callable[[str], Awaitable[pb.Session]]) -> None:
        self.store = store
        self._refresh = refresh

    def session(self) -> Session:
        """Who is signed in. Raises HoldfastError UNAUTHENTICATED when nobody is."""
        found = self.store.load()
        if found is None:
            raise HoldfastError("UNAUTHENTICATED", "Nobody is signed in.", "UNAUTHENTICATED")
        return found

    async def token(self) -> str:
        """An access token that will hold for a while."""
        session = self.session()
        if session.access_expires_at - time.time() < EARLY_SECONDS:
            session = await self.renew(session.access_token)
        return session.access_token

    async def renew(self, stale: str) -> Session:
        """Replace the access token *stale*, unless somebody has done so already."""
        async with self.store.locked():
            session = self.session()
            if session.access_token != stale:
                return session
            renewed = session.renewed(await self._refresh(session.refresh_token))
            self.store.save(renewed)
            return renewed
