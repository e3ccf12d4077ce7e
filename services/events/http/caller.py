"""Who asks: the user token the edge has put on the request, exactly once."""

from collections.abc import Callable
from datetime import datetime

from holdfast.usertoken import Claims, TokenError
from libs.errors import AccessDenied, Unauthenticated
from libs.http1 import Request
from libs.principal import User
from libs.rpc.errors import InvalidUserToken
from libs.rpc.policy import ROLES, RoutePolicy

Verify = Callable[[str, datetime], Claims]
_HEADER = "x-user-token"


def caller(request: Request, policy: RoutePolicy, verify: Verify, now: datetime) -> User:
    """The user of *request*, allowed by *policy*. Raises Unauthenticated, InvalidUserToken, AccessDenied."""
    values = request.values(_HEADER)
    if not values:
        raise Unauthenticated("Sign in first.")
    if len(values) != 1 or "," in values[0]:
        raise InvalidUserToken("The token on this call is not valid here.")
    try:
        claims = verify(values[0], now)
    except TokenError:
        raise InvalidUserToken("The token on this call is not valid here.") from None
    if claims.role not in ROLES[policy.access]:
        raise AccessDenied("Your role in the organization does not allow this.", role=claims.role)
    return User(
        claims.organization_id, claims.user_id, claims.session_id, claims.role, claims.scopes, claims.actor
    )  # fmt: skip
