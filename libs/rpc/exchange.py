"""Acting for a user at another service without a call of theirs at hand, as jobs do: a token by exchange with auth.

A job carries ids only. What auth allows (which service may act where, which users are disabled) is asked when the call
is made, and the token it gives lives for a minute.
"""

import asyncio

import grpc

from holdfast.auth.v1 import token_service_pb2, token_service_pb2_grpc
from libs import names
from libs.principal import Principal, User
from libs.rpc.call import USER_TOKEN, Metadata

_KEPT_SECONDS = 20.0
_MOST = 4096


class Exchange:
    """auth: a channel to the auth service with this service's `service_token` (libs.rpc.channel)."""

    def __init__(self, auth: grpc.aio.Channel) -> None:
        self._stub = token_service_pb2_grpc.TokenServiceStub(auth)
        self._kept: dict[tuple[str, str, str], tuple[str, float]] = {}

    async def metadata(self, who: Principal, audience: str) -> Metadata:
        """The `metadata` of a call to the service *audience* as *who*, such as a lease's principal; for one call, made
        at once. Tokens are used for 20 seconds before another is asked for.

        Raises ValueError for a principal that is no user, grpc.aio.AioRpcError when auth refuses or is away.
        """
        if not isinstance(who, User):
            raise ValueError(f"only users have tokens for {audience}")
        key, now = (who.organization_id, who.user_id, audience), asyncio.get_running_loop().time()
        token, until = self._kept.get(key, ("", 0.0))
        if until <= now:
            user = names.USER.format(organization=who.organization_id, user=who.user_id)
            request = token_service_pb2.ExchangeTokenRequest(user=user, audience=audience)
            token = (await self._stub.ExchangeToken(request)).user_token
            if len(self._kept) >= _MOST:
                self._kept.clear()
            self._kept[key] = (token, now + _KEPT_SECONDS)
        return ((USER_TOKEN, token),)
