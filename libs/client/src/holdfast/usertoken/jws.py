"""The signed envelope both kinds of token share: compact JWS with HMAC-SHA256 and nothing else.

The algorithm is fixed here; the header's `alg` is compared, never obeyed. Source: RFC 7515; RFC 8725 sections 3.1 and
3.11.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

from holdfast.usertoken.keys import Key, Keys, encode
from holdfast.usertoken.keys import decode as decode_base64

ALGORITHM = "HS256"
MAX_BYTES = 4096
MAX_LIFETIME_SECONDS = 60
SKEW_SECONDS = 5


class TokenError(Exception):
    """A token that is not believed; the text says why, and holds nothing of the token."""


def sign(claims: Mapping[str, Any], key: Key, *, typ: str) -> str:
    """The compact token of *claims* under *key*."""
    header = {"alg": ALGORITHM, "kid": key.kid, "typ": typ}
    signed = f"{encode(_json(header))}.{encode(_json(claims))}"
    return f"{signed}.{encode(hmac.digest(key.secret, signed.encode(), hashlib.sha256))}"


def parts(token: str, *, typ: str) -> tuple[str, dict[str, Any], bytes, str]:
    """kid, claims, the signed bytes and the signature of a token that is not yet believed. Raises TokenError."""
    if len(token) > MAX_BYTES:
        raise TokenError("the token is too long")
    head, dot, rest = token.partition(".")
    body, dot_two, signature = rest.partition(".")
    if not (dot and dot_two and head and body and signature):
        raise TokenError("not a compact JWS")
    header, claims = _object(head), _object(body)
    if header.get("alg") != ALGORITHM:
        raise TokenError("the algorithm is not the one in use")
    if header.get("typ") != typ:
        raise TokenError("the token is of another type")
    kid = header.get("kid")
    if not isinstance(kid, str) or "crit" in header:
        raise TokenError("the header names no key, or asks for an extension")
    return kid, claims, token[: len(head) + 1 + len(body)].encode("ascii"), signature


def opened(token: str, *, typ: str, keys: Callable[[dict[str, Any]], Keys | None]) -> dict[str, Any]:
    """The claims of a token whose signature is right. *keys* picks the keys from the claims not yet believed. Raises
    TokenError.
    """
    kid, claims, signed, signature = parts(token, typ=typ)
    known = keys(claims)
    key = None if known is None else known.find(kid)
    if key is None:
        raise TokenError("signed with a key that is not in use")
    # The expected signature is compared in its encoded form, so that no second spelling of the same bytes is believed.
    expected = encode(hmac.digest(key.secret, signed, hashlib.sha256))
    if not hmac.compare_digest(expected, signature):
        raise TokenError("the signature is not right")
    return claims


def check_times(claims: Mapping[str, Any], now: float) -> tuple[int, int]:
    """(iat, exp) when they hold at *now* (seconds since the epoch). Raises TokenError."""
    issued, expires = claims.get("iat"), claims.get("exp")
    if type(issued) is not int or type(expires) is not int:
        raise TokenError("iat and exp have to be whole numbers")
    if issued > now + SKEW_SECONDS:
        raise TokenError("issued in the future")
    if expires <= now:
        raise TokenError("expired")
    if not 0 < expires - issued <= MAX_LIFETIME_SECONDS:
        raise TokenError(f"lives longer than {MAX_LIFETIME_SECONDS} seconds")
    return issued, expires


def text_claim(claims: Mapping[str, Any], name: str, *, optional: bool = False) -> str:
    """A claim that has to be text; "" when it is absent and *optional*. Raises TokenError."""
    value = claims.get(name, "" if optional else None)
    if not isinstance(value, str) or not (value or optional):
        raise TokenError(f"the claim {name} is missing or not text")
    return value


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _object(segment: str) -> dict[str, Any]:
    try:
        value = json.loads(decode_base64(segment))
    except (ValueError, RecursionError):
        raise TokenError("a part is not base64url of JSON") from None
    if not isinstance(value, dict):
        raise TokenError("a part is not a JSON object")
    return value
