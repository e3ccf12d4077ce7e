"""The CSRF token: proof that the caller could read an answer of ours, without storing anything.

<nonce>.<issued>.<mac>, where the MAC covers nonce, time, user and session under a key of its own. Source: requirement
S6, OWASP CSRF cheat sheet.
"""

import hmac
import os
import re
from datetime import UTC, datetime, timedelta

from services.auth.domain.keyring import Key, base64

LIFETIME = timedelta(minutes=30)
_CLOCK_SKEW = timedelta(seconds=5)
_FORM = re.compile(r"([A-Za-z0-9_-]{22})\.(\d{1,12})\.([A-Za-z0-9_-]{43})", re.ASCII)
_PURPOSE = "holdfast csrf token"


def issue(key: Key, *, user_id: str, session_id: str, now: datetime) -> str:
    """A token for this session, valid for 30 minutes from *now*."""
    nonce, issued = base64(os.urandom(16)), str(int(now.timestamp()))
    return f"{nonce}.{issued}.{_mac(key, nonce, issued, user_id, session_id)}"


def valid(key: Key, token: str, *, user_id: str, session_id: str, now: datetime) -> bool:
    """Whether *token* was issued for this session, at most 30 minutes before *now*."""
    found = _FORM.fullmatch(token)
    if found is None:
        return False
    nonce, issued, mac = found.groups()
    age = now - datetime.fromtimestamp(int(issued), UTC)
    genuine = hmac.compare_digest(mac, _mac(key, nonce, issued, user_id, session_id))
    return genuine and -_CLOCK_SKEW <= age <= LIFETIME


def _mac(key: Key, nonce: str, issued: str, user_id: str, session_id: str) -> str:
    return base64(key.mac(_PURPOSE, f"{nonce}.{issued}.{user_id}.{session_id}"))
