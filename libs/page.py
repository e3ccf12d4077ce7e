"""Pages of a list: the size rule and the token that says where the next page begins.

A token is opaque to callers: base64url of (version, digest of the other arguments, position) under HMAC-SHA256. It says
where to go on and nothing about who may: authority comes from the caller's own token each time. Source: AIP-158.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence

from libs.errors import AppError, InvalidArgument, Kind, Violation

DEFAULT = 50
MAXIMUM = 1000
_MAC_BYTES = 16  # truncated as RFC 2104 section 5 allows
_ARGUMENTS_BYTES = 16
_MAX_TOKEN = 4096  # a position of 1024 bytes fits, also when JSON escapes each of them; the contract's bound

Position = tuple[str | int, ...]
"""The keyset of the last row given: the values of the order's columns."""


class PageTokenInvalid(AppError):
    """The token was not made by this service for a list with these arguments."""

    kind, reason = Kind.INVALID, "PAGE_TOKEN_INVALID"


def size(requested: int) -> int:
    """How many rows to give: 0 means DEFAULT, more than MAXIMUM means MAXIMUM. Raises InvalidArgument below 0."""
    if requested < 0:
        raise InvalidArgument(
            "page_size cannot be negative.",
            violations=[Violation("page_size", "cannot be negative")],
            field="page_size",
        )
    return min(requested, MAXIMUM) or DEFAULT


class Tokens:
    """Makes and reads page tokens under one key (≥ 32 bytes, file `page_key`)."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, position: Sequence[str | int], **arguments: object) -> str:
        """The token for the page after *position* of the list with these *arguments* (not page_size, page_token)."""
        told = json.dumps(list(position), separators=(",", ":"), ensure_ascii=False)
        body = b"\x01" + _digest(arguments) + told.encode()
        return base64.urlsafe_b64encode(self._mac(body) + body).rstrip(b"=").decode()

    def open(self, token: str, **arguments: object) -> Position:
        """The position in *token*; () for "", the first page. Raises PageTokenInvalid when it is not this list's."""
        if not token:
            return ()
        try:
            if len(token) > _MAX_TOKEN:
                raise ValueError
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            raise _invalid() from None
        mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(body)):
            raise _invalid()
        # From here on the bytes are our own.
        if body[:1] != b"\x01" or not hmac.compare_digest(body[1 : 1 + _ARGUMENTS_BYTES], _digest(arguments)):
            raise _invalid()
        return tuple(json.loads(body[1 + _ARGUMENTS_BYTES :]))

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, b"holdfast page token" + body, "sha256")[:_MAC_BYTES]


def _digest(arguments: dict[str, object]) -> bytes:
    text = json.dumps(arguments, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).digest()[:_ARGUMENTS_BYTES]


def _invalid() -> PageTokenInvalid:
    return PageTokenInvalid(
        "page_token was not given by this list with these arguments.",
        violations=[Violation("page_token", "was not given by this list with these arguments")],
        field="page_token",
    )
