"""The two cookies. Source: RFC 6265bis sections 4.1.2 and 4.1.3 (prefixes), ASVS 5.0 3.3.

`__Host-` demands Secure, Path=/ and no Domain; the refresh cookie is bound to its one method by Path, so it takes
`__Secure-`.
"""

from datetime import datetime

from services.auth.domain.credential import ACCESS_COOKIE, REFRESH_COOKIE
from services.auth.ops.issue import Issued

REFRESH_PATH = "/holdfast.auth.v1.AuthService/RefreshSession"
_ALWAYS = "Secure; HttpOnly; SameSite=Lax"

Metadata = tuple[tuple[str, str], ...]


def issued(found: Issued, *, now: datetime) -> Metadata:
    """Set both: kept over the browser's end only when the session is to be remembered."""
    access = refresh = ""
    if found.session.remembered:
        access = f"; Max-Age={_seconds(found.access_expires_at, now)}"
        refresh = f"; Max-Age={_seconds(found.session.expires_at, now)}"
    return (
        ("set-cookie", f"{ACCESS_COOKIE}={found.access_token}; Path=/; {_ALWAYS}{access}"),
        ("set-cookie", f"{REFRESH_COOKIE}={found.refresh_token}; Path={REFRESH_PATH}; {_ALWAYS}{refresh}"),
    )


def removed() -> Metadata:
    """Have the browser forget both."""
    return (
        ("set-cookie", f"{ACCESS_COOKIE}=; Path=/; {_ALWAYS}; Max-Age=0"),
        ("set-cookie", f"{REFRESH_COOKIE}=; Path={REFRESH_PATH}; {_ALWAYS}; Max-Age=0"),
    )


def _seconds(until: datetime, now: datetime) -> int:
    return max(0, int((until - now).total_seconds()))
