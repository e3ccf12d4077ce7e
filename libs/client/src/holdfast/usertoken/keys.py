"""Key material: three generations of one key, and how a key is derived from the root."""

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import Any

KEY_BYTES = 32
_SALT = b"holdfast-user-token-v1"


@dataclass(frozen=True, slots=True)
class Key:
    """One key: kid names it in a token's header; secret is 32 bytes or more."""

    kid: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Keys:
    """The generations a verifier believes: current signs, standby will sign next, previous signed until lately."""

    current: Key
    standby: Key | None = None
    previous: Key | None = None

    def find(self, kid: str) -> Key | None:
        """The key named *kid*, None when it is none of the three."""
        for key in (self.current, self.standby, self.previous):
            if key is not None and key.kid == kid:
                return key
        return None


def derive(root: bytes, kid: str, audience: str) -> bytes:
    """The 32-byte key of one audience in one generation of the root.

    HKDF-SHA256 with a fixed salt; info is kid, NUL, audience, so that no two pairs share a key. Raises ValueError for a
    root under 32 bytes, or a NUL in either name. Source: RFC 5869 sections 2.2 and 2.3 (one block is enough).
    """
    if len(root) < KEY_BYTES:
        raise ValueError(f"the root has {len(root)} bytes; it needs at least {KEY_BYTES}")
    if "\0" in kid or "\0" in audience or not kid or not audience:
        raise ValueError("kid and audience must be non-empty and without NUL")
    pseudorandom = hmac.digest(_SALT, root, hashlib.sha256)
    return hmac.digest(pseudorandom, f"{kid}\0{audience}".encode() + b"\x01", hashlib.sha256)


def parse_keys(text: bytes) -> Keys:
    """Keys from a key file: JSON {"current": {"kid", "key"}, "standby": … or null, "previous": … or null}, key in
    base64url.

    Raises ValueError, naming the part that is wrong and never the secret.
    """
    try:
        document = json.loads(text)
    except ValueError:
        raise ValueError("the key file is not JSON") from None
    if not isinstance(document, dict):
        raise ValueError("the key file is not a JSON object")
    current = _key(document, "current")
    if current is None:
        raise ValueError("the key file has no current key")
    keys = Keys(current, _key(document, "standby"), _key(document, "previous"))
    found = [key for key in (keys.current, keys.standby, keys.previous) if key is not None]
    if len({key.kid for key in found}) != len(found) or len({key.secret for key in found}) != len(found):
        raise ValueError("two keys of the key file share a kid or a secret")
    return keys


def write_keys(keys: Keys) -> bytes:
    """The key file that `parse_keys` reads."""

    def part(key: Key | None) -> dict[str, str] | None:
        return None if key is None else {"kid": key.kid, "key": encode(key.secret)}

    document = {"current": part(keys.current), "standby": part(keys.standby), "previous": part(keys.previous)}
    return json.dumps(document, indent=1).encode() + b"\n"


def derive_keys(roots: Keys, audience: str) -> Keys:
    """The keys of one audience from the three generations of the root."""

    def part(root: Key | None) -> Key | None:
        return None if root is None else Key(root.kid, derive(root.secret, root.kid, audience))

    current = Key(roots.current.kid, derive(roots.current.secret, roots.current.kid, audience))
    return Keys(current, part(roots.standby), part(roots.previous))


def encode(raw: bytes) -> str:
    """base64url without padding. Source: RFC 7515 section 2."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(text: str | bytes) -> bytes:
    """The bytes of base64url without padding. Raises ValueError."""
    raw = text.encode() if isinstance(text, str) else text
    return base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)


def _key(document: dict[str, Any], part: str) -> Key | None:
    entry = document.get(part)
    if entry is None:
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str) or not isinstance(entry.get("key"), str):
        raise ValueError(f"{part} has to be an object with kid and key")
    try:
        secret = decode(entry["key"])
    except ValueError:
        raise ValueError(f"the key of {part} is not base64url") from None
    if not entry["kid"] or len(secret) < KEY_BYTES:
        raise ValueError(f"{part} needs a kid and a key of at least {KEY_BYTES} bytes")
    return Key(entry["kid"], secret)
