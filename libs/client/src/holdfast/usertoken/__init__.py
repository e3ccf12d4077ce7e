"""The user token: what a service behind Holdfast's edge checks before it believes who is calling.

The edge puts exactly one `x-user-token` on every call it lets through: a JWT (RFC 7519) signed by HMAC-SHA256, at
most 60 seconds old, bound to one audience by a key derived for that audience alone. A service holds its own keys and
can check tokens made for it, but cannot make one that another service believes.

- `Verifier`: token to `Claims`, with a warm cache; `TokenError` says why not
- `Keys`, `parse_keys`, `derive`: key material as `holdfast keys derive` writes it
- `UserTokenInterceptor`, `caller`: protect your own grpc.aio service in ten lines
- `mint_service_token`, `ServiceVerifier`: the token by which one service shows another who it is

Needs nothing beyond the standard library, except for the interceptor, which needs grpcio.
"""

from typing import TYPE_CHECKING

from holdfast.usertoken.claims import Claims, TokenError, Verifier
from holdfast.usertoken.keys import Key, Keys, derive, parse_keys
from holdfast.usertoken.service import ServiceVerifier, mint_service_token

if TYPE_CHECKING:
    from holdfast.usertoken.interceptor import UserTokenInterceptor as UserTokenInterceptor
    from holdfast.usertoken.interceptor import caller as caller

__all__ = [
    "Claims",
    "Key",
    "Keys",
    "ServiceVerifier",
    "TokenError",
    "UserTokenInterceptor",
    "Verifier",
    "caller",
    "derive",
    "mint_service_token",
    "parse_keys",
]


def __getattr__(name: str) -> object:
    """Load gRPC only for those who mount the interceptor."""
    if name in ("UserTokenInterceptor", "caller"):
        from holdfast.usertoken import interceptor

        return getattr(interceptor, name)
    raise AttributeError(name)
