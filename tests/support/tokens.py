"""Keys and user tokens for tests: minted as auth would, with any claim bent on purpose."""

import secrets
from datetime import datetime
from typing import Any

from holdfast.usertoken import Key, Keys, derive
from holdfast.usertoken.claims import ISSUER, TYP
from holdfast.usertoken.jws import sign
from libs.clock import now as wall_clock

ROOT = Key("test-1", b"a root key that only the tests know, 32+")


def keys(audience: str, root: Key = ROOT) -> Keys:
    """The keys that a service with this audience holds; `service/<name>` for a service's own credential."""
    return Keys(Key(root.kid, derive(root.secret, root.kid, audience)))


def user_token(
    audience: str,
    *,
    user: str = "user1",
    organization: str = "org1",
    role: str = "MEMBER",
    scope: str = "",
    now: datetime | None = None,
    lifetime_seconds: int = 60,
    typ: str = TYP,
    key: Key | None = None,
    **bent: Any,
) -> str:
    """A token for *audience*; *bent* replaces claims, None removes one."""
    issued = int((now or wall_clock()).timestamp())
    claims: dict[str, Any] = {
        "iss": ISSUER, "aud": audience, "sub": user, "org": organization, "sid": "session1", "role": role, "epoch": 0,
        "tier": "standard", "scope": scope, "iat": issued, "exp": issued + lifetime_seconds, "jti":
        secrets.token_urlsafe(9),
    } | bent  # fmt: skip
    return sign(
        {name: value for name, value in claims.items() if value is not None}, key or keys(audience).current, typ=typ
    )
