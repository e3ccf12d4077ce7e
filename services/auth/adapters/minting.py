"""User tokens, made here and nowhere else, and the keys they are made with. Source: RFC 7519, RFC 5869, RFC 8693
section 4.1.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from holdfast.usertoken import Keys, ServiceVerifier, Verifier
from holdfast.usertoken.claims import ISSUER, TYP
from holdfast.usertoken.jws import sign
from holdfast.usertoken.keys import derive_keys
from libs.clock import Clock
from services.auth.domain.people import Standing

LIFETIME = timedelta(seconds=60)
OPERATOR_SCOPE = "operator"
CALLERS = frozenset({"files", "events", "backup"})
"""Services that have a credential of their own, derived for `service/<name>`."""


class Minter:
    """roots: the root keys, asked for at each use so that a rotation counts at once; derived keys are kept while they
    are the same.
    """

    def __init__(self, roots: Callable[[], Keys], *, now: Clock, ids: Callable[[], str]) -> None:
        self._roots, self._now, self._ids = roots, now, ids
        self._known: Keys | None = None
        self._derived: dict[str, Keys] = {}

    def keys(self, audience: str) -> Keys:
        """The keys of one audience in every generation of the root."""
        roots = self._roots()
        if roots is not self._known:
            self._known, self._derived = roots, {}
        found = self._derived.get(audience)
        if found is None:
            found = self._derived[audience] = derive_keys(roots, audience)
        return found

    def mint(self, standing: Standing, audience: str, *, actor: str = "") -> tuple[str, datetime]:
        """(token, its end): what *standing* may do at *audience* for 60 seconds. actor: the service that acts for the
        user.
        """
        issued = int(self._now().timestamp())
        expires = issued + int(LIFETIME.total_seconds())
        claims: dict[str, object] = {
            "iss": ISSUER,
            "aud": audience,
            "sub": standing.user_id,
            "org": standing.organization_id,
            "sid": standing.session_id,
            "role": standing.role,
            "epoch": standing.epoch,
            "tier": standing.tier,
            "scope": OPERATOR_SCOPE if standing.operator else "",
            "iat": issued,
            "exp": expires,
            "jti": self._ids(),
        }
        if actor:
            claims["act"] = {"sub": actor}
        token = sign(claims, self.keys(audience).current, typ=TYP)
        return token, datetime.fromtimestamp(expires, tz=self._now().tzinfo)

    def verifier(self, audience: str) -> Verifier:
        """Believes the user tokens of *audience*: auth's own, for its own methods."""
        return Verifier(audience, lambda: self.keys(audience))

    def service_verifier(self) -> ServiceVerifier:
        """Believes the tokens by which services show who they are."""
        return ServiceVerifier("auth", lambda name: self.keys(f"service/{name}") if name in CALLERS else None)
