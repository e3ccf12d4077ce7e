"""The service token: how one service shows auth who it is, when no user stands behind the call."""

import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Any

from holdfast.usertoken import jws
from holdfast.usertoken.jws import TokenError
from holdfast.usertoken.keys import Keys

TYP = "holdfast-service+jwt"
LIFETIME_SECONDS = 60


def mint_service_token(name: str, keys: Keys, now: datetime, *, audience: str = "auth") -> str:
    """A token that says "I am the service *name*" to *audience* for 60 seconds from *now* (aware).

    keys: the service's own credential, derived for `service/<name>`.
    """
    issued = int(now.timestamp())
    claims = {
        "iss": name,
        "aud": audience,
        "iat": issued,
        "exp": issued + LIFETIME_SECONDS,
        "jti": secrets.token_urlsafe(12),
    }
    return jws.sign(claims, keys.current, typ=TYP)


class ServiceVerifier:
    """Believes service tokens made for one audience; held by auth alone.

    keys: the keys of a service by its name, None for a name that is not a service.
    """

    def __init__(self, audience: str, keys: Callable[[str], Keys | None]) -> None:
        self.audience = audience
        self._keys = keys

    def verify(self, token: str, now: datetime) -> str:
        """The name of the service that made *token*, which has to hold at *now* (aware). Raises TokenError."""
        raw = jws.opened(token, typ=TYP, keys=self._of)
        jws.check_times(raw, now.timestamp())
        if raw.get("aud") != self.audience:
            raise TokenError("made for another audience")
        return jws.text_claim(raw, "iss")

    def _of(self, claims: dict[str, Any]) -> Keys | None:
        name = claims.get("iss")
        return self._keys(name) if isinstance(name, str) else None
