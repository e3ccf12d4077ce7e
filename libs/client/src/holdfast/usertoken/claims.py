"""Verify a user token: signature, type, audience, age; then remember it until it expires."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from holdfast.usertoken import jws
from holdfast.usertoken.jws import TokenError as TokenError
from holdfast.usertoken.keys import Keys

TYP = "holdfast-user+jwt"
ISSUER = "holdfast-auth"
_CACHE_ENTRIES = 8192


@dataclass(frozen=True, slots=True)
class Claims:
    """Who calls, as auth said it. Times are seconds since the epoch.

    Wire: aud audience, sub user_id, org organization_id, sid session_id ("" for exchanged tokens), role MEMBER |
    ADMIN | OWNER, epoch, tier, scope (words between spaces), act {"sub": service that acts for the user}, iat, exp,
    jti.
    """

    audience: str
    user_id: str
    organization_id: str
    session_id: str
    role: str
    epoch: int
    tier: str
    scopes: frozenset[str]
    actor: str
    issued_at: int
    expires_at: int
    id: str


class Verifier:
    """Believes tokens made for one audience.

    keys: asked on every call, so that a reloaded key file counts at once; a new object empties the cache.
    A token is believed from the cache until it expires; what was refused is not remembered.
    """

    def __init__(self, audience: str, keys: Callable[[], Keys]) -> None:
        self.audience = audience
        self._keys = keys
        self._known: Keys | None = None
        self._cache: dict[bytes, Claims] = {}

    def verify(self, token: str, now: datetime) -> Claims:
        """The claims of *token*, which has to hold at *now* (aware). Raises TokenError."""
        keys = self._keys()
        if keys is not self._known:
            self._known = keys
            self._cache.clear()
        seconds = now.timestamp()
        digest = hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=32).digest()
        found = self._cache.get(digest)
        if found is not None and found.expires_at > seconds:
            return found
        claims = self._cold(token, keys, seconds)
        if len(self._cache) >= _CACHE_ENTRIES:
            self._forget(seconds)
        self._cache[digest] = claims
        return claims

    def _cold(self, token: str, keys: Keys, seconds: float) -> Claims:
        raw = jws.opened(token, typ=TYP, keys=lambda _claims: keys)
        issued, expires = jws.check_times(raw, seconds)
        if raw.get("iss") != ISSUER:
            raise TokenError("issued by somebody else")
        if raw.get("aud") != self.audience:
            raise TokenError("made for another audience")
        return _claims(raw, self.audience, issued, expires)

    def _forget(self, seconds: float) -> None:
        """Drop what has expired; when everything is fresh, drop the older half."""
        alive = [(digest, claims) for digest, claims in self._cache.items() if claims.expires_at > seconds]
        self._cache = dict(alive[-_CACHE_ENTRIES // 2 :])


def _claims(raw: dict[str, Any], audience: str, issued: int, expires: int) -> Claims:
    epoch = raw.get("epoch", 0)
    if type(epoch) is not int:
        raise TokenError("the claim epoch is not a number")
    actor = raw.get("act")
    if actor is not None and not isinstance(actor, dict):
        raise TokenError("the claim act is not an object")
    return Claims(
        audience=audience,
        user_id=jws.text_claim(raw, "sub"),
        organization_id=jws.text_claim(raw, "org"),
        session_id=jws.text_claim(raw, "sid", optional=True),
        role=jws.text_claim(raw, "role"),
        epoch=epoch,
        tier=jws.text_claim(raw, "tier", optional=True),
        scopes=frozenset(jws.text_claim(raw, "scope", optional=True).split()),
        actor="" if actor is None else jws.text_claim(actor, "sub"),
        issued_at=issued,
        expires_at=expires,
        id=jws.text_claim(raw, "jti"),
    )
