"""The two credentials of a session, as text: the access handle (<= 30 minutes) and the refresh token (used once).

Both carry organization, user and session inside their MAC, so that a look-up arms row-level security before it reads.
  a1.<kid>.<organization>.<user>.<session>.<generation>.<expiry>.<unique id>.<mac>
  r1.<kid>.<organization>.<user>.<session>.<generation>.<opaque>.<mac>
"""

import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from services.auth.domain.keyring import Keyring, base64, unbase64

ACCESS_COOKIE = "__Host-session"
REFRESH_COOKIE = "__Secure-refresh"
MAX_CHARS = 600
OPAQUE_BYTES = 32
_ACCESS, _REFRESH, _SUCCESSOR = "holdfast access handle", "holdfast refresh token", "holdfast refresh successor"
_ID, _KID = r"[a-z0-9]{1,40}", r"[A-Za-z0-9_-]{1,40}"
_SUBJECT = rf"(?P<kid>{_KID})\.(?P<organization>{_ID})\.(?P<user>{_ID})\.(?P<session>{_ID})\.(?P<generation>\d{{1,9}})"
_MAC = r"(?P<mac>[A-Za-z0-9_-]{43})"
_ACCESS_FORM = re.compile(rf"(?P<said>a1\.{_SUBJECT}\.(?P<expires>\d{{1,12}})\.(?P<unique>{_ID}))\.{_MAC}", re.ASCII)
_REFRESH_FORM = re.compile(rf"(?P<said>r1\.{_SUBJECT}\.(?P<opaque>[A-Za-z0-9_-]{{43}}))\.{_MAC}", re.ASCII)


@dataclass(frozen=True, slots=True)
class AccessHandle:
    """What an access credential says; generation is the refresh generation it was issued with."""

    organization_id: str
    user_id: str
    session_id: str
    generation: int
    expires_at: datetime
    unique_id: str


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """What a refresh token says; opaque is its 256 secret bits."""

    organization_id: str
    user_id: str
    session_id: str
    generation: int
    opaque: bytes

    def __repr__(self) -> str:
        return f"RefreshToken(session_id={self.session_id!r}, generation={self.generation}, opaque=***)"


def seal_access(handle: AccessHandle, keys: Keyring) -> str:
    """*handle* as a credential, signed with the current key. Its expiry is kept to the second."""
    subject = f"{handle.organization_id}.{handle.user_id}.{handle.session_id}.{handle.generation}"
    said = f"a1.{keys.current.kid}.{subject}.{int(handle.expires_at.timestamp())}.{handle.unique_id}"
    return f"{said}.{base64(keys.current.mac(_ACCESS, said))}"


def open_access(text: str, keys: Keyring, *, now: datetime) -> AccessHandle | None:
    """The handle in *text*; None when it is malformed, not signed by one of *keys*, or expired at *now*."""
    found = _verified(_ACCESS_FORM, _ACCESS, text, keys)
    if found is None:
        return None
    expires_at = datetime.fromtimestamp(int(found["expires"]), UTC)
    if expires_at <= now:
        return None
    return AccessHandle(
        found["organization"], found["user"], found["session"], int(found["generation"]), expires_at, found["unique"]
    )


def seal_refresh(token: RefreshToken, keys: Keyring, kid: str) -> str:
    """*token* as a credential, signed with the key *kid*, so that the same successor always reads the same.

    Raises KeyError when that key is gone.
    """
    subject = f"{token.organization_id}.{token.user_id}.{token.session_id}.{token.generation}"
    said = f"r1.{kid}.{subject}.{base64(token.opaque)}"
    return f"{said}.{base64(keys.by_kid[kid].mac(_REFRESH, said))}"


def open_refresh(text: str, keys: Keyring) -> RefreshToken | None:
    """The token in *text*; None when it is malformed or not signed by one of *keys*. Says nothing of its use."""
    found = _verified(_REFRESH_FORM, _REFRESH, text, keys)
    if found is None:
        return None
    return RefreshToken(
        found["organization"], found["user"], found["session"], int(found["generation"]), unbase64(found["opaque"])
    )


def successor(token: RefreshToken, keys: Keyring, kid: str) -> RefreshToken:
    """The one token that follows *token*, made with the key *kid*: whoever asks again gets the same.

    It follows from the parent's secret and a key that is not in the database, so neither a stolen database nor a
    stolen key
    makes one, and nothing but digests is stored. Raises KeyError when that key is gone.
    """
    subject = f"{token.organization_id}.{token.user_id}.{token.session_id}.{token.generation + 1}"
    opaque = keys.by_kid[kid].mac(_SUCCESSOR, f"{subject}.{base64(token.opaque)}")
    return RefreshToken(token.organization_id, token.user_id, token.session_id, token.generation + 1, opaque)


def _verified(form: re.Pattern[str], purpose: str, text: str, keys: Keyring) -> re.Match[str] | None:
    found = form.fullmatch(text) if len(text) <= MAX_CHARS else None
    key = keys.find(found["kid"]) if found is not None else None
    if found is None or key is None:
        return None
    # Compared as text: the last of 43 characters has spare bits, and only one spelling of a MAC may pass.
    return found if hmac.compare_digest(base64(key.mac(purpose, found["said"])), found["mac"]) else None
