"""Auth's answer to "which of these sessions have ended"."""

from collections.abc import Callable, Sequence
from typing import Protocol

import grpc

from holdfast.auth.v1 import token_service_pb2 as pb
from holdfast.auth.v1.token_service_pb2_grpc import TokenServiceStub
from libs.errors import Unavailable
from libs.rpc.channel import channel
from services.events.domain.session import SessionRef

MOST_SESSIONS = 10_000
"""How many one question may hold; the contract's bound."""


class Sessions(Protocol):
    """Whoever knows which sessions are alive."""

    async def ended(self, sessions: Sequence[SessionRef]) -> set[str]:
        """The ids of those that are not alive, unknown ones included. Raises Unavailable when nobody can say."""
        ...


class AuthSessions:
    """Asks auth's TokenService over gRPC with this service's own token. Also a libs.process.Part.

    service_token: makes a fresh x-service-token for each call. timeout_seconds: for one question.
    """

    def __init__(
        self, address: str, *, service_token: Callable[[], str], timeout_seconds: float, ca_file: str = ""
    ) -> None:
        self._address, self._ca_file = address, ca_file
        self._service_token = service_token
        self._timeout_seconds = timeout_seconds
        self._channel: grpc.aio.Channel | None = None

    async def ended(self, sessions: Sequence[SessionRef]) -> set[str]:
        """As Sessions.ended, in questions of at most MOST_SESSIONS."""
        found: set[str] = set()
        for first in range(0, len(sessions), MOST_SESSIONS):
            found |= await self._ask(sessions[first : first + MOST_SESSIONS])
        return found

    async def start(self) -> None:
        """Make the channel; it connects when first used."""
        self._channel = channel(
            self._address,
            ca_file=self._ca_file or None,
            service_token=self._service_token,
            timeout_seconds=self._timeout_seconds,
        )

    def refuse(self) -> None:
        """Nothing: open streams still want to know."""

    async def drain(self, seconds: float) -> None:
        """Nothing: calls are short."""

    async def stop(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close(None)
            self._channel = None

    async def _ask(self, sessions: Sequence[SessionRef]) -> set[str]:
        if self._channel is None:
            raise Unavailable("Auth cannot be asked before the start.")
        refs = [
            pb.SessionRef(
                organization_id=each.organization_id, user_id=each.user_id, session_id=each.session_id
            )
            for each in sessions
        ]  # fmt: skip
        try:
            answer = await TokenServiceStub(self._channel).CheckSessions(pb.CheckSessionsRequest(sessions=refs))
        except grpc.aio.AioRpcError as error:
            raise Unavailable("Auth does not say which sessions are alive.", code=error.code().name) from error
        return set(answer.ended_session_ids)
