"""TokenService: for Holdfast's own services, by service token."""

from google.protobuf.timestamp_pb2 import Timestamp

from holdfast.auth.v1 import token_service_pb2 as pb
from holdfast.auth.v1 import token_service_pb2_grpc
from libs import names
from libs.errors import AccessDenied
from libs.principal import System
from libs.rpc.call import Context, principal
from services.auth.ops.exchange import Exchange
from services.auth.ops.sessions import Sessions


class TokenServicer(token_service_pb2_grpc.TokenServiceServicer):
    """Token exchange and liveness."""

    def __init__(self, *, exchange: Exchange, sessions: Sessions) -> None:
        self._exchange, self._sessions = exchange, sessions

    async def ExchangeToken(self, request: pb.ExchangeTokenRequest, context: Context) -> pb.ExchangeTokenResponse:
        """A user token for another audience, with the calling service as its actor."""
        caller = principal(context)
        if not isinstance(caller, System):
            raise AccessDenied("Only a service may do this.")
        wanted = names.USER.parse(request.user, field="user")
        token, expires_at = await self._exchange.exchange(
            caller.service, wanted["organization"], wanted["user"], request.audience
        )
        expire_time = Timestamp()
        expire_time.FromDatetime(expires_at)
        return pb.ExchangeTokenResponse(user_token=token, expire_time=expire_time)

    async def CheckSessions(self, request: pb.CheckSessionsRequest, context: Context) -> pb.CheckSessionsResponse:
        """Which of many sessions have ended, in one round trip to the database."""
        asked = [(each.organization_id, each.user_id, each.session_id) for each in request.sessions]
        return pb.CheckSessionsResponse(ended_session_ids=await self._sessions.ended_among(asked))
