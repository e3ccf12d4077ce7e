"""Sign in, keep files, follow events: the three things of Holdfast in a few lines of asyncio.

    async with holdfast.Client("https://127.0.0.1:8443", ca_file="ca.pem") as client:
        await client.sign_in("ada@example.com", password)
        file = await client.files.upload("notes/today.txt", b"hello")
        async for event in client.events.follow():
            print(event)

Every call has a deadline, is retried only where the contract says it reads, and fails with
`holdfast.errors.HoldfastError`.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import grpc

from holdfast.auth.v1 import auth_service_pb2 as auth
from holdfast.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from holdfast.channel import OPTIONS, retry_config
from holdfast.errors import HoldfastError, from_rpc
from holdfast.events.v1 import event_service_pb2 as events_pb
from holdfast.files.v1 import file_service_pb2 as files_pb
from holdfast.session import Credentials, Memory, Session, Store, opened

TIMEOUT_SECONDS = 15.0
Metadata = tuple[tuple[str, str], ...]
AnswerT = TypeVar("AnswerT")


class Client:
    """One person's connection to one edge; also an async context manager.

    edge_url: `https://host:port`. ca_file: PEM of the authority that signed the edge's certificate, None for the
    system's.
    store: where the session is kept, by default this process. timeout_seconds: deadline of each unary call.
    """

    def __init__(
        self,
        edge_url: str,
        *,
        ca_file: str | Path | None = None,
        store: Store | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        from holdfast.events.follow import Events
        from holdfast.files.transfer import Files

        self.timeout_seconds = timeout_seconds
        self.channel = connect(edge_url, ca_file=ca_file)
        self._auth: Any = AuthServiceStub(self.channel)
        self._credentials = Credentials(store or Memory(), self._refresh)
        self.files = Files(self)
        self.events = Events(self)

    async def __aenter__(self) -> Self:
        """Nothing is sent yet: the connection is made by the first call."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection; the session stays."""
        await self.close()

    async def close(self) -> None:
        """Close the connection; the session stays signed in."""
        await self.channel.close(None)

    @property
    def session(self) -> Session:
        """Who is signed in. Raises HoldfastError UNAUTHENTICATED when nobody is."""
        return self._credentials.session()

    async def register(self, email: str, password: str, *, display_name: str = "", organization: str = "") -> None:
        """Ask for an account; the mail that follows holds the token for `verify_email`."""
        request = auth.RegisterRequest(
            email=email, password=password, display_name=display_name, organization_display_name=organization
        )
        await self._open(self._auth.Register, request)

    async def verify_email(self, token: str) -> None:
        """Prove the address with the token from the mail."""
        await self._open(self._auth.VerifyEmail, auth.VerifyEmailRequest(token=token))

    async def sign_in(self, email: str, password: str, *, organization: str = "") -> Session:
        """Begin a session and keep it. organization: needed when the account belongs to several."""
        request = auth.SignInRequest(
            email=email, password=password, organization=organization, delivery=auth.DELIVERY_TOKENS
        )
        answer: auth.SignInResponse = await self._open(self._auth.SignIn, request)
        session = opened(answer)
        self._credentials.store.save(session)
        return session

    async def sign_out(self) -> None:
        """End the session here and on the server."""
        await self.call(self._auth.SignOut, auth.SignOutRequest())
        self._credentials.store.save(None)

    async def me(self) -> auth.User:
        """The signed-in user."""
        answer: auth.GetMeResponse = await self.call(self._auth.GetMe, auth.GetMeRequest())
        return answer.user

    async def call(
        self, method: Callable[..., Awaitable[Any]], request: object, *, timeout: float | None = None
    ) -> Any:
        """One unary call as the signed-in user; the token is renewed once when the edge no longer takes it."""

        async def once(metadata: Metadata) -> Any:
            return await method(request, metadata=metadata, timeout=timeout or self.timeout_seconds)

        return await self.authorized(once)

    async def authorized(self, once: Callable[[Metadata], Awaitable[AnswerT]]) -> AnswerT:
        """Run *once* with the metadata that signs a call; again with a renewed token when the first was not taken."""
        token = await self._credentials.token()
        try:
            return await self.typed(once(bearer(token)))
        except HoldfastError as refused:
            if refused.code != "UNAUTHENTICATED":
                raise
        session = await self._credentials.renew(token)
        return await self.typed(once(bearer(session.access_token)))

    async def stream(
        self, method: Callable[..., Any], request: object, *, timeout: float | None = None
    ) -> AsyncGenerator[Any, None]:
        """A server stream as the signed-in user."""
        call = method(request, metadata=bearer(await self._credentials.token()), timeout=timeout)
        try:
            async for answer in call:
                yield answer
        except grpc.aio.AioRpcError as fault:
            raise from_rpc(fault) from None
        finally:
            call.cancel()

    @staticmethod
    async def typed(answer: Awaitable[AnswerT]) -> AnswerT:
        """The answer, or its error as HoldfastError."""
        try:
            return await answer
        except grpc.aio.AioRpcError as fault:
            raise from_rpc(fault) from None

    async def _open(self, method: Callable[..., Awaitable[Any]], request: object) -> Any:
        """A unary call that nobody has to be signed in for."""
        return await self.typed(method(request, timeout=self.timeout_seconds))

    async def _refresh(self, refresh_token: str) -> auth.Session:
        answer: auth.RefreshSessionResponse = await self._open(
            self._auth.RefreshSession, auth.RefreshSessionRequest(refresh_token=refresh_token)
        )
        return answer.session


def bearer(token: str) -> Metadata:
    """The metadata that signs a call with an access token. Source: RFC 6750 section 2.1."""
    return (("authorization", f"Bearer {token}"),)


def connect(edge_url: str, *, ca_file: str | Path | None = None) -> grpc.aio.Channel:
    """A TLS channel to the edge. Raises ValueError unless *edge_url* is `https://host[:port]`."""
    parts = urlsplit(edge_url)
    if parts.scheme != "https" or not parts.hostname or parts.path.strip("/"):
        raise ValueError(f"the edge's address has to be https://host:port, not {edge_url}")
    contract = (auth.DESCRIPTOR, files_pb.DESCRIPTOR, events_pb.DESCRIPTOR)
    options = [*OPTIONS, ("grpc.service_config", retry_config(contract))]
    root = None if ca_file is None else Path(ca_file).read_bytes()
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    credentials = grpc.ssl_channel_credentials(root)
    return grpc.aio.secure_channel(f"{host}:{parts.port or 443}", credentials, options=options)
