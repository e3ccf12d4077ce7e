"""A rotating list of MAC keys: `current` signs, all three verify, so that rotation never logs anybody out."""

import base64 as _b64
import binascii
import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from functools import cached_property

MIN_KEY_BYTES = 32
_KID = re.compile(r"[A-Za-z0-9_-]{1,40}")


@dataclass(frozen=True, slots=True)
class Key:
    """One key and the id it is found by."""

    kid: str
    secret: bytes

    def __repr__(self) -> str:
        return f"Key(kid={self.kid!r}, secret=***)"

    def mac(self, purpose: str, message: str) -> bytes:
        """32 bytes that prove *message* for *purpose*; a MAC for one purpose is worth nothing for another. Source:
        RFC 2104.
        """
        return hmac.digest(hmac.digest(self.secret, purpose.encode(), "sha256"), message.encode(), "sha256")


@dataclass(frozen=True)
class Keyring:
    """current signs; standby is known to verifiers before it signs; previous is known until what it signed has
    expired.
    """

    current: Key
    standby: Key | None = None
    previous: Key | None = None

    @cached_property
    def by_kid(self) -> dict[str, Key]:
        """Every key by its id."""
        return {key.kid: key for key in (self.current, self.standby, self.previous) if key is not None}

    def find(self, kid: str) -> Key | None:
        """The key with this id."""
        return self.by_kid.get(kid)


def parse(raw: bytes) -> Keyring:
    """The keyring in a mounted file: {"current": {"kid", "key"}, "standby": … | null, "previous": … | null}, keys in
    base64url.

    Raises ValueError, naming no value, when the shape is wrong, a key is shorter than 32 bytes, or two are the same.
    """
    try:
        found = json.loads(raw)
        keys = {name: _key(found.get(name)) for name in ("current", "standby", "previous")}
    except (AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError("is not a JSON object of keys") from error
    current = keys["current"]
    if current is None:
        raise ValueError("has no current key")
    present = [key for key in keys.values() if key is not None]
    if len({key.kid for key in present}) < len(present) or len({key.secret for key in present}) < len(present):
        raise ValueError("holds the same key or kid twice")
    return Keyring(current, keys["standby"], keys["previous"])


def _key(entry: object) -> Key | None:
    if entry is None:
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str) or not isinstance(entry.get("key"), str):
        raise ValueError("has an entry without kid and key")
    if not _KID.fullmatch(entry["kid"]):
        raise ValueError("has a kid that is not 1 to 40 of A-Z, a-z, 0-9, _ and -")
    try:
        secret = unbase64(entry["key"])
    except ValueError:
        raise ValueError("has a key that is not base64url") from None
    if len(secret) < MIN_KEY_BYTES:
        raise ValueError(f"has a key of fewer than {MIN_KEY_BYTES} bytes")
    return Key(entry["kid"], secret)


def base64(raw: bytes) -> str:
    """base64url without padding. Source: RFC 7515 section 2."""
    return _b64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unbase64(text: str) -> bytes:
    """The bytes of base64url without padding, in its one canonical spelling; raises ValueError for any other."""
    try:
        raw = _b64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not base64url") from None
    if base64(raw) != text.rstrip("="):
        raise ValueError("is not canonical base64url")
    return raw


def digest(secret: bytes) -> bytes:
    """SHA-256 of *secret*: all that is stored of one with at least 256 random bits (ASVS 5.0, 6.5.2)."""
    return hashlib.sha256(secret).digest()
